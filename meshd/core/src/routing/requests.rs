//! When is a member asked to give itself a newer sequence number, and how does that reach it? (RFC 8966 section 3.8)

use std::time::{Duration, Instant};

use mesh_wire::routing::SeqnoRequest;

use super::{Router, seqno::Seqno};

/// How often it is asked again while there is no route.
const REPEAT: Duration = Duration::from_millis(500);
/// The same request is not carried on twice within this time,
const DUPLICATE: Duration = Duration::from_millis(300);
/// and no more than so many, however new the numbers are that they ask for.
const CARRIED_ON: u8 = 3;
/// Links that a request crosses at most.
const HOP_LIMIT: u8 = 8;
/// How many neighbours are asked: the one with the best route that is not feasible, and the next one, as either may be wrong.
const ASKED: usize = 2;

/// The requests for one member's number that were carried on within some time.
#[derive(Debug, Clone, Copy)]
pub(super) struct CarriedOn {
    newest: Seqno,
    since: Instant,
    count: u8,
}

impl CarriedOn {
    /// With one more request, or `None` if it is not to be carried on.
    fn with(before: Option<Self>, wanted: Seqno, now: Instant) -> Option<Self> {
        let Some(before) = before.filter(|before| now < before.since + DUPLICATE) else {
            return Some(Self {
                newest: wanted,
                since: now,
                count: 1,
            });
        };
        let is_news = wanted.is_newer_than(before.newest) && before.count < CARRIED_ON;
        is_news.then_some(Self {
            newest: wanted,
            count: before.count + 1,
            ..before
        })
    }
}

impl Router {
    /// A member that is reached by nobody's feasible route, though some have one.
    pub(super) fn ask_if_starved(&mut self, member: u32, now: Instant) {
        let Some(destination) = self.destinations.get(&member) else {
            return;
        };
        let (None, Some(distance)) = (destination.selected(), destination.distance()) else {
            return;
        };
        if destination.routes.is_empty() {
            return;
        }
        if let Some(asked) = destination.asked.filter(|asked| now < *asked + REPEAT) {
            return self.review_at(member, asked + REPEAT);
        }
        let request = SeqnoRequest {
            destination: member,
            seqno: distance.seqno.next().0,
            hop_limit: HOP_LIMIT,
        };
        let mut chosen = Vec::new();
        while chosen.len() < ASKED {
            let next = self.with_costs(|costs| {
                destination.best(costs, |neighbour, _| !chosen.contains(&neighbour))
            });
            let Some((neighbour, _)) = next else { break };
            chosen.push(neighbour);
        }
        for neighbour in chosen {
            if let Some(neighbour) = self.neighbours.get_mut(&neighbour) {
                neighbour.request(request, now);
            }
        }
        if let Some(destination) = self.destinations.get_mut(&member) {
            destination.asked = Some(now);
        }
        self.review_at(member, now + REPEAT);
    }

    pub(super) fn handle_request(&mut self, from: u32, request: SeqnoRequest, now: Instant) {
        let wanted = Seqno(request.seqno);
        if request.destination == self.config.me {
            return self.renew(wanted, now);
        }
        if !self.config.relay {
            return;
        }
        let Some(destination) = self.destinations.get(&request.destination) else {
            return;
        };
        if let Some((_, route)) = destination.selected()
            && !wanted.is_newer_than(route.seqno)
        {
            if let Some(neighbour) = self.neighbours.get_mut(&from) {
                let pause = neighbour.pause(request.destination);
                neighbour.announce(request.destination, pause.unwrap_or(now).max(now), true);
            }
            return;
        }
        let Some(hop_limit) = request.hop_limit.checked_sub(1).filter(|left| *left > 0) else {
            return;
        };
        let Some(carried_on) = CarriedOn::with(destination.carried_on, wanted, now) else {
            return;
        };
        let used = destination
            .selected()
            .map(|(neighbour, _)| neighbour)
            .filter(|used| *used != from);
        let best =
            || self.with_costs(|costs| destination.best(costs, |neighbour, _| neighbour != from));
        let Some(next) = used.or_else(|| Some(best()?.0)) else {
            return;
        };
        if let Some(neighbour) = self.neighbours.get_mut(&next) {
            neighbour.request(
                SeqnoRequest {
                    hop_limit,
                    ..request
                },
                now,
            );
        }
        if let Some(destination) = self.destinations.get_mut(&request.destination) {
            destination.carried_on = Some(carried_on);
        }
    }
}
