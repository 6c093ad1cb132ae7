//! Who was heard on the LAN, and at whom is knocked when? Nothing here sends or receives.
//!
//! What is heard was signed by the node that it speaks of, which need not be a member: that is for
//! [`crate::discovery::directory`] to judge. Until then an entry is worth its place in a short list.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use ipnet::IpNet;
use mesh_wire::{NodeId, lan::Announcement};

/// As many are remembered; more do not fit a segment that is not flooded.
const MAX_NEIGHBOURS: usize = 256;
/// As many addresses of one are tried.
const MAX_ADDRESSES: usize = 4;
/// A neighbour with news is knocked at in so many ticks...
const EAGER: u32 = 4;
/// ...and then every so many.
const PATIENT: u32 = 20;
/// News of one neighbour make us eager again after so many ticks, not sooner.
const CALM: u32 = 10;
/// Knocks in one tick, of all: each is a handshake.
const MAX_KNOCKS: usize = 64;

/// Where we are ourselves.
#[derive(Debug, Clone)]
pub(super) struct Here {
    /// Our identity.
    pub(super) node_id: NodeId,
    /// The mesh's own range: nobody is reached there.
    pub(super) cidr: IpNet,
}

/// Those who were heard.
#[derive(Debug)]
pub(super) struct Neighbours {
    here: Here,
    known: BTreeMap<NodeId, Neighbour>,
}

#[derive(Debug)]
struct Neighbour {
    /// What tells an older announcement from a newer one.
    version: (u64, u32),
    instance: String,
    at: Vec<SocketAddr>,
    /// Ticks since it was heard.
    silent: u32,
    /// Ticks in which we might have knocked since there was a reason to be eager.
    age: u32,
    /// How often it was knocked at: each time at its next address, since one handshake is under way at a time.
    knocks: usize,
}

impl Neighbours {
    /// Nobody yet.
    pub(super) fn new(here: Here) -> Self {
        Self {
            here,
            known: BTreeMap::new(),
        }
    }

    /// Takes in what the instance of this name announced on a link with the addresses `link`; returns whether it is newer
    /// than what was known. `is_member` tells whose place in the list is not given away.
    pub(super) fn hear(
        &mut self,
        (instance, said): (&str, &Announcement),
        link: &[IpNet],
        is_member: impl Fn(&NodeId) -> bool,
    ) -> bool {
        let node = said.record.node_id;
        if node == self.here.node_id {
            return false;
        }
        let version = (said.record.seq, said.count);
        let known = self.known.get(&node);
        let age = match known {
            None => 0,
            Some(known) if version < known.version => return false,
            Some(known) if version > known.version && known.age >= CALM => 0,
            Some(known) => known.age,
        };
        let knocks = known.map_or(0, |known| known.knocks);
        let is_news = known.is_none_or(|known| version > known.version);
        let mut at = self.places(said, link);
        if let Some(known) = known.filter(|known| version == known.version) {
            // On another link, or said again by somebody there, it takes nothing away.
            at.extend(
                known
                    .at
                    .iter()
                    .filter(|place| !at.contains(place))
                    .copied()
                    .collect::<Vec<_>>(),
            );
            at.truncate(MAX_ADDRESSES);
        }
        if known.is_none() && !self.make_room(is_member) {
            return false;
        }
        let heard = Neighbour {
            version,
            instance: instance.to_owned(),
            at,
            silent: 0,
            age,
            knocks,
        };
        self.known.insert(node, heard);
        is_news
    }

    /// At whom to knock in this tick, once a tick while nobody can signal for us: at members who are not reached.
    pub(super) fn due(
        &mut self,
        is_member: impl Fn(&NodeId) -> bool,
        is_reached: impl Fn(&NodeId) -> bool,
    ) -> Vec<(NodeId, SocketAddr)> {
        let mut due = Vec::new();
        for (node, neighbour) in &mut self.known {
            if !is_member(node) || is_reached(node) {
                continue;
            }
            let is_time = neighbour.age < EAGER || neighbour.age.is_multiple_of(PATIENT);
            if is_time && due.len() >= MAX_KNOCKS {
                // Its turn comes in the next tick.
                continue;
            }
            neighbour.age = neighbour.age.saturating_add(1);
            let next = neighbour.knocks.checked_rem(neighbour.at.len());
            if let Some(at) = next.and_then(|next| neighbour.at.get(next))
                && is_time
            {
                neighbour.knocks = neighbour.knocks.wrapping_add(1);
                due.push((*node, *at));
            }
        }
        due
    }

    /// A second has gone by.
    pub(super) fn tick(&mut self) {
        for neighbour in self.known.values_mut() {
            neighbour.silent = neighbour.silent.saturating_add(1);
        }
    }

