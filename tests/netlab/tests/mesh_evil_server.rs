//! What can a discovery server do that lies in its messages, to daemons that are in the middle of their work?

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::print_stdout,
    reason = "figures for the reader of the test's output"
)]

#[path = "mesh_evil_server/heartbeat.rs"]
mod heartbeat;
#[path = "mesh_evil_server/scene.rs"]
mod scene;

use std::{
    fs,
    time::{Duration, Instant},
};

use heartbeat::Heartbeat;
use netlab::{Capture, Daemon, Discovery, EvilServer, Host, Lab, Nat};
use scene::{BACK, Scene, list, members, said, wait_until};
use serde_json::Value;

/// What a server may not say of a member without proof.
fn proven(daemon: &Daemon) -> Vec<Value> {
    let mut members = members(daemon);
    for member in &mut members {
        let fields = member.as_object_mut().unwrap();
        fields.remove("online");
        fields.remove("last_seen");
    }
    members
}

/// A line of `/proc/PID/status`, in KiB.
fn kib(daemon: &Daemon, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.process.pid())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// What the log of a daemon must tell of lies.
const DEBUG: &str = "log:\n  level: debug\n";
/// Of a message that is none, at that level.
const SKIPPED: &str = "skipped a message of the discovery server";
const REFUSED: &str = "refused members that the server lists";

#[test]
fn lies_in_every_record_are_not_believed_and_disturb_nobody() {
    let mut scene = Scene::configured("lies", DEBUG);
    let before = scene.daemons.each_ref().map(proven);
    let beats = [(0, 1), (2, 0)]
        .map(|(from, to)| Heartbeat::start(&scene.daemons[from], &scene.daemons[to]));
    for lie in ["swap-keys", "strangers", "swap-addresses"] {
        scene.tell_and_see(lie, (REFUSED, 1));
        let after = scene.daemons.each_ref().map(seq_free);
        assert_eq!(after, before.clone().map(without_seq), "{lie}");
        let status = scene.alice().status().unwrap();
        assert!(!status["peers"].to_string().contains("mallory"), "{status}");
        // The user is told, once for all of them, until the server shows the record as it is.
        let told = || {
            let health = scene.alice().status().unwrap()["health"].to_string();
            health.matches("member-refused").count()
        };
        if lie == "strangers" {
            wait_until("alice is told", Duration::from_secs(3), || told() == 1);
        }
    }
    // A message in which a record has two keys is none.
    scene.tell_and_see("double-keys", ("duplicate field `wireguard_key`", 1));
    assert_eq!(
        scene.daemons.each_ref().map(seq_free),
        before.map(without_seq)
    );
    for beat in beats {
        beat.finish();
    }
}

/// As [`proven`], without what changes with each registration.
fn seq_free(daemon: &Daemon) -> Vec<Value> {
    without_seq(proven(daemon))
}

fn without_seq(mut members: Vec<Value>) -> Vec<Value> {
    for member in &mut members {
        let fields = member.as_object_mut().unwrap();
        for name in ["seq", "instance", "signature"] {
            fields.remove(name);
        }
    }
    members
}

#[test]
fn an_older_record_behind_each_new_one_changes_nothing() {
    let mut scene = Scene::new("replay");
    scene.tell("old-records");
    let seq = |scene: &Scene| {
        let members = members(scene.alice());
        members.iter().find(|it| it["name"] == "bob").unwrap()["seq"]
            .as_u64()
            .unwrap()
    };
    let before = seq(&scene);
    let beat = Heartbeat::start(scene.alice(), &scene.daemons[2]);
    scene.daemons[1].kill().unwrap();
    let b = scene.daemons[1].host().clone();
    scene.daemons[1] = Daemon::up(&b, &[]).unwrap();
    let limit = Duration::from_secs(10);
    wait_until("alice has the new record", limit, || seq(&scene) > before);
    let new = seq(&scene);
    scene.daemons[1].first_echo(scene.alice(), limit).unwrap();
    assert!(seq(&scene) >= new);
    assert!(said(scene.alice(), "older than known") > 0);
    beat.finish();
}

