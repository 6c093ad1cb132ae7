//! What may be registered at most, and is a record newer than the one at hand?
//!
//! Pure: the callers hold the stored rows and write the answers back in the same transaction.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use mesh_wire::peer_info::PeerRecord;

/// Members that one network may have: twice as many as the tests of load connect at once.
pub const MAX_MEMBERS: usize = 20_000;

/// Networks that one server keeps: at 200 bytes each they are 2 MB, and anyone may create one.
pub const MAX_NETWORKS: u64 = 10_000;

/// Deleted networks that one server remembers: as many as it can have had at once.
pub(crate) const MAX_DELETED: u64 = MAX_NETWORKS;

/// Revoked keys that one network keeps: they are in each snapshot.
pub(crate) const MAX_REVOCATIONS: u64 = 1_000;

/// Nodes that one invite lets in, whatever it says: ten times as many as may be members at once.
pub(crate) const MAX_USES: u64 = 10_000;

/// A stored member, without its presence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// What the node signed.
    pub record: PeerRecord,
    /// Its name in this network, unique there.
    pub name: String,
    /// Its address, unique in this network.
    pub virtual_ip: Ipv4Addr,
    /// Seconds since the Unix epoch.
    pub last_seen: u64,
}

/// How a record that arrives relates to the stored one of the same node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// Greater `seq`: it replaces the stored one.
    Newer,
    /// The stored one again, as after a lost answer.
    Same,
    /// Lower `seq`, or the same `seq` with other content.
    Stale,
}

/// Compares by `seq` (see [`PeerRecord::seq`]).
pub(crate) fn freshness(stored: &PeerRecord, arrived: &PeerRecord) -> Freshness {
    if arrived.seq > stored.seq {
        Freshness::Newer
    } else if arrived == stored {
        Freshness::Same
    } else {
        Freshness::Stale
    }
}

/// Why addresses cannot be taken from `cidr`; `None` when they can.
pub(crate) fn cidr_objection(cidr: Ipv4Net) -> Option<String> {
    let (address, prefix) = (cidr.addr(), cidr.prefix_len());
    if cidr != cidr.trunc() {
        return Some(format!(
            "it has bits set behind the prefix; did you mean {}?",
            cidr.trunc()
        ));
    }
    // /30 is the smallest with two hosts; /8 the largest block that is set aside for private use (RFC 1918).
    if !(8..=30).contains(&prefix) {
        return Some("its prefix length must be between 8 and 30".to_owned());
    }
    let reserved = address.is_loopback()
        || address.is_link_local()
        || address.octets()[0] == 0
        || address.octets()[0] >= 224;
    reserved.then(|| "it is reserved for other uses (RFC 6890)".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_wire::{NodeId, WireGuardKey};

    fn record(seq: u64, instance: u64) -> PeerRecord {
        PeerRecord {
            node_id: NodeId::from_bytes([1; 32]),
            wireguard_key: WireGuardKey::from_bytes([2; 32]),
            hostname: "alice".into(),
            seq,
            instance,
            signature: String::new(),
            certificate: None,
        }
    }

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    #[test]
    fn only_a_greater_seq_replaces_a_record() {
        assert_eq!(freshness(&record(2, 1), &record(3, 1)), Freshness::Newer);
        assert_eq!(freshness(&record(2, 1), &record(2, 1)), Freshness::Same);
        assert_eq!(freshness(&record(2, 1), &record(2, 9)), Freshness::Stale);
        assert_eq!(freshness(&record(2, 1), &record(1, 1)), Freshness::Stale);
    }

    #[test]
    fn unusable_ranges_are_refused() {
        for bad in [
            "10.0.0.1/24",
            "10.0.0.0/31",
            "0.0.0.0/0",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "224.0.0.0/8",
            "0.0.0.0/8",
        ] {
            assert!(cidr_objection(net(bad)).is_some(), "{bad}");
        }
        for good in ["10.0.0.0/8", "100.64.0.0/10", "192.168.7.0/30"] {
            assert_eq!(cidr_objection(net(good)), None, "{good}");
        }
    }
}
