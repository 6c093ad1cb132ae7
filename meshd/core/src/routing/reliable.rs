//! Which of our messages has a neighbour got, and which of its own have come to us?
//!
//! Not messages are repeated but what they said, as it is by then: a message that was lost is forgotten, and what it was about is
//! due again. So nothing old is ever said late.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use mesh_wire::routing::Ack;

/// Messages under way at once. An acknowledgement names 33, and a burst of them must not fill a link's queue.
const WINDOW: usize = 16;
/// A message counts as lost after three round trips, and never sooner than this.
const MIN_TIMEOUT: Duration = Duration::from_millis(100);
/// However often it was lost; a neighbour that hears nothing at all is given up by others.
const MAX_TIMEOUT: Duration = Duration::from_secs(1);
/// How much longer each further loss has the next one wait, in tenths.
const BACKOFF: u32 = 13;

/// What a message was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Topic {
    /// Our route to a member.
    Route(u32),
    /// Our request for a newer sequence number of a member.
    Request(u32),
}

/// Messages on their way to one neighbour.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    last: u32,
    flying: BTreeMap<u32, (Instant, Vec<Topic>)>,
    losses: u32,
}

impl Outbound {
    /// Whether one more may be sent.
    pub(super) fn has_room(&self) -> bool {
        self.flying.len() < WINDOW
    }

    /// The number of a message about these, sent now.
    pub(super) fn number(&mut self, topics: Vec<Topic>, now: Instant) -> u32 {
        // Numbers begin anew after 4 billion messages; 0 has a meaning of its own.
        self.last = self.last.wrapping_add(1).max(1);
        self.flying.insert(self.last, (now, topics));
        self.last
    }

    /// What the neighbour has got now, with the numbers of the messages.
    pub(super) fn acknowledged(&mut self, ack: Ack) -> Vec<(u32, Vec<Topic>)> {
        let before = (0..32).filter(|bit| ack.before >> bit & 1 == 1);
        let numbers =
            std::iter::once(ack.newest).chain(before.map(|bit| ack.newest.wrapping_sub(1 + bit)));
        let got: Vec<_> = numbers
            .filter_map(|number| Some((number, self.flying.remove(&number)?.1)))
            .collect();
        if !got.is_empty() {
            self.losses = 0;
        }
        got
    }

    /// What must be said again, since nothing was heard of the messages that said it.
    pub(super) fn lost(&mut self, rtt: Duration, now: Instant) -> Vec<(u32, Vec<Topic>)> {
        let timeout = self.timeout(rtt);
        let lost: Vec<_> = self
            .flying
            .extract_if(.., |_, (sent, _)| *sent + timeout <= now)
            .map(|(number, (_, topics))| (number, topics))
            .collect();
        if !lost.is_empty() {
            self.losses += 1;
        }
        lost
    }

    /// When the next message will count as lost.
    pub(super) fn due(&self, rtt: Duration) -> Option<Instant> {
        let oldest = self.flying.values().map(|(sent, _)| *sent).min();
        oldest.map(|sent| sent + self.timeout(rtt))
    }

    fn timeout(&self, rtt: Duration) -> Duration {
        let mut timeout = (rtt * 3).max(MIN_TIMEOUT);
        for _ in 0..self.losses.min(16) {
            timeout = timeout * BACKOFF / 10;
        }
        timeout.min(MAX_TIMEOUT.max(rtt * 3))
    }
}

/// Messages that have come from one neighbour.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    ack: Ack,
}

impl Inbound {
    /// Takes one down.
    pub(super) fn came(&mut self, number: u32) {
        let Ack { newest, before } = self.ack;
        let ahead = number.wrapping_sub(newest);
        if newest == 0 {
            self.ack.newest = number;
        } else if ahead != 0 && ahead < 1 << 31 {
            let moved = before.checked_shl(ahead).unwrap_or(0);
            self.ack.newest = number;
            self.ack.before = moved | 1_u32.checked_shl(ahead - 1).unwrap_or(0);
        } else if let Some(behind) = newest.wrapping_sub(number).checked_sub(1) {
            self.ack.before |= 1_u32.checked_shl(behind).unwrap_or(0);
        }
    }

    /// Which have come.
    pub(super) fn ack(&self) -> Ack {
        self.ack
    }
}

/// Whether message `new` was sent after `old`, counted round the end.
pub(super) fn is_later(new: u32, old: u32) -> bool {
    let ahead = new.wrapping_sub(old);
    ahead != 0 && ahead < 1 << 31
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn what_came_is_acknowledged_in_any_order() {
        let mut inbound = Inbound::default();
        for number in [3, 1, 4, 40, 39, 8] {
            inbound.came(number);
        }
        assert_eq!(inbound.ack().newest, 40);
        let named: Vec<u32> = (0..32)
            .filter(|bit| inbound.ack().before >> bit & 1 == 1)
            .collect();
        // 39 and 8; what is more than 32 behind is too old to be named.
        assert_eq!(named, [0, 31]);
    }

    #[test]
    fn what_is_not_acknowledged_in_time_is_due_again_and_later_each_time() {
        let now = Instant::now();
        let mut outbound = Outbound::default();
        let (one, two) = (Topic::Route(1), Topic::Request(2));
        assert_eq!(outbound.number(vec![one], now), 1);
        assert_eq!(outbound.number(vec![two], now), 2);
        let ack = Ack {
            newest: 2,
            before: 0,
        };
        assert_eq!(outbound.acknowledged(ack), [(2, vec![two])]);
        assert_eq!(outbound.acknowledged(ack), []);
        assert_eq!(outbound.due(40 * MS), Some(now + 120 * MS));
        assert_eq!(outbound.lost(40 * MS, now + 119 * MS), []);
        assert_eq!(outbound.lost(40 * MS, now + 120 * MS), [(1, vec![one])]);
        outbound.number(vec![one], now);
        assert_eq!(outbound.due(40 * MS), Some(now + 156 * MS));
    }

    #[test]
    fn no_more_than_an_acknowledgement_can_name_is_under_way() {
        let mut outbound = Outbound::default();
        while outbound.has_room() {
            outbound.number(Vec::new(), Instant::now());
        }
        assert_eq!(outbound.flying.len(), WINDOW);
    }
}
