//! A direct path that is there and loses what it is given: it is left for the relay, and taken again when it is good.
//! What is measured of that stands in the simulator's `lossy.rs`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use netlab::{Daemon, Nat, Pair, wait_until};

/// What goes from one home to the other loses this share, each way.
fn lose(pair: &Pair, percent: u32) {
    pair.lose([percent; 2]).unwrap();
}

/// How many of this many echoes, 20 in a second, were not answered.
fn lost(pair: &Pair, count: u32) -> usize {
    let gap = Duration::from_millis(50);
    let target = pair.bob.ip().unwrap();
    let report = pair.alice.host().ping_each(gap, target, count).unwrap();
    usize::try_from(count).unwrap() - report.received()
}

fn path(daemon: &Daemon, peer: &str) -> String {
    daemon.peer(peer).unwrap()["path"].to_string()
}

#[test]
fn a_path_that_loses_a_fifth_is_left_for_the_relay_and_taken_again_when_it_is_good() {
    let pair = Pair::linked("lossy", [Nat::PortRestricted, Nat::FullCone]).unwrap();
    assert!(lost(&pair, 200) <= 2, "it begins well");
    lose(&pair, 20);
    // Three seconds of echoes, of which a third is lost while the path is in use.
    lost(&pair, 60);
    // On the lossy path it would be 72 of 200.
    let later = lost(&pair, 200);
    assert!(later <= 10, "{later} of 200 lost: it was not left");
    let paths = [path(&pair.alice, "bob"), path(&pair.bob, "alice")];
    assert_eq!(paths, [r#""turn""#, r#""turn""#]);
    assert_eq!(pair.alice.peer("bob").unwrap()["direct_avoided"], true);
    let words = pair.alice.ask(&["peers"]).unwrap();
    assert!(words.contains("turn (direct loses)"), "{words}");
    // It is tried again, and found no better.
    let meanwhile = lost(&pair, 500);
    assert!(meanwhile <= 10, "{meanwhile} of 500 lost");
    assert_eq!(path(&pair.alice, "bob"), r#""turn""#);

    lose(&pair, 0);
    let healed = Instant::now();
    wait_until("the path is direct", Duration::from_secs(90), || {
        let missing = lost(&pair, 20);
        assert!(missing <= 2, "{missing} of 20 lost on the way back");
        Ok(path(&pair.alice, "bob") == r#""direct""# && path(&pair.bob, "alice") == r#""direct""#)
    })
    .unwrap();
    assert!(healed.elapsed() < Duration::from_secs(90));
}

#[test]
fn a_path_that_is_dead_is_left_for_the_relay_within_3_s_and_taken_again_when_it_heals() {
    let gap = Duration::from_millis(50);
    for (name, ways) in [
        ("dead", [100, 100]),
        ("deaf-there", [100, 0]),
        ("deaf-back", [0, 100]),
    ] {
        let pair = Pair::linked(name, [Nat::PortRestricted, Nat::FullCone]).unwrap();
        assert!(lost(&pair, 40) <= 1, "it begins well");
        pair.lose(ways).unwrap();
        let target = pair.bob.ip().unwrap();
        let report = pair.alice.host().ping_each(gap, target, 160).unwrap();
        let missing = 160 - report.received();
        // All that was lost was lost at once, so it says for how long nothing came through.
        assert!(
            missing < 60,
            "{missing} of 160 lost: it was not left within 3 s"
        );
        let late = report.replies.iter().filter(|(number, _)| *number > 80);
        assert!(late.count() >= 79, "{:?}", report.replies);
        let paths = [path(&pair.alice, "bob"), path(&pair.bob, "alice")];
        assert_eq!(paths, [r#""turn""#, r#""turn""#]);

        lose(&pair, 0);
        wait_until("the path is direct", Duration::from_secs(90), || {
            let missing = lost(&pair, 20);
            assert!(missing <= 2, "{missing} of 20 lost on the way back");
            let paths = [path(&pair.alice, "bob"), path(&pair.bob, "alice")];
            Ok(paths == [r#""direct""#, r#""direct""#])
        })
        .unwrap();
    }
}
