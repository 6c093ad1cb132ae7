//! What does the server relay? A TURN server (RFC 8656) over UDP, as strict as ours: long-term credentials, nonces that
//! grow stale, permissions, channels, lifetimes, no private peers.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use mesh_core::{Transport, TurnServer};
use mesh_wire::discovery::TurnPassword;
use stun_types::{
    attribute::{
        AttributeType, AttributeWrite as _, ErrorCode, Nonce, RawAttribute, Realm, Username,
        XorMappedAddress, XorSocketAddr,
    },
    message::{
        IntegrityAlgorithm, IntegrityKey, LongTermKeyCredentials, Message, MessageClass,
        MessageType, MessageWrite as _, MessageWriteExt as _, MessageWriteVec, Method,
        TransactionId,
    },
};

use crate::network::HostId;

const REALM: &str = "sim";
const ALLOCATE: u16 = 3;
const REFRESH: u16 = 4;
const SEND: u16 = 6;
const DATA_METHOD: u16 = 7;
const CREATE_PERMISSION: u16 = 8;
const CHANNEL_BIND: u16 = 9;
const CHANNEL_NUMBER: AttributeType = AttributeType::new(0x000C);
const LIFETIME: AttributeType = AttributeType::new(0x000D);
const XOR_PEER_ADDRESS: AttributeType = AttributeType::new(0x0012);
const DATA: AttributeType = AttributeType::new(0x0013);
const XOR_RELAYED_ADDRESS: AttributeType = AttributeType::new(0x0016);
const REQUESTED_TRANSPORT: AttributeType = AttributeType::new(0x0019);

const ALLOCATION: Duration = Duration::from_secs(600);
const PERMISSION: Duration = Duration::from_secs(300);
const CHANNEL: Duration = Duration::from_secs(600);
const FIRST_PORT: u16 = 50_000;

/// A datagram that the server sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// The server's own address, or a relayed one.
    pub from: SocketAddr,
    /// To whom.
    pub to: SocketAddr,
    /// What.
    pub bytes: Vec<u8>,
}

#[derive(Debug)]
struct Allocation {
    relayed: SocketAddr,
    username: String,
    until: Instant,
    permissions: BTreeMap<IpAddr, Instant>,
    channels: BTreeMap<u16, (SocketAddr, Instant)>,
}

/// The relay.
#[derive(Debug)]
pub struct Relay {
    /// Where it is asked.
    pub address: SocketAddr,
    /// Part of every password; another one is as good as another server.
    pub secret: u64,
    /// How long a nonce is good for.
    pub nonce_lifetime: Duration,
    /// What reaches it besides UDP.
    pub connections: Transport,
    /// Requests without an answer in the affirmative, so far.
    pub refused: usize,
    started: Instant,
    allocations: BTreeMap<SocketAddr, Allocation>,
    /// Clients that have connections, and since when those stand.
    connected: BTreeMap<SocketAddr, Instant>,
    next_port: u16,
}

impl Relay {
    /// A relay without allocations.
    pub fn new(address: SocketAddr, now: Instant) -> Self {
        Self {
            address,
            secret: 1,
            nonce_lifetime: Duration::from_secs(600),
            connections: Transport::Tcp,
            refused: 0,
            started: now,
            allocations: BTreeMap::new(),
            connected: BTreeMap::new(),
            next_port: FIRST_PORT,
        }
    }

    /// What a host is told of it: it serves UDP and connections on one port.
    pub fn access(&self, host: HostId) -> Vec<TurnServer> {
        let both = [Transport::Udp, self.connections.clone()].into_iter();
        both.map(|transport| self.access_over(transport, host))
            .collect()
    }

    fn access_over(&self, transport: Transport, host: HostId) -> TurnServer {
        let username = format!("host{host}");
        TurnServer {
            address: self.address,
            transport,
            password: self.password(&username),
            username,
        }
    }

    /// It has been restarted, and remembers nothing.
    pub fn forget(&mut self) {
        self.allocations.clear();
        self.connected.clear();
    }

    /// A client has a connection from then on.
    pub fn connect(&mut self, client: SocketAddr, ready: Instant) {
        self.connected.insert(client, ready);
    }

    /// Since when the connection of a client stands, if it has one.
    pub fn ready(&self, client: SocketAddr) -> Option<Instant> {
        self.connected.get(&client).copied()
    }

    /// The connection is over, and so is what was allocated through it.
    pub fn hang_up(&mut self, client: SocketAddr) {
        self.connected.remove(&client);
        self.allocations.remove(&client);
    }

    /// How many relayed addresses there are.
    pub fn allocations(&self, now: Instant) -> usize {
        let all = self.allocations.values();
        all.filter(|allocation| allocation.until > now).count()
    }

    /// Whether an address on the server's machine is a relayed one.
    pub fn relays(&self, address: SocketAddr) -> bool {
        address.ip() == self.address.ip() && address.port() >= FIRST_PORT
    }

