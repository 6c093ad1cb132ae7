//! No packet ever circles, and every pair that is linked has a way: the routing protocol over bad links, at any time and in any
//! order of events.

use std::time::Duration;

use sim::{routes::Routes, seeds::for_each_seed};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Twenty routers that have found each other.
fn woven(count: u32, seed: u64, loss: u8) -> Routes {
    let mut routes = Routes::new(count, seed);
    routes.weave(4, loss);
    routes.run_for(10 * SECOND);
    routes
}

#[test]
fn every_pair_finds_the_best_way_up_to_the_hysteresis() {
    for_each_seed("every_pair_finds", |seed| {
        let mut routes = woven(20, seed, 0);
        assert_eq!(routes.wrong(), []);
        routes.run_for(10 * SECOND);
        for from in 1..=20 {
            for (to, optimum) in routes.optimum(from) {
                if to == from {
                    continue;
                }
                let metric = routes.routers[&from].metric(to).unwrap();
                // Each router on the way may hold to a route that is worse by a tenth, and may not have been told of less.
                assert!(
                    metric <= optimum + optimum / 4 + 30,
                    "{from} to {to}: {metric}, {optimum}"
                );
            }
        }
    });
}

#[test]
fn nothing_circles_whatever_happens_and_then_all_is_well() {
    for loss in [0, 1, 10, 30] {
        for_each_seed(&format!("nothing_circles_{loss}"), |seed| {
            let mut routes = woven(20, seed, loss);
            for _ in 0..200 {
                routes.misfortune();
                let pause = routes.below(700);
                routes.run_for(MS * pause as u32);
            }
            routes.mend();
            routes.run_for(20 * SECOND);
            assert_eq!(routes.wrong(), [], "at a loss of {loss} %");
        });
    }
}
