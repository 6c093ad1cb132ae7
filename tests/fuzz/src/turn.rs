//! What the discovery server's relay reads before it knows who sent it, and how its clients cut what it sends over TCP.

use discovery_server::turn::{
    CHANNELS, Kind, MAX_FRAME, channel_data, kind, parse, peers, send_data,
};
use mesh_wire::turn_stream::{Framed, LONGEST, next, push};

/// A TCP stream, message by message; each as a datagram too, and the whole as one.
pub fn stream(bytes: &[u8]) {
    datagram(bytes);
    assert!(
        !matches!(next(bytes, MAX_FRAME), Framed::Message { .. })
            || next(bytes, MAX_FRAME) == next(bytes, LONGEST)
    );
    let mut rest = bytes;
    while let Framed::Message { length, total } = next(rest, MAX_FRAME) {
        assert!(0 < length && length <= total && total <= rest.len());
        assert!(total < length + 4 && total <= MAX_FRAME);
        datagram(&rest[..length]);
        let mut written = Vec::new();
        push(&mut written, &rest[..length]);
        assert_eq!(written.len(), total);
        assert_eq!(next(&written, MAX_FRAME), Framed::Message { length, total });
        rest = &rest[total..];
    }
}

/// Whether something in it is a message of TURN's.
pub fn accepts(bytes: &[u8]) -> bool {
    match kind(bytes) {
        Kind::Channel => channel_data(bytes).is_some(),
        Kind::Turn => parse(bytes).is_some(),
        Kind::Other => false,
    }
}

fn datagram(bytes: &[u8]) {
    if let Some(message) = channel_data(bytes) {
        assert_eq!(kind(bytes), Kind::Channel);
        assert!(CHANNELS.contains(&message.channel));
        assert!(bytes.get(message.data).is_some());
    }
    let Some(message) = parse(bytes) else {
        return;
    };
    if let Some(peers) = peers(&message) {
        // Each takes up 12 bytes.
        assert!(peers.len() * 12 <= bytes.len());
        let canonical = |peer: &std::net::SocketAddr| peer.ip() == peer.ip().to_canonical();
        assert!(peers.iter().all(canonical));
    }
    if let Some((_, data)) = send_data(&message) {
        assert!(bytes.get(data).is_some());
    }
}
