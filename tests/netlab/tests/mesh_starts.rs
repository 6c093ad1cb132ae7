//! Starting and stopping as a new user does: what need not be said again, and what the manual says word for word.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    time::Duration,
};

use netlab::{Daemon, Discovery, Host, Lab, Nat, binary};
use nix::sys::signal::Signal;
use serde_json::Value;

const MANUAL: &str = include_str!("../../../docs/OPERATIONS.md");
const SOON: Duration = Duration::from_secs(10);

fn machine(name: &str) -> (Lab, Host) {
    let lab = Lab::new(name).unwrap();
    let home = lab.internet().home("home", Nat::PortRestricted).unwrap();
    let host = home.host("pc").unwrap();
    (lab, host)
}

/// Ends it as a terminal that closes does.
fn hang_up(daemon: &Daemon) {
    daemon.process.signal(Signal::SIGHUP).unwrap();
    let status = daemon.process.wait(SOON).unwrap();
    assert_eq!(status.code(), Some(0), "{status}");
    let links = daemon.host().sh("ip -br link").unwrap().stdout;
    assert!(!links.contains("mesh"), "{links}");
}

#[test]
fn a_later_start_needs_no_flag_and_a_new_one_wins() {
    let (_lab, host) = machine("noflag");
    let options = [
        "--listen-port",
        "7181",
        "--interface",
        "mesh7",
        "--api",
        "127.0.0.1:7182",
    ];
    let first = Daemon::up(&host, &options).unwrap();
    assert!(!first.process.log().contains("chmod"));
    hang_up(&first);
    // As a unit with StateDirectory= makes it.
    fs::set_permissions(first.state_dir(), Permissions::from_mode(0o755)).unwrap();

    let second = Daemon::up(&host, &[]).unwrap();
    let log = second.process.log();
    let fix = format!("chmod 700 {}", second.state_dir().display());
    assert!(log.contains("mode 0755") && log.contains(&fix), "{log}");
    let status = second.status().unwrap();
    assert_eq!(
        (&status["listen_port"], &status["interface"]),
        (&7181.into(), &"mesh7".into())
    );
    let curl = "curl -sS -f http://127.0.0.1:7182/healthz";
    assert!(host.sh(curl).unwrap().stdout.contains("ok"));
    hang_up(&second);

    let file = host.dir().join("mesh.yaml");
    fs::write(&file, "mesh: {listen_port: 7183}\n").unwrap();
    let file = file.to_str().unwrap();
    let third = Daemon::up(&host, &["--config", file, "--interface", "mesh8"]).unwrap();
    let status = third.status().unwrap();
    assert_eq!(status["listen_port"], 7183, "the file wins over the state");
    assert_eq!(status["interface"], "mesh8", "the command line wins");
    hang_up(&third);
    let fourth = Daemon::up(&host, &[]).unwrap();
    assert_eq!(fourth.status().unwrap()["interface"], "mesh8");
}

#[test]
fn a_daemon_under_nohup_outlives_its_terminal() {
    let (_lab, host) = machine("nohup");
    let program = binary("meshd").unwrap();
    let line = format!("exec nohup {} up --state-dir state", program.display());
    let daemon = host.spawn("sh", ["-c", &line]).unwrap();
    daemon.wait_for_line("ready ", SOON).unwrap();
    daemon.signal(Signal::SIGHUP).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    assert!(daemon.ended().unwrap().is_none());
    daemon.signal(Signal::SIGTERM).unwrap();
    assert_eq!(daemon.wait(SOON).unwrap().code(), Some(0));
}

#[test]
fn a_second_daemon_on_one_machine_starts_as_the_manual_says() {
    let (lab, host) = machine("twice");
    let server = lab.internet().public_host("server").unwrap();
    let discovery = Discovery::start(&server).unwrap();
    let first = Daemon::up(&host, &[]).unwrap();
    let start = "meshd up --state-dir /var/lib/meshd-2 --interface ";
    let command = MANUAL
        .lines()
        .find_map(|line| line.trim().strip_prefix(start))
        .unwrap();
    let command = command.replace("HOST:7080", &discovery.url());
    let mut words = command.split_whitespace();
    let interface = words.next().unwrap();
    let second = Daemon::up_beside(&host, interface, &words.collect::<Vec<_>>()).unwrap();
    // The new interface is a move to the first one: it connects anew.
    for daemon in [&first, &second] {
        netlab::wait_until("it is connected and well", SOON, || {
            let is_well = daemon.status()?["health"] == Value::Array(Vec::new());
            Ok(is_well && daemon.is_connected()?)
        })
        .unwrap();
    }
    // And so it does the next time.
    hang_up_beside(&second);
    let again = Daemon::up_beside(&host, interface, &[]).unwrap();
    assert_eq!(again.virtual_ip, second.virtual_ip);
}

fn hang_up_beside(daemon: &Daemon) {
    daemon.process.signal(Signal::SIGHUP).unwrap();
    assert_eq!(daemon.process.wait(SOON).unwrap().code(), Some(0));
}

#[test]
fn a_right_that_waits_for_its_member_is_listed() {
    let (_lab, host) = machine("waiting");
    let folder = host.dir().join("docs");
    fs::create_dir(&folder).unwrap();
    let file = host.dir().join("mesh.yaml");
    let text = format!(
        "shares: [{{name: docs, path: '{}', to: [all, carol]}}]\n",
        folder.display()
    );
    fs::write(&file, text).unwrap();
    let daemon = Daemon::up(&host, &["--config", file.to_str().unwrap()]).unwrap();
    netlab::wait_until("the right of all is given", SOON, || {
        let list: Value = serde_json::from_str(&daemon.ask(&["share", "list", "--json"])?)?;
        let share = &list[0];
        Ok((&share["to"][0], &share["waiting"][0]) == (&"all".into(), &"carol".into()))
    })
    .unwrap();
    let list = daemon.ask(&["share", "list"]).unwrap();
    assert!(list.contains("all, carol (no such member yet)"), "{list}");
}
