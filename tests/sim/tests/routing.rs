//! No packet ever circles, and every pair that is linked has a way: the routing protocol over bad links, at any time and in any
//! order of events. What `sim::routes` looks at after each step is not repeated here.

use std::{collections::BTreeSet, time::Duration};

use sim::{
    routes::{Cable, Routes},
    seeds::{for_each_seed, for_seeds, number},
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Routers that have found each other.
fn woven(count: u32, seed: u64, loss: u8) -> Routes {
    let mut routes = Routes::new(count, seed);
    routes.weave(4, loss);
    routes.run_for(10 * SECOND);
    routes
}

#[test]
fn every_pair_finds_the_best_way_up_to_the_hysteresis() {
    for loss in [0, 10] {
        for_each_seed("every_pair_finds", |seed| {
            let mut routes = woven(20, seed, loss);
            assert_eq!(routes.wrong(), []);
            routes.run_for(10 * SECOND);
            for from in 1..=20 {
                for (to, optimum) in routes.optimum(from, None) {
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
}

#[test]
fn eight_links_are_reached_and_nine_are_not() {
    for_each_seed("eight_links", |seed| {
        let mut routes = Routes::new(12, seed);
        routes.line(Cable::even(20 * MS, 1));
        routes.run_for(20 * SECOND);
        assert_eq!(routes.wrong(), []);
        assert!(routes.arrives(1, 9) && routes.arrives(9, 1));
        assert!(!routes.arrives(1, 10) && !routes.arrives(10, 1));
    });
}

/// Misfortunes in all: 10^5 unless `ROUTE_EVENTS` says otherwise.
fn events() -> u64 {
    number("ROUTE_EVENTS").unwrap_or(100_000)
}

#[test]
fn nothing_circles_whatever_happens_and_then_all_is_well_and_quiet() {
    const EACH: u64 = 200;
    for loss in [0, 1, 10, 30] {
        let name = format!("nothing_circles_{loss}");
        for_seeds(&name, events() / 4 / EACH, |seed| {
            // Small networks have the most events for the time; each tenth is a larger one.
            let count = if seed % 10 == 9 {
                20
            } else {
                4 + seed as u32 % 6
            };
            let mut routes = woven(count, seed, loss);
            for _ in 0..EACH {
                routes.misfortune();
                let pause = routes.below(700);
                routes.run_for(MS * pause as u32);
            }
            routes.mend();
            routes.run_for(20 * SECOND);
            assert_eq!(routes.wrong(), [], "at a loss of {loss} %");
            // Each of eight routers may wait five seconds before it takes a better route, and tells the next one.
            routes.run_for(40 * SECOND);
            let said = routes.traffic.updates;
            routes.run_for(20 * SECOND);
            assert_eq!(routes.traffic.updates, said, "something is still said");
        });
    }
}

#[test]
fn nothing_circles_where_some_carry_for_nobody_and_send_what_they_know_no_route_for_to_who_does() {
    for_each_seed("some_carry_for_nobody", |seed| {
        let leaves = (7..=16).collect();
        let mut routes = Routes::unwatched(16, &leaves, seed);
        routes.watch();
        routes.spread(6, 4);
        routes.run_for(10 * SECOND);
        for _ in 0..100 {
            routes.misfortune();
            let pause = routes.below(700);
            routes.run_for(MS * pause as u32);
        }
        routes.mend();
        routes.run_for(20 * SECOND);
        assert_eq!(routes.wrong(), []);
    });
}

/// How long it takes until all pairs have a way again, or know that they have none, seen every 20 ms.
fn gap(routes: &mut Routes) -> Duration {
    let (start, reach) = (routes.now, routes.reach());
    loop {
        let (wrong, gap) = (routes.wrong_among(&reach), routes.now - start);
        if wrong.is_empty() {
            return gap;
        }
        assert!(gap < 30 * SECOND, "{wrong:?} are still wrong");
        routes.run_for(20 * MS);
    }
}

#[test]
fn who_is_cut_off_is_known_to_be_so_within_two_seconds_and_found_when_back() {
    for_each_seed("who_is_cut_off", |seed| {
        let mut routes = woven(20, seed, 1);
        for lonely in [7, 13] {
            for up in [false, true] {
                let before = routes.traffic.finite.clone();
                routes.isolate(lonely, up);
                routes.run_for(2 * MS);
                let took = gap(&mut routes);
                assert!(took <= 2 * SECOND, "up {up}: {took:?}");
                routes.run_for(10 * SECOND);
                if !up {
                    // Nobody counts to infinity: over each link, what is still announced are one or two routes.
                    let now = routes.traffic.finite[&lonely] - before[&lonely];
                    let most = 2 * routes.working() as u64;
                    assert!(now <= most, "{now} routes to {lonely} were announced");
                }
            }
        }
    });
}

#[test]
fn when_nothing_happens_little_is_said() {
    for_each_seed("when_nothing_happens", |seed| {
        let mut routes = woven(20, seed, 0);
        routes.run_for(20 * SECOND);
        let (messages, updates) = (routes.traffic.messages, routes.traffic.updates);
        routes.run_for(300 * SECOND);
        assert_eq!(routes.traffic.updates, updates, "something was announced");
        // A refresh each half minute on each link, from either end, and nothing else.
        let refreshes = 2 * routes.cables.len() as u64 * 10;
        let said = routes.traffic.messages - messages;
        assert!(said <= refreshes, "{said} messages, {refreshes} refreshes");
    });
}

#[test]
fn a_network_that_is_parted_a_hundred_times_is_whole_again_each_time() {
    for loss in [1, 30] {
        for_seeds(&format!("parted_{loss}"), 3, |seed| {
            let mut routes = woven(10, seed, loss);
            for _ in 0..100 {
                let all = 1..=10;
                let some: BTreeSet<u32> = all.filter(|_| routes.below(2) == 0).collect();
                routes.part(&some, false);
                let pause = routes.below(3_000);
                routes.run_for(MS * pause as u32);
                routes.part(&some, true);
                routes.run_for(2 * MS);
                let took = gap(&mut routes);
                let limit = if loss == 1 { 2 } else { 8 };
                assert!(took <= limit * SECOND, "{took:?} after {some:?}");
            }
        });
    }
}

#[test]
fn who_starts_with_any_sequence_number_is_found_within_seconds() {
    for_each_seed("any_sequence_number", |seed| {
        let mut routes = woven(10, seed, 1);
        for member in 1..=10 {
            let seqno = routes.below(1 << 16) as u16;
            routes.restart_with(member, seqno);
            routes.run_for(10 * MS);
            let took = gap(&mut routes);
            assert!(took <= 3 * SECOND, "{member} with {seqno}: {took:?}");
            routes.run_for(5 * SECOND);
        }
    });
}

#[test]
fn two_with_one_identity_make_no_circle_and_when_one_goes_all_is_well() {
    for_each_seed("one_identity", |seed| {
        let mut routes = woven(10, seed, 1);
        // Who speaks with both is beside one of them: a session is with one place.
        let near: BTreeSet<u32> = routes.others(3).chain([3]).collect();
        let Some(other) = (1..=10).find(|other| {
            !near.contains(other) && routes.others(*other).all(|it| !near.contains(&it))
        }) else {
            return;
        };
        routes.take_identity(other, 3);
        let before = routes.traffic.updates;
        for _ in 0..60 {
            routes.run_for(SECOND);
        }
        routes.run_for(10 * SECOND);
        // After a minute neither takes over the other's numbers any more.
        let said = routes.traffic.updates;
        routes.run_for(30 * SECOND);
        println!(
            "{} updates in 70 s, {} in 30 s",
            said - before,
            routes.traffic.updates - said
        );
        routes.give_identity_back(other);
        routes.run_for(20 * SECOND);
        assert_eq!(routes.wrong(), []);
    });
}

#[test]
fn a_link_that_carries_one_way_and_whose_ends_never_notice_makes_no_circle_and_no_noise() {
    for_each_seed("one_way", |seed| {
        let mut routes = woven(10, seed, 1);
        let ends: Vec<(u32, u32)> = routes.cables.keys().copied().take(4).collect();
        for (a, b) in ends {
            if let Some(cable) = routes.cables.get_mut(&(a, b)) {
                cable.ways[0].carries = false;
            }
        }
        let before = routes.traffic.messages;
        routes.run_for(60 * SECOND);
        // Each end of each such link repeats what it has to say once a second at most, sixteen messages of it.
        let said = routes.traffic.messages - before;
        println!("{said} messages in a minute");
        assert!(said <= 4 * 2 * 17 * 60 + 10 * 10 * 60, "{said}");
    });
}

#[test]
fn round_trip_times_that_vary_by_half_change_little() {
    for_each_seed("times_that_vary", |seed| {
        let mut routes = woven(25, seed, 0);
        let ends: Vec<(u32, u32)> = routes.cables.keys().copied().collect();
        let (mut wrong, mut looked) = (0, 0);
        let requests = routes.traffic.requests;
        for turn in 0..600 {
            let (a, b) = ends[routes.below(ends.len() as u64) as usize];
            let (who, other) = if routes.below(2) == 0 { (a, b) } else { (b, a) };
            routes.measure(who, other);
            routes.run_for(100 * MS);
            if turn % 10 == 0 {
                (wrong, looked) = (wrong + routes.wrong().len(), looked + 25 * 24);
            }
        }
        println!(
            "{} requests a minute, {wrong} of {looked} pairs without a way",
            routes.traffic.requests - requests
        );
        assert!(wrong * 1_000 <= looked, "{wrong} of {looked}");
    });
}
