//! What is in a TURN message, and how is one laid out? (RFC 8656 sections 12 and 18)
//!
//! Pure. Everything here reads bytes of strangers.

use std::{
    net::{IpAddr, SocketAddr},
    ops::{Range, RangeInclusive},
};

use stun_types::{
    attribute::{
        Attribute as _, AttributeType, AttributeWrite as _, ErrorCode, RawAttribute,
        UnknownAttributes, XorSocketAddr,
    },
    message::{
        IntegrityAlgorithm, IntegrityKey, Message, MessageClass, MessageHeader, MessageType,
        MessageWrite as _, MessageWriteExt as _, MessageWriteVec, Method, TransactionId,
    },
};

use super::MAX_FRAME;
use crate::stun;

pub(super) const ALLOCATE: Method = Method::new(3);
pub(super) const REFRESH: Method = Method::new(4);
/// Message types as they stand in the header.
const BINDING_REQUEST: u16 = 0x0001;
const SEND_INDICATION: u16 = 0x0016;

const DATA_METHOD: Method = Method::new(7);
pub(super) const CREATE_PERMISSION: Method = Method::new(8);
pub(super) const CHANNEL_BIND: Method = Method::new(9);

pub(super) const CHANNEL_NUMBER: AttributeType = AttributeType::new(0x000C);
pub(super) const LIFETIME: AttributeType = AttributeType::new(0x000D);
const XOR_PEER_ADDRESS: AttributeType = AttributeType::new(0x0012);
const DATA: AttributeType = AttributeType::new(0x0013);
pub(super) const XOR_RELAYED_ADDRESS: AttributeType = AttributeType::new(0x0016);
pub(super) const REQUESTED_ADDRESS_FAMILY: AttributeType = AttributeType::new(0x0017);
pub(super) const EVEN_PORT: AttributeType = AttributeType::new(0x0018);
pub(super) const REQUESTED_TRANSPORT: AttributeType = AttributeType::new(0x0019);

/// Room before relayed data for the longest header: a Data indication with an IPv6 address.
pub(super) const HEADROOM: usize = 20 + (4 + 20) + 4;

/// Peers that one CreatePermission may name: as many as fit into a datagram of 1,500 bytes with IPv4 addresses.
const MAX_PEERS: usize = 128;

/// Channel numbers. RFC 8656 has those up to 0x4FFF; clients that know RFC 5766, coturn's among them, take all of these,
/// and nothing else that begins so is served at the port.
pub const CHANNELS: RangeInclusive<u16> = 0x4000..=0x7FFE;

/// Who looks at a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// ChannelData.
    Channel,
    /// A TURN request, or a Send indication.
    Turn,
    /// STUN's, or nothing's.
    Other,
}

/// Tells TURN from everything else by the first bytes.
pub fn kind(bytes: &[u8]) -> Kind {
    match bytes.first() {
        Some(0x40..=0x7F) => return Kind::Channel,
        Some(0x00..=0x3F) => {}
        Some(0x80..=0xFF) | None => return Kind::Other,
    }
    // By hand: the codec would write to the log what is wrong with a stranger's bytes.
    let Some(([a, b, ..], _)) = bytes.split_first_chunk::<20>() else {
        return Kind::Other;
    };
    if bytes[4..8] != COOKIE.to_be_bytes()[..4] {
        return Kind::Other;
    }
    match u16::from_be_bytes([*a, *b]) {
        BINDING_REQUEST => Kind::Other,
        SEND_INDICATION => Kind::Turn,
        // Both bits of the class are zero.
        request if request & 0x0110 == 0 => Kind::Turn,
        _ => Kind::Other,
    }
}

/// ChannelData: its channel, and where its data is in the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelData {
    /// One of [`CHANNELS`].
    pub channel: u16,
    /// Within the message.
    pub data: Range<usize>,
}

/// Reads ChannelData. Bytes behind the data are padding.
pub fn channel_data(bytes: &[u8]) -> Option<ChannelData> {
    let (&[a, b, c, d], rest) = bytes.split_first_chunk::<4>()?;
    let (channel, length) = (
        u16::from_be_bytes([a, b]),
        usize::from(u16::from_be_bytes([c, d])),
    );
    if !CHANNELS.contains(&channel) || length > rest.len() {
        return None;
    }
    Some(ChannelData {
        channel,
        data: 4..4 + length,
    })
}

/// Reads a well-formed STUN message whose length is that of `bytes`.
pub fn parse(bytes: &[u8]) -> Option<Message<'_>> {
    let header = MessageHeader::from_bytes(bytes).ok()?;
    let length = usize::from(header.data_length());
    let whole = length % 4 == 0 && length + MessageHeader::LENGTH == bytes.len();
    if !whole || bytes.len() > MAX_FRAME {
        return None;
    }
    Message::from_bytes(bytes).ok()
}

