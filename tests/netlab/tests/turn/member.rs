//! A member of a network that says hello and hears what it is handed for TURN: as much of a daemon as that takes.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use ed25519_dalek::SigningKey;
use mesh_wire::{
    WireGuardKey,
    discovery::{CreateNetwork, RegisterPeer, ServerMessage, TurnAccess, hello},
    peer_info::PeerRecord,
    psk::NetworkPsk,
};
use netlab::{Discovery, Host};

const NETWORK: &str = "home";

/// Its connection keeps the member online.
pub(crate) struct Member {
    pub(crate) access: TurnAccess,
    _events: TcpStream,
}

impl Member {
    /// Makes a network on a server that has none, and joins it from `host`.
    pub(crate) fn join(host: &Host, discovery: &Discovery) -> Self {
        Self::join_as(1, host, discovery)
    }

    /// The same as one of several, of which each has a number.
    pub(crate) fn join_as(number: u8, host: &Host, discovery: &Discovery) -> Self {
        let token = NetworkPsk::from_bytes([7; 32]).admission_token();
        let create = CreateNetwork {
            id: NETWORK.parse().unwrap(),
            cidr: "10.100.0.0/16".parse().unwrap(),
            network_key: None,
            admission_token: token.clone(),
        };
        post(host, discovery, "", &token, &create);
        let key = SigningKey::from_bytes(&[number; 32]);
        let wireguard = WireGuardKey::from_bytes([100 + number; 32]);
        let network = NETWORK.parse().unwrap();
        let name = format!("member{number}");
        let record = PeerRecord::sign(&key, &network, wireguard, &name, (1, 100)).unwrap();
        let register = RegisterPeer {
            record,
            requested_ip: None,
        };
        post(host, discovery, "/home/peers", &token, &register);

        let mut events = connect(host, discovery, &token);
        loop {
            match receive(&mut events) {
                ServerMessage::Challenge { nonce } => {
                    let hello = hello(&key, &network, &nonce);
                    send(&mut events, &serde_json::to_vec(&hello).unwrap());
                }
                ServerMessage::Turn(access) => {
                    return Self {
                        access,
                        _events: events,
                    };
                }
                ServerMessage::Error { problem } => panic!("{problem:?}"),
                ServerMessage::Snapshot { .. }
                | ServerMessage::PeerJoined { .. }
                | ServerMessage::PeerUpdated { .. }
                | ServerMessage::PeerLeft { .. }
                | ServerMessage::Revoked { .. }
                | ServerMessage::Signal { .. }
                | ServerMessage::Undeliverable { .. } => {}
            }
        }
    }
}

fn post<T: serde::Serialize>(
    host: &Host,
    discovery: &Discovery,
    path: &str,
    token: &str,
    body: &T,
) {
    let url = format!("{}/api/v1/mesh/networks{path}", discovery.url());
    let body = serde_json::to_string(body).unwrap();
    let bearer = format!("Authorization: Bearer {token}");
    let json = "Content-Type: application/json";
    let arguments = ["-sS", "-f", "-H", &bearer, "-H", json, "-d", &body, &url];
    host.run("curl", arguments).unwrap();
}

/// The opening handshake of RFC 6455.
fn connect(host: &Host, discovery: &Discovery, token: &str) -> TcpStream {
    let url = discovery.url();
    let authority = url.strip_prefix("http://").unwrap();
    let mut stream = host
        .namespace()
        .enter(|| TcpStream::connect(authority))
        .unwrap()
        .unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let key = data_encoding::BASE64.encode(&[3; 16]);
    write!(
        stream,
        "GET /api/v1/mesh/networks/{NETWORK}/events HTTP/1.1\r\nHost: {authority}\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\
         Authorization: Bearer {token}\r\n\r\n"
    )
    .unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    stream
}

/// One text message, masked with zeros.
fn send(stream: &mut TcpStream, text: &[u8]) {
    let length = u16::try_from(text.len()).unwrap();
    let mut frame = vec![0x81, 0x80 | 126];
    frame.extend(length.to_be_bytes());
    frame.extend([0; 4]);
    frame.extend(text);
    stream.write_all(&frame).unwrap();
}

/// The next text message; pings are passed over.
fn receive(stream: &mut TcpStream) -> ServerMessage {
    loop {
        let mut head = [0; 2];
        stream.read_exact(&mut head).unwrap();
        let length = match head[1] {
            126 => {
                let mut long = [0; 2];
                stream.read_exact(&mut long).unwrap();
                usize::from(u16::from_be_bytes(long))
            }
            127 => panic!("a message is longer than any here"),
            short => usize::from(short),
        };
        let mut body = vec![0; length];
        stream.read_exact(&mut body).unwrap();
        if head[0] == 0x81 {
            return serde_json::from_slice(&body).unwrap();
        }
    }
}
