//! What does a message of a client, or a packet of a peer, bring about?
//!
//! No sockets and no clock: the caller hands in bytes and the time, and carries out the [`Step`] it gets. `S` is what a
//! relayed socket is to the caller.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    ops::Range,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use stun_types::{
    attribute::{
        AttributeStaticType as _, AttributeWrite as _, Fingerprint, MessageIntegrity, Nonce, Realm,
        Username,
    },
    message::{IntegrityAlgorithm, LongTermKeyCredentials, Message, MessageClass},
};

use super::{
    Client, Moment, REALM,
    allocation::Allocation,
    credential::{Holder, Issuer},
    message::{self, Kind, Question},
    nonce::Nonces,
    policy::{Forbidden, Policy},
    quota::Quotas,
    requests::Grant,
};
use crate::metrics::turn::{Dropped, TurnMetrics};

/// What the caller has to do.
#[derive(Debug)]
pub(super) enum Step<S> {
    /// Nothing.
    Nothing,
    /// These bytes are none of TURN's.
    Garbage,
    /// Answer the client.
    Reply(Vec<u8>),
    /// Bind a relayed socket and hand it to [`Machine::bound`].
    Bind(Box<Grant>),
    /// Send the bytes at `data` of the message to `peer`, from this socket.
    Relay {
        socket: S,
        peer: SocketAddr,
        data: Range<usize>,
    },
    /// The peer is the relayed address of another client here: hand the bytes at `data` to [`Machine::hear`], as
    /// a packet for the allocation `to` from the address `from`.
    Within {
        to: (Client, u64),
        from: SocketAddr,
        data: Range<usize>,
    },
}

/// How a peer's packet reaches the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Envelope {
    Channel(u16),
    Indication,
}

/// All allocations, and what decides about them.
#[derive(Debug)]
pub(super) struct Machine<S> {
    pub(super) issuer: Arc<Issuer>,
    pub(super) nonces: Nonces,
    pub(super) policy: Policy,
    pub(super) quotas: Quotas,
    pub(super) metrics: Arc<TurnMetrics>,
    pub(super) allocations: HashMap<Client, Allocation<S>>,
    /// Whose a relayed address is.
    pub(super) relayed: HashMap<SocketAddr, Client>,
    pub(super) next_id: u64,
}

/// A request whose sender proved to be a member.
pub(super) struct Proven {
    pub(super) question: Question,
    pub(super) holder: Holder,
}

impl<S: Clone> Machine<S> {
    /// Without allocations.
    pub(super) fn new(
        issuer: Arc<Issuer>,
        nonces: Nonces,
        policy: Policy,
        quotas: Quotas,
        metrics: Arc<TurnMetrics>,
    ) -> Self {
        Self {
            issuer,
            nonces,
            policy,
            quotas,
            metrics,
            allocations: HashMap::new(),
            relayed: HashMap::new(),
            next_id: 0,
        }
    }

    /// Takes a message of a client.
    pub(super) fn receive(&mut self, bytes: &[u8], client: Client, now: Moment) -> Step<S> {
        if let Some(allocation) = self.allocations.get_mut(&client) {
            allocation.heard = now.instant;
        }
        match message::kind(bytes) {
            Kind::Channel => self.channel_data(bytes, client, now),
            Kind::Other => Step::Garbage,
            Kind::Turn => quietly(|| self.message(bytes, client, now)),
        }
    }

    fn message(&mut self, bytes: &[u8], client: Client, now: Moment) -> Step<S> {
        let Some(message) = message::parse(bytes) else {
            return Step::Garbage;
        };
        match message.class() {
            MessageClass::Request => self.request(&message, client, now),
            MessageClass::Indication => match message::send_data(&message) {
                Some((peer, data)) => self.relay(client, (peer, data), now),
                None => Step::Nothing,
            },
            MessageClass::Success | MessageClass::Error => Step::Garbage,
        }
    }