/// All peers that a message names, in their canonical form; `None` if one is malformed or there are too many.
pub fn peers(message: &Message<'_>) -> Option<Vec<SocketAddr>> {
    let mut peers = Vec::new();
    for (_, attribute) in message.iter_attributes() {
        if attribute.get_type() == XOR_PEER_ADDRESS {
            if peers.len() == MAX_PEERS {
                return None;
            }
            let address = XorSocketAddr::from_raw(&attribute).ok()?;
            peers.push(canonical(address.addr(message.transaction_id())));
        }
    }
    Some(peers)
}

/// A Send indication's peer, and where its data is in the message.
pub fn send_data(message: &Message<'_>) -> Option<(SocketAddr, Range<usize>)> {
    let known = [XOR_PEER_ADDRESS, DATA];
    let mut peer = None;
    let mut data = None;
    for (offset, attribute) in message.iter_attributes() {
        let kind = attribute.get_type();
        if kind == XOR_PEER_ADDRESS && peer.is_none() {
            let address = XorSocketAddr::from_raw(&attribute).ok()?;
            peer = Some(canonical(address.addr(message.transaction_id())));
        } else if kind == DATA && data.is_none() {
            let start = offset + 4;
            data = Some(start..start + attribute.value.len());
        } else if kind.comprehension_required() && !known.contains(&kind) {
            return None;
        }
    }
    let (peer, data) = (peer?, data?);
    (data.end <= message.as_bytes().len()).then_some((peer, data))
}

/// The value of an attribute that is exactly `N` bytes long.
pub(super) fn value<const N: usize>(message: &Message<'_>, kind: AttributeType) -> Option<[u8; N]> {
    let attribute = message.raw_attribute(kind)?;
    <[u8; N]>::try_from(&attribute.value[..]).ok()
}

pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Attributes that a server must understand and this one does not: among them RESERVATION-TOKEN and
/// DONT-FRAGMENT, which nobody here needs.
pub(super) fn unknown_attributes(message: &Message<'_>) -> Vec<AttributeType> {
    let known = [
        CHANNEL_NUMBER,
        LIFETIME,
        XOR_PEER_ADDRESS,
        DATA,
        REQUESTED_ADDRESS_FAMILY,
        REQUESTED_TRANSPORT,
        EVEN_PORT,
    ];
    stun::unknown_attributes(message, &known)
}

/// What an answer must know of its request.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub(super) method: Method,
    pub(super) transaction: TransactionId,
    /// Whether it had a FINGERPRINT, and so will its answer.
    pub(super) fingerprint: bool,
    /// What it was authenticated with, if it was.
    pub(super) key: Option<IntegrityKey>,
}

