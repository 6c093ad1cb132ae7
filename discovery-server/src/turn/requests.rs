//! What do the four requests of TURN do, once their sender is known as a member? (RFC 8656 sections 7 to 12)

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use stun_types::{
    attribute::{AttributeWrite as _, RawAttribute, XorMappedAddress, XorSocketAddr},
    message::Message,
};

use super::{
    Client, Moment,
    allocation::{self, Allocation, Denied},
    credential::Holder,
    machine::{Machine, Proven, Step, quietly, reply},
    message::{self, Question},
    policy::Forbidden,
    quota::Exhausted,
};

/// The number of UDP in REQUESTED-TRANSPORT: nothing else is relayed.
const UDP: u8 = 17;

/// A client from which nothing has come for so long may be gone: ours refreshes each 25 s, to keep the NAT before it open,
/// so two refreshes of one that lives were lost in a row.
const SILENT: Duration = Duration::from_secs(60);

/// An allocation that is granted, and has no socket yet.
#[derive(Debug)]
pub(super) struct Grant {
    pub(super) client: Client,
    /// Whether an IPv6 address is wanted.
    pub(super) ipv6: bool,
    /// Whether the port must be even.
    pub(super) even: bool,
    question: Question,
    holder: Holder,
    seconds: u32,
}

impl<S: Clone> Machine<S> {
    pub(super) fn allocate(
        &mut self,
        message: &Message<'_>,
        client: Client,
        proven: Proven,
        now: Moment,
    ) -> Step<S> {
        let Proven { question, holder } = proven;
        if let Some(known) = self.allocations.get(&client) {
            if known.made_by == question.transaction && known.holder.node == holder.node {
                let left = known.expires.saturating_duration_since(now.instant);
                let seconds = u32::try_from(left.as_secs()).unwrap_or(u32::MAX);
                return reply(allocated(&question, client, known.relayed, seconds));
            }
            return self.refuse(&question, 437);
        }
        let Some([transport, ..]) = message::value::<4>(message, message::REQUESTED_TRANSPORT)
        else {
            return self.refuse(&question, 400);
        };
        if transport != UDP {
            return self.refuse(&question, 442);
        }
        let Some(ipv6) = wants_ipv6(message) else {
            return self.refuse(&question, 440);
        };
        let even = message::value::<1>(message, message::EVEN_PORT);
        if even.is_some_and(|[flags]| flags & 0x80 != 0) {
            // The port after it is not kept for anybody: pairs of ports are RTP's of old.
            return self.refuse(&question, 508);
        }
        let user = client.user(&holder);
        let mut admitted = self.quotas.admit(user, now.instant);
        if admitted == Err(Exhausted::Member) && self.end_forsaken(client, &holder, now) {
            admitted = self.quotas.admit(user, now.instant);
        }
        match admitted {
            Ok(()) => {}
            Err(Exhausted::Member | Exhausted::Place) => return self.refuse(&question, 486),
            Err(Exhausted::Server) => return self.refuse(&question, 508),
        }
        Step::Bind(Box::new(Grant {
            client,
            ipv6,
            even: even.is_some(),
            question,
            holder,
            seconds: allocation::lifetime(asked_lifetime(message), holder.left(now.unix)),
        }))
    }

    /// Ends that allocation of a member which has been silent for longest, if its client seems to have moved on: whoever
    /// changes networks leaves an allocation behind each time, and would wait ten minutes for its end. Those at the
    /// address that asks now are of daemons, or threads of one, that live side by side; they do not push each other out.
    /// Returns whether there was one.
    fn end_forsaken(&mut self, asks: Client, holder: &Holder, now: Moment) -> bool {
        let here = asks.address.ip().to_canonical();
        let silent = |heard| now.instant.saturating_duration_since(heard) >= SILENT;
        let forsaken = self
            .allocations
            .iter()
            .filter(|(_, found)| found.holder.node == holder.node && silent(found.heard))
            .filter(|(client, _)| client.address.ip().to_canonical() != here)
            .min_by_key(|(client, found)| (found.heard, client.address))
            .map(|(client, _)| *client);
        if let Some(client) = forsaken {
            tracing::debug!(%client, "an allocation that its member has left is ended for a new one");
            self.end(client);
        }
        forsaken.is_some()
    }

    /// Makes the granted allocation with its socket and the address that its client is told; without one refuses it
    /// with `Err`'s code.
    pub(super) fn bound(
        &mut self,
        grant: Grant,
        socket: Result<(S, SocketAddr), u16>,
        now: Moment,
    ) -> Step<S> {
        let (socket, relayed) = match socket {
            Ok(bound) => bound,
            Err(code) => {
                self.quotas.release(grant.client.user(&grant.holder));
                return quietly(|| self.refuse(&grant.question, code));
            }
        };
        let request = (self.next_id, grant.question.transaction);
        self.next_id += 1;
        let made = Allocation::new(
            request,
            grant.holder,
            (socket, relayed),
            grant.seconds,
            now.instant,
        );
        self.relayed.insert(relayed, grant.client);
        self.allocations.insert(grant.client, made);
        let (question, client) = (&grant.question, grant.client);
        reply(quietly(|| {
            allocated(question, client, relayed, grant.seconds)
        }))
    }

    /// The id that the next allocation gets.
    pub(super) fn next_id(&self) -> u64 {
        self.next_id
    }

