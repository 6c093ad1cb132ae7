//! How are messages and packets relayed that came by the train?
//!
//! Each is judged alone, under one lock for all; what then goes the same way leaves as a train again.

use std::{net::SocketAddr, sync::Arc};

use stun_types::message::TransactionId;

use super::{
    Client, MAX_DATA,
    machine::{Envelope, Step},
    message::{self, HEADROOM},
    outlet::{self, Outlet},
    relayed::{BUFFER, Relayed},
    service::{Turn, moment},
};
use crate::metrics::turn::Dropped;

/// Where data of a client goes.
enum Way {
    Peer(Arc<Relayed>, SocketAddr),
    /// To the allocation of another client here, from this relayed address.
    Within((Client, u64), SocketAddr),
}

impl Way {
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Peer(socket, peer), Self::Peer(other, its)) => {
                Arc::ptr_eq(socket, other) && peer == its
            }
            (Self::Within(to, from), Self::Within(other, its)) => to == other && from == its,
            (Self::Peer(..), Self::Within(..)) | (Self::Within(..), Self::Peer(..)) => false,
        }
    }
}

impl Turn {
    /// Relays ChannelData of one client; how many of the messages are none.
    pub(crate) fn receive_channel_data(&self, messages: &[&[u8]], client: Client) -> u64 {
        let now = moment();
        let (mut ways, mut garbage) = (Vec::with_capacity(messages.len()), 0);
        let mut machine = self.machine();
        for message in messages {
            match machine.receive(message, client, now) {
                Step::Relay { socket, peer, data } => {
                    ways.push((Way::Peer(socket, peer), &message[data]));
                }
                Step::Within { to, from, data } => {
                    ways.push((Way::Within(to, from), &message[data]));
                }
                Step::Garbage => garbage += 1,
                // ChannelData is never answered.
                Step::Nothing | Step::Reply(_) | Step::Bind(_) => {}
            }
        }
        drop(machine);
        for together in ways.chunk_by(|(way, _), (next, _)| way.is(next)) {
            let data = together.iter().map(|(_, data)| *data);
            match &together[0].0 {
                Way::Peer(socket, peer) => {
                    socket.send_all(data, *peer, |reason| self.metrics.dropped(reason));
                }
                Way::Within(to, from) => self.deliver(*to, *from, &data.collect::<Vec<_>>()),
            }
        }
        garbage
    }

    /// Hands packets of a peer to the client with this allocation, as far as it wants them.
    pub(super) fn deliver(&self, allocation: (Client, u64), peer: SocketAddr, packets: &[&[u8]]) {
        let peer = message::canonical(peer);
        let now = moment();
        let (mut wanted, mut envelope) = (Vec::with_capacity(packets.len()), None);
        let mut machine = self.machine();
        for packet in packets {
            if packet.len() > MAX_DATA {
                self.metrics.dropped(Dropped::TooLong);
            } else if let Some(found) = machine.hear(allocation, peer, packet.len(), now) {
                // The same for all: nothing is bound in between.
                envelope = Some(found);
                wanted.push(*packet);
            }
        }
        let relayed = machine.socket(allocation).cloned();
        drop(machine);
        let Some((envelope, relayed)) = envelope.zip(relayed) else {
            return;
        };
        match (envelope, &relayed.outlet) {
            (Envelope::Channel(channel), Outlet::Udp(socket, to)) => {
                let header = |packet: &&[u8]| message::channel_header(channel, packet.len());
                let headers: Vec<[u8; 4]> = wanted.iter().map(header).collect();
                let datagrams = headers.iter().map(|header| &header[..]).zip(wanted);
                outlet::send_all(socket, *to, datagrams, |reason| {
                    self.metrics.dropped(reason)
                });
            }
            (Envelope::Channel(_) | Envelope::Indication, outlet) => {
                self.deliver_alone(envelope, peer, outlet, &wanted);
            }
        }
    }

    /// Hands packets to a client one by one.
    fn deliver_alone(
        &self,
        envelope: Envelope,
        peer: SocketAddr,
        outlet: &Outlet,
        packets: &[&[u8]],
    ) {
        let mut buffer = [0; BUFFER];
        for packet in packets {
            let length = packet.len();
            buffer[HEADROOM..HEADROOM + length].copy_from_slice(packet);
            let framed = match envelope {
                Envelope::Channel(channel) => {
                    message::frame_channel(&mut buffer, length, channel, outlet.pads())
                }
                Envelope::Indication => {
                    let transaction = TransactionId::generate();
                    message::frame_indication(&mut buffer, length, peer, transaction)
                }
            };
            if let Err(reason) = outlet.send_data(&buffer[framed]) {
                self.metrics.dropped(reason);
            }
        }
    }
}
