//! How are neighbouring packets of a flow merged into one super-packet (GRO), so that the kernel
//! takes some forty packets in one system call? Pure code: packets in, frames with a virtio
//! header (virtio 1.2, 5.1.6) out.

use super::{
    VNET_HEADER, checksum,
    segment::{Flow, Layout, Parsed, Transport, parse},
};

/// Frames held at most. One batch of decrypted datagrams seldom has more flows; each costs up to
/// 64 KiB, so this bounds the memory to 4 MiB.
const MAX_FRAMES: usize = 64;

/// Longest IP packet that its length field can tell.
const MAX_PACKET: usize = 65_535;

/// Linux refuses more segments in one UDP super-packet (`UDP_MAX_SEGMENTS` before 6.9).
const MAX_DATAGRAMS: usize = 64;

const NEEDS_CHECKSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;

/// Which super-packets the device takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Merge {
    /// TCP segments of IPv4 and IPv6.
    pub tcp: bool,
    /// UDP datagrams of IPv4 and IPv6.
    pub udp: bool,
}

/// Collects packets and merges those that belong together. Packets of one flow never change their
/// order; what cannot be merged goes out as it came, behind an all-zero header. Buffers are kept
/// for reuse, so nothing is allocated per packet once it has seen traffic.
#[derive(Debug)]
pub struct Coalescer {
    merge: Merge,
    /// The first `used` are filled, in the order in which they will be written.
    frames: Vec<Pending>,
    used: usize,
    /// Indices of the frames that may still grow; at most one per flow.
    open: Vec<usize>,
}

/// One frame to write: [`VNET_HEADER`] bytes and one IP packet.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// Header and packet.
    pub bytes: &'a [u8],
    /// IP packets merged into it.
    pub packets: usize,
}

impl Coalescer {
    /// An empty one that merges what `merge` allows.
    pub fn new(merge: Merge) -> Self {
        Self {
            merge,
            frames: Vec::with_capacity(MAX_FRAMES),
            used: 0,
            open: Vec::with_capacity(MAX_FRAMES),
        }
    }

    /// Takes a copy of one plain IP packet. False if there is no room, then nothing was taken and
    /// the frames must be written first; an empty coalescer always has room.
    #[must_use]
    pub fn push(&mut self, packet: &[u8]) -> bool {
        let parsed = self.restrict(parse(packet));
        if let (Some(flow), Some(layout)) = (parsed.flow, parsed.layout) {
            let found = (0..self.open.len())
                .rev()
                .find(|i| self.frames[self.open[*i]].flow.as_ref() == Some(&flow));
            if let Some(position) = found {
                match self.frames[self.open[position]].append(packet, layout) {
                    Appended::Open => return true,
                    Appended::Closed => {
                        self.open.swap_remove(position);
                        return true;
                    }
                    Appended::Refused => {}
                }
            }
        }
        self.start(packet, parsed)
    }

    /// True if nothing is waiting to be written.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Completes the headers and gives the frames in the order in which they must be written.
    /// [`Coalescer::clear`] forgets them.
    pub fn finish(&mut self) -> impl Iterator<Item = Frame<'_>> {
        self.open.clear();
        let filled = &mut self.frames[..self.used];
        filled.iter_mut().for_each(Pending::seal);
        filled.iter().map(|pending| Frame {
            bytes: &pending.frame,
            packets: pending.packets,
        })
    }

    /// Forgets what was collected and keeps the buffers.
    pub fn clear(&mut self) {
        self.used = 0;
        self.open.clear();
    }

    fn restrict(&self, mut parsed: Parsed) -> Parsed {
        parsed.layout = parsed.layout.filter(|layout| match layout.transport {
            Transport::Tcp => self.merge.tcp,
            Transport::Udp => self.merge.udp,
        });
        parsed
    }

    /// Begins a new frame, after which no older frame of the flow may grow.
    fn start(&mut self, packet: &[u8], parsed: Parsed) -> bool {
        if self.used == MAX_FRAMES {
            return false;
        }
        if let Some(flow) = parsed.flow {
            let frames = &self.frames;
            self.open.retain(|index| {
                !frames[*index]
                    .flow
                    .is_some_and(|other| other.conflicts(&flow))
            });
        }
        if self.used == self.frames.len() {
            self.frames.push(Pending::default());
        }
        if self.frames[self.used].begin(packet, parsed) {
            self.open.push(self.used);
        }
        self.used += 1;
        true
    }
}

/// One frame being filled.
#[derive(Debug, Default)]
struct Pending {
    /// Room for the virtio header, then the packet with the payloads of its followers.
    frame: Vec<u8>,
    packets: usize,
    flow: Option<Flow>,
    group: Option<Group>,
}

/// What the next segment must fit.
#[derive(Debug)]
struct Group {
    layout: Layout,
    /// Payload bytes of each segment but the last.
    segment: usize,
    sequence: u32,
    identifications: Identifications,
    /// The first packet's checksums were found right. Looked at only when a second one comes.
    verified: bool,
}

/// How the IPv4 identification goes from one segment to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Identifications {
    /// Only one packet was seen.
    Open,
    /// One more each time, as the kernel makes them when it segments.
    Rising,
    /// All equal, allowed with "don't fragment" only.
    Fixed,
}

enum Appended {
    /// Merged; more may follow.
    Open,
    /// Merged; it was the last of its group.
    Closed,
    /// Not merged.
    Refused,
}

