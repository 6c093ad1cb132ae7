//! What does the node tell, and why did a packet go nowhere?

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use mesh_wire::{NodeId, signal::Signal};

/// News for the outside, as plain data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Hand this to the discovery server.
    Signal {
        /// The receiver.
        to: NodeId,
        /// What we say.
        signal: Signal,
    },
    /// A peer is reached now.
    Connected {
        /// The peer.
        node: NodeId,
        /// Where it is; a TURN server's address where that relays. Absent if other members carry what comes from it.
        endpoint: Option<SocketAddr>,
        /// Whether a TURN server relays what comes from there.
        relayed: bool,
    },
    /// A peer is not reached any more.
    Disconnected {
        /// The peer.
        node: NodeId,
    },
    /// The machine was asleep, or stopped, for so long that connections that waited meanwhile are probably dead.
    Awoke {
        /// When this node last ran before: several on one machine tell of the same sleep.
        since: Instant,
    },
    /// The answer to [`super::command::Command::Ping`].
    Pong {
        /// The peer.
        node: NodeId,
        /// As given in the command.
        id: u64,
        /// From the command to the answer, connecting included.
        rtt: Duration,
        /// Where the answer came from: the peer's address, or that of the TURN server that relayed it. Absent if other members
        /// carried it.
        endpoint: Option<SocketAddr>,
        /// Whether a TURN server relayed it.
        relayed: bool,
    },
    /// A packet is for an address of the virtual LAN that no known member has. The packet waits some seconds.
    Sought {
        /// The address.
        address: IpAddr,
    },
    /// What a peer thinks that we should know.
    Gossip {
        /// The peer.
        from: NodeId,
        /// What it says.
        message: Box<[u8]>,
    },
}

/// Why a packet, datagram or message went nowhere. Each reason is a counter; nothing is logged per packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// From the TUN, but not an IP packet that can be forwarded.
    MalformedPacket,
    /// The destination belongs to no member.
    NoSuchDestination,
    /// The peer could not be reached in time, or too many packets waited for it.
    Unreachable,
    /// A datagram of no known protocol, or ChannelData that no TURN server of ours relays.
    UnknownDatagram,
    /// A WireGuard message that is forged, replayed, damaged or too late.
    RefusedMessage,
    /// A handshake that came while there were too many: its sender is told to prove its address first.
    UnprovenInitiation,
    /// A STUN message that is malformed, forged or for nobody here.
    RefusedStun,
    /// An opened packet whose source does not belong to its sender.
    ForgedSource,
    /// An opened packet that is not for an address of ours.
    WrongDestination,
    /// A signal or message of a peer that is not a member.
    UnknownPeer,
    /// A candidate that points where no peer can be.
    RefusedCandidate,
    /// A connectivity check to an address that has not answered enough of them.
    UnansweredCheck,
    /// A datagram from or to an address of the virtual LAN: a tunnel inside the tunnel.
    InsideTunnel,
    /// A message between daemons that this version does not know.
    UnknownCarrier,
    /// A member had more to tell than is listened to.
    TooMuchGossip,
    /// A router marked the datagram for congestion, and the sender of the packet inside does not understand marks.
    Congestion,
    /// A relay frame that is malformed, forged, replayed or too late, or came to a node that carries nothing.
    RefusedFrame,
    /// A relay frame that has crossed as many links as it may.
    HopLimit,
    /// A relay frame whose next member is unknown, not linked to us, or the one that it came from.
    NoRoute,
    /// From the TUN, longer than the path carries, and not to be cut; its sender is told.
    PacketTooBig,
    /// An ICMP error that says of no datagram of ours that it was too long.
    RefusedIcmp,
}

impl DropReason {
    /// All reasons, in the order of their counters.
    pub const ALL: [Self; 21] = [
        Self::MalformedPacket,
        Self::NoSuchDestination,
        Self::Unreachable,
        Self::UnknownDatagram,
        Self::RefusedMessage,
        Self::UnprovenInitiation,
        Self::RefusedStun,
        Self::ForgedSource,
        Self::WrongDestination,
        Self::UnknownPeer,
        Self::RefusedCandidate,
        Self::UnansweredCheck,
        Self::InsideTunnel,
        Self::UnknownCarrier,
        Self::TooMuchGossip,
        Self::Congestion,
        Self::RefusedFrame,
        Self::HopLimit,
        Self::NoRoute,
        Self::PacketTooBig,
        Self::RefusedIcmp,
    ];

    /// The name that `status` and metrics show.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MalformedPacket => "malformed_packet",
            Self::NoSuchDestination => "no_such_destination",
            Self::Unreachable => "unreachable",
            Self::UnknownDatagram => "unknown_datagram",
            Self::RefusedMessage => "refused_message",
            Self::UnprovenInitiation => "unproven_initiation",
            Self::RefusedStun => "refused_stun",
            Self::ForgedSource => "forged_source",
            Self::WrongDestination => "wrong_destination",
            Self::UnknownPeer => "unknown_peer",
            Self::RefusedCandidate => "refused_candidate",
            Self::UnansweredCheck => "unanswered_check",
            Self::InsideTunnel => "inside_tunnel",
            Self::UnknownCarrier => "unknown_carrier",
            Self::TooMuchGossip => "too_much_gossip",
            Self::Congestion => "congestion",
            Self::RefusedFrame => "refused_frame",
            Self::HopLimit => "hop_limit",
            Self::NoRoute => "no_route",
            Self::PacketTooBig => "packet_too_big",
            Self::RefusedIcmp => "refused_icmp",
        }
    }
}

/// What became of packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// How often each [`DropReason`] occurred.
    dropped: [u64; DropReason::ALL.len()],
    /// Packets that were sealed for members, opened from them or carried for them.
    pub moved: u64,
}

impl Counters {
    /// Adds `times` to a reason.
    pub fn count(&mut self, reason: DropReason, times: u64) {
        self.dropped[reason as usize] += times;
    }

    /// How often `reason` occurred.
    pub fn get(&self, reason: DropReason) -> u64 {
        self.dropped[reason as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_counter_of_its_own() {
        let mut counters = Counters::default();
        for (times, reason) in (1..).zip(DropReason::ALL) {
            counters.count(reason, times);
        }
        for (times, reason) in (1..).zip(DropReason::ALL) {
            assert_eq!(counters.get(reason), times, "{}", reason.name());
        }
    }
}
