//! Does a shaped cable do what its shape says? Judges: ping and iperf3. Lower bounds are exact;
//! upper bounds leave room for a machine that is busy with other tests.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use netlab::{HomePlan, Host, Lab, LinkShape, Nat};

const MS: Duration = Duration::from_millis(1);
const SOON: Duration = Duration::from_secs(20);

/// Two public hosts, the first behind a cable with `shape`, which already know their neighbours.
fn pair(lab: &Lab, shape: LinkShape) -> (Host, Host) {
    let near = lab
        .internet()
        .public_host_shaped("near", LinkShape::default())
        .unwrap();
    let far = lab.internet().public_host("far").unwrap();
    assert_eq!(
        near.ping_each(10 * MS, far.address(), 3)
            .unwrap()
            .received(),
        3
    );
    near.link().unwrap().set(shape).unwrap();
    (near, far)
}

#[test]
fn the_round_trip_takes_two_delays_until_the_shape_changes() {
    let lab = Lab::new("delay").unwrap();
    let shape = LinkShape {
        delay: 40 * MS,
        jitter: 5 * MS,
        ..LinkShape::default()
    };
    let (near, far) = pair(&lab, shape);
    let report = near.ping_each(20 * MS, far.address(), 40).unwrap();
    assert_eq!(report.received(), 40);
    assert!(report.min().unwrap() >= 80 * MS, "{report:?}");
    assert!(report.median().unwrap() < 120 * MS, "{report:?}");
    assert_eq!(report.overtaken(), 0, "{report:?}");
    near.link().unwrap().set(LinkShape::default()).unwrap();
    let report = near.ping_each(20 * MS, far.address(), 40).unwrap();
    assert!(report.median().unwrap() < 20 * MS, "{report:?}");
}

#[test]
fn each_direction_can_have_its_own_shape() {
    let lab = Lab::new("directions").unwrap();
    let (near, far) = pair(&lab, LinkShape::default());
    let slow = LinkShape {
        delay: 60 * MS,
        ..LinkShape::default()
    };
    near.link()
        .unwrap()
        .set_directions(slow, LinkShape::default())
        .unwrap();
    let report = far.ping_each(20 * MS, near.address(), 20).unwrap();
    assert!(report.min().unwrap() >= 60 * MS, "{report:?}");
    assert!(report.median().unwrap() < 110 * MS, "{report:?}");
}

#[test]
fn a_home_with_a_shaped_cable_is_as_far_away_as_its_shape_says() {
    let lab = Lab::new("home").unwrap();
    let server = lab.internet().public_host("server").unwrap();
    for nat in [Nat::PortRestricted, Nat::Cgnat] {
        let wan = Some(LinkShape {
            delay: 30 * MS,
            ..LinkShape::default()
        });
        let plan = HomePlan {
            wan,
            ..HomePlan::from(nat)
        };
        let home = lab
            .internet()
            .home(&format!("{nat:?}").to_lowercase(), plan)
            .unwrap();
        let report = home.host("a").unwrap().ping(server.address(), 5).unwrap();
        assert_eq!(report.received(), 5, "{nat:?}");
        assert!(report.min().unwrap() >= 60 * MS, "{report:?}");
        assert!(home.outermost().link().is_some());
    }
}

#[test]
fn loss_both_ways_takes_its_share_of_the_echoes() {
    let lab = Lab::new("loss").unwrap();
    let shape = LinkShape {
        loss: 0.1,
        ..LinkShape::default()
    };
    let (near, far) = pair(&lab, shape);
    let report = near.ping_each(10 * MS, far.address(), 300).unwrap();
    // Binomial(300, 0.9 * 0.9): mean 243, standard deviation 6.8; five of them each way.
    assert!(
        (209..=277).contains(&report.received()),
        "{}",
        report.received()
    );
}

#[test]
fn a_dead_cable_loses_everything() {
    let lab = Lab::new("dead").unwrap();
    let (near, far) = pair(
        &lab,
        LinkShape {
            loss: 1.0,
            ..LinkShape::default()
        },
    );
    assert_eq!(
        near.ping_each(10 * MS, far.address(), 20)
            .unwrap()
            .received(),
        0
    );
}

#[test]
fn reordered_frames_are_overtaken_and_not_lost() {
    let lab = Lab::new("reorder").unwrap();
    let shape = LinkShape {
        delay: 20 * MS,
        reorder: 0.1,
        ..LinkShape::default()
    };
    let (near, far) = pair(&lab, shape);
    let report = near.ping_each(5 * MS, far.address(), 200).unwrap();
    assert_eq!(report.received(), 200);
    // About 20 requests and 20 replies of 200 are late, each by four places.
    assert!(report.overtaken() >= 5, "{report:?}");
}

#[test]
fn a_rate_is_kept_in_both_directions() {
    let lab = Lab::new("rate").unwrap();
    let shape = LinkShape {
        rate: Some(10_000_000),
        queue: 30_000,
        ..LinkShape::default()
    };
    let (near, far) = pair(&lab, shape);
    let server = far.spawn("iperf3", ["-s", "--forceflush"]).unwrap();
    server.wait_for_line("Server listening", SOON).unwrap();
    for direction in ["--client", "--reverse"] {
        let receiver = if direction == "--client" { &far } else { &near };
        let before = receiver.counters("eth0").unwrap().rx_bytes;
        let target = far.address().to_string();
        let start = std::time::Instant::now();
        near.run(
            "iperf3",
            ["-u", "-b", "30M", "-t", "2", "-l", "1200", "-c", &target]
                .into_iter()
                .chain((direction == "--reverse").then_some(direction)),
        )
        .unwrap();
        let carried = (receiver.counters("eth0").unwrap().rx_bytes - before) as f64 * 8.0;
        // Two seconds at the rate at least half used; and never more than the line can carry
        // in the time that really passed.
        assert!(carried > 10_000_000.0, "{direction}: {carried} bits");
        let possible = start.elapsed().as_secs_f64() * 10_000_000.0 + 30_000.0 * 8.0;
        assert!(
            carried < possible,
            "{direction}: {carried} of {possible} bits"
        );
    }
}
