//! What is a host told whose packet cannot go on as it is? That it is too long for the path: ICMP type 3 code 4 (RFC 1191),
//! ICMPv6 type 2 (RFC 4443); or that nobody has the address: ICMP type 3 code 1 (RFC 792), ICMPv6 type 1 code 3.

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, Instant},
};

use super::{checksum::Sum, ip::IpHeader};

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
/// ICMP types that are themselves errors: unreachable, source quench, redirect, time exceeded, parameter problem.
const ERRORS: [u8; 5] = [3, 4, 5, 11, 12];
/// An error of IPv4 is at most as long as every host takes (RFC 1812, section 4.3.2.3), one of IPv6 as every link does.
const LONGEST: [usize; 2] = [576, 1280];
const OFFSET: u16 = 0x1FFF;
/// Messages at once and per second: the token bucket that RFC 4443 section 2.4(f) proposes.
const BURST: u32 = 10;
const INTERVAL: Duration = Duration::from_millis(100);

/// Bounds how often something is done.
#[derive(Debug, Default)]
pub struct Limiter {
    /// Ahead of the time by as many intervals as there are tokens missing.
    spent: Option<Instant>,
}

impl Limiter {
    /// Whether it may be done now; if so it counts.
    pub fn allows(&mut self, now: Instant) -> bool {
        let spent = self.spent.map_or(now, |at| at.max(now));
        if spent.saturating_duration_since(now) > INTERVAL * (BURST - 1) {
            return false;
        }
        self.spent = Some(spent + INTERVAL);
        true
    }
}

/// Why a packet does not go on as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The path carries packets of so many bytes.
    TooBig(usize),
    /// No member has the address.
    NoSuchHost,
}

/// Messages for hosts on our side, to be written to the TUN.
#[derive(Debug, Default)]
pub struct Messages {
    waiting: VecDeque<Vec<u8>>,
    /// Of what others tell us in the same way.
    heard: Limiter,
}

impl Messages {
    /// Tells the sender of `packet` what is wrong; `router` is who says so. Limiters bound how often.
    pub fn tell(&mut self, packet: &[u8], router: IpAddr, reason: Reason) {
        if let Some(message) = message(packet, router, reason) {
            self.waiting.push_back(message);
        }
    }

    /// Whether another message of this kind that came to us is to be looked at.
    pub fn heeds(&mut self, now: Instant) -> bool {
        self.heard.allows(now)
    }

    /// The next one.
    pub fn pop(&mut self) -> Option<Vec<u8>> {
        self.waiting.pop_front()
    }
}

/// The whole message; `None` where none may be sent (RFC 1122 section 3.2.2, RFC 4443 section 2.4(e)): about errors, later
/// fragments, and to whom no single host answers.
fn message(packet: &[u8], router: IpAddr, reason: Reason) -> Option<Vec<u8>> {
    let ip = IpHeader::parse(packet)?;
    let kind = packet.get(ip.header_len);
    match (router, ip.source, ip.destination) {
        (IpAddr::V4(router), IpAddr::V4(to), IpAddr::V4(destination)) => {
            let is_error = ip.protocol == ICMP && kind.is_some_and(|kind| ERRORS.contains(kind));
            let offset = u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]) & OFFSET;
            let many = |address: Ipv4Addr| address.is_multicast() || address.is_broadcast();
            let nobody = to.is_unspecified() || many(to) || many(destination);
            (!is_error && offset == 0 && !nobody).then(|| message_v4(packet, (router, to), reason))
        }
        (IpAddr::V6(router), IpAddr::V6(to), IpAddr::V6(_)) => {
            let is_error = ip.protocol == ICMPV6 && kind.is_some_and(|kind| *kind < 128);
            let nobody = to.is_unspecified() || to.is_multicast();
            (!is_error && !nobody).then(|| message_v6(packet, (router, to), reason))
        }
        (IpAddr::V4(_) | IpAddr::V6(_), _, _) => None,
    }
}

fn message_v4(packet: &[u8], (from, to): (Ipv4Addr, Ipv4Addr), reason: Reason) -> Vec<u8> {
    let quoted = &packet[..packet.len().min(LONGEST[0] - 28)];
    let mut message = vec![0; 28];
    message[0] = 0x45;
    put(&mut message, 2, 28 + quoted.len());
    message[8] = 64;
    message[9] = ICMP;
    message[12..16].copy_from_slice(&from.octets());
    message[16..20].copy_from_slice(&to.octets());
    let sum = Sum::default().plus(&message[..20]).finish();
    put(&mut message, 10, usize::from(sum));
    let (code, mtu) = match reason {
        Reason::TooBig(mtu) => (4, mtu),
        Reason::NoSuchHost => (1, 0),
    };
    message[20..22].copy_from_slice(&[3, code]);
    put(&mut message, 26, mtu);
    message.extend_from_slice(quoted);
    let sum = Sum::default().plus(&message[20..]).finish();
    put(&mut message, 22, usize::from(sum));
    message
}

