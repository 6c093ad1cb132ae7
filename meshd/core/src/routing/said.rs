//! What was one told of a member, and is there anything new to tell?

use std::{hash::Hasher as _, time::Instant};

use mesh_wire::routing::{INFINITY, Update};
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
