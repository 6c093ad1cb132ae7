//! Does what one machine sends to another over TCP and UDP arrive as it was sent, to the last byte?

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::socket::{setsockopt, sockopt};

use crate::{Daemon, Host};

/// Enough for a datagram or a segment on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(10);
/// Enough for some MB, not for a stream that lives on retransmissions.
const STREAM_LIMIT: Duration = Duration::from_secs(30);
/// Holds every batch that a test sends before it reads: nothing is lost for want of room.
const RECEIVE_BUFFER: usize = 8 << 20;
/// Any free port: a program that was just started may still hold the one of the connection before.
const ANY: (Ipv4Addr, u16) = (Ipv4Addr::UNSPECIFIED, 0);
/// The greatest UDP payload over IPv4.
const LARGEST_DATAGRAM: usize = 65_507;

/// A way from one machine to another.
#[derive(Debug)]
pub struct Traffic<'a> {
    from: &'a Host,
    to: &'a Host,
    target: Ipv4Addr,
}

impl<'a> Traffic<'a> {
    /// From one member to another, by virtual address.
    pub fn between(from: &'a Daemon, to: &'a Daemon) -> Result<Self> {
        Ok(Self::through(from.host(), to.host(), to.ip()?))
    }

    /// To `target`, every port of which leads to the same port of `to`.
    pub fn through(from: &'a Host, to: &'a Host, target: Ipv4Addr) -> Self {
        Self { from, to, target }
    }

    /// A TCP connection: the near end, then the far end.
    pub fn connect(&self) -> Result<(TcpStream, TcpStream)> {
        let listener = self.to.namespace().enter(|| TcpListener::bind(ANY))??;
        let target = (self.target, listener.local_addr()?.port());
        let near = self.from.namespace().enter(|| TcpStream::connect(target))?;
        let near = near.with_context(|| format!("connect to {target:?}"))?;
        let (far, _) = listener.accept()?;
        for stream in [&near, &far] {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
        }
        Ok((near, far))
    }

    /// Sends `pieces` of those lengths over one TCP connection, a write for each, to the far end and back at the same
    /// time; both streams must arrive whole.
    pub fn stream(&self, pieces: &[usize]) -> Result<()> {
        let (near, far) = self.connect()?;
        let carried: Result<()> = std::thread::scope(|scope| {
            let both = [(&near, &far, 1), (&far, &near, 2)];
            let halves = both.map(|(from, to, seed)| {
                let writer = scope.spawn(move || write_pieces(from, pieces, seed));
                let reader = scope.spawn(move || read_pieces(to, pieces, seed));
                [writer, reader]
            });
            for half in halves.into_iter().flatten() {
                half.join().map_err(|_| anyhow!("a thread panicked"))??;
            }
            Ok(())
        });
        carried.with_context(|| format!("TCP from {} to {}", self.from.name(), self.to.name()))
    }

    /// Sends datagrams of those lengths before any is read; all must arrive, in order and unchanged, and so must the
    /// same ones on their way back.
    pub fn datagrams(&self, lengths: &[usize]) -> Result<()> {
        let (near, far) = self.sockets()?;
        let sent: Vec<Vec<u8>> = lengths.iter().map(|len| pattern(*len, *len)).collect();
        for datagram in &sent {
            near.send(datagram)?;
        }
        let peer = receive(&far, &sent)?;
        for datagram in &sent {
            far.send_to(datagram, peer)?;
        }
        receive(&near, &sent).map(|_| ())
    }

    /// As [`Self::datagrams`] with all that `total` bytes make in pieces of `size`, cut by the kernel (UDP_SEGMENT),
    /// in one direction.
    pub fn cut_datagrams(&self, total: usize, size: usize) -> Result<()> {
        let (near, far) = self.sockets()?;
        let whole = pattern(total, size);
        setsockopt(&near, sockopt::UdpGsoSegment, &i32::try_from(size)?)?;
        near.send(&whole).context("send with UDP_SEGMENT")?;
        let expected: Vec<Vec<u8>> = whole.chunks(size).map(<[u8]>::to_vec).collect();
        receive(&far, &expected).map(|_| ())
    }

    /// A connected socket at the near end and a bound one at the far end.
    fn sockets(&self) -> Result<(UdpSocket, UdpSocket)> {
        let far = self.to.namespace().enter(|| UdpSocket::bind(ANY))??;
        let near = self.from.namespace().enter(|| UdpSocket::bind(ANY))??;
        near.connect((self.target, far.local_addr()?.port()))?;
        for socket in [&near, &far] {
            setsockopt(socket, sockopt::RcvBufForce, &RECEIVE_BUFFER)?;
            socket.set_read_timeout(Some(PATIENCE))?;
        }
        Ok((near, far))
    }
}

/// Bytes that repeat at no length of a packet, and differ from seed to seed.
fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len as u64)
        .map(|at| ((at + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15 + 2 * seed as u64) >> 56) as u8)
        .collect()
}

fn write_pieces(mut stream: &TcpStream, pieces: &[usize], seed: usize) -> Result<()> {
    let whole = pattern(pieces.iter().sum(), seed);
    let mut rest = whole.as_slice();
    for len in pieces {
        let (piece, behind) = rest.split_at(*len);
        stream.write_all(piece).context("write")?;
        rest = behind;
    }
    Ok(())
}

fn read_pieces(mut stream: &TcpStream, pieces: &[usize], seed: usize) -> Result<()> {
    let expected = pattern(pieces.iter().sum(), seed);
    let deadline = Instant::now() + STREAM_LIMIT;
    let mut buffer = vec![0; 1 << 16];
    let mut rest = expected.as_slice();
    while !rest.is_empty() {
        let at = expected.len() - rest.len();
        let len = stream.read(&mut buffer).context("read")?;
        ensure!(
            len > 0 && Instant::now() < deadline,
            "the stream ends, or is slow, behind {at} bytes"
        );
        ensure!(
            rest.starts_with(&buffer[..len]),
            "the stream is wrong behind {at} bytes"
        );
        rest = &rest[len..];
    }
    Ok(())
}

/// Reads those datagrams; returns who sent the last one.
fn receive(socket: &UdpSocket, expected: &[Vec<u8>]) -> Result<SocketAddr> {
    let mut buffer = vec![0; LARGEST_DATAGRAM];
    let mut sender = None;
    for (number, datagram) in expected.iter().enumerate() {
        let (len, from) = socket.recv_from(&mut buffer).with_context(|| {
            let len = datagram.len();
            format!("datagram {number}, of {len} bytes, has not come")
        })?;
        ensure!(
            buffer[..len] == datagram[..],
            "datagram {number} came as {len} bytes, sent were {} others",
            datagram.len()
        );
        sender = Some(from);
    }
    sender.context("no datagram was expected")
}