    pub(super) fn refresh(
        &mut self,
        message: &Message<'_>,
        client: Client,
        proven: &Proven,
        now: Moment,
    ) -> Step<S> {
        let allocation = match self.own(client, proven) {
            Ok(allocation) => allocation,
            Err(code) => return self.refuse(&proven.question, code),
        };
        let family = message.has_attribute(message::REQUESTED_ADDRESS_FAMILY);
        if family && wants_ipv6(message) != Some(allocation.relayed.is_ipv6()) {
            return self.refuse(&proven.question, 443);
        }
        let seconds = match asked_lifetime(message) {
            Some(0) => {
                self.end(client);
                0
            }
            asked => {
                let left = proven.holder.left(now.unix);
                let seconds = allocation::lifetime(asked, left);
                allocation.expires = now.instant + Duration::from_secs(seconds.into());
                seconds
            }
        };
        let lifetime = seconds.to_be_bytes();
        let lifetime = RawAttribute::new(message::LIFETIME, &lifetime);
        reply(proven.question.success(&[lifetime]))
    }

    pub(super) fn create_permission(
        &mut self,
        message: &Message<'_>,
        client: Client,
        proven: &Proven,
        now: Moment,
    ) -> Step<S> {
        let peers = message::peers(message).unwrap_or_default();
        let permitted = match peers.is_empty() {
            true => Err(400),
            false => self.own_for(&peers, client, proven).and_then(|own| {
                let permitted = own.permit(peers.iter().map(SocketAddr::ip), now.instant);
                permitted.map_err(Denied::code)
            }),
        };
        self.confirm(proven, permitted)
    }

    pub(super) fn bind_channel(
        &mut self,
        message: &Message<'_>,
        client: Client,
        proven: &Proven,
        now: Moment,
    ) -> Step<S> {
        let peers = message::peers(message).unwrap_or_default();
        let number = message::value::<4>(message, message::CHANNEL_NUMBER);
        let channel = number.map(|[a, b, _, _]| u16::from_be_bytes([a, b]));
        let channel = channel.filter(|channel| message::CHANNELS.contains(channel));
        let bound = match (&peers[..], channel) {
            ([peer], Some(channel)) => self
                .own_for(&peers, client, proven)
                .and_then(|own| own.bind(channel, *peer, now.instant).map_err(Denied::code)),
            _ => Err(400),
        };
        self.confirm(proven, bound)
    }

    /// The allocation that a request is about, if it may relay to all of these.
    fn own_for(
        &mut self,
        peers: &[SocketAddr],
        client: Client,
        proven: &Proven,
    ) -> Result<&mut Allocation<S>, u16> {
        self.check_peers(peers, client, proven)?;
        self.own(client, proven)
    }

    /// The allocation that a request is about, which from now on rests on the credential shown last: a member may go on
    /// with the next one that it was handed, and nobody else may.
    fn own(&mut self, client: Client, proven: &Proven) -> Result<&mut Allocation<S>, u16> {
        let allocation = self.allocations.get_mut(&client).ok_or(437_u16)?;
        if allocation.holder.node != proven.holder.node {
            return Err(441);
        }
        allocation.holder = proven.holder;
        Ok(allocation)
    }

    /// Whether all of these may be relayed to by this client's allocation.
    fn check_peers(
        &mut self,
        peers: &[SocketAddr],
        client: Client,
        proven: &Proven,
    ) -> Result<(), u16> {
        let ipv6 = self.own(client, proven)?.relayed.is_ipv6();
        for peer in peers {
            if peer.is_ipv6() != ipv6 && !is_embedded(peer.ip()) {
                return Err(443);
            }
            // A permission is for an address, whatever port is named with it; a port that floods is refused at once all
            // the same, since nothing will be sent there.
            let named = match peer.port() {
                0 => self.policy.check_address(peer.ip()),
                _ => self.policy.check(*peer),
            };
            match named {
                Ok(()) => {}
                // Another member's relayed address is reached within this program, not through the host. Who names no
                // port may mean one: that is asked again for all that goes there or comes from there. An own address
                // that nobody is relayed at is refused as any other that is not for peers.
                Err(Forbidden::Own) if self.relays_for(*peer) => {}
                Err(Forbidden::Own | Forbidden::Special | Forbidden::Private | Forbidden::Port) => {
                    return Err(403);
                }
            }
        }
        Ok(())
    }

    fn confirm(&self, proven: &Proven, done: Result<(), u16>) -> Step<S> {
        match done {
            Ok(()) => reply(proven.question.success(&[])),
            Err(code) => self.refuse(&proven.question, code),
        }
    }

    fn refuse(&self, question: &Question, code: u16) -> Step<S> {
        self.metrics.refused(code);
        reply(question.error(code, &[]))
    }
}

fn allocated(
    question: &Question,
    client: Client,
    relayed: SocketAddr,
    seconds: u32,
) -> Option<Vec<u8>> {
    let told = XorSocketAddr::new(relayed, question.transaction);
    let mapped = message::canonical(client.address);
    let mapped = XorMappedAddress::new(mapped, question.transaction);
    let lifetime = seconds.to_be_bytes();
    question.success(&[
        told.to_raw(message::XOR_RELAYED_ADDRESS),
        RawAttribute::new(message::LIFETIME, &lifetime),
        mapped.to_raw(),
    ])
}

/// Whether IPv6 is asked for; IPv4 is what RFC 8656 takes without a word. `None` for other families.
fn wants_ipv6(message: &Message<'_>) -> Option<bool> {
    if !message.has_attribute(message::REQUESTED_ADDRESS_FAMILY) {
        return Some(false);
    }
    match message::value::<4>(message, message::REQUESTED_ADDRESS_FAMILY)? {
        [1, ..] => Some(false),
        [2, ..] => Some(true),
        _ => None,
    }
}

fn asked_lifetime(message: &Message<'_>) -> Option<u32> {
    message::value(message, message::LIFETIME).map(u32::from_be_bytes)
}

/// An IPv6 address that is none of the global ones is refused for what it is, not for its family.
fn is_embedded(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(_) => false,
        IpAddr::V6(v6) => v6.segments()[0] & 0xE000 != 0x2000,
    }
}