    /// The server has gone: everybody is worth a knock again.
    pub(super) fn be_eager(&mut self) {
        for neighbour in self.known.values_mut() {
            neighbour.age = 0;
        }
    }

    /// We are in another place.
    pub(super) fn forget(&mut self) {
        self.known.clear();
    }

    /// Instances that were heard in the last so many ticks.
    pub(super) fn instances(&self, ticks: u32) -> Vec<String> {
        let recent = self.known.values().filter(|known| known.silent < ticks);
        recent.map(|known| known.instance.clone()).collect()
    }

    /// Whether one more fits. Of those who are no members the one that was silent longest goes for it.
    fn make_room(&mut self, is_member: impl Fn(&NodeId) -> bool) -> bool {
        if self.known.len() < MAX_NEIGHBOURS {
            return true;
        }
        let strangers = self.known.iter().filter(|(node, _)| !is_member(node));
        let oldest = strangers.max_by_key(|(_, known)| known.silent);
        match oldest.map(|(node, _)| *node) {
            Some(node) => self.known.remove(&node).is_some(),
            None => false,
        }
    }

    /// The addresses that are on the link itself, so that nobody elsewhere is ever knocked at, with the port that is for us.
    fn places(&self, said: &Announcement, link: &[IpNet]) -> Vec<SocketAddr> {
        let [first, ..] = self.here.node_id.as_bytes();
        let place = usize::from(*first).checked_rem(said.ports.len());
        let port = place.and_then(|place| said.ports.get(place));
        let Some(port) = port.copied().filter(|port| *port > 0) else {
            return Vec::new();
        };
        let near = said.addresses.iter().filter(|address| {
            link.iter().any(|net| is_neighbour(net, **address))
                && !self.here.cidr.contains(*address)
        });
        near.map(|address| SocketAddr::new(*address, port))
            .take(MAX_ADDRESSES)
            .collect()
    }
}

/// Whether the address is that of another host in the network in which an interface has the address of `net`.
pub(super) fn is_neighbour(net: &IpNet, address: IpAddr) -> bool {
    let is_host = match net {
        IpNet::V4(net) => address != net.network() && address != net.broadcast(),
        IpNet::V6(net) => address != net.network(),
    };
    net.contains(&address) && address != net.addr() && is_host
}

#[cfg(test)]
mod tests {
    use mesh_wire::{WireGuardKey, peer_info::PeerRecord};

    use super::*;

    fn said(node: u8, version: (u64, u32), addresses: &[&str]) -> Announcement {
        Announcement {
            count: version.1,
            ports: vec![7081],
            addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
            record: PeerRecord {
                node_id: NodeId::from_bytes([node; 32]),
                wireguard_key: WireGuardKey::from_bytes([node; 32]),
                hostname: "x".into(),
                seq: version.0,
                instance: 1,
                signature: String::new(),
                certificate: None,
            },
        }
    }

    fn neighbours() -> Neighbours {
        Neighbours::new(Here {
            node_id: NodeId::from_bytes([5; 32]),
            cidr: "10.100.0.0/16".parse().unwrap(),
        })
    }

    fn link() -> Vec<IpNet> {
        ["192.168.1.5/24", "fd00::5/64"]
            .map(|net| net.parse().unwrap())
            .into()
    }

    fn hear(neighbours: &mut Neighbours, said: &Announcement) -> bool {
        neighbours.hear(("i", said), &link(), |_| true)
    }

    fn knocked(neighbours: &mut Neighbours) -> Vec<String> {
        let due = neighbours.due(|_| true, |_| false);
        due.into_iter().map(|(_, at)| at.to_string()).collect()
    }

    #[test]
    fn one_address_after_the_other_is_tried() {
        let mut neighbours = neighbours();
        let all = [
            "192.168.1.7",
            "192.168.1.8",
            "fd00::7",
            "fd00::8",
            "fd00::9",
        ];
        hear(&mut neighbours, &said(1, (1, 0), &all));
        let tried: Vec<_> = (0..100).flat_map(|_| knocked(&mut neighbours)).collect();
        let first = all[..4]
            .iter()
            .map(|ip| SocketAddr::new(ip.parse().unwrap(), 7081).to_string());
        let first: Vec<_> = first.collect();
        assert_eq!(tried[..4], first);
        assert_eq!(tried[4..8], first);
    }