#[test]
fn an_altered_letter_makes_nobody_send_anything_anywhere() {
    let lab = Lab::new("letters").unwrap();
    let server = lab.internet().public_host("server").unwrap();
    let hosts = ["a", "b"].map(|name| {
        let home = lab.internet().home(name, Nat::PortRestricted).unwrap();
        home.host(&format!("{name}-pc")).unwrap()
    });
    let _discovery = Discovery::start(&server).unwrap();
    let mut evil = EvilServer::start(&server, "nothing", None).unwrap();
    let up = |host: &Host, args: [&str; 4]| {
        let file = host.dir().join("mesh.yaml");
        fs::write(&file, "log:\n  level: debug\n").unwrap();
        let config = ["--config", file.to_str().unwrap()];
        Daemon::up(host, &[&args[..], &config].concat()).unwrap()
    };
    let alice = up(&hosts[0], ["--server", &evil.url(), "--name", "alice"]);
    evil.change("alter-letters", None).unwrap();
    let link = alice.join_link().unwrap();
    let bob = up(&hosts[1], ["--join", &link, "--name", "bob"]);
    wait_until("both are back", BACK, || {
        alice.is_connected().unwrap() && bob.is_connected().unwrap()
    });
    // Everything but what is said to the server, the router and the neighbours on the LAN.
    let portmap = "(((host 192.168.1.1 or host 192.168.2.1) and (port 5351 or port 1900)) or (host 239.255.255.250 and port 1900))";
    let server_at = server.address();
    let filter = format!("udp and not port 5353 and not {portmap} and not host {server_at}");
    let captures = hosts
        .each_ref()
        .map(|host| Capture::start(host, "eth0", "out", &filter).unwrap());
    let report = hosts[0].ping(bob.ip().unwrap(), 20).unwrap();
    assert_eq!(report.received(), 0);
    wait_until("bob refuses", BACK, || said(&bob, "refused a letter") > 0);
    for capture in captures {
        let told = capture.finish("", 0).unwrap();
        assert!(!told.contains("UDP"), "{told}");
    }
    evil.change("nothing", None).unwrap();
    wait_until("both are back", BACK, || {
        alice.is_connected().unwrap() && bob.is_connected().unwrap()
    });
    alice.first_echo(&bob, BACK).unwrap();
}

#[test]
fn a_server_that_takes_a_revocation_and_tells_nobody_is_too_late() {
    let mut scene = Scene::new("hidden");
    scene.tell("hide-revocations");
    scene.alice().ask(&["revoke", "carol"]).unwrap();
    let start = Instant::now();
    let [alice, bob, carol] = &scene.daemons;
    for daemon in [alice, bob] {
        wait_until("carol is out", Duration::from_secs(60), || {
            members(daemon).len() == 2
        });
    }
    assert!(start.elapsed() < Duration::from_secs(60));
    for daemon in [alice, bob] {
        assert_eq!(
            daemon
                .host()
                .ping(carol.ip().unwrap(), 3)
                .unwrap()
                .received(),
            0
        );
        assert_eq!(
            carol
                .host()
                .ping(daemon.ip().unwrap(), 3)
                .unwrap()
                .received(),
            0
        );
    }
    bob.first_echo(alice, Duration::from_secs(5)).unwrap();
    // The server goes on listing her.
    bob.kill().unwrap();
    let bob = Daemon::up(bob.host(), &[]).unwrap();
    bob.first_echo(alice, Duration::from_secs(10)).unwrap();
    assert_eq!(members(&bob).len(), 2);
}

