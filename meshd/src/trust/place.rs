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
    /// Where to begin to look: at first [`first_start`]. After others were faster, a random number, so that many who join at
    /// once do not meet again.
    pub start: u64,
}

/// Where a node begins to look for an address: who makes the network at the first one, others each somewhere else, the same
/// each time. The lowest one that a server calls free may be that of a member which the server has lost: those who know
/// it would believe nobody else to have it.
pub fn first_start(node: &NodeId, is_creator: bool) -> u64 {
    match node.as_bytes().first_chunk() {
        Some(first) if !is_creator => u64::from_be_bytes(*first),
        Some(_) | None => 0,
    }
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
    fn who_joins_looks_elsewhere_than_those_before_it_and_the_creator_has_the_first_address() {
        let choose = |node: u8, is_creator| {
            let node_id = NodeId::from_bytes([node; 32]);
            let wish = Wish {
                node_id,
                start: first_start(&node_id, is_creator),
                ..wish("10.100.0.0/16")
            };
            wish.choose(&members(&[])).unwrap().address
        };
        let first = Ipv4Addr::new(10, 100, 0, 1);
        assert_eq!(choose(7, true), first);
        let others: BTreeSet<Ipv4Addr> = (1..=100).map(|node| choose(node, false)).collect();
        assert_eq!(others.len(), 100);
        assert_eq!(choose(7, false), choose(7, false));
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
