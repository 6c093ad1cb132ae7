//! What can a router do that wants harm? It can lose what it is given to carry, and draw to itself what is nearer to it than to where it
//! should go. It makes no circle, takes nobody's routes away that it is not on, and costs the others no more than this.

use std::time::Duration;

use sim::{
    routes::{Lie, Routes},
    seeds::{for_each_seed, for_seeds},
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const LIAR: u32 = 5;

fn woven(seed: u64) -> Routes {
    let mut routes = Routes::new(16, seed);
    routes.weave(4, 1);
    // A router that was started less than a minute ago may have forgotten its number, and takes what others say of that.
    routes.run_for(70 * SECOND);
    routes
}

/// Has one lie for so long; whoever it cannot stand between keeps a way all the time, and all is well once it is honest.
fn lied_to(routes: &mut Routes, lie: Lie, time: Duration) {
    let safe = routes.out_of_reach(LIAR);
    assert!(!safe.is_empty());
    routes.lie(LIAR, lie);
    let end = routes.now + time;
    while routes.now < end {
        routes.run_for(100 * MS);
        for (from, to) in &safe {
            assert!(routes.arrives(*from, *to), "{from} has no way to {to}");
        }
    }
    routes.repent(LIAR);
    routes.run_for(20 * SECOND);
    assert_eq!(routes.wrong(), []);
}

#[test]
fn random_lies_and_routes_at_no_cost_cut_nobody_off_who_is_out_of_reach() {
    for_each_seed("random_lies", |seed| {
        let mut routes = woven(seed);
        lied_to(&mut routes, Lie::Random, 20 * SECOND);
        lied_to(&mut routes, Lie::Cheap, 20 * SECOND);
    });
}

#[test]
fn a_hundred_thousand_members_that_nobody_knows_take_no_room() {
    for_seeds("hundred_thousand", 5, |seed| {
        let mut routes = woven(seed);
        let before = routes.traffic.updates;
        lied_to(&mut routes, Lie::Strangers, 10 * SECOND);
        // It was started again, which is news to all; but nobody spoke of the strangers.
        let said = routes.traffic.updates - before;
        assert!(said < 5_000, "{said} updates");
    });
}

#[test]
fn a_route_that_changes_a_hundred_times_a_second_is_told_at_most_ten_times_a_second() {
    for_each_seed("hundred_times_a_second", |seed| {
        let mut routes = woven(seed);
        let victim = if LIAR == 9 { 8 } else { 9 };
        let (before, finite) = (routes.traffic.updates, routes.traffic.finite.clone());
        lied_to(&mut routes, Lie::Flap(victim), 30 * SECOND);
        let ways = 2 * routes.working() as u64;
        let said = routes.traffic.finite[&victim] - finite[&victim];
        println!(
            "{} updates in 50 s over {ways} directions, {said} of routes to {victim}",
            routes.traffic.updates - before
        );
        // Ten a second in each direction of each link, and what its start has to be told afterwards.
        assert!(said <= 10 * 30 * ways + 1_000, "{said}");
    });
}

#[test]
fn requests_for_ever_newer_numbers_are_answered_four_times_a_second() {
    for_each_seed("ever_newer_numbers", |seed| {
        let mut routes = woven(seed);
        let (asked, victim) = (routes.traffic.requests, 9);
        let old = seqno(&routes, victim);
        routes.lie(LIAR, Lie::Ask(victim));
        routes.run_for(30 * SECOND);
        let (asked, new) = (routes.traffic.requests - asked, seqno(&routes, victim));
        let raised = new.wrapping_sub(old);
        println!("raised {raised} times, {asked} requests");
        assert!(raised <= 4 * 30 + 10, "raised {raised} times");
        // Ten a second on each link: what the liar itself says is a hundred to each neighbour.
        let most = 30 * (10 * 2 * routes.working() + 100 * routes.others(LIAR).count());
        assert!(asked <= most as u64, "{asked} requests");
        routes.repent(LIAR);
        routes.run_for(20 * SECOND);
        assert_eq!(routes.wrong(), []);
    });
}

#[test]
fn a_number_that_its_member_has_not_given_itself_makes_no_circle_and_harms_that_member_alone() {
    for_each_seed("not_given_itself", |seed| {
        let (mut routes, victim) = (woven(seed), 9);
        let safe = routes.out_of_reach(LIAR);
        routes.lie(LIAR, Lie::Forge(victim));
        for _ in 0..100 {
            routes.run_for(200 * MS);
            for (from, to) in safe.iter().filter(|(_, to)| *to != victim) {
                assert!(routes.arrives(*from, *to), "{from} has no way to {to}");
            }
        }
    });
}

#[test]
fn in_its_first_minute_a_routers_number_is_pushed_by_half_of_all_numbers_at_most() {
    for_each_seed("first_minute", |seed| {
        let mut routes = woven(seed);
        routes.restart(9);
        routes.run_for(5 * SECOND);
        let old = seqno(&routes, 9);
        routes.lie(LIAR, Lie::Ask(9));
        let mut raised = 0;
        for _ in 0..40 {
            routes.run_for(SECOND);
            let new = seqno(&routes, 9).wrapping_sub(old);
            assert!(new >= raised, "round the end: {new} after {raised}");
            raised = new;
        }
        // Half of all numbers, and four a second.
        assert!(raised < (1 << 15) + 4 * 45, "{raised}");
        routes.repent(LIAR);
        routes.run_for(20 * SECOND);
        assert_eq!(routes.wrong(), []);
    });
}

/// As a neighbour of the member knows it.
fn seqno(routes: &Routes, member: u32) -> u16 {
    let mut others = routes.others(member).filter(|it| *it != LIAR);
    let known = others.find_map(|it| routes.routers[&it].feasibility_distance(member));
    known.expect("some neighbour knows it").0
}