    #[test]
    fn only_addresses_on_the_link_itself_are_knocked_at() {
        let mut neighbours = neighbours();
        let places = [
            "203.0.113.9",
            "192.168.2.7",
            "192.168.1.5",
            "192.168.1.0",
            "192.168.1.255",
            "10.100.0.9",
            "127.0.0.1",
            "224.0.0.251",
            "fe80::1",
            "192.168.1.7",
            "fd00::7",
        ];
        hear(&mut neighbours, &said(1, (1, 0), &places));
        let tried = [knocked(&mut neighbours), knocked(&mut neighbours)].concat();
        assert_eq!(tried, ["192.168.1.7:7081", "[fd00::7]:7081"]);
        assert_eq!(knocked(&mut neighbours), ["192.168.1.7:7081"]);
        // A mesh whose range is that of the link has no neighbours in it.
        neighbours.here.cidr = "192.168.1.0/24".parse().unwrap();
        hear(&mut neighbours, &said(2, (1, 0), &["192.168.1.8"]));
        assert!(!knocked(&mut neighbours).contains(&"192.168.1.8:7081".to_owned()));
    }

    #[test]
    fn each_member_comes_to_the_port_that_is_for_it() {
        let mut neighbours = neighbours();
        let mut many = said(1, (1, 0), &["192.168.1.7"]);
        many.ports = vec![7081, 7082, 40_000];
        hear(&mut neighbours, &many);
        assert_eq!(knocked(&mut neighbours), ["192.168.1.7:40000"]);
        let mut nowhere = said(2, (1, 0), &["192.168.1.8"]);
        nowhere.ports = vec![0];
        hear(&mut neighbours, &nowhere);
        assert_eq!(knocked(&mut neighbours), ["192.168.1.7:40000"]);
    }

    #[test]
    fn a_neighbour_that_does_not_answer_is_knocked_at_seldom_however_often_it_is_announced() {
        let mut neighbours = neighbours();
        let mut knocks = 0;
        for tick in 0..200 {
            // The same one again and again, and one that claims news each time.
            hear(&mut neighbours, &said(1, (1, 0), &["192.168.1.7"]));
            hear(&mut neighbours, &said(2, (1, tick), &["192.168.1.8"]));
            knocks += knocked(&mut neighbours)
                .iter()
                .filter(|at| at.contains("1.7:"))
                .count();
        }
        assert_eq!(knocks, 4 + 9);
        let mut knocks = 0;
        for tick in 200..300 {
            hear(&mut neighbours, &said(2, (1, tick), &["192.168.1.8"]));
            knocks += knocked(&mut neighbours)
                .iter()
                .filter(|at| at.contains("1.8:"))
                .count();
        }
        assert!(knocks <= 40, "{knocks}");
    }

    #[test]
    fn who_is_reached_or_no_member_is_left_alone() {
        let mut neighbours = neighbours();
        hear(&mut neighbours, &said(1, (1, 0), &["192.168.1.7"]));
        assert!(neighbours.due(|_| true, |_| true).is_empty());
        assert!(neighbours.due(|_| false, |_| false).is_empty());
        assert_eq!(neighbours.due(|_| true, |_| false).len(), 1);
    }

    #[test]
    fn an_old_announcement_changes_nothing_and_our_own_is_not_heard() {
        let mut neighbours = neighbours();
        assert!(hear(&mut neighbours, &said(1, (2, 1), &["192.168.1.7"])));
        assert!(!hear(&mut neighbours, &said(1, (2, 0), &["192.168.1.66"])));
        assert!(!hear(&mut neighbours, &said(1, (1, 9), &["192.168.1.66"])));
        assert!(!hear(&mut neighbours, &said(1, (2, 1), &["192.168.1.7"])));
        assert!(!hear(&mut neighbours, &said(5, (9, 9), &["192.168.1.9"])));
        assert_eq!(knocked(&mut neighbours), ["192.168.1.7:7081"]);
        assert!(hear(&mut neighbours, &said(1, (3, 0), &["192.168.1.8"])));
        assert_eq!(knocked(&mut neighbours), ["192.168.1.8:7081"]);
    }

    #[test]
    fn the_list_is_bounded_and_members_keep_their_places() {
        let mut neighbours = neighbours();
        let member = NodeId::from_bytes([1; 32]);
        let is_member = |node: &NodeId| *node == member;
        let first = said(1, (1, 0), &["192.168.1.7"]);
        assert!(neighbours.hear(("member", &first), &link(), is_member));
        for number in 0_u32..5_000 {
            let mut stranger = said(9, (1, 0), &["192.168.1.9"]);
            let mut id = [9; 32];
            id[..4].copy_from_slice(&number.to_be_bytes());
            stranger.record.node_id = NodeId::from_bytes(id);
            neighbours.tick();
            neighbours.hear(("stranger", &stranger), &link(), is_member);
        }
        assert_eq!(neighbours.known.len(), MAX_NEIGHBOURS);
        assert!(neighbours.known.contains_key(&member));
        assert!(neighbours.due(|_| true, |_| false).len() <= MAX_KNOCKS);
        assert!(!neighbours.instances(60).contains(&"member".to_owned()));
        neighbours.forget();
        assert!(neighbours.instances(u32::MAX).is_empty());
    }
}
