//! A TURN client that says exactly what it is told to.

use std::{
    cell::RefCell,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream, UdpSocket},
};

use mesh_wire::discovery::{TurnAccess, TurnPassword};
use nix::sys::socket::{setsockopt, sockopt::UdpGsoSegment};
use stun_types::{
    attribute::{AttributeType, ErrorCode, Nonce, RawAttribute, Realm, Username, XorSocketAddr},
    message::{
        IntegrityAlgorithm, LongTermKeyCredentials, Message, MessageWrite as _,
        MessageWriteExt as _, MessageWriteVec, Method, TransactionId,
    },
};

use tokio_tungstenite::tungstenite::{
    self, WebSocket,
    client::IntoClientRequest as _,
    http::header::{HeaderName, HeaderValue, SEC_WEBSOCKET_PROTOCOL},
};

use crate::harness::DEADLINE;

pub(super) const BINDING: u16 = 1;
pub(super) const ALLOCATE: u16 = 3;
pub(super) const REFRESH: u16 = 4;
pub(super) const CREATE_PERMISSION: u16 = 8;
pub(super) const CHANNEL_BIND: u16 = 9;
const SEND: u16 = 6;

/// An attribute, but for what depends on the transaction.
#[derive(Clone)]
pub(super) enum Attribute {
    Raw(u16, Vec<u8>),
    Peer(SocketAddr),
}

pub(super) fn attribute(kind: u16, value: &[u8]) -> Attribute {
    Attribute::Raw(kind, value.to_vec())
}

/// XOR-PEER-ADDRESS.
pub(super) fn peer(address: SocketAddr) -> Attribute {
    Attribute::Peer(address)
}

enum Wire {
    Udp(UdpSocket),
    Tcp(TcpStream),
    /// With messages that came in one piece with others.
    WebSocket(Box<RefCell<(WebSocket<TcpStream>, Vec<u8>)>>),
}

/// A ChannelData message, padded as a stream asks for.
pub(super) fn channel_data(channel: u16, data: &[u8]) -> Vec<u8> {
    let mut message = channel.to_be_bytes().to_vec();
    message.extend((data.len() as u16).to_be_bytes());
    message.extend(data);
    message.resize(message.len().next_multiple_of(4), 0);
    message
}

/// What the server said.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) method: u16,
    /// The error code; `None` is success.
    pub(super) code: Option<u16>,
    pub(super) length: usize,
    pub(super) relayed: Option<SocketAddr>,
    pub(super) lifetime: Option<u32>,
    /// A Data indication's peer and data.
    pub(super) data: Option<(SocketAddr, Vec<u8>)>,
    nonce: Option<String>,
}

pub(super) struct Client {
    wire: Wire,
    user: Option<(String, TurnPassword)>,
    pub(super) nonce: Option<String>,
    last: Vec<u8>,
}

