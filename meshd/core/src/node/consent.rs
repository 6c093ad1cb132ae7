//! May a peer still be written to? Whoever has not shown for half a minute that it wants to hear us by a path gets nothing
//! more there but checks (RFC 7675 section 5.1). An authentic message of its session shows as much as the answer to a
//! check.

use std::time::{Duration, Instant};

use super::{Node, event::Event};
use crate::peer::{Peer, state::State, table::PeerIdx};

/// For so long one sign holds.
const CONSENT: Duration = Duration::from_secs(30);

impl Peer {
    /// When the peer's consent to be written to by the link ends. One that ended before an attempt to find a path has begun, as
    /// after a sleep, says nothing: the attempt has an end of its own.
    pub(crate) fn consent_ends(&self) -> Option<Instant> {
        // Neighbours carry what goes over the mesh, and each has consented for itself.
        self.link.filter(|link| !link.is_over_mesh())?;
        let proven = self.agent.as_ref().and_then(|agent| agent.proven());
        let end = self.traffic.last_here.max(proven)? + CONSENT;
        match self.state {
            State::Connecting { began, .. } if end <= began => None,
            State::Connecting { .. } | State::Connected | State::Idle | State::Failed { .. } => {
                Some(end)
            }
        }
    }
}

impl Node {
    /// Writes no more by a link without consent. An attempt to find another one goes on.
    pub(super) fn drive_consent(&mut self, index: PeerIdx, now: Instant) {
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        if peer.consent_ends().is_none_or(|end| now < end) {
            return;
        }
        if matches!(peer.state, State::Connecting { .. }) {
            peer.link = None;
            let node = peer.node_id;
            self.events.push_back(Event::Disconnected { node });
            self.untie(index, now);
        } else {
            self.on_disconnected(index, now);
        }
    }
}
