//! What do we believe of what the server says about members? Only what a member signed, and never less than we knew:
//! an older record does not replace a newer one, an error does not empty the list.

use std::collections::BTreeSet;

use mesh_wire::{
    discovery::ServerMessage,
    peer_info::{Directory, PeerInfo},
};

use super::scope::Scope;

/// The most members that are kept: twice what a discovery server of this version admits. One that lists more is hostile
/// or broken; the first ones still work.
const MAX_PEERS: usize = 2_000;

/// The directory as it is being heard.
#[derive(Debug)]
pub struct Believed {
    scope: Scope,
    directory: Directory,
    rejected: u64,
}

impl Believed {
    /// Begins with what an earlier run had heard.
    pub fn new(scope: Scope, cached: Directory) -> Self {
        let mut believed = Self {
            scope,
            directory: Directory::default(),
            rejected: 0,
        };
        for peer in cached.peers {
            // Nobody is online just because it was when the cache was written.
            believed.put(PeerInfo {
                online: false,
                ..peer
            });
        }
        believed.directory.revision = cached.revision;
        believed
    }

    /// The members as they stand.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// How many records were refused because nobody had signed them, or because they were older than what is known.
    pub fn rejected(&self) -> u64 {
        self.rejected
    }

    /// Takes a message; returns whether it changed anything.
    pub fn apply(&mut self, message: &ServerMessage) -> bool {
        match message {
            ServerMessage::Snapshot {
                revision, peers, ..
            } => {
                let before = self.directory.clone();
                let listed: BTreeSet<_> = peers.iter().map(|peer| peer.record.node_id).collect();
                self.directory
                    .peers
                    .retain(|known| listed.contains(&known.record.node_id));
                for peer in peers {
                    self.put(peer.clone());
                }
                self.directory.revision = *revision;
                self.directory != before
            }
            ServerMessage::PeerJoined { revision, peer }
            | ServerMessage::PeerUpdated { revision, peer } => {
                self.directory.revision = *revision;
                self.put(PeerInfo::clone(peer))
            }
            ServerMessage::PeerLeft { revision, node_id } => {
                self.directory.revision = *revision;
                let before = self.directory.peers.len();
                self.directory
                    .peers
                    .retain(|peer| peer.record.node_id != *node_id);
                before != self.directory.peers.len()
            }
            ServerMessage::Challenge { .. }
            | ServerMessage::Revoked { .. }
            | ServerMessage::Signal { .. }
            | ServerMessage::Undeliverable { .. }
            | ServerMessage::Error { .. } => false,
        }
    }

    /// Adds or replaces one member, if its own signature says so.
    fn put(&mut self, mut peer: PeerInfo) -> bool {
        let node = peer.record.node_id;
        let key = peer.record.wireguard_key;
        let peers = &mut self.directory.peers;
        // A session key has one owner: whoever was known with it first.
        let taken = peers
            .iter()
            .any(|known| known.record.wireguard_key == key && known.record.node_id != node);
        if taken || !self.scope.admits(&peer) {
            self.rejected += 1;
            return false;
        }
        if let Some(known) = peers
            .iter_mut()
            .find(|known| known.record.node_id == peer.record.node_id)
        {
            if peer.record.seq < known.record.seq {
                self.rejected += 1;
                peer.record = known.record.clone();
            }
            let changed = *known != peer;
            *known = peer;
            return changed;
        }
        if peers.len() >= MAX_PEERS {
            self.rejected += 1;
            return false;
        }
        let at = peers.partition_point(|known| known.name < peer.name);
        peers.insert(at, peer);
        true
    }
}

#[cfg(test)]
mod tests {
    use mesh_wire::WireGuardKey;

    use super::*;
    use crate::discovery::scope::tests::{peer, scope};

    fn believed() -> Believed {
        Believed::new(scope(), Directory::default())
    }

    fn snapshot(peers: Vec<PeerInfo>) -> ServerMessage {
        ServerMessage::Snapshot {
            revision: 1,
            peers,
            revocations: Vec::new(),
        }
    }

    #[test]
    fn a_snapshot_replaces_the_list_and_keeps_it_sorted() {
        let mut believed = believed();
        assert!(believed.apply(&snapshot(vec![peer(2, "bob", 1), peer(1, "alice", 1)])));
        let names: Vec<_> = believed
            .directory()
            .peers
            .iter()
            .map(|p| p.name.clone())
            .collect();
        assert_eq!(names, ["alice", "bob"]);
        assert!(believed.apply(&snapshot(vec![peer(2, "bob", 1)])));
        assert_eq!(believed.directory().peers.len(), 1);
        assert!(!believed.apply(&snapshot(vec![peer(2, "bob", 1)])));
    }

    #[test]
    fn a_key_that_its_owner_did_not_sign_is_never_believed() {
        let mut believed = believed();
        let mut swapped = peer(2, "bob", 1);
        swapped.record.wireguard_key = WireGuardKey::from_bytes([9; 32]);
        believed.apply(&snapshot(vec![swapped]));
        assert!(believed.directory().peers.is_empty());
        assert_eq!(believed.rejected(), 1);
    }

    #[test]
    fn an_older_record_does_not_come_back() {
        let mut believed = believed();
        believed.apply(&snapshot(vec![peer(2, "bob", 5)]));
        let replay = ServerMessage::PeerUpdated {
            revision: 9,
            peer: Box::new(peer(2, "bob", 4)),
        };
        assert!(!believed.apply(&replay));
        assert_eq!(believed.directory().peers[0].record.seq, 5);
    }

    #[test]
    fn an_error_message_empties_nothing() {
        let mut believed = believed();
        believed.apply(&snapshot(vec![peer(2, "bob", 1)]));
        let problem = mesh_wire::problem::Problem::new(500, "x", "x");
        assert!(!believed.apply(&ServerMessage::Error { problem }));
        assert_eq!(believed.directory().peers.len(), 1);
    }

    #[test]
    fn who_is_only_remembered_is_not_online() {
        let cached = Directory {
            revision: 3,
            peers: vec![peer(2, "bob", 1)],
            revocations: Vec::new(),
        };
        let believed = Believed::new(scope(), cached);
        assert!(!believed.directory().peers[0].online);
    }

    #[test]
    fn a_session_key_stays_with_whom_it_was_known_first() {
        let mut believed = believed();
        believed.apply(&snapshot(vec![peer(2, "bob", 1)]));
        let mut thief = peer(3, "0", 1);
        let signer = ed25519_dalek::SigningKey::from_bytes(&[3; 32]);
        let stolen = WireGuardKey::from_bytes([2; 32]);
        thief.record =
            mesh_wire::peer_info::PeerRecord::sign(&signer, &scope().network, stolen, "0", (1, 1))
                .unwrap();
        assert!(!believed.apply(&ServerMessage::PeerJoined {
            revision: 2,
            peer: Box::new(thief)
        }));
        assert_eq!(believed.directory().peers.len(), 1);
    }
}
