//! What does the server answer to a STUN datagram? (RFC 8489, Binding only)
//!
//! Pure. Anything that is not a well-formed Binding request gets no answer at all. What is answered is at most 2.2
//! times as long as what was asked: 44 bytes tell an IPv6 address to an empty request of 20. Of RFC 5780 it has the other
//! port: an answer from there shows what a NAT lets in. It goes to where it was asked from, as any other.

use std::net::{Ipv4Addr, SocketAddr};

use stun_types::{
    attribute::{
        Attribute, AttributeStaticType, AttributeType, ErrorCode, Fingerprint, RawAttribute,
        UnknownAttributes, XorMappedAddress,
    },
    message::{
        BINDING, Message, MessageClass, MessageHeader, MessageWrite, MessageWriteExt,
        MessageWriteVec,
    },
};

/// Datagrams longer than this are no Binding requests: RFC 8489 section 6.1 keeps UDP requests within one packet
/// of 576 (IPv4) or 1280 (IPv6) bytes, and coturn pads its tests to 1500.
pub const MAX_REQUEST: usize = 1_500;

/// Unknown attributes that one error response lists. RFC 8489 section 14.13 asks for all; each is 2 bytes of the
/// response and at least 4 of the request.
const MAX_UNKNOWN_LISTED: usize = 16;

/// RFC 5780 section 7.2, and the flags of its value.
const CHANGE_REQUEST: AttributeType = AttributeType::new(0x0003);
const CHANGE_ADDRESS: u8 = 4;
const CHANGE_PORT: u8 = 2;
/// RFC 5780 section 7.4. It asks for it in every answer; here it is told to those alone who ask for a change, even for none,
/// so that no answer grows beyond the ratio above. It is also for servers with two addresses; ours has one, and calls it 0.0.0.0.
const OTHER_ADDRESS: AttributeType = AttributeType::new(0x802C);

/// What became of a datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Send this back to the source.
    Reply(Vec<u8>),
    /// Send this back to the source, from the other port.
    ReplyFromOther(Vec<u8>),
    /// Not a Binding request: say nothing.
    Garbage,
    /// A well-formed STUN message that asks for no answer (indication or response).
    Silent,
}

/// Answers one datagram from `source`.
pub fn answer(datagram: &[u8], source: SocketAddr) -> Answer {
    answer_beside(datagram, source, None)
}

/// As [`answer`], where the answer may leave from the port `other` too.
pub fn answer_beside(datagram: &[u8], source: SocketAddr, other: Option<u16>) -> Answer {
    // The codec warns of each malformed message; a stranger must not be able to write our log.
    let quiet = tracing::Dispatch::none();
    tracing::dispatcher::with_default(&quiet, || answer_quietly(datagram, source, other))
}

fn answer_quietly(datagram: &[u8], source: SocketAddr, other: Option<u16>) -> Answer {
    if datagram.len() > MAX_REQUEST || !length_fits(datagram) {
        return Answer::Garbage;
    }
    let Ok(request) = Message::from_bytes(datagram) else {
        return Answer::Garbage;
    };
    match request.class() {
        MessageClass::Request if request.has_method(BINDING) => {}
        MessageClass::Request => return Answer::Garbage,
        MessageClass::Indication | MessageClass::Success | MessageClass::Error => {
            return Answer::Silent;
        }
    }
    let change = change(&request, other);
    match build(&request, source, change) {
        Some(bytes) if change.is_some_and(|(_, from_other)| from_other) => {
            Answer::ReplyFromOther(bytes)
        }
        Some(bytes) => Answer::Reply(bytes),
        None => Answer::Garbage,
    }
}

/// RFC 8489 section 5: the length counts everything behind the header, in units of 4. The codec itself takes
/// trailing bytes.
fn length_fits(datagram: &[u8]) -> bool {
    MessageHeader::from_bytes(datagram).is_ok_and(|header| {
        let length = usize::from(header.data_length());
        length % 4 == 0 && length + MessageHeader::LENGTH == datagram.len()
    })
}

/// The other port, and whether the answer shall leave from it, if that is asked about. Another address we have not (420).
fn change(request: &Message<'_>, other: Option<u16>) -> Option<(u16, bool)> {
    let value = request.raw_attribute(CHANGE_REQUEST)?;
    let [_, _, _, flags] = *value.value.first_chunk::<4>()?;
    (flags & CHANGE_ADDRESS == 0).then_some((other?, flags & CHANGE_PORT != 0))
}

