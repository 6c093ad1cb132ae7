//! What are a STUN client's questions about a NAT (RFC 5780), and what do the answers say?

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use stun_types::{
    attribute::{AttributeType, ErrorCode, RawAttribute, XorMappedAddress},
    message::{
        BINDING, Message, MessageClass, MessageType, MessageWrite, MessageWriteExt,
        MessageWriteVec, Method, TransactionId,
    },
};

/// Longer answers are not read: RFC 8489 keeps messages over UDP below the smallest MTU.
pub const MAX_ANSWER: usize = 1_280;
/// RFC 8489 section 14.1.
const MAPPED_ADDRESS: AttributeType = AttributeType::new(0x0001);
/// RFC 5780 section 7.2.
const CHANGE_REQUEST: AttributeType = AttributeType::new(0x0003);
/// RFC 5780 section 7.4.
const OTHER_ADDRESS: AttributeType = AttributeType::new(0x802C);
/// RFC 8656 section 18.8.
const REQUESTED_TRANSPORT: AttributeType = AttributeType::new(0x0019);
/// RFC 8489 section 14.14: its text is of no account. It makes the request as long as the answer, which a server may ask
/// for before it answers with more.
const SOFTWARE: AttributeType = AttributeType::new(0x8022);
/// The Allocate of RFC 8656 section 7.
const ALLOCATE: Method = Method::new(0x003);
const UDP: u8 = 17;

/// From where a server is asked to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change(u8);

impl Change {
    /// From where it was asked. It says what other address and port it has.
    pub const NOTHING: Self = Self(0);
    /// From its other port.
    pub const PORT: Self = Self(2);
    /// From its other address and port.
    pub const ADDRESS_AND_PORT: Self = Self(6);
}

/// What came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// The answer to a Binding request.
    Binding {
        /// The address that the server saw.
        mapped: SocketAddr,
        /// The server's other address and port, if it has them.
        other: Option<SocketAddr>,
    },
    /// A refusal, with its code.
    Error(u16),
}

/// A Binding request. The plain one, without a `change`, is understood by every server; others may refuse (420).
pub fn binding(transaction: u128, change: Option<Change>) -> Option<Vec<u8>> {
    let mut request = request(BINDING, transaction);
    if let Some(Change(flags)) = change {
        add(&mut request, CHANGE_REQUEST, &[0, 0, 0, flags])?;
        add(&mut request, SOFTWARE, &[b'-'; 28])?;
    }
    Some(request.finish())
}

/// An Allocate request without credentials, which a TURN server answers with 401 (RFC 8656 section 7.2).
pub fn allocate(transaction: u128) -> Option<Vec<u8>> {
    let mut request = request(ALLOCATE, transaction);
    add(&mut request, REQUESTED_TRANSPORT, &[UDP, 0, 0, 0])?;
    Some(request.finish())
}

/// Reads an answer to the request with that transaction id.
pub fn read(datagram: &[u8], transaction: u128) -> Option<Reply> {
    let message = Message::from_bytes(datagram).ok()?;
    if message.transaction_id() != TransactionId::from(transaction) {
        return None;
    }
    match message.class() {
        MessageClass::Success => {
            let xored = message.attribute::<XorMappedAddress>();
            let mapped = match xored {
                Ok(mapped) => mapped.addr(message.transaction_id()),
                // Servers of RFC 3489's days have nothing else.
                Err(_) => address(&message.raw_attribute(MAPPED_ADDRESS)?.value)?,
            };
            let other = message.raw_attribute(OTHER_ADDRESS);
            let other = other.and_then(|raw| address(&raw.value));
            Some(Reply::Binding { mapped, other })
        }
        MessageClass::Error => {
            let error = message.attribute::<ErrorCode>().ok()?;
            Some(Reply::Error(error.code()))
        }
        MessageClass::Request | MessageClass::Indication => None,
    }
}

fn request(method: Method, transaction: u128) -> MessageWriteVec {
    let kind = MessageType::from_class_method(MessageClass::Request, method);
    Message::builder(
        kind,
        TransactionId::from(transaction),
        MessageWriteVec::new(),
    )
}

fn add(request: &mut MessageWriteVec, kind: AttributeType, value: &[u8]) -> Option<()> {
    request.add_attribute(&RawAttribute::new(kind, value)).ok()
}

/// The form of RFC 8489's MAPPED-ADDRESS, which OTHER-ADDRESS has too.
fn address(value: &[u8]) -> Option<SocketAddr> {
    let (head, address) = value.split_first_chunk::<4>()?;
    let port = u16::from_be_bytes([head[2], head[3]]);
    let ip = match (head[1], address.len()) {
        (1, 4) => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(address).ok()?)),
        (2, 16) => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(address).ok()?)),
        _ => return None,
    };
    (port != 0).then(|| SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: u128 = 0x0123_4567_89ab;

    fn answer(other: &[u8]) -> Vec<u8> {
        let request = binding(ID, None).unwrap();
        let request = Message::from_bytes(&request).unwrap();
        let mut answer = Message::builder_success(&request, MessageWriteVec::new());
        let mapped = "203.0.113.9:40000".parse().unwrap();
        answer
            .add_attribute(&XorMappedAddress::new(mapped, request.transaction_id()))
            .unwrap();
        add(&mut answer, OTHER_ADDRESS, other).unwrap();
        answer.finish()
    }

    #[test]
    fn an_answer_says_what_was_seen_and_where_else_to_ask() {
        let bytes = answer(&[0, 1, 0x0D, 0x97, 198, 51, 100, 3]);
        let expected = Reply::Binding {
            mapped: "203.0.113.9:40000".parse().unwrap(),
            other: Some("198.51.100.3:3479".parse().unwrap()),
        };
        assert_eq!(read(&bytes, ID), Some(expected));
        assert_eq!(read(&bytes, ID + 1), None, "another question's answer");
        for cut in 0..bytes.len() {
            assert_eq!(read(&bytes[..cut], ID), None, "{cut}");
        }
    }

    #[test]
    fn another_address_that_makes_no_sense_is_none() {
        for value in [
            &[][..],
            &[0, 1, 0, 1, 1, 2, 3],
            &[0, 2, 0, 1, 1, 2, 3, 4],
            &[0, 3, 0, 1, 1, 2, 3, 4],
            &[0, 1, 0, 0, 1, 2, 3, 4],
        ] {
            let Some(Reply::Binding { other, .. }) = read(&answer(value), ID) else {
                panic!("{value:?}");
            };
            assert_eq!(other, None, "{value:?}");
        }
    }

    #[test]
    fn a_request_is_a_request_and_no_answer() {
        for change in [Change::NOTHING, Change::PORT, Change::ADDRESS_AND_PORT] {
            let bytes = binding(ID, Some(change)).unwrap();
            let message = Message::from_bytes(&bytes).unwrap();
            let asked = message.raw_attribute(CHANGE_REQUEST);
            let flags = asked.map(|raw| raw.value[3]).unwrap_or_default();
            assert_eq!(flags, change.0);
            assert_eq!(read(&bytes, ID), None);
        }
    }
}
