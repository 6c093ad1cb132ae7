//! When does the first echo come back?

use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use netlab::Host;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Between two requests: fine enough to time a start, and little work.
const GAP: Duration = Duration::from_millis(1);
const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;

/// Sends ICMP echo requests from `host` until `target` answers one, and returns how long after
/// `start` that was. That there is no route yet, or nobody, is no error before `limit`.
pub(crate) fn first_echo(
    host: &Host,
    target: Ipv4Addr,
    start: Instant,
    limit: Duration,
) -> Result<Duration> {
    host.namespace().enter(|| -> Result<Duration> {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))
            .context("cannot open a raw ICMP socket")?;
        socket.set_read_timeout(Some(GAP))?;
        let to = SockAddr::from(SocketAddr::V4(SocketAddrV4::new(target, 0)));
        // A stray reply of another program's ping shall not count.
        let id = std::process::id() as u16;
        for sequence in 0_u16.. {
            ensure!(
                start.elapsed() < limit,
                "{target} did not answer a ping within {limit:?}"
            );
            // Until the tunnel stands there may be no route, or nobody who takes the request.
            let sent = socket.send_to(&request(id, sequence), &to);
            if sent.is_ok() && answered(&socket, target, id)? {
                break;
            }
            if sent.is_err() {
                std::thread::sleep(GAP);
            }
        }
        Ok(start.elapsed())
    })?
}

/// Reads what has come, for [`GAP`] at most.
fn answered(mut socket: &Socket, target: Ipv4Addr, id: u16) -> Result<bool> {
    let mut packet = [0; 128];
    let deadline = Instant::now() + GAP;
    while Instant::now() < deadline {
        match socket.read(&mut packet) {
            Ok(len) if is_reply(&packet[..len], target, id) => return Ok(true),
            Ok(_) => {}
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                return Ok(false);
            }
            Err(error) => return Err(error).context("cannot read from a raw ICMP socket"),
        }
    }
    Ok(false)
}

/// An echo request (RFC 792) without data.
fn request(id: u16, sequence: u16) -> [u8; 8] {
    let ([id0, id1], [seq0, seq1]) = (id.to_be_bytes(), sequence.to_be_bytes());
    let sum = u32::from(u16::from(ECHO_REQUEST) << 8) + u32::from(id) + u32::from(sequence);
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    let [sum0, sum1] = (!(folded as u16)).to_be_bytes();
    [ECHO_REQUEST, 0, sum0, sum1, id0, id1, seq0, seq1]
}

/// A raw socket delivers packets with their IPv4 header.
fn is_reply(packet: &[u8], from: Ipv4Addr, id: u16) -> bool {
    let header = packet
        .first()
        .map_or(0, |first| usize::from(first & 15) * 4);
    let source = packet.get(12..16);
    let Some(icmp) = packet.get(header..) else {
        return false;
    };
    source == Some(&from.octets())
        && icmp.first() == Some(&ECHO_REPLY)
        && icmp.get(4..6) == Some(&id.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_a_right_checksum() {
        for (id, sequence) in [(0, 0), (0xffff, 0xffff), (0x1234, 7), (0xf7ff, 1)] {
            let words = request(id, sequence);
            let words = words
                .chunks(2)
                .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
            let sum: u32 = words.sum();
            assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "{id:x} {sequence:x}");
        }
    }

    #[test]
    fn only_the_answer_of_the_target_to_us_counts() {
        let target = Ipv4Addr::new(10, 99, 0, 2);
        let mut packet = vec![0x45; 28];
        packet[12..16].copy_from_slice(&target.octets());
        packet[20] = ECHO_REPLY;
        packet[24..26].copy_from_slice(&7_u16.to_be_bytes());
        assert!(is_reply(&packet, target, 7));
        assert!(!is_reply(&packet, target, 8));
        assert!(!is_reply(&packet, Ipv4Addr::new(10, 99, 0, 3), 7));
        assert!(!is_reply(&packet[..24], target, 7));
        assert!(!is_reply(&[], target, 7));
        packet[20] = ECHO_REQUEST;
        assert!(!is_reply(&packet, target, 7));
    }
}
