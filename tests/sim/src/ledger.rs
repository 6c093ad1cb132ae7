//! Which echoes were sent over the mesh, and which came through? Judges every packet that a node delivers.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::{inner::Echo, network::HostId};

/// One echo request on its way there and back.
#[derive(Debug)]
pub struct Entry {
    from: HostId,
    to: HostId,
    request: Vec<u8>,
    sent: Instant,
    delivered: Option<Instant>,
    answered: Option<Instant>,
}

/// All echoes of a run.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: BTreeMap<u32, Entry>,
}

impl Ledger {
    /// The number that the next echo will have.
    pub fn next_id(&self) -> u32 {
        self.entries.last_key_value().map_or(1, |(id, _)| id + 1)
    }

    /// Notes a request that `from` is about to send to `to`.
    pub fn sent(&mut self, id: u32, (from, to): (HostId, HostId), request: Vec<u8>, now: Instant) {
        let entry = Entry {
            from,
            to,
            request,
            sent: now,
            delivered: None,
            answered: None,
        };
        self.entries.insert(id, entry);
    }

    /// Judges a packet that the node of `at` delivered from a datagram of `from`. Returns the reply to send, if any.
    ///
    /// # Panics
    /// If it was never sent, is not for this host, was sealed by another host than the one that sent it, was changed
    /// or comes a second time.
    pub fn delivered(
        &mut self,
        (from, at): (HostId, HostId),
        packet: &[u8],
        now: Instant,
    ) -> Option<Vec<u8>> {
        let Some(echo) = Echo::parse(packet) else {
            panic!("host {at} delivered what is no echo: {packet:?}");
        };
        let entry = self
            .entries
            .get_mut(&echo.id)
            .unwrap_or_else(|| panic!("host {at} delivered a packet that nobody sent: {echo:?}"));
        let id = echo.id;
        if echo.request {
            assert_eq!(
                (entry.from, entry.to),
                (from, at),
                "echo {id}: from whom, to whom"
            );
            assert!(packet == entry.request, "echo {id} was changed on the way");
            let again = entry.delivered.replace(now);
            assert_eq!(again, None, "echo {id} was delivered a second time");
            Some(echo.reply().packet(packet.len()))
        } else {
            assert_eq!(
                (entry.to, entry.from),
                (from, at),
                "reply {id}: from whom, to whom"
            );
            let again = entry.answered.replace(now);
            assert_eq!(again, None, "reply {id} was delivered a second time");
            None
        }
    }

    /// How long the request took to get there; `None` while it has not.
    pub fn one_way(&self, id: u32) -> Option<Duration> {
        let entry = self.entries.get(&id)?;
        Some(entry.delivered? - entry.sent)
    }

    /// How long until the reply was back; `None` while it is not.
    pub fn round_trip(&self, id: u32) -> Option<Duration> {
        let entry = self.entries.get(&id)?;
        Some(entry.answered? - entry.sent)
    }

    /// The requests without a reply.
    pub fn unanswered(&self) -> Vec<u32> {
        let open = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.answered.is_none());
        open.map(|(id, _)| *id).collect()
    }

    /// How many requests got there.
    pub fn delivered_count(&self) -> usize {
        self.entries
            .values()
            .filter(|e| e.delivered.is_some())
            .count()
    }
}
