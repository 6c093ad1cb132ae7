//! How does multicast DNS (RFC 6762) carry an announcement? As much of it as one service takes: our answers, our question, and
//! what others answered to that. Everything else in a packet is skipped.
//!
//! An instance's name is a keyed hash, so nobody else can have it and none is probed for (RFC 6762, 8.1).

mod writer;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use self::writer::Writer;

/// The service type, as labels.
pub const SERVICE: [&str; 3] = ["_meshd", "_udp", "local"];
/// The name under which browsers ask for all types (RFC 6763, 9).
const ALL_TYPES: [&str; 4] = ["_services", "_dns-sd", "_udp", "local"];
/// UDP port of multicast DNS.
pub const PORT: u16 = 5353;
/// Its IPv4 group.
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
/// Its IPv6 group.
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
/// The longest packet that is read (RFC 6762, 17).
pub const MAX_PACKET: usize = 9_000;
/// How long what we say holds, in seconds: the RFC's for records with an address.
pub const TTL: u32 = 120;

/// More questions or records of one packet are not looked at: 8 kB hold no more of a useful size.
const MAX_ENTRIES: usize = 128;
/// A name's longest form, and its longest label (RFC 1035, 2.3.4).
const MAX_NAME: usize = 255;
const MAX_LABEL: usize = 63;
/// Strings in a TXT record that are put together: more than the longest seal needs.
const MAX_PARTS: usize = 16;
/// What one string holds behind its key and the equals sign.
const PART: usize = 253;

const A: u16 = 1;
const PTR: u16 = 12;
const TXT: u16 = 16;
const AAAA: u16 = 28;
const SRV: u16 = 33;
const ANY: u16 = 255;
const INTERNET: u16 = 1;
/// In a record: what was known under this name before holds no more. In a question: an answer to us alone would do.
const TOP_BIT: u16 = 0x8000;
const IS_RESPONSE: u16 = 0x8000;
const AUTHORITATIVE: u16 = 0x0400;
const OPCODE: u16 = 0x7800;

/// Our instance on one interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its name, which is also that of its host.
    pub instance: String,
    /// The UDP port.
    pub port: u16,
    /// The host's addresses on this interface.
    pub addresses: Vec<IpAddr>,
    /// What members can open.
    pub sealed: Vec<u8>,
}

/// What others said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// Somebody wants our answer.
    Question,
    /// Instances with what is in their TXT records.
    Answer(Vec<(String, Vec<u8>)>),
    /// Nothing for us.
    Other,
}

/// The question for all instances. `known` are those whose answers are not needed (RFC 6762, 7.1).
pub fn question(known: &[String]) -> Vec<u8> {
    let known = known.iter().take(MAX_ENTRIES / 2);
    let answers = u16::try_from(known.len()).unwrap_or_default();
    let mut writer = Writer::new(0, [1, answers, 0, 0]);
    writer.name(&SERVICE);
    writer.u16(PTR);
    writer.u16(INTERNET);
    for instance in known {
        writer.pointer(instance, TTL);
    }
    writer.bytes
}

impl Service {
    /// All that there is to say: who asks for one record needs the others next.
    pub fn answer(&self) -> Vec<u8> {
        let hosts = u16::try_from(self.addresses.len()).unwrap_or_default();
        let mut writer = Writer::new(IS_RESPONSE | AUTHORITATIVE, [0, 4 + hosts, 0, 0]);
        writer.pointer(&self.instance, TTL);
        let [service, udp, local] = SERVICE;
        let instance = [self.instance.as_str(), service, udp, local];
        let host = [self.instance.as_str(), local];
        writer.record(&instance, (SRV, TOP_BIT), TTL, |writer| {
            // Priority and weight.
            writer.u16(0);
            writer.u16(0);
            writer.u16(self.port);
            writer.name(&host);
        });
        writer.record(&instance, (TXT, TOP_BIT), TTL, |writer| {
            writer.string(b"v=1");
            for (key, part) in (b'a'..).zip(self.sealed.chunks(PART).take(MAX_PARTS)) {
                writer.string(&[&[key, b'='], part].concat());
            }
        });
        for address in &self.addresses {
            match address {
                IpAddr::V4(address) => writer.record(&host, (A, TOP_BIT), TTL, |writer| {
                    writer.bytes.extend_from_slice(&address.octets());
                }),
                IpAddr::V6(address) => writer.record(&host, (AAAA, TOP_BIT), TTL, |writer| {
                    writer.bytes.extend_from_slice(&address.octets());
                }),
            }
        }
        writer.record(&ALL_TYPES, (PTR, 0), TTL, |writer| writer.name(&SERVICE));
        writer.bytes
    }

    /// That it is gone (RFC 6762, 10.1).
    pub fn goodbye(&self) -> Vec<u8> {
        let mut writer = Writer::new(IS_RESPONSE | AUTHORITATIVE, [0, 1, 0, 0]);
        writer.pointer(&self.instance, 0);
        writer.bytes
    }
}

/// Reads a packet, of which `instance` is ours.
pub fn read(packet: &[u8], instance: &str) -> Heard {
    if packet.len() > MAX_PACKET {
        return Heard::Other;
    }
    let mut reader = Reader { packet, at: 0 };
    let heard = match reader.header() {
        Some((flags, _)) if flags & OPCODE != 0 => None,
        Some((flags, counts)) if flags & IS_RESPONSE != 0 => reader.answers(counts),
        Some((_, counts)) => reader.is_for(counts, instance),
        None => None,
    };
    heard.unwrap_or(Heard::Other)
}

/// A packet as it is read. `None` stands for a packet that ends too early or contradicts itself.
struct Reader<'a> {
    packet: &'a [u8],
    at: usize,
}