    fn request(&mut self, message: &Message<'_>, client: Client, now: Moment) -> Step<S> {
        let known = [
            message::ALLOCATE,
            message::REFRESH,
            message::CREATE_PERMISSION,
            message::CHANNEL_BIND,
        ];
        if !known.contains(&message.method()) {
            return Step::Garbage;
        }
        let proven = match self.authenticate(message, client, now) {
            Ok(proven) => proven,
            Err(step) => return step,
        };
        let unknown = message::unknown_attributes(message);
        if !unknown.is_empty() {
            self.metrics.refused(420);
            return reply(proven.question.not_understood(&unknown));
        }
        if message.method() == message::ALLOCATE {
            self.allocate(message, client, proven, now)
        } else if message.method() == message::REFRESH {
            self.refresh(message, client, &proven, now)
        } else if message.method() == message::CREATE_PERMISSION {
            self.create_permission(message, client, &proven, now)
        } else {
            self.bind_channel(message, client, &proven, now)
        }
    }

    /// RFC 8489 section 9.2.4. The nonce is looked at first: it costs one hash, and who cannot receive at the address
    /// that it sends from gets no further.
    fn authenticate(
        &self,
        message: &Message<'_>,
        client: Client,
        now: Moment,
    ) -> Result<Proven, Step<S>> {
        let mut question = Question {
            method: message.method(),
            transaction: message.transaction_id(),
            fingerprint: message.has_attribute(Fingerprint::TYPE),
            key: None,
        };
        let challenge = |code| {
            self.metrics.refused(code);
            let nonce = Nonce::new(&self.nonces.issue(client, now.unix)).ok();
            let realm = Realm::new(REALM).ok();
            let attributes = nonce.as_ref().zip(realm.as_ref());
            let attributes = attributes.map(|(nonce, realm)| [realm.to_raw(), nonce.to_raw()]);
            reply(attributes.and_then(|attributes| question.error(code, &attributes)))
        };
        if !message.has_attribute(MessageIntegrity::TYPE) {
            return Err(challenge(401));
        }
        let (Ok(username), Ok(realm), Ok(nonce)) = (
            message.attribute::<Username>(),
            message.attribute::<Realm>(),
            message.attribute::<Nonce>(),
        ) else {
            self.metrics.refused(400);
            return Err(reply(question.error(400, &[])));
        };
        if !self.nonces.is_fresh(nonce.nonce(), client, now.unix) {
            return Err(challenge(438));
        }
        let holder = self.issuer.holder(username.username(), now.unix);
        let Some(holder) = holder.filter(|_| realm.realm() == REALM) else {
            return Err(challenge(401));
        };
        let key = LongTermKeyCredentials::new(
            username.username().to_owned(),
            self.issuer.password(username.username()),
            REALM.to_owned(),
        )
        .make_key(IntegrityAlgorithm::Sha1);
        if message.validate_integrity_with_key(&key).is_err() {
            return Err(challenge(401));
        }
        question.key = Some(key);
        Ok(Proven { question, holder })
    }

    fn channel_data(&mut self, bytes: &[u8], client: Client, now: Moment) -> Step<S> {
        let Some(message) = message::channel_data(bytes) else {
            return Step::Garbage;
        };
        let Some(allocation) = self.live(client, now) else {
            return self.drop_packet(Dropped::NoAllocation);
        };
        match allocation.peer_of(message.channel, now.instant) {
            Some(peer) => self.relay(client, (peer, message.data), now),
            None => self.drop_packet(Dropped::NoPermission),
        }
    }

    /// Relays data of a client to a peer, after everything was asked again that was asked when the permission was made.
    fn relay(
        &mut self,
        client: Client,
        (peer, data): (SocketAddr, Range<usize>),
        now: Moment,
    ) -> Step<S> {
        let Some(allocation) = self.live(client, now) else {
            return self.drop_packet(Dropped::NoAllocation);
        };
        let (user, from) = (client.user(&allocation.holder), allocation.relayed);
        if !allocation.permits(peer.ip(), now.instant) {
            return self.drop_packet(Dropped::NoPermission);
        }
        let step = match self.policy.check(peer) {
            Ok(()) if peer.is_ipv4() == from.is_ipv4() => Step::Relay {
                socket: allocation.socket.clone(),
                peer,
                data: data.clone(),
            },
            Ok(()) | Err(Forbidden::Special | Forbidden::Private | Forbidden::Port) => {
                return self.drop_packet(Dropped::Forbidden);
            }
            Err(Forbidden::Own) => match self.other(peer) {
                Some(to) => Step::Within {
                    to,
                    from,
                    data: data.clone(),
                },
                None => return self.drop_packet(Dropped::Forbidden),
            },
        };
        if !self.quotas.take(user, data.len(), now.instant) {
            return self.drop_packet(Dropped::Rate);
        }
        self.metrics.to_peers.fetch_add(data.len() as u64, Relaxed);
        step
    }

