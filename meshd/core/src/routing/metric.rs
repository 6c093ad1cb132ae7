//! What does a link cost, and a route?

use std::time::Duration;

use mesh_wire::routing::INFINITY;

/// What each link adds to its round-trip time in milliseconds. It is also what a neighbour's metric may rise by before a route
/// through it is not feasible any more, so that a delay that varies needs no new sequence numbers.
pub(super) const LEAST_COST: u16 = 100;
/// A round-trip time counts up to this, so that eight links stay far below [`INFINITY`].
const MAX_RTT: Duration = Duration::from_secs(2);
/// What a link costs at most.
pub(super) const MOST_COST: u16 = LEAST_COST + 2_000;

/// The cost of a link with this smoothed round-trip time: milliseconds and 100.
pub(super) fn link_cost(rtt: Duration) -> u16 {
    let ms = rtt.min(MAX_RTT).as_millis();
    u16::try_from(ms)
        .unwrap_or(INFINITY)
        .saturating_add(LEAST_COST)
}

/// The metric of a route through a neighbour that announces `announced`.
pub(super) fn through(announced: u16, cost: u16) -> u16 {
    match announced {
        INFINITY => INFINITY,
        finite => finite.saturating_add(cost),
    }
}

/// Whether `new` is so much better than `old` that it is worth a change: by a tenth, and by 10.
pub(super) fn is_clearly_better(new: u16, old: u16) -> bool {
    new < old && old - new >= (old / 10).max(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_route_is_no_infinity() {
        let worst = link_cost(Duration::MAX);
        let all = (0..8).fold(0, |metric, _| through(metric, worst));
        assert_eq!((worst, all), (2_100, 16_800));
        assert_eq!(through(INFINITY, worst), INFINITY);
    }

    #[test]
    fn better_is_a_tenth_and_ten() {
        assert!(is_clearly_better(90, 100) && !is_clearly_better(91, 100));
        assert!(is_clearly_better(900, 1_000) && !is_clearly_better(901, 1_000));
        assert!(!is_clearly_better(1_000, 900));
    }
}
