//! The decoders of `mesh-wire`: what one accepts it must also write, and read again as the same.

use std::str::from_utf8;

use ed25519_dalek::SigningKey;
use mesh_wire::{
    NodeId,
    carrier::{Carrier, is_carrier},
    discovery::{ClientMessage, MAX_SIGNAL, ServerMessage},
    frame::{Frame, classify},
    join_link::{JoinLink, parse_server},
    lan::{
        Announcement, LanKey,
        announcement::MAX_ADDRESSES,
        dns::{self, Heard, Service},
    },
    letter::{Content, Letter},
    peer_info::{PeerInfo, PeerRecord},
    psk::NetworkPsk,
    relay::{RelayFrame, TAG},
    routing::Message as RoutingMessage,
    signal::MAX_CANDIDATES,
    trust::{Certificate, Gossip, Invite, Issuer, Revocation, Root},
    wireguard::{Message, cookie_reply, data_header, initiation, response},
};

/// `frame::classify`.
pub fn frame(bytes: &[u8]) {
    match classify(bytes) {
        // A STUN header has 20 bytes, the shortest WireGuard message 32.
        Frame::Stun => assert!(bytes.len() >= 20),
        Frame::WireGuard => assert!(bytes.len() >= 32),
        Frame::ChannelData => assert!(bytes.len() >= 4),
        Frame::Relay | Frame::Unknown => {}
    }
}

/// `wireguard::Message::parse`: what it reads is laid out again as it was, but for the authenticators.
pub fn wireguard(bytes: &[u8]) {
    let again = match Message::parse(bytes) {
        None => return,
        Some(Message::Initiation { sender, noise }) => initiation(sender, noise)[..116].to_vec(),
        Some(Message::Response {
            sender,
            receiver,
            noise,
        }) => response(sender, receiver, noise)[..60].to_vec(),
        Some(Message::CookieReply {
            receiver,
            nonce,
            sealed,
        }) => cookie_reply(receiver, nonce, sealed).to_vec(),
        Some(Message::Data {
            receiver,
            counter,
            cipher,
        }) => data_header(receiver, counter, cipher).to_vec(),
    };
    assert!(bytes.starts_with(&again));
}

/// `routing::Message::decode`: what it reads is written again as it was.
pub fn routing(bytes: &[u8]) {
    if let Ok(message) = RoutingMessage::decode(bytes) {
        assert!(message.items.len() <= bytes.len(), "each item has a byte");
        assert_eq!(message.encode(), bytes, "there is one way to write it");
    }
}

/// `RelayFrame::parse`: what it reads is written again as it was.
pub fn relay(bytes: &[u8]) {
    let Some(frame) = RelayFrame::parse(bytes) else {
        return;
    };
    let mut again = vec![0; frame.header.frame_len(frame.message.len())];
    let covered = frame.header.write(frame.message, &mut again);
    assert_eq!(covered, Some(frame.covered.len()));
    let end = again.len() - TAG;
    again[end..].copy_from_slice(&frame.tag.encode());
    assert_eq!(again, bytes);
}

/// `Letter::read`, with the signal or certificate that it holds.
pub fn letter(bytes: &[u8]) {
    if let Ok(letter) = Letter::read(bytes) {
        if let Content::Signal(signal) = &letter.content {
            assert!(signal.candidates.len() <= MAX_CANDIDATES);
        }
        let again = letter.to_bytes();
        if again.len() <= MAX_SIGNAL {
            assert_eq!(Letter::read(&again), Ok(letter));
        }
    }
}

/// `JoinLink::parse`.
pub fn join_link(bytes: &[u8]) {
    let Ok(text) = from_utf8(bytes) else { return };
    if let Ok(link) = JoinLink::parse(text) {
        let again = JoinLink::parse(&link.to_text());
        assert!(
            again == Ok(link),
            "a link changes when it is written and read"
        );
    }
}

/// `parse_server`.
pub fn server_address(bytes: &[u8]) {
    let Ok(text) = from_utf8(bytes) else { return };
    if let Ok(server) = parse_server(text) {
        assert_eq!(parse_server(server.as_str()), Ok(server));
    }
}

/// `Carrier::decode`, of packets that are one and packets that are not.
pub fn carrier(bytes: &[u8]) {
    let _ = is_carrier(bytes);
    if let Ok(message) = Carrier::decode(bytes) {
        let packet = message.encode();
        assert!(is_carrier(&packet));
        assert_eq!(Carrier::decode(&packet), Ok(message));
    }
}

