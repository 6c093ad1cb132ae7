//! Whose clock may be wrong by years, and what comes of it?

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, time::Duration};

use netlab::{Daemon, Host, Lab, Nat, Process, binary};

const LIMIT: Duration = Duration::from_secs(20);

/// A program that believes that it is another time: by what its file says, such as `+10y`.
struct Clock {
    file: PathBuf,
    host: Host,
}

impl Clock {
    fn new(host: &Host, offset: &str) -> Self {
        let file = host.dir().join("clock");
        let clock = Self {
            file,
            host: host.clone(),
        };
        clock.set(offset);
        clock
    }

    fn set(&self, offset: &str) {
        // In one step: the program may look at any time.
        let new = self.file.with_extension("new");
        fs::write(&new, offset).unwrap();
        fs::rename(new, &self.file).unwrap();
    }

    /// A script that runs `name` under this clock. Only the time of day is another one: what is measured is not.
    fn program(&self, name: &str) -> PathBuf {
        let script = self.host.dir().join(format!("{name}-elsewhen"));
        let library = self
            .host
            .sh("ls /usr/lib/*/faketime/libfaketime.so.1")
            .unwrap();
        let text = format!(
            "#!/bin/sh\nexport LD_PRELOAD={} FAKETIME_TIMESTAMP_FILE={} FAKETIME_CACHE_DURATION=1 \
             FAKETIME_DONT_FAKE_MONOTONIC=1\nexec {} \"$@\"\n",
            library.stdout.trim(),
            self.file.display(),
            binary(name).unwrap().display()
        );
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        script
    }
}

/// A home with machines whose clocks are wrong by that much, and a server with a wrong one too.
struct Scene {
    _lab: Lab,
    server: Process,
    server_host: Host,
    server_clock: Clock,
    clocks: Vec<Clock>,
}

impl Scene {
    fn new(name: &str, server: &str, members: &[&str]) -> Self {
        let lab = Lab::new(name).unwrap();
        let host = lab.internet().public_host("server").unwrap();
        let home = lab.internet().home("home", Nat::PortRestricted).unwrap();
        let clocks = members
            .iter()
            .zip(["a", "b", "c"])
            .map(|(offset, name)| Clock::new(&home.host(name).unwrap(), offset));
        let clocks = clocks.collect();
        let server_clock = Clock::new(&host, server);
        let server = serve(&host, &server_clock);
        Self {
            _lab: lab,
            server,
            server_host: host,
            server_clock,
            clocks,
        }
    }

    fn restart_server(&mut self) {
        self.server.kill().unwrap();
        self.server = serve(&self.server_host, &self.server_clock);
    }

    fn launch(&self, number: usize, args: &[&str]) -> Daemon {
        let clock = &self.clocks[number];
        Daemon::launch_program(&clock.program("meshd"), &clock.host, args).unwrap()
    }

    fn up(&self, number: usize, args: &[&str]) -> Daemon {
        let mut daemon = self.launch(number, args);
        daemon.wait_ready().unwrap();
        daemon
    }

    fn create(&self) -> (Daemon, String) {
        let url = format!("http://{}:7080", self.server_host.address());
        let alice = self.up(0, &["--server", &url, "--name", "alice"]);
        let link = alice.join_link().unwrap();
        (alice, link)
    }

    fn join(&self, number: usize, link: &str, name: &str) -> Daemon {
        self.up(number, &["--join", link, "--name", name])
    }
}

fn serve(host: &Host, clock: &Clock) -> Process {
    let mut command = host.command(clock.program("discovery-server"));
    command
        .args(["serve", "--data-dir"])
        .arg(host.dir().join("discovery"));
    let process = host.spawn_command(command).unwrap();
    process.wait_for_line("ready", LIMIT).unwrap();
    process
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    netlab::wait_until(what, LIMIT, || Ok(holds())).unwrap();
}

fn all_reach_each_other(daemons: &[&Daemon]) {
    for (number, from) in daemons.iter().enumerate() {
        for to in &daemons[number + 1..] {
            from.first_echo(to, LIMIT).unwrap();
        }
    }
}

