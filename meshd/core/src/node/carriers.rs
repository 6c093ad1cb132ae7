//! What do members' daemons say to each other inside a session, and what comes of it?

use std::time::{Duration, Instant};

use mesh_wire::{carrier::Carrier, trust::Gossip};

use super::{
    Node,
    event::{DropReason, Event},
    inbound::Arrival,
    neighbours::HELLO_PING,
    silence::OWN_PING,
};
use crate::{peer::table::PeerIdx, queue::transmit::TransmitQueue};

impl Node {
    /// Takes a message that came in the session whose receiver index is given.
    pub(super) fn on_carrier(
        &mut self,
        index: PeerIdx,
        (message, receiver): (Carrier, u32),
        arrival: Arrival,
        now: Instant,
        transmit: &mut TransmitQueue,
    ) {
        match message {
            Carrier::Ping { id, sent } => {
                self.pong((index, Carrier::Pong { id, sent }), arrival, now, transmit);
            }
            Carrier::Pong { id, sent } => {
                let rtt = Duration::from_micros(self.micros(now).saturating_sub(sent));
                self.on_pong((index, id), rtt, arrival, now);
            }
            Carrier::Routing { message } => self.on_routing((index, &message), now, transmit),
            Carrier::Direct { finding } => self.on_finding(index, finding, now),
            Carrier::Birthday { step, attempt } => {
                self.on_birthday_letter((index, attempt), step, now, transmit);
            }
            Carrier::Features { bits } => {
                self.on_features(index, (bits, receiver), now, transmit);
            }
            Carrier::Gossip { message } => {
                let Some(peer) = self.peers.get_mut(index) else {
                    return;
                };
                if !peer.limits.ear.listens(Gossip::is_urgent(&message), now) {
                    return self.counters.count(DropReason::TooMuchGossip, 1);
                }
                let from = peer.node_id;
                self.events.push_back(Event::Gossip { from, message });
            }
        }
    }

    fn on_pong(
        &mut self,
        (index, id): (PeerIdx, u64),
        rtt: Duration,
        arrival: Arrival,
        now: Instant,
    ) {
        match id {
            // That it came is all that it says.
            OWN_PING => return,
            HELLO_PING => return self.on_hello(index, now),
            _ => {}
        }
        let Some(peer) = self.peers.get(index) else {
            return;
        };
        let node = peer.node_id;
        let relayed = self.is_relayed(arrival) || peer.detour.is_relay(arrival.from);
        let is_ours = self.on_probe_answered((index, id), rtt, now)
            || self.on_trial_answered((index, id), rtt, now);
        if !is_ours {
            let endpoint = self.last_hop(arrival);
            self.events.push_back(Event::Pong {
                node,
                id,
                rtt,
                endpoint,
                relayed,
            });
        }
    }
}