impl Question {
    /// A success response with these attributes.
    pub(super) fn success(&self, attributes: &[RawAttribute<'_>]) -> Option<Vec<u8>> {
        self.answer(MessageClass::Success, attributes)
    }

    /// An error response. The number says it all; a phrase would make the answer longer than it must be.
    pub(super) fn error(&self, code: u16, attributes: &[RawAttribute<'_>]) -> Option<Vec<u8>> {
        let error = ErrorCode::new(code, "").ok()?;
        let mut all = vec![error.to_raw()];
        all.extend(attributes.iter().map(RawAttribute::clone));
        self.answer(MessageClass::Error, &all)
    }

    /// The error response that names what was not understood.
    pub(super) fn not_understood(&self, unknown: &[AttributeType]) -> Option<Vec<u8>> {
        self.error(420, &[UnknownAttributes::new(unknown).to_raw()])
    }

    fn answer(&self, class: MessageClass, attributes: &[RawAttribute<'_>]) -> Option<Vec<u8>> {
        let kind = MessageType::from_class_method(class, self.method);
        let mut answer = Message::builder(kind, self.transaction, MessageWriteVec::new());
        for attribute in attributes {
            answer.add_attribute(attribute).ok()?;
        }
        if let Some(key) = &self.key {
            answer
                .add_message_integrity_with_key(key, IntegrityAlgorithm::Sha1)
                .ok()?;
        }
        if self.fingerprint {
            answer.add_fingerprint().ok()?;
        }
        Some(answer.finish())
    }
}

/// The header of ChannelData of `length` bytes.
pub(super) fn channel_header(channel: u16, length: usize) -> [u8; 4] {
    let ([a, b], [c, d]) = (channel.to_be_bytes(), sixteen(length));
    [a, b, c, d]
}

/// Writes a ChannelData header in front of the `length` bytes at `buffer[HEADROOM..]`, and padding behind them if
/// `padded`. Returns where the message is in the buffer, which must have room for padding.
pub(super) fn frame_channel(
    buffer: &mut [u8],
    length: usize,
    channel: u16,
    padded: bool,
) -> Range<usize> {
    let start = HEADROOM - 4;
    buffer[start..HEADROOM].copy_from_slice(&channel_header(channel, length));
    let end = HEADROOM + length;
    start..if padded {
        pad(buffer, end, length)
    } else {
        end
    }
}

/// Writes a Data indication around the `length` bytes at `buffer[HEADROOM..]`, as [`frame_channel`].
pub(super) fn frame_indication(
    buffer: &mut [u8],
    length: usize,
    peer: SocketAddr,
    transaction: TransactionId,
) -> Range<usize> {
    let address = XorSocketAddr::xor_addr(peer, transaction);
    let address_length = if address.is_ipv4() { 8 } else { 20 };
    let start = HEADROOM - (20 + 4 + address_length + 4);
    let end = pad(buffer, HEADROOM + length, length);
    let body = sixteen(end - start - 20);
    let header = &mut buffer[start..HEADROOM];
    let kind = MessageType::from_class_method(MessageClass::Indication, DATA_METHOD);
    kind.write_into(&mut header[..2]);
    header[2..4].copy_from_slice(&body);
    header[4..20].copy_from_slice(&(COOKIE | u128::from(transaction)).to_be_bytes());
    header[20..22].copy_from_slice(&XOR_PEER_ADDRESS.value().to_be_bytes());
    header[22..24].copy_from_slice(&sixteen(address_length));
    header[24..26].copy_from_slice(&[0, if address.is_ipv4() { 1 } else { 2 }]);
    header[26..28].copy_from_slice(&address.port().to_be_bytes());
    match address.ip() {
        IpAddr::V4(v4) => header[28..32].copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => header[28..44].copy_from_slice(&v6.octets()),
    }
    let data = 24 + address_length;
    header[data..data + 2].copy_from_slice(&DATA.value().to_be_bytes());
    header[data + 2..data + 4].copy_from_slice(&sixteen(length));
    start..end
}

/// STUN's magic cookie, where it stands in the 16 bytes before the attributes.
const COOKIE: u128 = 0x2112_A442 << 96;

fn pad(buffer: &mut [u8], end: usize, length: usize) -> usize {
    let padding = length.next_multiple_of(4) - length;
    buffer[end..end + padding].fill(0);
    end + padding
}

/// Lengths here are below those of a datagram.
fn sixteen(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_indication_is_read_by_the_codec_as_it_was_written() {
        for (peer, length) in [
            ("198.51.100.7:5000", 0),
            ("198.51.100.7:5000", 5),
            ("[2001:db8::7]:5000", 8),
        ] {
            let peer: SocketAddr = peer.parse().unwrap();
            let mut buffer = [7_u8; HEADROOM + 16];
            let transaction = TransactionId::generate();
            let at = frame_indication(&mut buffer, length, peer, transaction);
            let message = parse(&buffer[at]).unwrap();
            assert_eq!(message.class(), MessageClass::Indication);
            assert_eq!(message.method(), DATA_METHOD);
            assert_eq!(message.transaction_id(), transaction);
            let (from, data) = send_data(&message).unwrap();
            assert_eq!(from, peer);
            assert_eq!(&message.as_bytes()[data], &[7; 16][..length]);
        }
    }

    #[test]
    fn channel_data_is_read_as_it_was_written() {
        let mut buffer = [7_u8; HEADROOM + 16];
        for (padded, whole) in [(false, 4 + 5), (true, 4 + 8)] {
            let at = frame_channel(&mut buffer, 5, 0x4001, padded);
            assert_eq!(at.len(), whole);
            let read = channel_data(&buffer[at]).unwrap();
            assert_eq!((read.channel, read.data), (0x4001, 4..9));
        }
        for bad in [&[0x40, 0, 0][..], &[0x40, 0, 0, 1], &[0x7F, 0xFF, 0, 0]] {
            assert_eq!(channel_data(bad), None);
        }
    }

    #[test]
    fn binding_requests_and_responses_are_not_turns() {
        let header = |kind: u16| {
            let mut bytes = [0; 20];
            bytes[..2].copy_from_slice(&kind.to_be_bytes());
            bytes[4..8].copy_from_slice(&[0x21, 0x12, 0xA4, 0x42]);
            bytes
        };
        for (message, expected) in [
            (0x0001, Kind::Other),
            (0x0101, Kind::Other),
            (0x0003, Kind::Turn),
            (0x0103, Kind::Other),
            (0x0016, Kind::Turn),
            (0x0017, Kind::Other),
        ] {
            assert_eq!(kind(&header(message)), expected, "{message:#x}");
        }
        assert_eq!(kind(&[0x40]), Kind::Channel);
        assert_eq!(kind(&[]), Kind::Other);
        assert_eq!(kind(&[0xFF; 64]), Kind::Other);
    }
}