#[test]
fn a_machine_whose_clock_is_years_off_joins_and_believes_its_peers() {
    for (name, offset) in [("ahead", "+10y"), ("behind", "-10y")] {
        let scene = Scene::new(name, "+0", &["+0", offset, "+0"]);
        let (alice, link) = scene.create();
        let bob = scene.join(1, &link, "bob");
        let carol = scene.join(2, &link, "carol");
        all_reach_each_other(&[&alice, &bob, &carol]);
        // It starts again, with what it has stored.
        bob.kill().unwrap();
        let bob = scene.up(1, &[]);
        wait_until("bob is connected", || bob.is_connected().unwrap());
        all_reach_each_other(&[&bob, &alice, &carol]);
    }
}

#[test]
fn a_server_years_ahead_lets_nobody_register_and_parts_nobody() {
    let mut scene = Scene::new("jumps", "+0", &["+0", "+0"]);
    let (mut alice, link) = scene.create();
    let mut bob = scene.join(1, &link, "bob");
    alice.first_echo(&bob, LIMIT).unwrap();
    for daemon in [&alice, &bob] {
        wait_until("it is noted where the other is", || {
            let file = daemon.state_dir().join("endpoints.json");
            // An address has a port, and is the one value of the one member.
            fs::read_to_string(&file).is_ok_and(|text| text.matches("\": \"").count() > 1)
        });
    }
    // To it all certificates have expired: it says so, and whose clock may be wrong.
    scene.server_clock.set("+10y");
    scene.restart_server();
    for daemon in [&alice, &bob] {
        wait_until("it is told why", || {
            daemon.trouble().contains("clock of this server")
        });
    }
    let report = alice.host().ping(bob.ip().unwrap(), 10).unwrap();
    assert_eq!(report.received(), 10);
    bob.kill().unwrap();
    bob = scene.up(1, &[]);
    bob.first_echo(&alice, LIMIT).unwrap();
    // Years behind nothing is wrong to it, and neither when it is right again.
    for offset in ["-10y", "+0"] {
        scene.server_clock.set(offset);
        scene.restart_server();
        for (number, daemon) in [&mut alice, &mut bob].into_iter().enumerate() {
            daemon.kill().unwrap();
            *daemon = scene.up(number, &[]);
            wait_until(offset, || daemon.is_connected().unwrap());
        }
        alice.first_echo(&bob, LIMIT).unwrap();
    }
}

#[test]
fn a_clock_that_is_set_back_an_hour_stops_nobody() {
    let mut scene = Scene::new("back", "+0", &["+0", "+0"]);
    let (alice, link) = scene.create();
    let bob = scene.join(1, &link, "bob");
    alice.first_echo(&bob, LIMIT).unwrap();
    scene.clocks[1].set("-1h");
    scene.server_clock.set("-1h");
    std::thread::sleep(Duration::from_secs(2));
    let report = alice.host().ping(bob.ip().unwrap(), 10).unwrap();
    assert_eq!(report.received(), 10);
    // What it signs now is newer than what it signed an hour later.
    scene.restart_server();
    wait_until("both are back", || {
        alice.is_connected().unwrap() && bob.is_connected().unwrap()
    });
    bob.kill().unwrap();
    let bob = scene.up(1, &[]);
    bob.first_echo(&alice, LIMIT).unwrap();
    wait_until("bob is connected", || bob.is_connected().unwrap());
    assert!(
        !bob.process.log().contains("stale"),
        "{}",
        bob.process.log()
    );
}

#[test]
fn a_link_holds_by_the_clock_of_the_server_and_the_refusal_says_so() {
    let mut scene = Scene::new("links", "+0", &["+0", "+0"]);
    let (_alice, link) = scene.create();
    scene.server_clock.set("+10y");
    scene.restart_server();
    let bob = scene.launch(1, &["--join", &link, "--name", "bob"]);
    let ended = bob.process.wait(LIMIT).unwrap();
    assert_eq!(ended.code(), Some(1));
    let log = bob.process.log();
    assert!(log.contains("expired") && log.contains("fix: "), "{log}");
    scene.server_clock.set("+0");
    scene.restart_server();
    scene.join(1, &link, "bob");
}