fn build(
    request: &Message<'_>,
    source: SocketAddr,
    change: Option<(u16, bool)>,
) -> Option<Vec<u8>> {
    let understood: &[_] = if change.is_some() {
        &[CHANGE_REQUEST]
    } else {
        &[]
    };
    let unknown = unknown_attributes(request, understood);
    let mut reply = if unknown.is_empty() {
        let mut reply = Message::builder_success(request, MessageWriteVec::new());
        // A dual-stack socket shows IPv4 sources as IPv4-mapped IPv6 addresses.
        let source = SocketAddr::new(source.ip().to_canonical(), source.port());
        let mapped = XorMappedAddress::new(source, request.transaction_id());
        reply.add_attribute(&mapped).ok()?;
        if let Some((port, _)) = change {
            let [high, low] = port.to_be_bytes();
            let [a, b, c, d] = Ipv4Addr::UNSPECIFIED.octets();
            let value = [0, 1, high, low, a, b, c, d];
            reply
                .add_attribute(&RawAttribute::new(OTHER_ADDRESS, &value))
                .ok()?;
        }
        reply
    } else {
        let mut reply = Message::builder_error(request, MessageWriteVec::new());
        // The number says it all (RFC 8489 section 14.8); a phrase would double the shortest response.
        let error = ErrorCode::new(420, "").ok()?;
        reply.add_attribute(&error).ok()?;
        reply
            .add_attribute(&UnknownAttributes::new(&unknown))
            .ok()?;
        reply
    };
    if request.has_attribute(Fingerprint::TYPE) {
        reply.add_fingerprint().ok()?;
    }
    Some(reply.finish())
}

/// Attributes that a server must understand and this one does not (RFC 8489 section 6.3.1). Credentials are not
/// among them: a Binding without authentication ignores them, as section 9 allows for a server that has none. `more` are
/// understood beside them.
pub(crate) fn unknown_attributes(
    request: &Message<'_>,
    more: &[AttributeType],
) -> Vec<AttributeType> {
    use stun_types::attribute::{
        MessageIntegrity, MessageIntegritySha256, Nonce, Realm, Userhash, Username,
    };
    let known = [
        Username::TYPE,
        Userhash::TYPE,
        Realm::TYPE,
        Nonce::TYPE,
        MessageIntegrity::TYPE,
        MessageIntegritySha256::TYPE,
    ];
    let mut unknown = Vec::new();
    for (_, attribute) in request.iter_attributes() {
        let kind = attribute.get_type();
        if kind.comprehension_required()
            && !known.contains(&kind)
            && !more.contains(&kind)
            && !unknown.contains(&kind)
            && unknown.len() < MAX_UNKNOWN_LISTED
        {
            unknown.push(kind);
        }
    }
    unknown
}

#[cfg(test)]
mod tests {
    use super::*;
    use stun_types::{attribute::Software, message::Method};

    fn source() -> SocketAddr {
        "198.51.100.7:4242".parse().unwrap()
    }

    fn request(attributes: &[(u16, &[u8])], fingerprint: bool) -> Vec<u8> {
        let mut builder = Message::builder_request(BINDING, MessageWriteVec::new());
        for (kind, value) in attributes {
            builder
                .add_attribute(&RawAttribute::new(AttributeType::new(*kind), value))
                .unwrap();
        }
        if fingerprint {
            builder.add_fingerprint().unwrap();
        }
        builder.finish()
    }

    fn reply(datagram: &[u8], source: SocketAddr) -> Vec<u8> {
        match answer(datagram, source) {
            Answer::Reply(bytes) => bytes,
            other @ (Answer::ReplyFromOther(_) | Answer::Garbage | Answer::Silent) => {
                panic!("no reply but {other:?}")
            }
        }
    }

    #[test]
    fn a_binding_request_learns_its_own_address() {
        let asked = request(&[], false);
        let bytes = reply(&asked, source());
        let message = Message::from_bytes(&bytes).unwrap();
        assert_eq!(message.class(), MessageClass::Success);
        let id = Message::from_bytes(&asked).unwrap().transaction_id();
        assert_eq!(message.transaction_id(), id);
        let mapped = message.attribute::<XorMappedAddress>().unwrap();
        assert_eq!(mapped.addr(id), source());
        assert!(!message.has_attribute(Software::TYPE));
        assert!(!message.has_attribute(Fingerprint::TYPE));
        // Header and XOR-MAPPED-ADDRESS, nothing else.
        assert_eq!(bytes.len(), 20 + 12);
    }

    #[test]
    fn a_mapped_ipv6_source_is_told_as_ipv4() {
        let bytes = reply(
            &request(&[], false),
            "[::ffff:198.51.100.7]:4242".parse().unwrap(),
        );
        let message = Message::from_bytes(&bytes).unwrap();
        let mapped = message.attribute::<XorMappedAddress>().unwrap();
        assert_eq!(mapped.addr(message.transaction_id()), source());
    }

    #[test]
    fn a_fingerprint_is_answered_with_one() {
        let bytes = reply(&request(&[], true), source());
        let message = Message::from_bytes(&bytes).unwrap();
        assert!(message.has_attribute(Fingerprint::TYPE));
    }

