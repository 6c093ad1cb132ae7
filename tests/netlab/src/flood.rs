//! Who sends bad datagrams as fast as it can, from everywhere at once?
//!
//! Each has a source of its own, so that no counting by source helps and nothing can be joined on its way in. They are
//! written with their IP headers, as only root may.

use std::{
    io,
    mem::size_of,
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use mesh_core::wireguard::mac::Stamp;
use mesh_wire::{
    WireGuardKey,
    wireguard::{NOISE_INITIATION, initiation},
};
use rand::RngExt as _;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng as _};

use crate::Host;

/// Datagrams of one system call.
const BATCH: usize = 64;
/// Different contents, sent in turn: making an authenticator for each would be most of the work.
const CONTENTS: usize = 1024;
/// IPv4 header without options, UDP header.
const HEADERS: usize = 20 + 8;

/// What is in the datagrams.
#[derive(Debug, Clone, Copy)]
pub enum Junk {
    /// WireGuard initiations whose first authenticator is right for the owner of this key, and nothing else.
    Initiations(WireGuardKey),
    /// WireGuard initiations without a right authenticator.
    Damaged,
    /// Random bytes.
    Noise,
    /// What looks like a TURN server's ChannelData.
    Channels,
    /// What looks like a STUN request.
    Stun,
}

/// A flood that lasts until it is ended.
#[derive(Debug)]
pub struct Flood {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: JoinHandle<Result<()>>,
    began: Instant,
}

impl Flood {
    /// Sends to `target` from `host`, under made-up addresses, at most `rate` datagrams a second.
    pub fn begin(host: &Host, target: SocketAddrV4, junk: Junk, rate: u32) -> Result<Self> {
        let (stop, sent) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (stopped, counter) = (Arc::clone(&stop), Arc::clone(&sent));
        let namespace = host.namespace().clone();
        let thread = std::thread::Builder::new().name("flood".to_owned());
        let work = move || namespace.enter(|| flood(target, junk, rate, (&stopped, &counter)))?;
        Ok(Self {
            stop,
            sent,
            thread: thread.spawn(work)?,
            began: Instant::now(),
        })
    }

    /// How many datagrams were sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// Ends it; returns how many datagrams it sent a second.
    pub fn end(self) -> Result<f64> {
        self.stop.store(true, Relaxed);
        let joined = self.thread.join();
        joined.map_err(|_| anyhow!("the flood panicked"))??;
        Ok(self.sent.load(Relaxed) as f64 / self.began.elapsed().as_secs_f64())
    }
}

fn flood(
    target: SocketAddrV4,
    junk: Junk,
    rate: u32,
    (stop, sent): (&AtomicBool, &AtomicU64),
) -> Result<()> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let contents: Vec<Vec<u8>> = (0..CONTENTS).map(|_| junk.make(&mut rng)).collect();
    let socket = RawSocket::open().context("a raw socket needs CAP_NET_RAW")?;
    let began = Instant::now();
    for round in 0.. {
        if stop.load(Relaxed) {
            break;
        }
        let batch: Vec<Vec<u8>> = (0..BATCH)
            .map(|place| {
                let content = &contents[(round * BATCH + place) % CONTENTS];
                // 11/8 is nobody's in a lab; answers to it go where the internet sends them: nowhere.
                let source = Ipv4Addr::from_bits(11 << 24 | rng.random_range(1..1 << 24));
                packet(SocketAddrV4::new(source, rng.random()), target, content)
            })
            .collect();
        socket.send(&batch, *target.ip())?;
        let total = sent.fetch_add(BATCH as u64, Relaxed) + BATCH as u64;
        let due = Duration::from_secs_f64(total as f64 / f64::from(rate));
        // A host that was held up does not make up for it: the rate is the most that is sent, not the mean.
        if let Some(early) = due.checked_sub(began.elapsed()) {
            std::thread::sleep(early);
        }
    }
    Ok(())
}

