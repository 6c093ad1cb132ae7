//! How many connections may there be, in all and from one source?
//!
//! A source is counted until one of its members has proven itself on the connection: strangers cannot use up the open
//! files of the server from a few addresses, and a home with many members is not shut out. A connection of a trusted proxy
//! is counted for whom it works for at the moment.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::rate::source_key;

/// Connections at once: at rest they take some 300 MB, at 150 kB each (buffers included) 3 GB when all are busy.
const MAX_CONNECTIONS: usize = 20_000;

/// Open files that are left to the database, the listeners, and the program that this server is a part of.
const RESERVED_FILES: u64 = 256;

/// A server that may open next to nothing still serves a home.
const MIN_CONNECTIONS: usize = 64;

/// Connections of one source that no member has proven to be its own. A daemon has two for a moment when it starts.
pub(crate) const MAX_PER_SOURCE: usize = 64;

/// Which limit a connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// All connections together.
    Server,
    /// Those of its source.
    Source,
}

/// The connections there are.
#[derive(Debug)]
pub(crate) struct Slots {
    limit: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// Only sources that have any, so no more of them than connections.
    by_source: BTreeMap<IpAddr, usize>,
}

/// A place among the connections, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Arc<Slots>,
    /// The source that it is counted for, if any.
    source: Mutex<Option<IpAddr>>,
}

/// How many connections there may be with this limit of open files.
pub(crate) fn limit(open_files: u64) -> usize {
    usize::try_from(open_files.saturating_sub(RESERVED_FILES))
        .unwrap_or(MAX_CONNECTIONS)
        .clamp(MIN_CONNECTIONS, MAX_CONNECTIONS)
}

impl Slots {
    /// Room for `limit` connections.
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            taken: Mutex::default(),
        })
    }

    /// Takes a place for a connection from `source`; an IPv6 source is its /64.
    pub(crate) fn take(self: &Arc<Self>, source: IpAddr) -> Result<Slot, Full> {
        let slot = self.take_for_nobody()?;
        slot.count_for(source)?;
        Ok(slot)
    }

    /// Takes a place that is counted for no source yet.
    pub(crate) fn take_for_nobody(self: &Arc<Self>) -> Result<Slot, Full> {
        let mut taken = self.taken();
        if taken.all >= self.limit {
            return Err(Full::Server);
        }
        taken.all += 1;
        Ok(Slot {
            slots: Arc::clone(self),
            source: Mutex::new(None),
        })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// Counts the connection for `source`, if that may have one more, and for nobody else.
    pub(crate) fn count_for(&self, source: IpAddr) -> Result<(), Full> {
        self.count_for_nobody();
        let key = source_key(source);
        let mut counted = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = self.slots.taken();
        let of_source = taken.by_source.entry(key).or_default();
        if *of_source >= MAX_PER_SOURCE {
            return Err(Full::Source);
        }
        *of_source += 1;
        *counted = Some(key);
        Ok(())
    }

    /// A member has proven that the connection is its own: it is not counted for its source any more.
    pub(crate) fn proven(&self) {
        self.count_for_nobody();
    }

    /// Counts the connection for no source, as that of a proxy that has nothing to do.
    pub(crate) fn count_for_nobody(&self) {
        let mut source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(key) = source.take() else {
            return;
        };
        let mut taken = self.slots.taken();
        if let Some(of_source) = taken.by_source.get_mut(&key) {
            *of_source -= 1;
            if *of_source == 0 {
                taken.by_source.remove(&key);
            }
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.count_for_nobody();
        self.slots.taken().all -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn take_all(slots: &Arc<Slots>, source: &str) -> Vec<Slot> {
        (0..MAX_PER_SOURCE)
            .map(|_| slots.take(ip(source)).unwrap())
            .collect()
    }

    #[test]
    fn a_source_gets_its_share_and_leaves_the_rest_to_others() {
        let slots = Slots::new(1_000);
        let mut held = take_all(&slots, "198.51.100.1");
        for same in ["198.51.100.1", "::ffff:198.51.100.1"] {
            assert_eq!(slots.take(ip(same)).unwrap_err(), Full::Source);
        }
        let _other = slots.take(ip("198.51.100.2")).unwrap();
        held.pop();
        let _again = slots.take(ip("198.51.100.1")).unwrap();
        // One host owns a whole /64.
        let _v6 = take_all(&slots, "2001:db8::1");
        assert_eq!(slots.take(ip("2001:db8::2")).unwrap_err(), Full::Source);
        let _next_network = slots.take(ip("2001:db8:0:1::1")).unwrap();
    }

    #[test]
    fn a_proven_connection_counts_for_the_server_only() {
        let slots = Slots::new(MAX_PER_SOURCE + 1);
        let held = take_all(&slots, "198.51.100.1");
        held[0].proven();
        held[0].proven();
        let last = slots.take(ip("198.51.100.1")).unwrap();
        assert_eq!(slots.take(ip("198.51.100.2")).unwrap_err(), Full::Server);
        drop((held, last));
        let taken = slots.taken();
        assert_eq!((taken.all, taken.by_source.len()), (0, 0));
    }

    #[test]
    fn a_proxys_connection_counts_for_whom_it_works_for() {
        let slots = Slots::new(1_000);
        let _held = take_all(&slots, "198.51.100.1");
        let of_proxy = slots.take_for_nobody().unwrap();
        assert_eq!(of_proxy.count_for(ip("198.51.100.1")), Err(Full::Source));
        of_proxy.count_for(ip("198.51.100.2")).unwrap();
        of_proxy.count_for(ip("198.51.100.3")).unwrap();
        let counts: Vec<_> = slots.taken().by_source.values().copied().collect();
        assert_eq!(counts, [MAX_PER_SOURCE, 1]);
        of_proxy.count_for_nobody();
        assert_eq!(slots.taken().by_source.len(), 1);
    }

    #[test]
    fn the_limit_leaves_open_files_to_the_rest_of_the_program() {
        assert_eq!(limit(1_024), 768);
        assert_eq!(limit(u64::MAX), MAX_CONNECTIONS);
        assert_eq!(limit(0), MIN_CONNECTIONS);
    }
}