    /// Whether and how `length` bytes from a peer go to the client with this allocation.
    pub(super) fn hear(
        &mut self,
        (client, id): (Client, u64),
        peer: SocketAddr,
        length: usize,
        now: Moment,
    ) -> Option<Envelope> {
        let allocation = self.live(client, now).filter(|found| found.id == id)?;
        // A permission is for an address with all its ports; of the server's own only the relayed ones are peers, and the
        // others those of programs that run there.
        let is_peer = !self.policy.is_own(peer.ip()) || self.other(peer).is_some();
        if !is_peer || !allocation.permits(peer.ip(), now.instant) {
            self.metrics.dropped(Dropped::NoPermission);
            return None;
        }
        let user = client.user(&allocation.holder);
        let envelope = match allocation.channel_of(peer, now.instant) {
            Some(channel) => Envelope::Channel(channel),
            None => Envelope::Indication,
        };
        if !self.quotas.take(user, length, now.instant) {
            self.metrics.dropped(Dropped::Rate);
            return None;
        }
        self.metrics.to_clients.fetch_add(length as u64, Relaxed);
        Some(envelope)
    }

    /// The socket of an allocation.
    pub(super) fn socket(&self, (client, id): (Client, u64)) -> Option<&S> {
        let allocation = self.allocations.get(&client)?;
        (allocation.id == id).then_some(&allocation.socket)
    }

    /// The allocation whose relayed address this is.
    pub(super) fn other(&self, relayed: SocketAddr) -> Option<(Client, u64)> {
        let client = self.relayed.get(&relayed)?;
        let allocation = self.allocations.get(client)?;
        Some((*client, allocation.id))
    }

    /// Whether an own address is one that somebody is relayed at, with this port if there is one.
    pub(super) fn relays_for(&self, own: SocketAddr) -> bool {
        match own.port() {
            0 => self.relayed.keys().any(|at| at.ip() == own.ip()),
            _ => self.other(own).is_some(),
        }
    }

    /// Ends allocations whose time is over, or whose member was put out.
    pub(super) fn sweep(&mut self, now: Moment) {
        let ended: Vec<Client> = self
            .allocations
            .iter()
            .filter(|(_, found)| found.expires <= now.instant || !self.issuer.holds(found.holder))
            .map(|(client, _)| *client)
            .collect();
        for client in ended {
            self.end(client);
        }
        self.quotas.forget_idle(now.instant);
        self.issuer.forget_expired(now.unix);
    }

    /// Ends the allocation of a client, if it has one.
    pub(super) fn end(&mut self, client: Client) {
        if let Some(ended) = self.allocations.remove(&client) {
            self.relayed.remove(&ended.relayed);
            self.quotas.release(client.user(&ended.holder));
        }
    }

    /// Ends all.
    pub(super) fn end_all(&mut self) {
        let clients: Vec<Client> = self.allocations.keys().copied().collect();
        for client in clients {
            self.end(client);
        }
    }

    /// Whether a client has an allocation.
    pub(super) fn has(&self, client: Client) -> bool {
        self.allocations.contains_key(&client)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.allocations.len()
    }

    /// Replaces the list of the server's own addresses.
    pub(super) fn set_own(&mut self, addresses: impl IntoIterator<Item = IpAddr>) {
        self.policy.set_own(addresses);
    }

    fn live(&self, client: Client, now: Moment) -> Option<&Allocation<S>> {
        let found = self.allocations.get(&client)?;
        (now.instant < found.expires).then_some(found)
    }

    fn drop_packet(&self, reason: Dropped) -> Step<S> {
        self.metrics.dropped(reason);
        Step::Nothing
    }
}

/// Without the codec's log: it warns of each malformed message, and a stranger must not be able to write our log; and it
/// would show keys in the finest of it.
pub(super) fn quietly<T>(work: impl FnOnce() -> T) -> T {
    tracing::dispatcher::with_default(&tracing::Dispatch::none(), work)
}

/// The answer, unless it could not be laid out, which no request brings about.
pub(super) fn reply<S>(answer: Option<Vec<u8>>) -> Step<S> {
    answer.map_or(Step::Nothing, Step::Reply)
}

#[cfg(test)]
mod tests;