impl Client {
    pub(super) fn udp(server: SocketAddr, access: Option<TurnAccess>) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Self::new(Wire::Udp(socket), access)
    }

    pub(super) fn tcp(server: SocketAddr, access: Option<TurnAccess>) -> Self {
        let stream = TcpStream::connect(server).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Self::new(Wire::Tcp(stream), access)
    }

    /// At the HTTP address, with these headers besides.
    pub(super) fn websocket(
        http: SocketAddr,
        access: Option<TurnAccess>,
        headers: &[(&'static str, &'static str)],
    ) -> Self {
        let stream = TcpStream::connect(http).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let url = format!("ws://{http}/api/v1/turn");
        let mut request = url.into_client_request().unwrap();
        let turn = HeaderValue::from_static("turn");
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, turn);
        for (name, value) in headers {
            let (name, value) = (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
            request.headers_mut().insert(name, value);
        }
        let (socket, _) = tungstenite::client(request, stream).unwrap();
        Self::new(
            Wire::WebSocket(Box::new(RefCell::new((socket, Vec::new())))),
            access,
        )
    }

    fn new(wire: Wire, access: Option<TurnAccess>) -> Self {
        Self {
            wire,
            user: access.map(|access| (access.username, access.password)),
            nonce: None,
            last: Vec::new(),
        }
    }

    /// Uses another user name and password from now on.
    pub(super) fn be(&mut self, username: &str, password: &str) {
        let password = TurnPassword::new(password.to_owned());
        self.user = Some((username.to_owned(), password));
    }

    /// Allocate over UDP.
    pub(super) fn allocate(&mut self) -> Answer {
        self.request(ALLOCATE, &[attribute(0x0019, &[17, 0, 0, 0])])
    }

    /// Asks, and asks again once with the nonce that a first refusal brings.
    pub(super) fn request(&mut self, method: u16, attributes: &[Attribute]) -> Answer {
        let had_nonce = self.nonce.is_some();
        self.send(method, attributes);
        let answer = self.receive().unwrap();
        let refused = matches!(answer.code, Some(401 | 438));
        if refused && !had_nonce && self.user.is_some() {
            self.send(method, attributes);
            return self.receive().unwrap();
        }
        answer
    }

    /// Sends a request, authenticated if there are user and nonce; its length.
    pub(super) fn send(&mut self, method: u16, attributes: &[Attribute]) -> usize {
        let write = MessageWriteVec::new();
        let mut message = Message::builder_request(Method::new(method), write);
        self.fill(&mut message, attributes);
        if let (Some((user, password)), Some(nonce)) = (&self.user, &self.nonce) {
            let key = LongTermKeyCredentials::new(
                user.clone(),
                password.expose().to_owned(),
                "mesh".to_owned(),
            )
            .make_key(IntegrityAlgorithm::Sha1);
            message
                .add_attribute(&Username::new(user).unwrap())
                .unwrap();
            message.add_attribute(&Realm::new("mesh").unwrap()).unwrap();
            message.add_attribute(&Nonce::new(nonce).unwrap()).unwrap();
            message
                .add_message_integrity_with_key(&key, IntegrityAlgorithm::Sha1)
                .unwrap();
        }
        self.last = message.finish();
        self.send_again();
        self.last.len()
    }

    fn fill(&self, message: &mut MessageWriteVec, attributes: &[Attribute]) {
        let transaction = message.transaction_id();
        for attribute in attributes {
            match attribute {
                Attribute::Raw(kind, value) => {
                    let raw = RawAttribute::new(AttributeType::new(*kind), value);
                    message.add_attribute(&raw).unwrap();
                }
                Attribute::Peer(address) => {
                    let xored = XorSocketAddr::new(*address, transaction);
                    let raw = xored.to_raw(AttributeType::new(0x0012));
                    // One message may name many peers.
                    message.push_attribute_unchecked(&raw);
                }
            }
        }
    }

    /// Sends the last request again, as it was.
    pub(super) fn send_again(&self) {
        self.send_raw(&self.last);
    }

    pub(super) fn send_raw(&self, bytes: &[u8]) {
        match &self.wire {
            Wire::Udp(socket) => {
                socket.send(bytes).unwrap();
            }
            Wire::Tcp(stream) => {
                // It may have been closed already.
                let mut stream = stream;
                let _ = stream.write_all(bytes);
            }
            Wire::WebSocket(both) => {
                let piece = tungstenite::Message::binary(bytes.to_vec());
                let _ = both.borrow_mut().0.send(piece);
            }
        }
    }

    pub(super) fn send_indication(&self, to: SocketAddr, data: &[u8]) {
        let write = MessageWriteVec::new();
        let mut message = Message::builder_indication(Method::new(SEND), write);
        self.fill(&mut message, &[peer(to), attribute(0x0013, data)]);
        self.send_raw(&message.finish());
    }

    pub(super) fn send_channel(&self, channel: u16, data: &[u8]) {
        self.send_raw(&channel_data(channel, data));
    }

    /// Sends datagrams of `segment` bytes, of which the last may be shorter, by one call, as loopback then delivers them.
    pub(super) fn send_train(&self, segment: usize, train: &[u8]) {
        let Wire::Udp(socket) = &self.wire else {
            panic!("only datagrams make a train");
        };
        for (segment, bytes) in [(segment, train), (0, &[])] {
            setsockopt(socket, UdpGsoSegment, &(segment as i32)).unwrap();
            if !bytes.is_empty() {
                socket.send(bytes).unwrap();
            }
        }
    }

    /// The next ChannelData; `None` if the connection was closed.
    pub(super) fn receive_channel(&self) -> Option<(u16, Vec<u8>)> {
        let bytes = self.receive_raw()?;
        let number = |at| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        Some((number(0), bytes[4..4 + usize::from(number(2))].to_vec()))
    }

    /// The next message; `None` if the connection was closed.
    pub(super) fn receive(&mut self) -> Option<Answer> {
        let answer = read(&self.receive_raw()?);
        if answer.nonce.is_some() {
            self.nonce.clone_from(&answer.nonce);
        }
        Some(answer)
    }

    fn receive_raw(&self) -> Option<Vec<u8>> {
        match &self.wire {
            Wire::Udp(socket) => {
                let mut buffer = vec![0; 10_000];
                let length = socket.recv(&mut buffer).unwrap();
                buffer.truncate(length);
                Some(buffer)
            }
            Wire::WebSocket(both) => {
                let (socket, rest) = &mut *both.borrow_mut();
                while rest.is_empty() {
                    match socket.read().ok()? {
                        tungstenite::Message::Binary(piece) => rest.extend_from_slice(&piece),
                        tungstenite::Message::Ping(_) => {}
                        other @ (tungstenite::Message::Text(_)
                        | tungstenite::Message::Pong(_)
                        | tungstenite::Message::Close(_)
                        | tungstenite::Message::Frame(_)) => panic!("{other:?}"),
                    }
                }
                Some(rest.drain(..total(rest)).collect())
            }
            Wire::Tcp(stream) => {
                let mut stream = stream;
                let mut bytes = vec![0; 4];
                stream.read_exact(&mut bytes).ok()?;
                bytes.resize(total(&bytes), 0);
                stream.read_exact(&mut bytes[4..]).ok()?;
                Some(bytes)
            }
        }
    }
}

/// How long the message is that begins so, with its padding.
fn total(bytes: &[u8]) -> usize {
    let said = usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
    match bytes[0] {
        0x40..=0x7F => 4 + said.next_multiple_of(4),
        _ => 20 + said,
    }
}

fn read(bytes: &[u8]) -> Answer {
    let message = Message::from_bytes(bytes).unwrap();
    let transaction: TransactionId = message.transaction_id();
    let raw = |kind| message.raw_attribute(AttributeType::new(kind));
    let address = |kind| {
        let found = raw(kind)?;
        Some(XorSocketAddr::from_raw(&found).unwrap().addr(transaction))
    };
    Answer {
        method: message.method().value(),
        code: message
            .attribute::<ErrorCode>()
            .ok()
            .map(|error| error.code()),
        length: bytes.len(),
        relayed: address(0x0016),
        lifetime: raw(0x000D).map(|found| {
            let value: [u8; 4] = found.value[..].try_into().unwrap();
            u32::from_be_bytes(value)
        }),
        data: address(0x0012).zip(raw(0x0013).map(|found| found.value.to_vec())),
        nonce: message
            .attribute::<Nonce>()
            .ok()
            .map(|nonce| nonce.nonce().to_owned()),
    }
}
