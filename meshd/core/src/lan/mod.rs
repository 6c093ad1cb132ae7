//! The virtual LAN as the packets see it: who owns an address, and what a super-packet consists of.

pub mod checksum;
pub mod congestion;
pub mod errors;
pub mod fragments;
pub mod ip;
pub mod mss;
pub mod segment;
pub mod strangers;
pub mod table;
