//! What was one told of a member, and is there anything new to tell?

use std::{
    hash::Hasher as _,
    time::{Duration, Instant},
};

use mesh_wire::routing::{INFINITY, SeqnoRequest, Update};
use siphasher::sip::SipHasher13;

/// What the neighbour was last told of a member.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) told: Option<Update>,
    pub(super) sent: Option<Instant>,
    /// The message that said it, until it is acknowledged.
    pub(super) message: u32,
    /// When it is to be said again or anew.
    pub(super) due: Option<Instant>,
    /// It is to be said even if nothing has changed.
    pub(super) again: bool,
}

/// What the neighbour has last said of a member.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) message: u32,
    /// 0 if it has no route.
    pub(super) digest: u64,
}

/// What the neighbour is asked about a member.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) request: SeqnoRequest,
    /// The message that asked, 0 until there is one.
    pub(super) message: u32,
    /// When it is to be asked.
    pub(super) due: Option<Instant>,
}

impl Asked {
    /// Not asked yet.
    pub(super) fn new(request: SeqnoRequest) -> Self {
        Self {
            request,
            message: 0,
            due: None,
        }
    }
}

/// How often the neighbour is told what we hold to.
const REFRESH: Duration = Duration::from_secs(30);
/// How often it may have everything said again. It asks once for each refresh that it does not agree with.
const DUMP: Duration = Duration::from_secs(5);

/// Whether both ends agree on what was said.
#[derive(Debug)]
pub(super) struct Refresh {
    /// When the neighbour is to be told what we hold to.
    pub(super) due: Instant,
    /// When it last said that all it has announced holds.
    pub(super) fresh: Instant,
    /// When it last had everything said again.
    dumped: Option<Instant>,
}

impl Refresh {
    /// Of a neighbour that has just come up.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            due: now + REFRESH,
            fresh: now,
            dumped: None,
        }
    }

    /// Whether it is time, and if so, plans the next time.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.due <= now;
        if is_due {
            self.due = now + REFRESH;
        }
        is_due
    }

    /// Whether the neighbour may have everything said again. One that always asks gets no more than this out of us.
    pub(super) fn may_dump(&mut self, now: Instant) -> bool {
        let may = self.dumped.is_none_or(|last| now >= last + DUMP);
        if may {
            self.dumped = Some(now);
        }
        may
    }
}

/// Whether a change is worth a message: a metric that moved by less than a tenth, and by less than 10, is not.
pub(super) fn is_worth_it(old: &Update, new: &Update) -> bool {
    old.seqno != new.seqno
        || old.path != new.path
        || old.metric.abs_diff(new.metric) >= (old.metric / 10).max(10)
        || (old.metric == INFINITY) != (new.metric == INFINITY)
}

/// 0 for a retraction. Both ends must find the same, so nothing here is secret.
pub(super) fn digest(update: &Update) -> u64 {
    if update.metric == INFINITY {
        return 0;
    }
    let mut hasher = SipHasher13::new();
    hasher.write(&update.destination.to_be_bytes());
    hasher.write(&update.seqno.to_be_bytes());
    hasher.write(&update.metric.to_be_bytes());
    for member in update.path.members() {
        hasher.write(&member.to_be_bytes());
    }
    hasher.finish()
}
