//! The relay for members without a direct path (TURN, RFC 8656), beside STUN on the same port, over UDP and TCP, and in
//! WebSockets at the HTTP port.
//!
//! What is decided is in files without sockets: `policy` (which peers), `credential` and `nonce` (which clients),
//! `quota` (how much), `machine` (what a message brings about). The others carry it out.

mod allocation;
pub(crate) mod credential;
pub(crate) mod limits;
mod machine;
mod message;
mod nonce;
mod outlet;
mod policy;
mod quota;
mod relayed;
mod requests;
mod served;
mod service;
pub(crate) mod tcp;
mod trains;
pub(crate) mod udp;
pub(crate) mod websocket;

use std::{fmt, net::SocketAddr, time::Instant};

pub use message::{CHANNELS, ChannelData, Kind, channel_data, kind, parse, peers, send_data};
pub use quota::BYTES_PER_SECOND;
pub(crate) use service::Turn;

use credential::Holder;

/// The realm of the server's credentials. Short, since it is in each refusal that a stranger can have sent to others.
pub(crate) const REALM: &str = "mesh";

/// The longest datagram that is relayed: Ethernet's jumbo frames, which is more than any path of the Internet carries.
pub const MAX_DATA: usize = 9_000;

/// The longest message that is taken: data, and a Send indication around it with more than it needs.
pub const MAX_FRAME: usize = MAX_DATA + 512;

/// How a client reaches the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Transport {
    Udp,
    Tcp,
    /// A WebSocket with this number. Behind proxies several may come from one address and port.
    WebSocket(u64),
}

/// One client: RFC 8656's 5-tuple, whose other half is the same for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Client {
    pub(crate) transport: Transport,
    /// As the socket tells it: IPv4 addresses may be mapped.
    pub(crate) address: SocketAddr,
}

impl Client {
    /// For whom what this client does is counted.
    fn user(&self, holder: &Holder) -> quota::User {
        (holder.node, self.address.ip())
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transport = match self.transport {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::WebSocket(_) => "websocket",
        };
        write!(f, "{transport}:{}", self.address)
    }
}

/// The time, by both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) instant: Instant,
    /// Seconds since the Unix epoch.
    pub(crate) unix: u64,
}
