//! What do we ask a TURN server, and what is in its answers? (RFC 8656 sections 12 and 18, RFC 8489 section 9.2)
//!
//! Only answers to requests of ours are given to the codec, which logs what is malformed; what anybody may send in a
//! server's name is read by hand.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::Range,
};

use mesh_wire::discovery::TurnPassword;
use stun_types::{
    attribute::{
        AttributeStaticType as _, AttributeType, ErrorCode, MessageIntegrity, Nonce, RawAttribute,
        Realm, Username, XorMappedAddress, XorSocketAddr,
    },
    message::{
        IntegrityAlgorithm, IntegrityKey, LongTermKeyCredentials, Message, MessageClass,
        MessageType, MessageWrite as _, MessageWriteExt as _, MessageWriteVec, Method,
    },
};

use crate::path::stun_index::TransactionId;

const ALLOCATE: u16 = 3;
const REFRESH: u16 = 4;
const CREATE_PERMISSION: u16 = 8;
const CHANNEL_BIND: u16 = 9;
/// Message types as they stand in the header.
const SEND_INDICATION: [u8; 2] = [0x00, 0x16];
const DATA_INDICATION: [u8; 2] = [0x00, 0x17];

const CHANNEL_NUMBER: u16 = 0x000C;
const LIFETIME: u16 = 0x000D;
const XOR_PEER_ADDRESS: u16 = 0x0012;
const DATA: u16 = 0x0013;
const XOR_RELAYED_ADDRESS: u16 = 0x0016;
const REQUESTED_TRANSPORT: u16 = 0x0019;

/// REQUESTED-TRANSPORT for UDP: its protocol number, and three bytes that are reserved.
const UDP: [u8; 4] = [17, 0, 0, 0];
const MAGIC_COOKIE: [u8; 4] = 0x2112_A442_u32.to_be_bytes();
/// RFC 8489 sections 14.9 and 14.10: fewer than 128 characters, which take up at most 763 bytes.
const MAX_TEXT: usize = 763;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    /// A relayed address.
    Allocate,
    /// More time for it.
    Refresh,
    /// Its end.
    Release,
    /// That packets from this address come through.
    Permit(IpAddr),
    /// That this channel stands for this peer.
    Bind(u16, SocketAddr),
}

/// Long-term credentials with what a server's challenge adds to them.
#[derive(Clone)]
pub(super) struct Proof {
    username: String,
    realm: String,
    nonce: String,
    key: IntegrityKey,
}

impl Proof {
    /// `None` if one of the texts cannot be sent.
    pub(super) fn new(
        (username, password): (&str, &TurnPassword),
        Challenge { realm, nonce }: Challenge,
    ) -> Option<Self> {
        Username::new(username).ok()?;
        let credentials = LongTermKeyCredentials::new(
            username.to_owned(),
            password.expose().to_owned(),
            realm.clone(),
        );
        Some(Self {
            username: username.to_owned(),
            realm,
            nonce,
            key: credentials.make_key(IntegrityAlgorithm::Sha1),
        })
    }

    /// Takes another nonce. Another realm is not ours.
    pub(super) fn renew(&mut self, challenge: Challenge) -> bool {
        let same = self.realm == challenge.realm;
        if same {
            self.nonce = challenge.nonce;
        }
        same
    }

    /// What another user of the same realm has to prove.
    pub(super) fn challenge(&self) -> Challenge {
        Challenge {
            realm: self.realm.clone(),
            nonce: self.nonce.clone(),
        }
    }
}

impl std::fmt::Debug for Proof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Proof")
    }
}

/// What a server wants to be proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Challenge {
    /// To which its users belong.
    pub(super) realm: String,
    /// Shows that the proof is new.
    pub(super) nonce: String,
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// The error code; `None` is success.
    pub(super) error: Option<u16>,
    /// Of an Allocate: the relayed address.
    pub(super) relayed: Option<SocketAddr>,
    /// Of an Allocate: our own address as the server sees it.
    pub(super) mapped: Option<SocketAddr>,
    /// Seconds.
    pub(super) lifetime: Option<u32>,
    /// Of errors 401 and 438.
    pub(super) challenge: Option<Challenge>,
}

