//! Opens our NAT towards a peer before the first packet comes from there: see `path::opening`.

use std::time::Instant;

use rand::RngExt as _;

use super::{Node, event::DropReason};
use crate::{
    path::gather::binding_request,
    peer::table::PeerIdx,
    queue::transmit::{Route, TransmitQueue},
};

impl Node {
    /// Sends the shots that are due. They count as checks do: whoever names an address may have no right to it.
    pub(super) fn fire_shots(
        &mut self,
        index: PeerIdx,
        now: Instant,
        transmit: &mut TransmitQueue,
    ) {
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        while let Some(shot) = peer.agent.as_mut().and_then(|agent| agent.poll_shot(now)) {
            if !peer.limits.knocks.may_shoot(shot.dst.ip(), now) {
                self.counters.count(DropReason::UnansweredCheck, 1);
                continue;
            }
            // Nobody needs to understand it. It is a STUN message because that is what a middlebox expects here.
            let request = binding_request(&self.rng.random());
            transmit.push_limited(Route::to(shot.dst), shot.hop_limit, &request);
        }
    }
}