#[test]
fn members_who_are_told_different_lists_are_shown_it() {
    // Lists are compared by heartbeats; with 30 s of them this would take minutes.
    let heartbeat = "mesh: {discovery: {heartbeat_interval: 3s}}";
    let mut scene = Scene::configured("split", heartbeat);
    scene.tell("split");
    let mut daemons: Vec<&Daemon> = scene.daemons.iter().collect();
    let id = |daemon: &Daemon| {
        daemon.status().unwrap()["node_id"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    daemons.sort_by_key(|daemon| id(daemon));
    let [misled, third, hidden] = daemons[..] else {
        unreachable!()
    };
    let differing = |daemon: &Daemon| -> Vec<String> {
        let health = daemon.status().unwrap()["health"].clone();
        let health = health.as_array().unwrap().iter();
        let lists = health.filter(|problem| problem["code"] == "lists-differ");
        lists
            .map(|it| format!("{} {}", it["title"], it["detail"]))
            .collect()
    };
    for (daemon, other, detail) in [
        (misled, third, "3 members, this machine of 2 members"),
        (third, misled, "2 members, this machine of 3 members"),
    ] {
        wait_until("the lists differ", Duration::from_secs(120), || {
            let shown = differing(daemon);
            shown
                .iter()
                .any(|it| it.contains(&other.name) && it.contains(detail))
        });
    }
    // Nobody accuses two that hear the same.
    assert!(!differing(third).concat().contains(&hidden.name));
    assert!(!differing(hidden).concat().contains(&third.name));
    // The one that is left out stays a member for everybody, and the blame ends with the lie.
    misled.first_echo(hidden, Duration::from_secs(5)).unwrap();
    scene.tell("nothing");
    for daemon in &scene.daemons {
        wait_until("all is well", Duration::from_secs(150), || {
            differing(daemon).is_empty()
        });
    }
}

#[test]
fn the_longest_and_oddest_messages_take_no_memory_and_end_no_session() {
    const LOST: &str = "discovery server lost";
    let mut scene = Scene::configured("floods", DEBUG);
    let before = scene.daemons.each_ref().map(seq_free);
    let rss = scene.daemons.each_ref().map(|it| kib(it, "VmRSS:"));
    let beat = Heartbeat::start(scene.alice(), &scene.daemons[1]);
    let lost = scene.daemons.each_ref().map(|it| said(it, LOST));
    scene.evil.change("long-message", None).unwrap();
    for (daemon, lost) in scene.daemons.iter().zip(lost) {
        // Once because the server was changed, once because of the message.
        wait_until("it hangs up", BACK, || said(daemon, LOST) > lost + 1);
        wait_until("it says why", BACK, || {
            daemon.trouble().to_lowercase().contains("too long")
        });
    }
    for (lie, trace) in [
        ("crowd", (REFUSED, 3)),
        ("deep-message", (SKIPPED, 3)),
        ("crumbs", (SKIPPED, 4)),
    ] {
        scene.tell_and_see(lie, trace);
        assert_eq!(scene.daemons.each_ref().map(seq_free), before, "{lie}");
    }
    scene.tell("nothing");
    assert_eq!(scene.daemons.each_ref().map(seq_free), before);
    for (daemon, rss) in scene.daemons.iter().zip(rss) {
        let grown = kib(daemon, "VmHWM:").saturating_sub(rss);
        println!("{} grew by {grown} KiB from {rss}", daemon.name);
        assert!(grown < 64 * 1024, "{} grew by {grown} KiB", daemon.name);
        assert_eq!(daemon.process.ended().unwrap(), None);
    }
    beat.finish();
}

#[test]
fn another_year_on_the_servers_side_is_nobody_elses() {
    let mut scene = Scene::new("years");
    let before = scene.daemons.each_ref().map(seq_free);
    let beat = Heartbeat::start(scene.alice(), &scene.daemons[1]);
    scene.tell("wrong-time");
    for daemon in &scene.daemons {
        wait_until("the list of another year is read", BACK, || {
            list(daemon)["revision"] == u64::MAX
        });
    }
    assert_eq!(scene.daemons.each_ref().map(seq_free), before);
    for daemon in &scene.daemons {
        daemon.ask(&["status"]).unwrap();
        assert_eq!(daemon.process.ended().unwrap(), None);
    }
    beat.finish();
    let [alice, bob, _] = &scene.daemons;
    bob.kill().unwrap();
    let bob = Daemon::up(bob.host(), &[]).unwrap();
    bob.first_echo(alice, Duration::from_secs(10)).unwrap();
}

#[test]
fn a_redirect_is_followed_nowhere_and_named() {
    let lab = Lab::new("redirect").unwrap();
    let server = lab.internet().public_host("server").unwrap();
    let elsewhere = lab.internet().public_host("elsewhere").unwrap();
    let host = lab.internet().public_host("pc").unwrap();
    let _discovery = Discovery::start(&server).unwrap();
    // A whole server that would take whoever comes.
    let _other = Discovery::start(&elsewhere).unwrap();
    let other = (elsewhere.address(), 7080).into();
    let mut evil = EvilServer::start(&server, "nothing", None).unwrap();
    let alice = Daemon::up(&host, &["--server", &evil.url(), "--name", "alice"]).unwrap();
    let to_other = format!("host {}", elsewhere.address());
    let capture = Capture::start(&host, "eth0", "out", &to_other).unwrap();
    let mut alice = alice;
    for lie in ["redirect", "redirect-events"] {
        for status in ["301", "302", "303", "307", "308"] {
            evil.change(&format!("{lie}={status}"), Some(other))
                .unwrap();
            alice.kill().unwrap();
            alice = Daemon::up(&host, &[]).unwrap();
            wait_until(&format!("{lie} {status} is named"), BACK, || {
                alice.trouble().contains(&format!("answered {status}"))
            });
            assert!(alice.trouble().contains("redirect is not followed"));
        }
    }
    let told = capture.finish("", 0).unwrap();
    assert!(!told.contains(" > "), "{told}");
    evil.change("nothing", None).unwrap();
    wait_until("it is back", BACK, || alice.is_connected().unwrap());
}

#[test]
fn a_stun_server_that_lies_makes_nobody_flood_whom_it_names() {
    let lab = Lab::new("stun").unwrap();
    let server = lab.internet().public_host("server").unwrap();
    let victim = lab.internet().public_host("victim").unwrap();
    let a = lab.internet().public_host("a").unwrap();
    let home = lab.internet().home("home", Nat::PortRestricted).unwrap();
    let b = home.host("b").unwrap();
    let _discovery = Discovery::start(&server).unwrap();
    let named = Some((victim.address(), 4500).into());
    let evil = EvilServer::start(&server, "wrong-stun", named).unwrap();
    let asked_by = [a.address(), home.outermost().address()];
    let (capture, start) = (
        Capture::start(&victim, "eth0", "in", "udp").unwrap(),
        Instant::now(),
    );
    let alice = Daemon::up(&a, &["--server", &evil.url(), "--name", "alice"]).unwrap();
    let link = alice.join_link().unwrap();
    let bob = Daemon::up(&b, &["--join", &link, "--name", "bob"]).unwrap();
    bob.first_echo(&alice, Duration::from_secs(10)).unwrap();
    assert_eq!(
        alice.host().ping(bob.ip().unwrap(), 50).unwrap().loss(),
        0.0
    );
    for address in asked_by {
        let line = format!("answered STUN of {address}");
        wait_until(&line, BACK, || evil.said(&line) > 0);
    }
    let told = capture.finish("proto UDP", 1).unwrap();
    // Each of the two believes that a STUN and a TURN server are there, and asks them.
    let heard = told.matches("proto UDP").count() as u64;
    println!("who was named heard {heard} datagrams");
    let most = 2 * (41 + start.elapsed().as_secs() / 2);
    assert!(heard <= most, "{heard} datagrams");
}

/// What one member sends at most to an address that a peer has named and that does not answer, directly and by a TURN
/// server: 20 checks, and then one in 20 seconds.
fn unanswered(since: Instant) -> usize {
    21 + usize::try_from(since.elapsed().as_secs() / 20).unwrap()
}

#[test]
fn a_member_that_names_others_addresses_makes_nobody_flood_them() {
    let lab = Lab::new("victims").unwrap();
    let server = lab.internet().public_host("server").unwrap();
    let victim = lab.internet().public_host("victim").unwrap();
    // Both behind NATs of the worst kind, so that nothing that the one says can come true, nor be found by many ports.
    let [home_a, home] = ["a", "b"].map(|name| lab.internet().home(name, Nat::Symmetric).unwrap());
    let a = home_a.host("a-pc").unwrap();
    let b = home.host("b-pc").unwrap();
    let discovery = Discovery::start(&server).unwrap();
    let alice = Daemon::up(&a, &["--server", &discovery.url(), "--name", "alice"]).unwrap();
    let link = alice.join_link().unwrap();
    // Its own addresses are its candidates: these are others'.
    let victim_ip = victim.address().to_string();
    let forbidden = ["169.254.169.254", "10.100.7.7", "127.9.9.9", "224.0.0.251"];
    for address in forbidden.iter().copied().chain([victim_ip.as_str()]) {
        // What a kernel does not take, no daemon can have.
        b.try_sh(&format!("ip address add {address}/32 dev eth0"))
            .unwrap();
    }
    // What the victim hears shall be from others: without this, bob's own router sends it what is an answer to bob.
    let route = format!("route add {victim_ip}/32 dev lan0");
    home.router().namespace().ip(&route).unwrap();
    let bob = Daemon::up(&b, &["--join", &link, "--name", "bob"]).unwrap();
    let heard = Capture::start(&victim, "eth0", "in", "udp").unwrap();
    let hosts = forbidden
        .map(|address| format!("dst {address}"))
        .join(" or ");
    let sent = ["eth0", "lo", "mesh0"].map(|device| {
        Capture::start(
            &a,
            device,
            "out",
            &format!("udp and not port 5353 and ({hosts})"),
        )
        .unwrap()
    });
    // One attempt after the other, for as long as one may take. By the relay it is reached all the while.
    let start = Instant::now();
    let report = a.ping(bob.ip().unwrap(), 100).unwrap();
    assert!(report.received() > 90, "{report:?}");
    assert_eq!(alice.peer("bob").unwrap()["path"], "turn");
    let told = heard.finish("UDP, length", 1).unwrap();
    let heard = told.matches("UDP, length").count();
    let by_relay = told.matches(&format!("{}.", server.address())).count();
    assert!(
        by_relay > 0,
        "it is checked by way of the relay too: {told}"
    );
    println!("the victim heard {heard} datagrams, {by_relay} of them by the relay");
    assert!(heard <= unanswered(start), "{heard} datagrams");
    for capture in sent {
        let told = capture.finish("", 0).unwrap();
        assert!(!told.contains("UDP"), "{told}");
    }
}