    /// Takes a datagram for one of the server's addresses.
    pub fn receive(
        &mut self,
        (from, to): (SocketAddr, SocketAddr),
        bytes: &[u8],
        now: Instant,
    ) -> Vec<Sent> {
        self.allocations.retain(|_, known| known.until > now);
        if self.relays(to) {
            return self.inwards((from, to), bytes, now).into_iter().collect();
        }
        if let Some((&[a @ 0x40..=0x4F, b, c, d], data)) = bytes.split_first_chunk() {
            let length = usize::from(u16::from_be_bytes([c, d]));
            let channel = self
                .allocations
                .get(&from)
                .and_then(|known| known.channels.get(&u16::from_be_bytes([a, b])));
            let peer = channel
                .filter(|(_, until)| *until > now)
                .map(|(peer, _)| *peer);
            return match (peer, data.get(..length)) {
                (Some(peer), Some(data)) => self.outwards((from, peer), data, now),
                _ => Vec::new(),
            };
        }
        let message = Message::from_bytes(bytes).expect("nodes send STUN, or ChannelData");
        if message.method() == Method::new(SEND) {
            let peer = peer_of(&message).expect("a Send indication has a peer");
            let data = message.raw_attribute(DATA).expect("and data");
            return self.outwards((from, peer), &data.value, now);
        }
        let bytes = self.answer(from, &message, now);
        vec![Sent {
            from: self.address,
            to: from,
            bytes,
        }]
    }

    fn outwards(
        &self,
        (client, peer): (SocketAddr, SocketAddr),
        data: &[u8],
        now: Instant,
    ) -> Vec<Sent> {
        let Some(allocation) = self.allocations.get(&client) else {
            return Vec::new();
        };
        let may = allocation.permissions.get(&peer.ip());
        if may.is_none_or(|until| *until <= now) {
            return Vec::new();
        }
        let from = allocation.relayed;
        if self.relays(peer) {
            return self.inwards((from, peer), data, now).into_iter().collect();
        }
        vec![Sent {
            from,
            to: peer,
            bytes: data.to_vec(),
        }]
    }

    fn inwards(
        &self,
        (peer, relayed): (SocketAddr, SocketAddr),
        data: &[u8],
        now: Instant,
    ) -> Option<Sent> {
        let mut all = self.allocations.iter();
        let (client, allocation) = all.find(|(_, known)| known.relayed == relayed)?;
        allocation
            .permissions
            .get(&peer.ip())
            .filter(|until| **until > now)?;
        let mut channels = allocation.channels.iter();
        let channel = channels.find(|(_, (behind, until))| *behind == peer && *until > now);
        let length = u16::try_from(data.len()).expect("a datagram");
        let bytes = match channel {
            Some((channel, _)) => {
                let header = [channel.to_be_bytes(), length.to_be_bytes()];
                [&header.concat(), data].concat()
            }
            None => {
                let kind = MessageType::from_class_method(
                    MessageClass::Indication,
                    Method::new(DATA_METHOD),
                );
                // Nobody looks at it, and a run must be the same each time.
                let id = TransactionId::from(0);
                let mut message = Message::builder(kind, id, MessageWriteVec::new());
                let peer = XorSocketAddr::new(peer, id);
                message.push_attribute_unchecked(&peer.to_raw(XOR_PEER_ADDRESS));
                message.push_attribute_unchecked(&RawAttribute::new(DATA, data));
                message.finish()
            }
        };
        Some(Sent {
            from: self.address,
            to: *client,
            bytes,
        })
    }

    fn answer(&mut self, client: SocketAddr, message: &Message<'_>, now: Instant) -> Vec<u8> {
        match self.granted(client, message, now) {
            Ok((key, attributes)) => {
                let mut answer = Message::builder_success(message, MessageWriteVec::new());
                for attribute in &attributes {
                    answer.push_attribute_unchecked(attribute);
                }
                answer
                    .add_message_integrity_with_key(&key, IntegrityAlgorithm::Sha1)
                    .expect("once");
                answer.finish()
            }
            Err(code) => {
                self.refused += 1;
                let mut answer = Message::builder_error(message, MessageWriteVec::new());
                let error = ErrorCode::new(code, "").expect("a code");
                answer.push_attribute_unchecked(&error);
                if matches!(code, 401 | 438) {
                    let nonce = self.nonce(now);
                    answer.push_attribute_unchecked(&Realm::new(REALM).expect("short"));
                    answer.push_attribute_unchecked(&Nonce::new(&nonce).expect("short"));
                }
                answer.finish()
            }
        }
    }

