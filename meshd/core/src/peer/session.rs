//! How is a packet sealed for a peer and opened from it? The only file that names boringtun.
//!
//! What the crate leaves to its caller, or gets wrong, is settled here: its queue stays empty, one limiter judges
//! all handshakes before a peer's state is touched, counters that would overflow are refused.

use std::{
    fmt,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use boringtun::{
    noise::{
        Packet, Tunn, TunnResult, errors::WireGuardError, handshake::parse_handshake_anon,
        rate_limiter::RateLimiter,
    },
    x25519::{PublicKey, StaticSecret},
};
use mesh_wire::WireGuardKey;

use super::table::PeerIdx;

/// The name under which the WireGuard library logs. It reports as errors what are everyday events here, such as a peer
/// that went away; what matters of them is in the node's events and counters.
pub const LIBRARY_LOG_TARGET: &str = "boringtun";

/// What sealing adds to a packet: 16 bytes of header and 16 of tag.
pub const OVERHEAD: usize = 32;
/// The longest handshake message; every output buffer must hold it.
pub const MAX_HANDSHAKE: usize = 148;
/// Handshakes per second, of all peers together, from which on senders must prove their address with a cookie. A
/// network of 1,000 peers that all come back at once is served within seconds even so.
const HANDSHAKES_PER_SECOND: u64 = 200;
/// Reject-After-Messages (WireGuard paper, section 6.1): 2^64 - 2^13 - 1.
const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);
/// The first handshake on a new path is repeated this soon; WireGuard's own 5 s are for a path that is known to work.
const FIRST_RETRY: Duration = Duration::from_millis(500);
/// How often it is repeated so soon.
const QUICK_RETRIES: u8 = 4;

/// Our own key and what guards its handshakes.
pub struct SessionKeys {
    private: StaticSecret,
    public: PublicKey,
    limiter: RateLimiter,
    /// The crate wants a limiter per session as well; this one never limits.
    unlimited: Arc<RateLimiter>,
}

/// Whom a WireGuard message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addressee {
    /// A handshake initiation from the owner of this key.
    Initiator(WireGuardKey),
    /// Any other message: it names the session's index.
    Session(PeerIdx),
    /// Too many handshakes: this many bytes of the buffer are a cookie reply to be sent back.
    Cookie(usize),
    /// Nobody: malformed, a wrong MAC, or not for our key.
    Nobody,
}

impl SessionKeys {
    /// From a Curve25519 private key.
    pub fn new(private: [u8; 32]) -> Self {
        let private = StaticSecret::from(private);
        let public = PublicKey::from(&private);
        Self {
            limiter: RateLimiter::new(&public, HANDSHAKES_PER_SECOND),
            unlimited: Arc::new(RateLimiter::new(&public, u64::MAX)),
            private,
            public,
        }
    }

    /// Our public key.
    pub fn public(&self) -> WireGuardKey {
        WireGuardKey::from_bytes(self.public.to_bytes())
    }

    /// Reads just enough of a message to know whose it is. `reply` holds at least [`MAX_HANDSHAKE`] bytes.
    pub fn addressee(&self, from: IpAddr, datagram: &[u8], reply: &mut [u8]) -> Addressee {
        let packet = match Tunn::parse_incoming_packet(datagram) {
            Ok(Packet::HandshakeInit(_)) => {
                self.limiter.reset_count();
                match self.limiter.verify_packet(Some(from), datagram, reply) {
                    Ok(packet) => packet,
                    Err(TunnResult::WriteToNetwork(cookie)) => {
                        return Addressee::Cookie(cookie.len());
                    }
                    Err(_) => return Addressee::Nobody,
                }
            }
            Ok(packet) => packet,
            Err(_) => return Addressee::Nobody,
        };
        let index = match packet {
            Packet::HandshakeInit(init) => {
                return match parse_handshake_anon(&self.private, &self.public, &init) {
                    Ok(half) => {
                        Addressee::Initiator(WireGuardKey::from_bytes(half.peer_static_public))
                    }
                    Err(_) => Addressee::Nobody,
                };
            }
            Packet::HandshakeResponse(response) => response.receiver_idx,
            Packet::PacketCookieReply(cookie) => cookie.receiver_idx,
            Packet::PacketData(data) => data.receiver_idx,
        };
        Addressee::Session(PeerIdx::new(index >> 8))
    }
}

impl fmt::Debug for SessionKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionKeys({})", self.public())
    }
}

/// What became of a packet that was to be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sealed {
    /// This many bytes of the buffer are to be sent; 0 when the packet waits for new keys.
    Message(usize),
    /// There is no session; nothing was sealed, nothing kept.
    NoSession,
}

/// What a message turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// This many bytes at the start of the buffer are an IP packet.
    Packet(usize),
    /// Authentic, without a packet inside.
    Keepalive,
    /// Authentic; this many bytes of the buffer are to be sent back.
    Reply(usize),
    /// A cookie: not authentic in itself, so it proves nothing about where the peer is.
    Cookie,
    /// Forged, replayed, damaged or too late.
    Refused,
}

/// The WireGuard session with one peer.
pub struct Session {
    tunn: Tunn,
    established: bool,
    quick_retries: u8,
    next_quick: Option<Instant>,
    /// How many packets the crate has kept; it drops them beyond 256.
    queued: usize,
}