/// Lays out a request; `None` if it cannot be, which depends on the proof alone.
pub(super) fn request(
    asked: Request,
    transaction: &TransactionId,
    proof: Option<&Proof>,
) -> Vec<u8> {
    let (method, attributes) = match asked {
        Request::Allocate => (ALLOCATE, [Some((REQUESTED_TRANSPORT, UDP)), None]),
        Request::Refresh => (REFRESH, [None, None]),
        Request::Release => (REFRESH, [Some((LIFETIME, [0; 4])), None]),
        Request::Permit(_) => (CREATE_PERMISSION, [None, None]),
        Request::Bind(channel, _) => {
            let [high, low] = channel.to_be_bytes();
            (
                CHANNEL_BIND,
                [Some((CHANNEL_NUMBER, [high, low, 0, 0])), None],
            )
        }
    };
    let kind = MessageType::from_class_method(MessageClass::Request, Method::new(method));
    let id = stun_types::message::TransactionId::from(number(transaction));
    let mut message = Message::builder(kind, id, MessageWriteVec::new());
    for (kind, value) in attributes.into_iter().flatten() {
        message.push_attribute_unchecked(&RawAttribute::new(AttributeType::new(kind), &value));
    }
    let peer = match asked {
        Request::Permit(ip) => Some(SocketAddr::new(ip, 0)),
        Request::Bind(_, peer) => Some(peer),
        Request::Allocate | Request::Refresh | Request::Release => None,
    };
    if let Some(peer) = peer {
        let peer = XorSocketAddr::new(peer, id);
        message.push_attribute_unchecked(&peer.to_raw(AttributeType::new(XOR_PEER_ADDRESS)));
    }
    if let Some(proof) = proof {
        prove(&mut message, proof);
    }
    message.finish()
}

/// What cannot be laid out is left out, and the server then says what is missing.
fn prove(message: &mut MessageWriteVec, proof: &Proof) {
    let attributes = (
        Username::new(&proof.username),
        Realm::new(&proof.realm),
        Nonce::new(&proof.nonce),
    );
    let (Ok(username), Ok(realm), Ok(nonce)) = attributes else {
        return;
    };
    message.push_attribute_unchecked(&username);
    message.push_attribute_unchecked(&realm);
    message.push_attribute_unchecked(&nonce);
    // Fails only where it is added twice.
    let _added = message.add_message_integrity_with_key(&proof.key, IntegrityAlgorithm::Sha1);
}

/// Reads an answer that has the transaction id of a request of ours. `None` if it is malformed, or says something that
/// only the server may say and does not prove to be its. Errors need no proof: the challenges cannot have one, and who
/// can forge the others has seen the request, and could as well have kept it back.
pub(super) fn read(bytes: &[u8], proof: Option<&Proof>) -> Option<Answer> {
    let message = Message::from_bytes(bytes).ok()?;
    let proven = message.has_attribute(MessageIntegrity::TYPE)
        && proof.is_some_and(|proof| message.validate_integrity_with_key(&proof.key).is_ok());
    let error = match message.class() {
        MessageClass::Success if proven => None,
        MessageClass::Error => Some(message.attribute::<ErrorCode>().ok()?.code()),
        MessageClass::Success | MessageClass::Request | MessageClass::Indication => return None,
    };
    let id = message.transaction_id();
    let relayed = message.raw_attribute(AttributeType::new(XOR_RELAYED_ADDRESS));
    let relayed = relayed.and_then(|raw| XorSocketAddr::from_raw(&raw).ok());
    let mapped = message.attribute::<XorMappedAddress>().ok();
    let lifetime = message.raw_attribute(AttributeType::new(LIFETIME));
    let lifetime = lifetime.and_then(|raw| <[u8; 4]>::try_from(&raw.value[..]).ok());
    Some(Answer {
        error,
        relayed: relayed.map(|address| address.addr(id)),
        mapped: mapped.map(|address| address.addr(id)),
        lifetime: lifetime.map(u32::from_be_bytes),
        challenge: challenge(&message),
    })
}

