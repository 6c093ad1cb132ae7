//! Which peer is it? By identity, by WireGuard key, or by the index that its messages carry.

use std::collections::BTreeMap;

use mesh_wire::{NodeId, WireGuardKey};

use super::Peer;

/// A peer's place in the table: at most 24 bits, because it becomes the upper part of a WireGuard receiver index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerIdx(u32);

impl PeerIdx {
    /// The most peers one node can know.
    pub const LIMIT: u32 = 1 << 24;

    /// The place `index`; only the lower 24 bits count.
    pub const fn new(index: u32) -> Self {
        Self(index % Self::LIMIT)
    }

    /// The place as a number below [`Self::LIMIT`].
    pub const fn get(self) -> u32 {
        self.0
    }

    fn slot(self) -> usize {
        self.0 as usize
    }
}

/// All known peers in a slab, so that receiving a message is one array access.
#[derive(Debug, Default)]
pub struct PeerTable {
    slots: Vec<Option<Peer>>,
    free: Vec<PeerIdx>,
    by_node: BTreeMap<NodeId, PeerIdx>,
    by_key: BTreeMap<WireGuardKey, PeerIdx>,
}

impl PeerTable {
    /// Makes room for a new peer and puts there what `make` returns for the place. `None` when the table is full or
    /// the identity or key is taken.
    pub fn insert(
        &mut self,
        (node, key): (NodeId, WireGuardKey),
        make: impl FnOnce(PeerIdx) -> Peer,
    ) -> Option<PeerIdx> {
        if self.by_node.contains_key(&node) || self.by_key.contains_key(&key) {
            return None;
        }
        let next = u32::try_from(self.slots.len())
            .ok()
            .filter(|n| *n < PeerIdx::LIMIT);
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.slots.push(None);
                PeerIdx(next?)
            }
        };
        self.slots[index.slot()] = Some(make(index));
        self.by_node.insert(node, index);
        self.by_key.insert(key, index);
        Some(index)
    }

    /// Forgets a peer; its place may be used again.
    pub fn remove(&mut self, index: PeerIdx) -> Option<Peer> {
        let peer = self.slots.get_mut(index.slot())?.take()?;
        self.by_node.remove(&peer.node_id);
        self.by_key.remove(&peer.entry.wireguard_key);
        self.free.push(index);
        Some(peer)
    }

    /// The peer at this place.
    pub fn get(&self, index: PeerIdx) -> Option<&Peer> {
        self.slots.get(index.slot())?.as_ref()
    }

    /// The peer at this place.
    pub fn get_mut(&mut self, index: PeerIdx) -> Option<&mut Peer> {
        self.slots.get_mut(index.slot())?.as_mut()
    }

    /// Two peers at once; `None` if either is not there, or both are one.
    pub fn pair_mut(&mut self, one: PeerIdx, other: PeerIdx) -> Option<(&mut Peer, &mut Peer)> {
        let places = [one.slot(), other.slot()];
        let [one, other] = self.slots.get_disjoint_mut(places).ok()?;
        Some((one.as_mut()?, other.as_mut()?))
    }

    /// The place of this identity.
    pub fn by_node(&self, node: &NodeId) -> Option<PeerIdx> {
        self.by_node.get(node).copied()
    }

    /// The place of this WireGuard key.
    pub fn by_key(&self, key: &WireGuardKey) -> Option<PeerIdx> {
        self.by_key.get(key).copied()
    }

    /// All peers with their places, in order of place.
    pub fn iter(&self) -> impl Iterator<Item = (PeerIdx, &Peer)> {
        (0..)
            .map(PeerIdx)
            .zip(&self.slots)
            .filter_map(|(index, slot)| Some((index, slot.as_ref()?)))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_node.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_node.is_empty()
    }

    /// All places that are taken.
    pub fn indices(&self) -> Vec<PeerIdx> {
        self.iter().map(|(index, _)| index).collect()
    }
}
