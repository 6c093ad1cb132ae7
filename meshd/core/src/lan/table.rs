//! Who owns this address on the virtual LAN? (WireGuard's cryptokey routing: the same table routes outgoing packets
//! and judges the source of incoming ones.)

use std::{collections::BTreeMap, net::IpAddr};

use super::{errors::Messages, strangers::Strangers};
use crate::peer::table::PeerIdx;

/// Virtual address -> peer. Filled from what the network vouches for, never from packets.
#[derive(Debug, Default)]
pub struct AddressTable {
    owners: BTreeMap<IpAddr, PeerIdx>,
    /// Addresses without an owner that somebody sends to.
    pub strangers: Strangers,
    /// What senders on our side are to be told.
    pub messages: Messages,
}

impl AddressTable {
    /// The owner of `address`.
    pub fn owner(&self, address: IpAddr) -> Option<PeerIdx> {
        self.owners.get(&address).copied()
    }

    /// Whether `peer` may send from `address`.
    pub fn permits(&self, peer: PeerIdx, address: IpAddr) -> bool {
        self.owner(address) == Some(peer)
    }

    /// Gives `peer` exactly these addresses. An address that another peer holds stays with that peer until it gives
    /// it up, so that a newcomer cannot take over somebody's traffic.
    pub fn assign(&mut self, peer: PeerIdx, addresses: &[IpAddr]) {
        self.owners
            .retain(|address, owner| *owner != peer || addresses.contains(address));
        for address in addresses {
            self.owners.entry(*address).or_insert(peer);
        }
    }

    /// Takes all addresses from `peer`.
    pub fn remove(&mut self, peer: PeerIdx) {
        self.owners.retain(|_, owner| *owner != peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 100, 0, last])
    }

    #[test]
    fn an_address_belongs_to_one_peer_until_it_is_given_up() {
        let [a, b] = [PeerIdx::new(1), PeerIdx::new(2)];
        let mut table = AddressTable::default();
        table.assign(a, &[ip(2)]);
        table.assign(b, &[ip(2), ip(3)]);
        assert!(table.permits(a, ip(2)) && !table.permits(b, ip(2)) && table.permits(b, ip(3)));
        table.remove(a);
        table.assign(b, &[ip(2)]);
        assert!(table.permits(b, ip(2)));
        assert_eq!(table.owner(ip(3)), None);
    }
}
