//! What follows when this machine was asleep? Mappings of NATs, rights at TURN servers and keys have ended meanwhile, and the
//! peers have given us up. So it is as after a move, but that our addresses are the same.

use std::time::{Duration, Instant};

use super::{Node, event::Event};
use crate::{peer::state::State, queue::transmit::TransmitQueue};

/// A node that is called so much later than it asked for did not run. What is due every 25 s keeps mappings that live for
/// 30 s: with less delay than this nothing has ended.
const LATE: Duration = Duration::from_secs(5);

impl Node {
    /// Begins anew if this call is late. To be called first, before anything is done about what is overdue.
    pub(super) fn notice_sleep(&mut self, now: Instant, transmit: &mut TransmitQueue) {
        let called = self.wakeups.called;
        // Most calls follow others soon, and need no look at what is due.
        let is_late = called + LATE <= now && self.poll_timeout().0 + LATE <= now;
        self.wakeups.called = now;
        if is_late {
            self.events.push_back(Event::Awoke { since: called });
            self.awake(now, transmit);
        }
    }

    fn awake(&mut self, now: Instant, transmit: &mut TransmitQueue) {
        self.gatherer.start_over(now);
        self.gatherer.turn.awoke(now, &mut self.rng);
        self.keep_relayed(now, transmit);
        let dialled = State::connecting(now, self.local.connect_timeout);
        for index in self.peers.indices() {
            let Some(peer) = self.peers.get_mut(index) else {
                continue;
            };
            // What was missed while nobody listened says nothing.
            peer.traffic.watch.begin(peer.traffic.volume());
            let is_wanted = peer.link.is_some() || matches!(peer.state, State::Connecting { .. });
            peer.traffic.lapsed = is_wanted && !peer.session.is_established(now);
            if is_wanted && peer.state != dialled {
                self.dial(index, now);
                self.show_up(index, now, transmit);
            }
        }
    }
}
