//! Asking the Linux kernel by rtnetlink: one short-lived connection per question.

use super::NetError;
use futures::{TryStream, TryStreamExt};
use netlink_packet_route::link::{LinkAttribute, LinkFlags};
use rtnetlink::Handle;
use std::{collections::BTreeMap, io};

/// A network interface.
#[derive(Debug, Clone)]
pub(super) struct Link {
    pub(super) name: String,
    pub(super) is_up: bool,
    pub(super) is_loopback: bool,
}

/// Connects. The connection ends with the last clone of the handle, so keep it until all answers
/// are there.
pub(super) fn connect() -> Result<Handle, NetError> {
    let (connection, handle, _) =
        rtnetlink::new_connection().map_err(|source| NetError::System {
            operation: "open netlink",
            source,
        })?;
    tokio::spawn(connection);
    Ok(handle)
}

/// All interfaces by index.
pub(super) async fn links(handle: &Handle) -> Result<BTreeMap<u32, Link>, NetError> {
    let messages = collect("list interfaces", handle.link().get().execute()).await?;
    let links = messages.into_iter().filter_map(|message| {
        let name = message.attributes.into_iter().find_map(|attribute| {
            if let LinkAttribute::IfName(name) = attribute {
                Some(name)
            } else {
                None
            }
        })?;
        let flags = message.header.flags;
        let link = Link {
            name,
            is_up: flags.contains(LinkFlags::Up),
            is_loopback: flags.contains(LinkFlags::Loopback),
        };
        Some((message.header.index, link))
    });
    Ok(links.collect())
}

/// All answers to one dump request.
pub(super) async fn collect<S, T>(operation: &'static str, stream: S) -> Result<Vec<T>, NetError>
where
    S: TryStream<Ok = T, Error = rtnetlink::Error>,
{
    stream
        .try_collect()
        .await
        .map_err(|error| NetError::System {
            operation,
            source: netlink_error(error),
        })
}

/// The kernel's error number out of an rtnetlink error.
pub(crate) fn netlink_error(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other.to_string()),
    }
}
