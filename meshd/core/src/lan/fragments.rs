//! How does an IPv4 packet that may be fragmented cross a path that is too narrow for it? (RFC 791, section 3.2.)

use std::net::IpAddr;

use super::{checksum::Sum, ip::IpHeader};

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1FFF;
/// An option that is in all fragments has this bit in its first byte.
const COPIED: u8 = 0x80;
/// Kinds of options of one byte: end of the list, no operation.
const END: u8 = 0;
const NOP: u8 = 1;

/// Whether routers must not fragment this packet. IPv6 knows no other (RFC 8200 section 5).
pub fn is_whole(packet: &[u8], ip: &IpHeader) -> bool {
    match ip.source {
        IpAddr::V4(_) => field(packet) & DONT_FRAGMENT != 0,
        IpAddr::V6(_) => true,
    }
}

/// Whether this is a whole packet and no piece of one, as far as its first header tells.
pub fn is_unfragmented(packet: &[u8], ip: &IpHeader) -> bool {
    match ip.source {
        IpAddr::V4(_) => field(packet) & (OFFSET | MORE_FRAGMENTS) == 0,
        IpAddr::V6(_) => true,
    }
}

/// A packet, to be written in pieces.
#[derive(Debug)]
pub struct Fragments<'a> {
    header: &'a [u8],
    payload: &'a [u8],
    /// Bytes of payload in each but the last, a multiple of 8.
    size: usize,
}

impl<'a> Fragments<'a> {
    /// Pieces of at most `mtu` bytes. `None` if the packet must stay whole, or `mtu` holds no piece.
    pub fn new(packet: &'a [u8], ip: &IpHeader, mtu: usize) -> Option<Self> {
        if is_whole(packet, ip) {
            return None;
        }
        let packet = packet.get(..ip.total_len)?;
        let (header, payload) = packet.split_at_checked(ip.header_len)?;
        let size = mtu.checked_sub(ip.header_len)? / 8 * 8;
        (size > 0).then_some(Self {
            header,
            payload,
            size,
        })
    }

    /// How many pieces.
    pub fn count(&self) -> usize {
        self.payload.len().div_ceil(self.size).max(1)
    }

    /// Length of piece `index`, its header included.
    pub fn len_of(&self, index: usize) -> usize {
        let rest = self.payload.len().saturating_sub(index * self.size);
        self.header.len() + rest.min(self.size)
    }

    /// Writes piece `index` into `out`, which is [`Self::len_of`] bytes long.
    pub fn write(&self, index: usize, out: &mut [u8]) {
        let start = (index * self.size).min(self.payload.len());
        let (header, payload) = out.split_at_mut(self.header.len());
        header.copy_from_slice(self.header);
        payload.copy_from_slice(&self.payload[start..start + payload.len()]);
        if index > 0 {
            forget_options(&mut header[20..]);
        }
        let ahead = u16::try_from(start / 8).unwrap_or(OFFSET);
        let old = field(self.header);
        let offset = ((old & OFFSET) + ahead) & OFFSET;
        let last = index + 1 == self.count();
        let more = if last {
            old & MORE_FRAGMENTS
        } else {
            MORE_FRAGMENTS
        };
        let len = u16::try_from(out.len()).unwrap_or(u16::MAX);
        out[2..4].copy_from_slice(&len.to_be_bytes());
        out[6..8].copy_from_slice(&(more | offset).to_be_bytes());
        out[10..12].fill(0);
        let sum = Sum::default().plus(&out[..self.header.len()]).finish();
        out[10..12].copy_from_slice(&sum.to_be_bytes());
    }
}

/// Flags and fragment offset.
fn field(packet: &[u8]) -> u16 {
    match packet {
        [_, _, _, _, _, _, high, low, ..] => u16::from_be_bytes([*high, *low]),
        _ => DONT_FRAGMENT,
    }
}

/// Options that only the first fragment has give way to such as do nothing.
fn forget_options(mut options: &mut [u8]) {
    while let [kind, rest @ ..] = options {
        let len = match (*kind, rest.first()) {
            (END, _) => return,
            (NOP, _) => 1,
            (_, Some(len)) => usize::from(*len).max(2),
            (_, None) => 1,
        };
        let (option, behind) = std::mem::take(&mut options)
            .split_at_mut_checked(len)
            .unwrap_or_default();
        if option.first().is_some_and(|kind| kind & COPIED == 0) {
            option.fill(NOP);
        }
        options = behind;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(len: usize, options: &[u8], flags: u16) -> Vec<u8> {
        let mut packet: Vec<u8> = (0..len).map(|at| at.to_le_bytes()[0]).collect();
        let header = 20 + options.len();
        packet[..20].fill(0);
        packet[0] = 0x40 | u8::try_from(header / 4).unwrap();
        packet[2..4].copy_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
        packet[4..6].copy_from_slice(&[7, 7]);
        packet[6..8].copy_from_slice(&flags.to_be_bytes());
        packet[20..header].copy_from_slice(options);
        packet
    }

    fn cut(packet: &[u8], mtu: usize) -> Option<Vec<Vec<u8>>> {
        let ip = IpHeader::parse(packet)?;
        let fragments = Fragments::new(packet, &ip, mtu)?;
        let piece = |index| {
            let mut out = vec![0; fragments.len_of(index)];
            fragments.write(index, &mut out);
            out
        };
        Some((0..fragments.count()).map(piece).collect())
    }

    #[test]
    fn the_pieces_make_the_packet_again() {
        for (len, mtu) in [(1400, 1220), (1400, 576), (61, 28), (1400, 1400)] {
            let packet = packet(len, &[], 0);
            let pieces = cut(&packet, mtu).unwrap();
            let mut payload = Vec::new();
            for (index, piece) in pieces.iter().enumerate() {
                assert!(piece.len() <= mtu);
                assert_eq!(Sum::default().plus(&piece[..20]).finish(), 0);
                assert_eq!(piece[4..6], [7, 7]);
                assert_eq!(usize::from(field(piece) & OFFSET) * 8, payload.len());
                let last = index + 1 == pieces.len();
                assert_eq!(field(piece) & MORE_FRAGMENTS == 0, last);
                payload.extend_from_slice(&piece[20..]);
            }
            assert_eq!(payload, packet[20..]);
        }
    }

    #[test]
    fn a_piece_is_cut_again_where_it_stands_in_the_whole() {
        let pieces = cut(&packet(520, &[], MORE_FRAGMENTS | 100), 276).unwrap();
        let fields: Vec<u16> = pieces.iter().map(|piece| field(piece)).collect();
        assert_eq!(fields, [MORE_FRAGMENTS | 100, MORE_FRAGMENTS | 132]);
    }

    #[test]
    fn only_options_that_say_so_are_in_all_pieces() {
        let options = [7, 3, 4, NOP, COPIED | 20, 4, 0, 0];
        let pieces = cut(&packet(200, &options, 0), 108).unwrap();
        assert_eq!(pieces[0][20..28], options);
        assert_eq!(pieces[1][20..28], [1, 1, 1, 1, COPIED | 20, 4, 0, 0]);
        let lying = [7, 9, 4, NOP];
        assert_eq!(cut(&packet(200, &lying, 0), 108).unwrap().len(), 3);
    }

    #[test]
    fn what_must_stay_whole_does() {
        assert_eq!(cut(&packet(1400, &[], DONT_FRAGMENT), 1220), None);
        assert_eq!(cut(&packet(1400, &[], 0), 27), None);
        let mut v6 = vec![0; 60];
        v6[0] = 0x60;
        assert_eq!(cut(&v6, 50), None);
    }
}
