//! No packet ever circles, and every pair that is linked has a way: the routing protocol over bad links, at any time and in any
//! order of events.

use std::time::Duration;

use sim::{
    routes::{Cable, Routes},
    seeds::for_each_seed,
};

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

/// How long it takes until all pairs have a way again, or know that they have none, seen every 20 ms.
fn gap(routes: &mut Routes) -> Duration {
    let start = routes.now;
    while !routes.wrong().is_empty() {
        routes.run_for(20 * MS);
        let gap = routes.now - start;
        assert!(gap < 30 * SECOND, "{:?} are still wrong", routes.wrong());
    }
    routes.now - start
}

#[test]
fn a_link_that_goes_or_comes_leaves_no_pair_without_a_way_for_a_second() {
    for loss in [0, 10] {
        let gaps = std::cell::RefCell::new(Vec::new());
        for_each_seed(&format!("a_link_that_goes_{loss}"), |seed| {
            let mut routes = woven(20, seed, loss);
            let ends: Vec<(u32, u32)> = routes.cables.keys().copied().take(5).collect();
            for (a, b) in ends {
                let cable = routes.cables[&(a, b)];
                for up in [false, true] {
                    routes.link(a, b, Cable { up, ..cable });
                    routes.run_for(2 * MS);
                    gaps.borrow_mut().push(gap(&mut routes));
                    routes.run_for(10 * SECOND);
                }
            }
        });
        let mut gaps = gaps.into_inner();
        gaps.sort_unstable();
        let at = |percent: usize| gaps[(gaps.len() - 1) * percent / 100];
        println!(
            "loss {loss} %: {} changes, gap p50 {:?}, p95 {:?}, p99 {:?}",
            gaps.len(),
            at(50),
            at(95),
            at(99)
        );
        assert!(
            at(50) <= 500 * MS && at(99) <= SECOND,
            "p50 {:?}, p99 {:?}",
            at(50),
            at(99)
        );
    }
}

#[test]
fn who_is_cut_off_is_known_to_be_so_within_two_seconds_and_found_when_back() {
    for_each_seed("who_is_cut_off", |seed| {
        let mut routes = woven(20, seed, 1);
        for lonely in [7, 13] {
            let ends: Vec<(u32, u32)> = routes
                .cables
                .keys()
                .copied()
                .filter(|(a, b)| [*a, *b].contains(&lonely))
                .collect();
            for (up, limit) in [(false, 2 * SECOND), (true, 2 * SECOND)] {
                let before = routes.updates;
                for (a, b) in &ends {
                    let cable = routes.cables[&(*a, *b)];
                    routes.link(*a, *b, Cable { up, ..cable });
                }
                routes.run_for(2 * MS);
                let took = gap(&mut routes);
                assert!(took <= limit, "up {up}: {took:?}");
                routes.run_for(10 * SECOND);
                println!("{} updates", routes.updates - before);
            }
        }
    });
}

#[test]
fn when_nothing_happens_little_is_said() {
    for_each_seed("when_nothing_happens", |seed| {
        let mut routes = woven(20, seed, 0);
        routes.run_for(20 * SECOND);
        let (messages, updates) = (routes.messages, routes.updates);
        routes.run_for(300 * SECOND);
        assert_eq!(routes.updates, updates, "something was announced");
        // A refresh each half minute on each link, from either end, and nothing else.
        let refreshes = 2 * routes.cables.len() as u64 * 10;
        assert!(
            routes.messages - messages <= refreshes,
            "{} messages, {refreshes} refreshes",
            routes.messages - messages
        );
    });
}