impl Junk {
    fn make(self, rng: &mut ChaCha8Rng) -> Vec<u8> {
        let mut bytes: [u8; 148] = rng.random();
        match self {
            Self::Initiations(key) => {
                let noise: [u8; NOISE_INITIATION] = rng.random();
                let mut message = initiation(rng.random(), &noise);
                Stamp::new(&key).stamp(&mut message, Instant::now());
                return message.to_vec();
            }
            Self::Damaged => bytes[..4].copy_from_slice(&[1, 0, 0, 0]),
            // None of the first bytes that mean something.
            Self::Noise => bytes[0] |= 0x80,
            Self::Channels => bytes[0] = 0x40 | bytes[0] & 0x0F,
            Self::Stun => {
                bytes[..8].copy_from_slice(&[0, 1, 0, 128, 0x21, 0x12, 0xA4, 0x42]);
            }
        }
        bytes.to_vec()
    }
}

/// An IPv4 packet with a UDP datagram. The kernel writes the checksum of the header; that of UDP may be missing.
fn packet(source: SocketAddrV4, target: SocketAddrV4, content: &[u8]) -> Vec<u8> {
    let length = |headers: usize| ((content.len() + headers) as u16).to_be_bytes();
    let mut packet = Vec::with_capacity(HEADERS + content.len());
    packet.extend_from_slice(&[0x45, 0]);
    packet.extend_from_slice(&length(HEADERS));
    packet.extend_from_slice(&[0, 0, 0, 0, 64, 17, 0, 0]);
    packet.extend_from_slice(&source.ip().octets());
    packet.extend_from_slice(&target.ip().octets());
    packet.extend_from_slice(&source.port().to_be_bytes());
    packet.extend_from_slice(&target.port().to_be_bytes());
    packet.extend_from_slice(&length(8));
    packet.extend_from_slice(&[0, 0]);
    packet.extend_from_slice(content);
    packet
}

struct RawSocket(OwnedFd);

impl RawSocket {
    fn open() -> io::Result<Self> {
        #[allow(unsafe_code, reason = "raw sockets are not in the standard library")]
        // SAFETY: the call takes no pointers; the descriptor that it returns is nobody else's.
        unsafe {
            let fd = libc::socket(
                libc::AF_INET,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC,
                libc::IPPROTO_RAW,
            );
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(Self(OwnedFd::from_raw_fd(fd)))
        }
    }

    /// Sends packets to a host; those for which there is no room are lost, as on any link.
    fn send(&self, packets: &[Vec<u8>], to: Ipv4Addr) -> io::Result<()> {
        let mut name = libc::sockaddr_in {
            sin_family: libc::AF_INET as libc::sa_family_t,
            sin_port: 0,
            sin_addr: libc::in_addr {
                s_addr: u32::from(to).to_be(),
            },
            sin_zero: [0; 8],
        };
        let mut pieces: Vec<libc::iovec> = packets
            .iter()
            .map(|packet| libc::iovec {
                iov_base: packet.as_ptr().cast_mut().cast(),
                iov_len: packet.len(),
            })
            .collect();
        let name: *mut libc::sockaddr_in = &mut name;
        let mut messages: Vec<libc::mmsghdr> = pieces
            .iter_mut()
            .map(|piece| {
                #[allow(unsafe_code, reason = "the structure has private padding")]
                // SAFETY: a message of zeros is one without name, pieces and control data.
                let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
                message.msg_hdr.msg_name = name.cast();
                message.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
                message.msg_hdr.msg_iov = piece;
                message.msg_hdr.msg_iovlen = 1;
                message
            })
            .collect();
        #[allow(unsafe_code, reason = "many packets in one system call")]
        // SAFETY: name, pieces and the packets that they point at outlive the call, which only reads them.
        let sent = unsafe {
            libc::sendmmsg(
                self.0.as_raw_fd(),
                messages.as_mut_ptr(),
                messages.len() as u32,
                0,
            )
        };
        match sent {
            0.. => Ok(()),
            _ => match io::Error::last_os_error() {
                full if full.raw_os_error() == Some(libc::ENOBUFS) => Ok(()),
                error => Err(error),
            },
        }
    }
}
