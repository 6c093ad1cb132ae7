//! Which routes to one member are there, which of them are feasible, and which one is used?

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use mesh_wire::{
    relay::Path,
    routing::{INFINITY, Update},
};

use super::{
    metric::{is_clearly_better, through},
    requests::CarriedOn,
    seqno::Seqno,
};

/// How long another route must have been clearly better before a working one is left for it.
const BETTER_FOR: Duration = Duration::from_secs(5);

/// The least metric that we have announced under a sequence number (RFC 8966 section 3.5.1). At one sequence number it never
/// grows. That, and that it is lowered before a metric is announced, is why no loop can form: see `docs/ROUTING.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FeasibilityDistance {
    /// The destination's sequence number.
    pub(super) seqno: Seqno,
    /// The least metric.
    pub(super) metric: u16,
}

impl FeasibilityDistance {
    /// Whether a route that a neighbour announces so leads nearer to the destination than we have ever been.
    fn allows(self, seqno: Seqno, announced: u16) -> bool {
        seqno.is_newer_than(self.seqno) || seqno == self.seqno && announced < self.metric
    }
}

/// A route as a neighbour announced it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Route {
    /// The destination's sequence number.
    pub(super) seqno: Seqno,
    /// The neighbour's metric; never [`INFINITY`].
    pub(super) announced: u16,
    /// The members between the neighbour and the destination.
    pub(super) path: Path,
    /// When the neighbour last announced it.
    pub(super) heard: Instant,
}

/// All that is known of one member.
#[derive(Debug, Default)]
pub(super) struct Destination {
    /// By neighbour.
    pub(super) routes: BTreeMap<u32, Route>,
    distance: Option<FeasibilityDistance>,
    /// The neighbour whose route is used.
    selected: Option<u32>,
    /// Which other route is clearly better, and since when.
    challenger: Option<(u32, Instant)>,
    /// Since when there is no route at all.
    pub(super) lost: Option<Instant>,
    /// When it is looked at again, whatever happens.
    pub(super) review: Option<Instant>,
    /// When a newer sequence number was last asked for.
    pub(super) asked: Option<Instant>,
    /// Which requests of others were last carried on.
    pub(super) carried_on: Option<CarriedOn>,
}

/// A link's cost, if the neighbour is there.
pub(super) type Costs<'a> = &'a dyn Fn(u32) -> Option<u16>;

impl Destination {
    /// The route that is used: the neighbour, and what it announced. It was feasible when it was chosen, and is no more than
    /// that: see [`Self::select`].
    pub(super) fn selected(&self) -> Option<(u32, &Route)> {
        let neighbour = self.selected?;
        Some((neighbour, self.routes.get(&neighbour)?))
    }

    /// The feasibility distance.
    pub(super) fn distance(&self) -> Option<FeasibilityDistance> {
        self.distance
    }

    /// To be called before a finite metric is announced (RFC 8966 section 3.7.3).
    pub(super) fn will_announce(&mut self, seqno: Seqno, metric: u16) {
        self.distance = Some(match self.distance {
            Some(old) if old.seqno == seqno => FeasibilityDistance {
                seqno,
                metric: old.metric.min(metric),
            },
            // What is announced comes from a feasible route, whose sequence number is at least that of the distance.
            Some(_) | None => FeasibilityDistance { seqno, metric },
        });
    }

    /// Takes down what a neighbour announces. `None` for that it has no route.
    pub(super) fn learn(&mut self, neighbour: u32, update: Option<&Update>, now: Instant) {
        match update.filter(|update| update.metric != INFINITY) {
            Some(update) => {
                let route = Route {
                    seqno: Seqno(update.seqno),
                    announced: update.metric,
                    path: update.path,
                    heard: now,
                };
                self.routes.insert(neighbour, route);
            }
            None => {
                self.routes.remove(&neighbour);
            }
        }
    }

    /// Whether the route through that neighbour is feasible.
    pub(super) fn is_feasible(&self, route: &Route) -> bool {
        self.distance
            .is_none_or(|distance| distance.allows(route.seqno, route.announced))
    }

    /// Chooses among the feasible routes; `true` if another neighbour is used now, or none. A route that is not feasible any
    /// more is not used any more, whatever else there is.
    pub(super) fn select(&mut self, costs: Costs<'_>, now: Instant) -> bool {
        let before = self.selected;
        let best = self.best(costs, |_, route| self.is_feasible(route));
        let current = self
            .selected()
            .filter(|(_, route)| self.is_feasible(route))
            .and_then(|(neighbour, route)| {
                Some((neighbour, through(route.announced, costs(neighbour)?)))
            });
        let challenger = self.challenger.take();
        self.selected = match (current, best) {
            (Some((used, old)), Some((other, new))) if used != other => {
                let since = challenger
                    .filter(|(who, _)| *who == other)
                    .map_or(now, |(_, since)| since);
                if !is_clearly_better(new, old) {
                    Some(used)
                } else if now.saturating_duration_since(since) >= BETTER_FOR {
                    Some(other)
                } else {
                    self.challenger = Some((other, since));
                    Some(used)
                }
            }
            (Some((used, _)), _) => Some(used),
            (None, best) => best.map(|(neighbour, _)| neighbour),
        };
        self.lost = match self.routes.is_empty() {
            true => self.lost.or(Some(now)),
            false => None,
        };
        self.selected != before
    }

    /// When another route will have been better for long enough.
    pub(super) fn due(&self) -> Option<Instant> {
        self.challenger.map(|(_, since)| since + BETTER_FOR)
    }

    /// The neighbour with the least metric of those that pass, and the metric.
    pub(super) fn best(
        &self,
        costs: Costs<'_>,
        passes: impl Fn(u32, &Route) -> bool,
    ) -> Option<(u32, u16)> {
        let usable = self
            .routes
            .iter()
            .filter(|(neighbour, route)| passes(**neighbour, route));
        usable
            .filter_map(|(neighbour, route)| {
                Some((*neighbour, through(route.announced, costs(*neighbour)?)))
            })
            .min_by_key(|(neighbour, metric)| (*metric, *neighbour))
    }
}