/// `PeerRecord` and `PeerInfo` as JSON, and the check of the signature.
pub fn peer_record(bytes: &[u8]) {
    if let Ok(record) = serde_json::from_slice::<PeerRecord>(bytes) {
        if let Ok(network) = "my-network".parse() {
            // Most are forged; those that are not verify every time.
            assert_eq!(record.verify(&network), record.verify(&network));
        }
        let json = serde_json::to_vec(&record).expect("a record is plain JSON");
        assert_eq!(
            serde_json::from_slice::<PeerRecord>(&json).ok(),
            Some(record)
        );
    }
    let _ = serde_json::from_slice::<PeerInfo>(bytes);
}

/// What a client reads from the event connection.
pub fn server_message(bytes: &[u8]) {
    if let Ok(message) = serde_json::from_slice::<ServerMessage>(bytes) {
        let json = serde_json::to_vec(&message).expect("a message is plain JSON");
        assert_eq!(
            serde_json::from_slice::<ServerMessage>(&json).ok(),
            Some(message)
        );
    }
}

/// What the server reads from the event connection.
pub fn client_message(bytes: &[u8]) {
    if let Ok(message) = serde_json::from_slice::<ClientMessage>(bytes) {
        let json = serde_json::to_vec(&message).expect("a message is plain JSON");
        assert_eq!(
            serde_json::from_slice::<ClientMessage>(&json).ok(),
            Some(message)
        );
    }
}

/// `NetworkPsk::from_text`.
pub fn network_psk(bytes: &[u8]) {
    let Ok(text) = from_utf8(bytes) else { return };
    if let Ok(psk) = NetworkPsk::from_text(text) {
        assert_eq!(psk.to_text(), text.to_ascii_lowercase());
    }
}

/// `trust::Certificate`, with all that it holds, and the check of its chain.
pub fn certificate(bytes: &[u8]) {
    let Ok(certificate) = Certificate::read(bytes) else {
        return;
    };
    assert_eq!(certificate.as_bytes(), bytes);
    if let Some(root) = root() {
        // Most are forged; those that are not verify every time.
        let verdict = certificate.verify(&root);
        assert_eq!(verdict, certificate.verify(&root));
    }
    match &certificate.issuer {
        Issuer::Network => {}
        Issuer::Invite(invite) => assert!(Invite::read(invite.as_bytes()).is_ok()),
        Issuer::Admin(admin) => assert!(Certificate::read(admin.as_bytes()).is_ok()),
    }
}

/// `trust::Revocation`.
pub fn revocation(bytes: &[u8]) {
    let Ok(revocation) = Revocation::read(bytes) else {
        return;
    };
    assert_eq!(revocation.as_bytes(), bytes);
    if let Some(root) = root() {
        let verdict = revocation.verify(&root);
        assert_eq!(verdict, revocation.verify(&root));
    }
}

/// `trust::Gossip`: what it reads is written again as it was.
pub fn gossip(bytes: &[u8]) {
    if let Ok(gossip) = Gossip::read(bytes) {
        assert_eq!(*gossip.to_bytes(), *bytes);
    }
}

/// `lan::dns::read`, and the seal of what it finds: an instance that was heard is heard again as it was said.
pub fn lan_packet(bytes: &[u8]) {
    let Heard::Answer(found) = dns::read(bytes, "own") else {
        return;
    };
    assert!(found.len() <= 128);
    let key = LanKey::of(&NetworkPsk::from_bytes([42; 32]));
    for (instance, sealed) in found {
        if let Ok(announcement) = key.open(&instance, &sealed) {
            assert!(announcement.addresses.len() <= MAX_ADDRESSES);
        }
        if instance.len() > 63 || instance.is_empty() {
            continue;
        }
        let service = Service {
            instance,
            port: 1,
            addresses: Vec::new(),
            sealed,
        };
        let again = dns::read(&service.answer(), "own");
        assert_eq!(
            again,
            Heard::Answer(vec![(service.instance, service.sealed)])
        );
    }
}

/// `lan::Announcement`, as it stands in the seal: what it reads is written again as it was.
pub fn lan_announcement(bytes: &[u8]) {
    if let Ok(announcement) = Announcement::read(bytes) {
        assert_eq!(announcement.to_bytes().as_deref(), Ok(bytes));
    }
}

/// The network of the corpus.
fn root() -> Option<Root> {
    Some(Root {
        network: "my-network".parse().ok()?,
        key: NodeId::of(&SigningKey::from_bytes(&[1; 32])),
    })
}
