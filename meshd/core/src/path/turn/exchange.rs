//! When is a request sent again, and when is there no answer? (RFC 8489 section 6.2.1)

use std::time::{Duration, Instant};

use rand::Rng;

use crate::path::stun_index::TransactionId;

/// First retransmission. RFC 8489 asks for 500 ms by default and allows less; packets wait for the exchange.
const INITIAL_RTO: Duration = Duration::from_millis(250);
/// The pause doubles up to this, so that a server that comes back is not waited for.
const MAX_RTO: Duration = Duration::from_secs(2);
/// Requests in all, as RFC 8489's Rc: a server that is silent is given up after 10 s.
const MAX_REQUESTS: u32 = 7;

/// So many copies without an answer say that something is wrong: the third follows 750 ms after the first.
const DOUBTFUL: u32 = 3;
/// The same where nothing else does: where a fifth of all datagrams is lost, one refresh in 60 gets so far.
const DOUBTFUL_ALONE: u32 = 5;

/// One request on its way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exchange {
    /// The transaction id of all its copies.
    pub(super) id: TransactionId,
    sent: u32,
    last: Instant,
    next: Instant,
}

impl Exchange {
    /// A request that is due then.
    pub(super) fn begin(rng: &mut impl Rng, due: Instant) -> Self {
        let mut id = [0; 12];
        rng.fill_bytes(&mut id);
        Self {
            id,
            sent: 0,
            last: due,
            next: due,
        }
    }

    /// When it is due.
    pub(super) fn due(&self) -> Instant {
        self.next
    }

    /// Counts a copy that is sent now; false if there were enough of them.
    pub(super) fn send(&mut self, now: Instant) -> bool {
        if self.sent == MAX_REQUESTS {
            return false;
        }
        let pause = INITIAL_RTO * (1 << self.sent);
        self.sent += 1;
        self.last = now;
        self.next = now + pause.min(MAX_RTO);
        true
    }

    /// Whether an answer should have come by now; sooner if there was `doubt` before it was asked.
    pub(super) fn is_doubtful(&self, doubt: bool) -> bool {
        let enough = if doubt { DOUBTFUL } else { DOUBTFUL_ALONE };
        self.sent >= enough
    }

    /// The round-trip time, if its answer comes now and belongs to the last copy.
    pub(super) fn round_trip(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.last)
    }
}
