//! What do members lose whose discovery server fails, or takes its time? Nothing that they have: an error is no empty list.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "mesh_evil_server/heartbeat.rs"]
mod heartbeat;
#[path = "mesh_evil_server/scene.rs"]
mod scene;

use std::{fs, time::Duration};

use heartbeat::Heartbeat;
use netlab::Daemon;
use scene::{BACK, Scene, members, wait_until};

/// What every request to such a server, or its message, says.
const BROKEN: &str = "everything is broken";
const SKIPPED: &str = "skipped a message of the discovery server";

fn names(daemon: &Daemon) -> Vec<String> {
    let name = |member: &serde_json::Value| member["name"].as_str().unwrap().to_owned();
    members(daemon).iter().map(name).collect()
}

/// Everybody knows everybody, also one that is started again meanwhile, which then talks with the others.
fn nobody_is_lost(scene: &mut Scene, lie: &str) {
    for daemon in &scene.daemons {
        assert_eq!(names(daemon), ["alice", "bob", "carol"], "{lie}");
        let peers = daemon.status().unwrap()["peers"].clone();
        assert_eq!(peers.as_array().unwrap().len(), 2, "{lie}: {peers}");
    }
    let host = scene.daemons[2].host().clone();
    scene.daemons[2].kill().unwrap();
    let file = host.dir().join("mesh.yaml");
    let config = ["--config", file.to_str().unwrap()];
    scene.daemons[2] = Daemon::up(&host, &config).unwrap();
    let carol = &scene.daemons[2];
    assert_eq!(names(carol), ["alice", "bob", "carol"], "{lie}");
    carol
        .first_echo(scene.alice(), Duration::from_secs(10))
        .unwrap();
}

#[test]
fn a_server_that_fails_or_lists_nobody_takes_no_member_from_anybody() {
    let mut scene = Scene::configured("ailing", "log:\n  level: debug\n");
    let beat = Heartbeat::start(scene.alice(), &scene.daemons[1]);
    scene.evil.change("errors", None).unwrap();
    for daemon in &scene.daemons {
        let what = format!("{} is refused", daemon.name);
        wait_until(&what, BACK, || daemon.trouble().contains(BROKEN));
    }
    nobody_is_lost(&mut scene, "errors");
    // Behind the list comes a message that is none.
    scene.tell_and_see("empty-list", (SKIPPED, 1));
    nobody_is_lost(&mut scene, "empty-list");
    // The connection ends with the message, after the list.
    scene.tell_and_see("error-message", (BROKEN, 1));
    nobody_is_lost(&mut scene, "error-message");
    beat.finish();
}

#[test]
fn a_server_that_says_everything_five_seconds_late_is_joined_and_parts_nobody() {
    let mut scene = Scene::new("late");
    let beat = Heartbeat::start(scene.alice(), &scene.daemons[1]);
    scene.tell("slow");
    nobody_is_lost(&mut scene, "slow");
    // Somebody new at the third machine.
    let carol = &scene.daemons[2];
    carol.kill().unwrap();
    fs::remove_dir_all(carol.state_dir()).unwrap();
    let link = scene.alice().join_link().unwrap();
    let host = carol.host().clone();
    let dave = Daemon::up(&host, &["--join", &link, "--name", "dave"]).unwrap();
    dave.first_echo(scene.alice(), BACK).unwrap();
    assert_eq!(names(scene.alice()), ["alice", "bob", "carol", "dave"]);
    beat.finish();
}
