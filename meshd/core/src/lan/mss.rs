//! How long do two hosts make the segments of a new TCP connection? What their SYNs say (MSS, RFC 9293 section 3.7.1) is
//! lowered to what the path carries, so that they never learn of it by losses.

use std::net::IpAddr;

use super::ip::IpHeader;

const TCP: u8 = 6;
const SYN: u8 = 0x02;
const TCP_HEADER: usize = 20;
/// Kinds of options: end of the list, no operation, maximum segment size.
const END: u8 = 0;
const NOP: u8 = 1;
const MSS: u8 = 2;

/// Whether this is the beginning of a TCP connection. Fragments pass for what they look like; [`clamp`] tells them apart.
pub fn is_syn(packet: &[u8], ip: &IpHeader) -> bool {
    ip.protocol == TCP
        && packet
            .get(ip.header_len + 13)
            .is_some_and(|flags| flags & SYN != 0)
}

/// Lowers the MSS of a SYN so that a packet of `mtu` bytes holds a segment; its checksum must be complete, and is mended.
/// Anything else is left as it is, and so is a SYN without the option: that asks for 536 bytes.
pub fn clamp(packet: &mut [u8], ip: &IpHeader, mtu: usize) {
    let most = mtu.saturating_sub(ip.header_len + TCP_HEADER);
    let Ok(most) = u16::try_from(most) else {
        return;
    };
    if !is_syn(packet, ip) || is_later_fragment(packet, ip) {
        return;
    }
    let Some(segment) = packet.get_mut(ip.header_len..ip.total_len) else {
        return;
    };
    let Some(at) = option(segment) else {
        return;
    };
    let Some([high, low]) = segment.get_mut(at..at + 2) else {
        return;
    };
    let old = u16::from_be_bytes([*high, *low]);
    if old <= most {
        return;
    }
    [*high, *low] = most.to_be_bytes();
    // At an odd place the bytes of the field lie in two words of the sum, which is the same as swapping them.
    let swap = |value: u16| match at % 2 {
        0 => value,
        _ => value.swap_bytes(),
    };
    if let Some([high, low]) = segment.get_mut(16..18) {
        let sum = u16::from_be_bytes([*high, *low]);
        [*high, *low] = mended(sum, swap(old), swap(most)).to_be_bytes();
    }
}

fn is_later_fragment(packet: &[u8], ip: &IpHeader) -> bool {
    match ip.source {
        IpAddr::V4(_) => packet
            .get(6..8)
            .is_none_or(|field| u16::from_be_bytes([field[0], field[1]]) & 0x1FFF != 0),
        IpAddr::V6(_) => false,
    }
}

/// Where in a TCP header the value of the MSS option stands.
fn option(segment: &[u8]) -> Option<usize> {
    let end = usize::from(segment.get(12)? >> 4) * 4;
    let mut at = TCP_HEADER;
    while at < end {
        match *segment.get(at)? {
            END => return None,
            NOP => at += 1,
            MSS if *segment.get(at + 1)? == 4 && at + 4 <= end => return Some(at + 2),
            _ => {
                let len = usize::from(*segment.get(at + 1)?);
                if len < 2 {
                    return None;
                }
                at += len;
            }
        }
    }
    None
}

/// A checksum after a word of what it covers has changed (RFC 1624, equation 3).
fn mended(checksum: u16, old: u16, new: u16) -> u16 {
    let sum = u32::from(!checksum) + u32::from(!old) + u32::from(new);
    let folded = (sum & 0xFFFF) + (sum >> 16);
    let folded = (folded & 0xFFFF) + (folded >> 16);
    !u16::try_from(folded).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lan::checksum::Sum;

    /// A SYN with these options, and a right checksum.
    fn syn(options: &[u8], v6: bool) -> Vec<u8> {
        let header = if v6 { 40 } else { 20 };
        let len = header + TCP_HEADER + options.len();
        let mut packet = vec![0; len];
        if v6 {
            packet[0] = 0x60;
            packet[5] = u8::try_from(len - 40).unwrap();
            packet[6] = TCP;
            packet[8..24].fill(0xFD);
            packet[24..40].fill(0xFC);
        } else {
            packet[0] = 0x45;
            packet[3] = u8::try_from(len).unwrap();
            packet[9] = TCP;
            packet[12..20].copy_from_slice(&[10, 100, 0, 1, 10, 100, 0, 2]);
        }
        let words = u8::try_from((TCP_HEADER + options.len()) / 4).unwrap();
        packet[header + 12] = words << 4;
        packet[header + 13] = SYN;
        packet[header + TCP_HEADER..].copy_from_slice(options);
        let sum = sum(&packet);
        packet[header + 16..header + 18].copy_from_slice(&sum.to_be_bytes());
        packet
    }

    fn sum(packet: &[u8]) -> u16 {
        let ip = IpHeader::parse(packet).unwrap();
        let segment = &packet[ip.header_len..];
        Sum::default()
            .add_pseudo_header(ip.source, ip.destination, TCP, segment.len())
            .plus(segment)
            .finish()
    }

    fn clamped(options: &[u8], v6: bool, mtu: usize) -> Vec<u8> {
        let mut packet = syn(options, v6);
        let ip = IpHeader::parse(&packet).unwrap();
        clamp(&mut packet, &ip, mtu);
        assert_eq!(sum(&packet), 0, "the checksum holds");
        packet[ip.header_len + TCP_HEADER..].to_vec()
    }

    #[test]
    fn the_segment_size_is_lowered_to_what_the_path_carries_and_never_raised() {
        for (v6, mss) in [(false, 1180_u16), (true, 1160)] {
            let [high, low] = mss.to_be_bytes();
            let long = [2, 4, 5, 80, 1, 3, 3, 7];
            let lowered = [2, 4, high, low, 1, 3, 3, 7];
            assert_eq!(clamped(&long, v6, 1220), lowered);
            assert_eq!(clamped(&long, v6, usize::MAX), long);
            assert_eq!(clamped(&long, v6, 1420), long);
            let short = [2, 4, 2, 0];
            assert_eq!(clamped(&short, v6, 1220), short);
        }
    }

    #[test]
    fn the_option_is_found_behind_others_also_at_an_odd_place() {
        let odd = [1, 2, 4, 5, 80, 1, 1, 0];
        assert_eq!(clamped(&odd, false, 1220), [1, 2, 4, 4, 156, 1, 1, 0]);
        let behind = [4, 2, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0, 2, 4, 255, 255];
        assert_eq!(clamped(&behind, false, 1220)[12..], [2, 4, 4, 156]);
    }

    #[test]
    fn options_that_are_cut_short_or_lie_are_left_alone() {
        for options in [
            [2, 4, 5, 80].as_slice(),
            &[0, 2, 4, 5],
            &[3, 0, 2, 4],
            &[3, 1, 2, 4],
            &[1, 1, 1, 2],
            &[2, 3, 5, 80],
            &[9, 255, 2, 4],
        ] {
            let packet = syn(options, false);
            for cut in 20..packet.len() {
                let mut packet = packet[..cut].to_vec();
                packet[3] = u8::try_from(cut).unwrap();
                let before = packet.clone();
                let ip = IpHeader::parse(&packet).unwrap();
                clamp(&mut packet, &ip, 1220);
                assert_eq!(packet, before);
            }
        }
    }

    #[test]
    fn a_later_fragment_is_no_syn() {
        let mut packet = syn(&[2, 4, 5, 80], false);
        packet[7] = 1;
        let before = packet.clone();
        let ip = IpHeader::parse(&packet).unwrap();
        clamp(&mut packet, &ip, 1220);
        assert_eq!(packet, before);
    }
}
