//! What does the host's network look like?

#[cfg(target_os = "linux")]
mod netlink;

#[cfg(target_os = "linux")]
pub(crate) use netlink::netlink_error;