impl Session {
    /// A session that has not begun. `psk` is this pair's preshared key.
    pub fn new(
        keys: &SessionKeys,
        peer: WireGuardKey,
        index: PeerIdx,
        psk: [u8; 32],
        keepalive: Duration,
    ) -> Self {
        let keepalive = u16::try_from(keepalive.as_secs())
            .ok()
            .filter(|secs| *secs > 0);
        Self {
            tunn: Tunn::new(
                keys.private.clone(),
                PublicKey::from(*peer.as_bytes()),
                Some(psk),
                keepalive,
                index.get(),
                Some(Arc::clone(&keys.unlimited)),
            ),
            established: false,
            quick_retries: 0,
            next_quick: None,
            queued: 0,
        }
    }

    /// Whether packets can be sealed.
    pub fn is_established(&self) -> bool {
        self.established
    }

    /// Time since the last completed handshake.
    pub fn since_handshake(&self) -> Option<Duration> {
        self.tunn.time_since_last_handshake()
    }

    /// Seals `packet` into `out`, which holds at least `packet.len() + OVERHEAD` and [`MAX_HANDSHAKE`] bytes.
    pub fn seal(&mut self, packet: &[u8], out: &mut [u8]) -> Sealed {
        if !self.established {
            return Sealed::NoSession;
        }
        match self.tunn.encapsulate(packet, out) {
            // Without keys left the crate answers with a handshake initiation and keeps the packet itself until
            // `next_queued` asks for it.
            TunnResult::WriteToNetwork(message) => {
                self.queued += usize::from(message.first() == Some(&1));
                Sealed::Message(message.len())
            }
            TunnResult::Done => {
                self.queued += 1;
                Sealed::Message(0)
            }
            TunnResult::Err(_)
            | TunnResult::WriteToTunnelV4(..)
            | TunnResult::WriteToTunnelV6(..) => Sealed::NoSession,
        }
    }

    /// Writes a handshake initiation into `out`; returns its length, 0 if one is under way already and `force` is off.
    pub fn initiate(&mut self, now: Instant, force: bool, out: &mut [u8]) -> usize {
        if self.next_quick.is_none() {
            self.quick_retries = QUICK_RETRIES;
        }
        self.next_quick = Some(now + FIRST_RETRY);
        match self.tunn.format_handshake_initiation(out, force) {
            TunnResult::WriteToNetwork(message) => message.len(),
            TunnResult::Done
            | TunnResult::Err(_)
            | TunnResult::WriteToTunnelV4(..)
            | TunnResult::WriteToTunnelV6(..) => 0,
        }
    }

    /// Opens a message into `out`, which is at least as long and holds [`MAX_HANDSHAKE`] bytes.
    pub fn open(&mut self, from: IpAddr, datagram: &[u8], out: &mut [u8]) -> Opened {
        let kind = datagram.first().copied().unwrap_or(0);
        if kind == 4 && counter(datagram).is_none_or(|counter| counter >= REJECT_AFTER_MESSAGES) {
            return Opened::Refused;
        }
        let opened = match self.tunn.decapsulate(Some(from), datagram, out) {
            TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => {
                Opened::Packet(packet.len())
            }
            TunnResult::WriteToNetwork(reply) => Opened::Reply(reply.len()),
            TunnResult::Done if kind == 3 => Opened::Cookie,
            TunnResult::Done => Opened::Keepalive,
            TunnResult::Err(WireGuardError::DuplicateCounter) => Opened::Refused,
            TunnResult::Err(_) => Opened::Refused,
        };
        // Data proves that the keys are confirmed both ways; so does the response to our own initiation.
        let confirms = matches!(opened, Opened::Packet(_) | Opened::Keepalive)
            || (kind == 2 && matches!(opened, Opened::Reply(_)));
        if confirms && !self.established {
            self.established = true;
            self.next_quick = None;
        }
        opened
    }

    /// Whether the crate keeps packets that met a session without keys.
    pub fn has_queued(&self) -> bool {
        self.queued > 0 && self.established
    }

    /// Takes one such packet, sealed; 0 when there is none. `out` holds any packet that was given to `seal`.
    pub fn next_queued(&mut self, out: &mut [u8]) -> usize {
        self.queued = self.queued.saturating_sub(1);
        match self.tunn.decapsulate(None, &[], out) {
            TunnResult::WriteToNetwork(message) => message.len(),
            TunnResult::Done
            | TunnResult::Err(_)
            | TunnResult::WriteToTunnelV4(..)
            | TunnResult::WriteToTunnelV6(..) => 0,
        }
    }

    /// Looks at the timers: re-keying, keepalives, expiry. Returns the length of a message to send, 0 for none.
    pub fn tick(&mut self, now: Instant, out: &mut [u8]) -> usize {
        if let Some(due) = self.next_quick
            && !self.established
            && due <= now
            && self.quick_retries > 0
        {
            self.quick_retries -= 1;
            return self.initiate(now, true, out);
        }
        match self.tunn.update_timers(out) {
            TunnResult::WriteToNetwork(message) => message.len(),
            TunnResult::Err(_) => {
                self.established = false;
                self.next_quick = None;
                0
            }
            TunnResult::Done
            | TunnResult::WriteToTunnelV4(..)
            | TunnResult::WriteToTunnelV6(..) => {
                self.established =
                    self.established && self.tunn.time_since_last_handshake().is_some();
                0
            }
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("established", &self.established)
            .finish_non_exhaustive()
    }
}

/// The counter of a transport data message (WireGuard paper, section 5.4.6).
fn counter(datagram: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(datagram.get(8..16)?.try_into().ok()?))
}

#[cfg(test)]
mod tests;