/// A record's head, with the place of its data.
struct Record<'a> {
    name: Vec<String>,
    kind: u16,
    ttl: u32,
    data: &'a [u8],
    data_at: usize,
}

impl<'a> Reader<'a> {
    /// Flags, and the numbers of questions and of records of any kind.
    fn header(&mut self) -> Option<(u16, (usize, usize))> {
        let _id = self.u16()?;
        let flags = self.u16()?;
        let [questions, answers, authorities, others] =
            [self.u16()?, self.u16()?, self.u16()?, self.u16()?].map(usize::from);
        Some((flags, (questions, answers + authorities + others)))
    }

    /// Whether one of the questions is for our instance, and the answer not known already.
    fn is_for(&mut self, (questions, records): (usize, usize), instance: &str) -> Option<Heard> {
        let mut is_for = false;
        for _ in 0..questions.min(MAX_ENTRIES) {
            let name = self.name()?;
            let kind = self.u16()?;
            let _class = self.u16()?;
            is_for |= match kind {
                PTR => is(&name, &SERVICE) || is(&name, &ALL_TYPES),
                SRV | TXT | A | AAAA | ANY => {
                    let [first, ..] = name.as_slice() else {
                        continue;
                    };
                    kind == ANY && is(&name, &SERVICE) || first == instance && is_ours(&name)
                }
                _ => false,
            };
        }
        if !is_for || questions > MAX_ENTRIES {
            return Some(Heard::Other);
        }
        // What is cut off behind the questions leaves the question.
        for _ in 0..records.min(MAX_ENTRIES) {
            let Some(record) = self.record() else { break };
            let mut at = Reader {
                packet: self.packet,
                at: record.data_at,
            };
            let is_pointer = record.kind == PTR && is(&record.name, &SERVICE);
            if is_pointer
                && record.ttl >= TTL / 2
                && at
                    .name()
                    .is_some_and(|name| name.first().is_some_and(|first| first == instance))
            {
                return Some(Heard::Other);
            }
        }
        Some(Heard::Question)
    }

    /// The TXT records of instances.
    fn answers(&mut self, (questions, records): (usize, usize)) -> Option<Heard> {
        for _ in 0..questions.min(MAX_ENTRIES) {
            self.name()?;
            self.u16()?;
            self.u16()?;
        }
        let mut found = Vec::new();
        for _ in 0..records.min(MAX_ENTRIES) {
            let Some(record) = self.record() else { break };
            let [instance, service @ ..] = record.name.as_slice() else {
                continue;
            };
            // One with no time to live says goodbye.
            if record.kind == TXT
                && record.ttl > 0
                && is(service, &SERVICE)
                && let Some(sealed) = put_together(record.data)
            {
                found.push((instance.clone(), sealed));
            }
        }
        Some(match found.is_empty() {
            true => Heard::Other,
            false => Heard::Answer(found),
        })
    }

    fn record(&mut self) -> Option<Record<'a>> {
        let name = self.name()?;
        let kind = self.u16()?;
        let _class = self.u16()?;
        let ttl = u32::from(self.u16()?) << 16 | u32::from(self.u16()?);
        let len = usize::from(self.u16()?);
        let data_at = self.at;
        let data = self.packet.get(data_at..data_at.checked_add(len)?)?;
        self.at = data_at + len;
        Some(Record {
            name,
            kind,
            ttl,
            data,
            data_at,
        })
    }

    fn u16(&mut self) -> Option<u16> {
        let bytes = self.packet.get(self.at..)?.first_chunk::<2>()?;
        self.at += 2;
        Some(u16::from_be_bytes(*bytes))
    }

    /// A name in lower case. Pointers lead back only, so none goes round.
    fn name(&mut self) -> Option<Vec<String>> {
        let mut labels = Vec::new();
        let (mut at, mut len, mut behind) = (self.at, 0, None);
        loop {
            let first = usize::from(*self.packet.get(at)?);
            match first {
                0 => {
                    self.at = behind.unwrap_or(at + 1);
                    return Some(labels);
                }
                1..=MAX_LABEL => {
                    let label = self.packet.get(at + 1..at + 1 + first)?;
                    len += 1 + first;
                    if len >= MAX_NAME {
                        return None;
                    }
                    labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
                    at += 1 + first;
                }
                0xc0.. => {
                    let to = (first & 0x3f) << 8 | usize::from(*self.packet.get(at + 1)?);
                    behind.get_or_insert(at + 2);
                    if to >= at {
                        return None;
                    }
                    at = to;
                }
                _ => return None,
            }
        }
    }
}

fn is(name: &[String], labels: &[&str]) -> bool {
    name == labels
}

/// Whether a name that begins with our instance's is that of our instance or of its host.
fn is_ours(name: &[String]) -> bool {
    let [_, behind @ ..] = name else { return false };
    let [_, _, local] = SERVICE;
    is(behind, &SERVICE) || is(behind, &[local])
}

/// The parts of a seal in the strings `a=`, `b=`, ... of a TXT record, in this order.
fn put_together(mut data: &[u8]) -> Option<Vec<u8>> {
    let mut sealed = Vec::new();
    let mut next = b'a';
    while let [len, rest @ ..] = data {
        let (string, behind) = rest.split_at_checked(usize::from(*len))?;
        data = behind;
        if let [key, b'=', part @ ..] = string
            && *key == next
            && usize::from(next - b'a') < MAX_PARTS
        {
            sealed.extend_from_slice(part);
            next += 1;
        }
    }
    (!sealed.is_empty()).then_some(sealed)
}

#[cfg(test)]
mod tests;