    #[test]
    fn unknown_attributes_that_must_be_understood_are_refused_by_number() {
        // CHANGE-REQUEST (RFC 5780) asks for an answer from another address, which this server has not.
        let bytes = reply(&request(&[(0x0003, &[0, 0, 0, 6])], false), source());
        let message = Message::from_bytes(&bytes).unwrap();
        assert_eq!(message.class(), MessageClass::Error);
        assert_eq!(message.attribute::<ErrorCode>().unwrap().code(), 420);
        let unknown = message.attribute::<UnknownAttributes>().unwrap();
        assert!(unknown.has_attribute(AttributeType::new(0x0003)));
        // One that may be ignored is.
        let bytes = reply(&request(&[(0x8022, b"test")], false), source());
        assert_eq!(
            Message::from_bytes(&bytes).unwrap().class(),
            MessageClass::Success
        );
    }

    #[test]
    fn the_other_port_is_told_and_answers_where_it_is_asked_about_and_an_address_never() {
        let ask = |flags| request(&[(0x0003, &[0, 0, 0, flags])], false);
        let (v6, v4) = ("[2001:db8::1]:4242".parse().unwrap(), source());
        for (flags, from_other) in [(0, false), (2, true)] {
            for source in [v4, v6] {
                let asked = ask(flags);
                let answered = answer_beside(&asked, source, Some(3479));
                let (Answer::Reply(bytes) | Answer::ReplyFromOther(bytes)) = &answered else {
                    panic!("{answered:?}");
                };
                assert_eq!(matches!(answered, Answer::ReplyFromOther(_)), from_other);
                let message = Message::from_bytes(bytes).unwrap();
                let other = message.raw_attribute(OTHER_ADDRESS).unwrap();
                assert_eq!(other.value[..4], [0, 1, 0x0D, 0x97]);
                assert!(bytes.len() * 10 <= asked.len() * 22);
            }
        }
        for flags in [4, 6] {
            let Answer::Reply(bytes) = answer_beside(&ask(flags), v4, Some(3479)) else {
                panic!("no answer");
            };
            let message = Message::from_bytes(&bytes).unwrap();
            assert_eq!(message.attribute::<ErrorCode>().unwrap().code(), 420);
        }
        let plain = request(&[], false);
        assert_eq!(answer_beside(&plain, v4, Some(3479)), answer(&plain, v4));
    }

    #[test]
    fn no_response_is_more_than_2_2_times_as_long_as_its_request() {
        let v6: SocketAddr = "[2001:db8::1]:4242".parse().unwrap();
        let unknown: Vec<(u16, &[u8])> = (0..64).map(|n| (0x4000 + n, &[][..])).collect();
        let mut ratios = Vec::new();
        for count in [0, 1, 2, 15, 16, 17, 64] {
            for fingerprint in [false, true] {
                let asked = request(&unknown[..count], fingerprint);
                for source in [source(), v6] {
                    let (answered, asked) = (reply(&asked, source).len(), asked.len());
                    assert!(
                        answered * 10 <= asked * 22,
                        "{count}: {answered} to {asked}"
                    );
                    ratios.push((answered * 10 / asked, count));
                }
            }
        }
        // The success response is the longest; an error response is 1.5 times its request, and shorter with more.
        assert_eq!(ratios.iter().max(), Some(&(22, 0)));
        assert_eq!(
            ratios.iter().filter(|(_, count)| *count > 0).max(),
            Some(&(15, 1))
        );
    }

    #[test]
    fn garbage_and_messages_that_ask_nothing_get_no_answer() {
        let good = request(&[(0x8022, b"test")], true);
        for cut in 0..good.len() {
            assert_eq!(answer(&good[..cut], source()), Answer::Garbage, "{cut}");
        }
        let mut longer = good.clone();
        longer.extend([0; 4]);
        assert_eq!(answer(&longer, source()), Answer::Garbage);
        let mut damaged = good.clone();
        let last = damaged.len() - 1;
        damaged[last] ^= 1;
        assert_eq!(answer(&damaged, source()), Answer::Garbage);
        let allocate = Message::builder_request(Method::new(3), MessageWriteVec::new()).finish();
        assert_eq!(answer(&allocate, source()), Answer::Garbage);
        let indication = Message::builder_indication(BINDING, MessageWriteVec::new()).finish();
        assert_eq!(answer(&indication, source()), Answer::Silent);
        assert_eq!(answer(&reply(&good, source()), source()), Answer::Silent);
    }

    #[test]
    fn no_bytes_make_it_panic_or_answer_much_more_than_it_was_asked() {
        // A request, then every single-byte change of it: each must end in one of the three answers.
        let good = request(
            &[(0x0006, b"user"), (0x8022, b"test"), (0x0020, &[0; 8])],
            true,
        );
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut changed = good.clone();
                changed[at] ^= 1 << bit;
                if let Answer::Reply(bytes) = answer(&changed, source()) {
                    assert!(bytes.len() * 10 <= changed.len() * 22);
                }
            }
        }
    }
}