    fn granted(
        &mut self,
        client: SocketAddr,
        message: &Message<'_>,
        now: Instant,
    ) -> Result<(IntegrityKey, Vec<RawAttribute<'static>>), u16> {
        let username = message.attribute::<Username>().map_err(|_| 401_u16)?;
        let username = username.username().to_owned();
        let nonce = message.attribute::<Nonce>().map_err(|_| 400_u16)?;
        if nonce.nonce() != self.nonce(now) {
            return Err(438);
        }
        let password = self.password(&username).expose().to_owned();
        let key = LongTermKeyCredentials::new(username.clone(), password, REALM.to_owned())
            .make_key(IntegrityAlgorithm::Sha1);
        message
            .validate_integrity_with_key(&key)
            .map_err(|_| 401_u16)?;
        let attributes = match message.method().value() {
            ALLOCATE => self.allocate(client, (username, message), now)?,
            REFRESH => self.refresh(client, (&username, message), now)?,
            CREATE_PERMISSION => {
                self.permit(client, message, now)?;
                Vec::new()
            }
            CHANNEL_BIND => self.bind(client, message, now)?,
            _ => return Err(400),
        };
        Ok((key, attributes))
    }

    fn allocate(
        &mut self,
        client: SocketAddr,
        (username, message): (String, &Message<'_>),
        now: Instant,
    ) -> Result<Vec<RawAttribute<'static>>, u16> {
        let transport = message.raw_attribute(REQUESTED_TRANSPORT).ok_or(400_u16)?;
        if transport.value[..] != [17, 0, 0, 0] {
            return Err(442);
        }
        if self.allocations.contains_key(&client) {
            return Err(437);
        }
        let relayed = SocketAddr::new(self.address.ip(), self.next_port);
        self.next_port += 1;
        let allocation = Allocation {
            relayed,
            username,
            until: now + ALLOCATION,
            permissions: BTreeMap::new(),
            channels: BTreeMap::new(),
        };
        self.allocations.insert(client, allocation);
        let id: TransactionId = message.transaction_id();
        let relayed = XorSocketAddr::new(relayed, id);
        let mapped = XorMappedAddress::new(client, id);
        Ok(vec![
            relayed.to_raw(XOR_RELAYED_ADDRESS).into_owned(),
            mapped.to_raw().into_owned(),
            lifetime(ALLOCATION),
        ])
    }

    fn refresh(
        &mut self,
        client: SocketAddr,
        (username, message): (&str, &Message<'_>),
        now: Instant,
    ) -> Result<Vec<RawAttribute<'static>>, u16> {
        let allocation = self.allocations.get_mut(&client).ok_or(437_u16)?;
        if allocation.username != username {
            return Err(441);
        }
        let asked = message.raw_attribute(LIFETIME);
        if asked.is_some_and(|asked| asked.value[..] == [0; 4]) {
            self.allocations.remove(&client);
            return Ok(vec![lifetime(Duration::ZERO)]);
        }
        allocation.until = now + ALLOCATION;
        Ok(vec![lifetime(ALLOCATION)])
    }

    fn permit(
        &mut self,
        client: SocketAddr,
        message: &Message<'_>,
        now: Instant,
    ) -> Result<SocketAddr, u16> {
        let allocation = self.allocations.get_mut(&client).ok_or(437_u16)?;
        let peer = peer_of(message).ok_or(400_u16)?;
        if is_private(peer.ip()) {
            return Err(403);
        }
        allocation.permissions.insert(peer.ip(), now + PERMISSION);
        Ok(peer)
    }

    fn bind(
        &mut self,
        client: SocketAddr,
        message: &Message<'_>,
        now: Instant,
    ) -> Result<Vec<RawAttribute<'static>>, u16> {
        let number = message.raw_attribute(CHANNEL_NUMBER).ok_or(400_u16)?;
        let [a, b, ..] = number.value[..] else {
            return Err(400);
        };
        let number = u16::from_be_bytes([a, b]);
        let peer = self.permit(client, message, now)?;
        let allocation = self.allocations.get_mut(&client).ok_or(437_u16)?;
        let clashes = |(channel, (behind, _)): (&u16, &(SocketAddr, Instant))| {
            (*channel == number) != (*behind == peer)
        };
        if !(0x4000..=0x4FFF).contains(&number) || allocation.channels.iter().any(clashes) {
            return Err(400);
        }
        allocation.channels.insert(number, (peer, now + CHANNEL));
        Ok(Vec::new())
    }

    /// The same for all, which is enough here.
    fn nonce(&self, now: Instant) -> String {
        let age = now.saturating_duration_since(self.started).as_secs();
        format!("nonce{}", age / self.nonce_lifetime.as_secs().max(1))
    }

    fn password(&self, username: &str) -> TurnPassword {
        TurnPassword::new(format!("{username}'s {}", self.secret))
    }
}

fn lifetime(time: Duration) -> RawAttribute<'static> {
    let seconds = u32::try_from(time.as_secs()).expect("minutes");
    RawAttribute::new(LIFETIME, &seconds.to_be_bytes()).into_owned()
}

fn peer_of(message: &Message<'_>) -> Option<SocketAddr> {
    let raw = message.raw_attribute(XOR_PEER_ADDRESS)?;
    let peer = XorSocketAddr::from_raw(&raw).ok()?;
    Some(peer.addr(message.transaction_id()))
}

fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.octets()[0] == 100,
        IpAddr::V6(_) => false,
    }
}
