//! Which address and name does a node ask for?
//!
//! It chooses among those that are free and signs for its choice; the server only says whether another was faster.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use ipnet::Ipv4Net;
use mesh_wire::{
    NodeId,
    peer_info::Directory,
    place::{free_address, free_name},
};

/// An address and a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// On the virtual LAN.
    pub address: Ipv4Addr,
    /// A DNS label.
    pub name: String,
}

/// What a node would like.
#[derive(Debug)]
pub struct Wish<'a> {
    /// Itself: what it has already is free for it.
    pub node_id: NodeId,
    /// The network's range.
    pub cidr: Ipv4Net,
    /// The address that it had before.
    pub address: Option<IpAddr>,
    /// Its host name.
    pub hostname: &'a str,
    /// Zero at the first try. After others were faster, where to begin to look: a random number, so that many who join
    /// at once do not meet again.
    pub start: u64,
}

impl Wish<'_> {
    /// A place that no member has; `None` if all addresses are taken.
    pub fn choose(&self, members: &Directory) -> Option<Place> {
        let others = || {
            members
                .peers
                .iter()
                .filter(|peer| peer.record.node_id != self.node_id)
        };
        let addresses: BTreeSet<IpAddr> = others()
            .flat_map(|peer| peer.virtual_ips.iter().copied())
            .collect();
        let names: BTreeSet<&str> = others().map(|peer| peer.name.as_str()).collect();
        let before = match self.address {
            Some(IpAddr::V4(address)) => Some(address),
            Some(IpAddr::V6(_)) | None => None,
        };
        let is_taken = |address| addresses.contains(&IpAddr::V4(address));
        Some(Place {
            address: free_address(self.cidr, (before, self.start), is_taken)?,
            name: free_name(self.hostname, |name| names.contains(name)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::scope::tests::peer;

    fn wish(cidr: &str) -> Wish<'static> {
        Wish {
            node_id: NodeId::from_bytes([0; 32]),
            cidr: cidr.parse().unwrap(),
            address: None,
            hostname: "web",
            start: 0,
        }
    }

    fn members(peers: &[(u8, &str)]) -> Directory {
        Directory {
            peers: peers.iter().map(|(n, name)| peer(*n, name, 1)).collect(),
            ..Directory::default()
        }
    }

    #[test]
    fn the_lowest_free_address_and_name_come_first() {
        let taken = members(&[(1, "web"), (2, "web-2"), (4, "db")]);
        let place = wish("10.100.0.0/24").choose(&taken).unwrap();
        assert_eq!(place.address, Ipv4Addr::new(10, 100, 0, 3));
        assert_eq!(place.name, "web-3");
    }

    #[test]
    fn what_a_node_had_it_keeps_while_it_is_free() {
        let mut wish = wish("10.100.0.0/24");
        wish.address = Some([10, 100, 0, 77].into());
        let place = wish.choose(&members(&[(1, "a")])).unwrap();
        assert_eq!(place.address, Ipv4Addr::new(10, 100, 0, 77));
        let place = wish.choose(&members(&[(77, "a")])).unwrap();
        assert_eq!(place.address, Ipv4Addr::new(10, 100, 0, 1));
        wish.address = Some([10, 100, 0, 255].into());
        let place = wish.choose(&members(&[])).unwrap();
        assert_eq!(place.address, Ipv4Addr::new(10, 100, 0, 1));
    }
}
