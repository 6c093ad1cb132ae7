//! What does one node cost per packet, without kernel and network? Two nodes in one process, one after the other.
//!
//! [`pair`] links them, [`frames`] is what the kernel would hand over, [`walks`] times each walk beside the bare cipher
//! over the same bytes.

pub mod frames;
pub mod pair;
pub mod walks;
