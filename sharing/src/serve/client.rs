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
        let (address, local) = (address.to_canonical(), local.to_canonical());
        Self {
            origin,
            address,
            local,
            visitor: identify(origin, (address, local), &site.directory.borrow()),
        }
    }

    /// Whether the address still belongs to whom the connection began with.
    pub(crate) fn is_who_it_was(&self, site: &Site) -> bool {
        let ends = (self.address, self.local);
        identify(self.origin, ends, &site.directory.borrow()) == self.visitor
    }
}

fn identify(origin: Origin, (address, local): (IpAddr, IpAddr), directory: &Directory) -> Visitor {
    match origin {
        Origin::Local => Visitor::ThisHost,
        // From the very address that it goes to: a program of this host. The mesh lets no peer speak for our address, and
        // nobody else reaches a socket that is bound to the mesh interface.
        Origin::Mesh if address == local => Visitor::ThisHost,
        Origin::Mesh => match directory.by_address(address) {
            Some(peer) => Visitor::Peer(peer.record.node_id),
            None => Visitor::Unknown,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_itself_is_known_on_whichever_device_its_connection_arrives() {
        let directory = Directory::default();
        let [own, other] = [2, 3].map(|last| IpAddr::from([10, 100, 0, last]));
        assert_eq!(
            identify(Origin::Local, (other, own), &directory),
            Visitor::ThisHost
        );
        assert_eq!(
            identify(Origin::Mesh, (own, own), &directory),
            Visitor::ThisHost
        );
        assert_eq!(
            identify(Origin::Mesh, (other, own), &directory),
            Visitor::Unknown
        );
    }
}
