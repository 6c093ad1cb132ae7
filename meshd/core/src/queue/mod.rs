//! Memory only: packets on their way out of the node, in buffers that are reused for ever.

pub mod ecn;
pub mod packet;
pub mod transmit;
