//! Speaking rtnetlink: connections and what their errors mean.

use std::io;

/// The kernel's error number out of an rtnetlink error.
pub(crate) fn netlink_error(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other.to_string()),
    }
}