impl Pending {
    /// Fills the frame with its first packet; true if others may be merged into it.
    fn begin(&mut self, packet: &[u8], parsed: Parsed) -> bool {
        self.frame.clear();
        self.frame.extend_from_slice(&[0; VNET_HEADER]);
        self.frame.extend_from_slice(packet);
        self.packets = 1;
        self.flow = parsed.flow;
        self.group = parsed.layout.map(|layout| {
            let segment = packet.len() - layout.payload_start;
            Group {
                layout,
                segment,
                sequence: layout.sequence(packet).wrapping_add(segment as u32),
                identifications: Identifications::Open,
                verified: false,
            }
        });
        parsed
            .layout
            .is_some_and(|layout| !layout.is_pushed(packet))
    }

    fn append(&mut self, packet: &[u8], layout: Layout) -> Appended {
        let first = &self.frame[VNET_HEADER..];
        let Some(group) = &mut self.group else {
            return Appended::Refused;
        };
        let payload = &packet[layout.payload_start..];
        let fits = layout == group.layout
            && payload.len() <= group.segment
            && first.len() + payload.len() <= MAX_PACKET
            && (layout.transport == Transport::Tcp || self.packets < MAX_DATAGRAMS)
            && layout.sequence(packet) == group.next_sequence()
            && layout.agrees(first, packet);
        let Some(identifications) = fits
            .then(|| group.identifications(first, packet, self.packets))
            .flatten()
        else {
            return Appended::Refused;
        };
        group.verified = group.verified || layout.is_intact(first);
        if !group.verified || !layout.is_intact(packet) {
            return Appended::Refused;
        }
        group.identifications = identifications;
        group.sequence = group.sequence.wrapping_add(payload.len() as u32);
        let last = payload.len() < group.segment || layout.is_pushed(packet);
        self.frame.extend_from_slice(payload);
        if layout.is_pushed(packet) {
            layout.set_pushed(&mut self.frame[VNET_HEADER..]);
        }
        self.packets += 1;
        if last {
            Appended::Closed
        } else {
            Appended::Open
        }
    }

    /// Writes the virtio header, lengths and checksums of a merged packet, or the header of a lone
    /// one whose checksum is open.
    fn seal(&mut self) {
        let Some(group) = &self.group else {
            return;
        };
        let layout = group.layout;
        let (header, packet) = self.frame.split_at_mut(VNET_HEADER);
        let gso = match (layout.transport, layout.is_ipv4()) {
            _ if self.packets == 1 => GSO_NONE,
            (Transport::Tcp, true) => GSO_TCPV4,
            (Transport::Tcp, false) => GSO_TCPV6,
            (Transport::Udp, true | false) => GSO_UDP_L4,
        };
        if gso == GSO_NONE && !layout.is_open(packet) {
            return;
        }
        header[0] = NEEDS_CHECKSUM;
        header[1] = gso;
        let segment = if gso == GSO_NONE { 0 } else { group.segment };
        // A TUN header is in native byte order unless TUNSETVNETLE or TUNSETVNETBE was called.
        let fields = [
            layout.payload_start,
            segment,
            layout.transport_start,
            layout.transport.checksum_offset(),
        ];
        for (to, value) in header[2..].chunks_exact_mut(2).zip(fields) {
            to.copy_from_slice(&(value as u16).to_ne_bytes());
        }
        if gso != GSO_NONE {
            write_lengths(packet, layout);
        }
    }
}

impl Group {
    fn next_sequence(&self) -> u32 {
        match self.layout.transport {
            Transport::Tcp => self.sequence,
            Transport::Udp => 0,
        }
    }

    /// The rule for the identifications with `next` merged in, or `None` if it does not fit.
    fn identifications(&self, first: &[u8], next: &[u8], merged: usize) -> Option<Identifications> {
        // IPv6 has none.
        let (Some(first), Some(next)) = (
            self.layout.identification(first),
            self.layout.identification(next),
        ) else {
            return Some(self.identifications);
        };
        let rising = next.0 == first.0.wrapping_add(merged as u16);
        let fixed = next.0 == first.0 && first.1;
        match self.identifications {
            Identifications::Open if rising => Some(Identifications::Rising),
            Identifications::Open if fixed => Some(Identifications::Fixed),
            Identifications::Rising if rising => Some(Identifications::Rising),
            Identifications::Fixed if fixed => Some(Identifications::Fixed),
            Identifications::Open | Identifications::Rising | Identifications::Fixed => None,
        }
    }
}

/// Sets the length fields of the whole super-packet, the IPv4 header checksum, and leaves the sum
/// of the pseudo-header in the transport checksum as `NEEDS_CSUM` demands.
fn write_lengths(packet: &mut [u8], layout: Layout) {
    let start = layout.transport_start;
    let length = packet.len();
    if layout.is_ipv4() {
        packet[2..4].copy_from_slice(&(length as u16).to_be_bytes());
        packet[10..12].fill(0);
        let sum = !checksum::fold(checksum::sum(&packet[..20]));
        packet[10..12].copy_from_slice(&sum.to_ne_bytes());
    } else {
        packet[4..6].copy_from_slice(&((length - 40) as u16).to_be_bytes());
    }
    if layout.transport == Transport::Udp {
        packet[start + 4..start + 6].copy_from_slice(&((length - start) as u16).to_be_bytes());
    }
    let pseudo = checksum::fold(layout.pseudo_header(packet));
    let at = start + layout.transport.checksum_offset();
    packet[at..at + 2].copy_from_slice(&pseudo.to_ne_bytes());
}

#[cfg(test)]
mod tests;
