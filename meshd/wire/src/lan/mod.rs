//! What do daemons say of themselves to their LAN, so that members meet without a server?
//!
//! Each is an instance of the DNS-SD service `_meshd._udp` ([`dns`]). Its name is a pseudonym of the day, and what stands in
//! its TXT record is sealed under a key of the network ([`announcement`]): only members can tell whose it is.

pub mod announcement;
pub mod dns;

pub use announcement::{Announcement, LanKey};