fn message_v6(packet: &[u8], (from, to): (Ipv6Addr, Ipv6Addr), reason: Reason) -> Vec<u8> {
    let quoted = &packet[..packet.len().min(LONGEST[1] - 48)];
    let mut message = vec![0; 48];
    message[0] = 0x60;
    put(&mut message, 4, 8 + quoted.len());
    message[6] = ICMPV6;
    message[7] = 64;
    message[8..24].copy_from_slice(&from.octets());
    message[24..40].copy_from_slice(&to.octets());
    let (kind, mtu) = match reason {
        Reason::TooBig(mtu) => ([2, 0], mtu),
        Reason::NoSuchHost => ([1, 3], 0),
    };
    message[40..42].copy_from_slice(&kind);
    put(&mut message, 46, mtu);
    message.extend_from_slice(quoted);
    let sum = Sum::default()
        .add_pseudo_header(from.into(), to.into(), ICMPV6, message.len() - 40)
        .plus(&message[40..])
        .finish();
    put(&mut message, 42, usize::from(sum));
    message
}

fn put(bytes: &mut [u8], at: usize, value: usize) {
    let value = u16::try_from(value).unwrap_or(u16::MAX);
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(len: usize) -> Vec<u8> {
        let mut packet = vec![7; len];
        packet[..20].fill(0);
        packet[0] = 0x45;
        put(&mut packet, 2, len);
        packet[9] = 17;
        packet[12..20].copy_from_slice(&[10, 100, 0, 1, 10, 100, 0, 2]);
        packet
    }

    fn v6(len: usize) -> Vec<u8> {
        let mut packet = vec![7; len];
        packet[..40].fill(0);
        packet[0] = 0x60;
        put(&mut packet, 4, len - 40);
        packet[6] = 17;
        packet[8..24].fill(0xFD);
        packet[24..40].fill(0xFC);
        packet
    }

    #[test]
    fn the_sender_is_told_the_mtu_with_the_beginning_of_its_packet() {
        let packet = v4(1400);
        let router = IpAddr::from([10, 100, 0, 2]);
        let told = message(&packet, router, Reason::TooBig(1220)).unwrap();
        let ip = IpHeader::parse(&told).unwrap();
        assert_eq!(
            (ip.source, ip.destination),
            (router, [10, 100, 0, 1].into())
        );
        assert_eq!((ip.protocol, told.len()), (ICMP, 576));
        assert_eq!(told[20..22], [3, 4]);
        assert_eq!(told[26..28], 1220_u16.to_be_bytes());
        assert_eq!(told[28..], packet[..548]);
        for part in [&told[..20], &told[20..]] {
            assert_eq!(Sum::default().plus(part).finish(), 0);
        }
    }

    #[test]
    fn over_ipv6_likewise() {
        let packet = v6(1400);
        let router = IpAddr::from([0xFC; 16]);
        let told = message(&packet, router, Reason::TooBig(1300)).unwrap();
        let ip = IpHeader::parse(&told).unwrap();
        assert_eq!((ip.source, ip.destination), (router, [0xFD; 16].into()));
        assert_eq!((ip.protocol, told.len()), (ICMPV6, 1280));
        assert_eq!(told[40..42], [2, 0]);
        assert_eq!(told[44..48], 1300_u32.to_be_bytes());
        assert_eq!(told[48..], packet[..1232]);
        let sum = Sum::default()
            .add_pseudo_header(ip.source, ip.destination, ICMPV6, told.len() - 40)
            .plus(&told[40..]);
        assert_eq!(sum.finish(), 0);
    }

    #[test]
    fn nobody_is_told_about_errors_later_fragments_or_groups() {
        let router = IpAddr::from([10, 100, 0, 2]);
        let change: [fn(&mut Vec<u8>); 5] = [
            |packet| (packet[9], packet[20]) = (ICMP, 3),
            |packet| packet[7] = 1,
            |packet| packet[16] = 224,
            |packet| packet[12..16].fill(0),
            |packet| packet.truncate(19),
        ];
        for change in change {
            let mut packet = v4(1400);
            change(&mut packet);
            assert_eq!(message(&packet, router, Reason::TooBig(1220)), None);
        }
        let mut echo = v4(1400);
        (echo[9], echo[20]) = (ICMP, 8);
        assert!(message(&echo, router, Reason::TooBig(1220)).is_some());
        let mut error = v6(1400);
        (error[6], error[40]) = (ICMPV6, 2);
        assert_eq!(
            message(&error, [0xFC; 16].into(), Reason::TooBig(1300)),
            None
        );
        assert_eq!(
            message(&v6(1400), router, Reason::TooBig(1300)),
            None,
            "of another version"
        );
    }

    #[test]
    fn an_address_that_nobody_has_is_unreachable() {
        let told = message(&v4(1400), [10, 100, 0, 2].into(), Reason::NoSuchHost).unwrap();
        assert_eq!(told[20..22], [3, 1]);
        assert_eq!(told[24..28], [0; 4]);
        let told = message(&v6(1400), [0xFC; 16].into(), Reason::NoSuchHost).unwrap();
        assert_eq!(told[40..42], [1, 3]);
        assert_eq!(told[44..48], [0; 4]);
    }

    #[test]
    fn ten_at_once_and_ten_a_second() {
        let (mut limiter, now) = (Limiter::default(), Instant::now());
        assert_eq!((0..50).filter(|_| limiter.allows(now)).count(), 10);
        let ticks = (0..1000).map(|tick| now + Duration::from_millis(tick));
        assert_eq!(ticks.filter(|at| limiter.allows(*at)).count(), 9);
        let later = now + Duration::from_secs(10);
        assert_eq!((0..50).filter(|_| limiter.allows(later)).count(), 10);
    }
}
