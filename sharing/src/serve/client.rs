//! Who is at the other end of a connection?

use std::net::IpAddr;

use mesh_wire::peer_info::Directory;

use super::{Origin, site::Site};
use crate::acl::Visitor;

/// One connection's ends, and who it began with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client {
    origin: Origin,
    /// The other end.
    address: IpAddr,
    /// Our end: what the client typed, or what a name resolved to.
    pub(crate) local: IpAddr,
    /// Pinned at accept: an address may change hands, a connection may not.
    pub(crate) visitor: Visitor,
}

impl Client {
    /// Identifies a connection that was just accepted.
    pub(crate) fn new(origin: Origin, address: IpAddr, local: IpAddr, site: &Site) -> Self {
        let address = address.to_canonical();
        Self {
            origin,
            address,
            local: local.to_canonical(),
            visitor: identify(origin, address, &site.directory.borrow()),
        }
    }

    /// Whether the address still belongs to whom the connection began with.
    pub(crate) fn is_who_it_was(&self, site: &Site) -> bool {
        identify(self.origin, self.address, &site.directory.borrow()) == self.visitor
    }
}

fn identify(origin: Origin, address: IpAddr, directory: &Directory) -> Visitor {
    match origin {
        Origin::Local => Visitor::Owner,
        Origin::Mesh => match directory.by_address(address) {
            Some(peer) => Visitor::Peer(peer.record.node_id),
            None => Visitor::Unknown,
        },
    }
}