fn challenge(message: &Message<'_>) -> Option<Challenge> {
    let realm = message.attribute::<Realm>().ok()?;
    let nonce = message.attribute::<Nonce>().ok()?;
    let (realm, nonce) = (realm.realm(), nonce.nonce());
    let fits = realm.len() <= MAX_TEXT && nonce.len() <= MAX_TEXT;
    fits.then(|| Challenge {
        realm: realm.to_owned(),
        nonce: nonce.to_owned(),
    })
}

/// A Send indication: `data` for `peer`.
pub(super) fn send_indication(
    peer: SocketAddr,
    data: &[u8],
    transaction: &TransactionId,
) -> Vec<u8> {
    let id = stun_types::message::TransactionId::from(number(transaction));
    let address = XorSocketAddr::xor_addr(peer, id);
    let mut message = Vec::with_capacity(20 + 24 + 4 + data.len() + 3);
    message.extend(SEND_INDICATION);
    message.extend([0; 2]);
    message.extend(MAGIC_COOKIE);
    message.extend(transaction);
    message.extend(XOR_PEER_ADDRESS.to_be_bytes());
    let (family, ip) = match address.ip() {
        IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        IpAddr::V6(ip) => (2, ip.octets().to_vec()),
    };
    message.extend(sixteen(4 + ip.len()));
    message.extend([0, family]);
    message.extend(address.port().to_be_bytes());
    message.extend(ip);
    message.extend(DATA.to_be_bytes());
    message.extend(sixteen(data.len()));
    message.extend(data);
    message.resize(message.len().next_multiple_of(4), 0);
    let body = sixteen(message.len() - 20);
    message[2..4].copy_from_slice(&body);
    message
}

/// Whether this is a Data indication, if it is a STUN message.
pub fn is_data_indication(bytes: &[u8]) -> bool {
    bytes.starts_with(&DATA_INDICATION)
}

/// A Data indication's peer, and where its data is in the message.
pub(super) fn data_indication(bytes: &[u8]) -> Option<(SocketAddr, Range<usize>)> {
    let (header, _) = bytes.split_first_chunk::<20>()?;
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if !is_data_indication(header) || header[4..8] != MAGIC_COOKIE || bytes.len() != 20 + length {
        return None;
    }
    let (mut peer, mut data) = (None, None);
    let mut at = 20;
    while let Some(&[a, b, c, d]) = bytes.get(at..at + 4).and_then(|four| four.first_chunk()) {
        let (kind, length) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let place = at + 4..at + 4 + usize::from(length);
        let value = bytes.get(place.clone())?;
        match kind {
            XOR_PEER_ADDRESS if peer.is_none() => peer = Some(address(value, header)?),
            DATA if data.is_none() => data = Some(place.clone()),
            _ => {}
        }
        at = place.end.next_multiple_of(4);
    }
    Some((peer?, data?))
}

/// The value of an XOR address attribute, in a message with this header.
fn address(value: &[u8], header: &[u8; 20]) -> Option<SocketAddr> {
    let (&[_, family, high, low], ip) = value.split_first_chunk()?;
    let mask: [u8; 16] = header[4..].try_into().ok()?;
    let port = u16::from_be_bytes([high ^ mask[0], low ^ mask[1]]);
    let ip: IpAddr = match family {
        1 => {
            let bits = u32::from_be_bytes(ip.try_into().ok()?);
            let [a, b, c, d, ..] = mask;
            Ipv4Addr::from_bits(bits ^ u32::from_be_bytes([a, b, c, d])).into()
        }
        2 => {
            let bits = u128::from_be_bytes(ip.try_into().ok()?);
            Ipv6Addr::from_bits(bits ^ u128::from_be_bytes(mask)).into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip.to_canonical(), port))
}

fn number(transaction: &TransactionId) -> u128 {
    let bytes = transaction.iter();
    bytes.fold(0, |number, byte| number << 8 | u128::from(*byte))
}

/// Lengths here are below those of a datagram.
fn sixteen(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes()
}
