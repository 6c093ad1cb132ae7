//! How is a packet of multicast DNS put together?

use super::{INTERNET, PTR, SERVICE};

/// A packet as it grows.
pub(super) struct Writer {
    pub(super) bytes: Vec<u8>,
    /// Names that stand in it, and where.
    names: Vec<(Vec<String>, u16)>,
}

impl Writer {
    pub(super) fn new(flags: u16, counts: [u16; 4]) -> Self {
        let mut writer = Self {
            bytes: Vec::new(),
            names: Vec::new(),
        };
        writer.u16(0);
        writer.u16(flags);
        counts.iter().for_each(|count| writer.u16(*count));
        writer
    }

    pub(super) fn u16(&mut self, number: u16) {
        self.bytes.extend_from_slice(&number.to_be_bytes());
    }

    /// At most 255 bytes, with their number in front.
    pub(super) fn string(&mut self, bytes: &[u8]) {
        self.bytes
            .push(u8::try_from(bytes.len()).unwrap_or(u8::MAX));
        self.bytes.extend(bytes.iter().take(usize::from(u8::MAX)));
    }

    /// A name, whose end may stand in the packet already (RFC 1035, 4.1.4).
    pub(super) fn name(&mut self, labels: &[&str]) {
        let mut rest = labels;
        while let [label, behind @ ..] = rest {
            if let Some((_, at)) = self.names.iter().find(|(name, _)| name == rest) {
                return self.u16(0xc000 | at);
            }
            if let Some(at) = u16::try_from(self.bytes.len())
                .ok()
                .filter(|at| *at < 0x4000)
            {
                let name = rest.iter().map(|label| (*label).to_owned());
                self.names.push((name.collect(), at));
            }
            self.string(label.as_bytes());
            rest = behind;
        }
        self.bytes.push(0);
    }

    pub(super) fn record(
        &mut self,
        name: &[&str],
        (kind, bit): (u16, u16),
        ttl: u32,
        data: impl FnOnce(&mut Self),
    ) {
        self.name(name);
        self.u16(kind);
        self.u16(INTERNET | bit);
        self.bytes.extend_from_slice(&ttl.to_be_bytes());
        let at = self.bytes.len();
        self.u16(0);
        data(self);
        let len = u16::try_from(self.bytes.len() - at - 2).unwrap_or(u16::MAX);
        if let Some(place) = self.bytes.get_mut(at..at + 2) {
            place.copy_from_slice(&len.to_be_bytes());
        }
    }

    /// That the service has this instance.
    pub(super) fn pointer(&mut self, instance: &str, ttl: u32) {
        let [service, udp, local] = SERVICE;
        self.record(&SERVICE, (PTR, 0), ttl, |writer| {
            writer.name(&[instance, service, udp, local]);
        });
    }
}
