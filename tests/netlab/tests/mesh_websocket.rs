//! Do members meet where nothing but HTTPS passes, through a proxy or without, and is what passes there ciphertext on every
//! leg? The discovery server stands behind nginx, the proxy is tinyproxy.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::print_stdout,
    reason = "figures for the reader of the test's output"
)]

use std::{thread::sleep, time::Duration};

use netlab::{
    Bytes, Capture, Daemon, Does, Front, Home, Host, Nat, Pings, Process, tinyproxy, wait_until,
};

const SECOND: Duration = Duration::from_secs(1);
/// Within so much time two members meet, whatever their networks do.
const SOON: Duration = Duration::from_secs(5);
const UNBLOCK: &str = "nft delete table ip blocked";

/// What a router does that lets nothing through but TCP to this port of this host.
fn only(host: &Host, port: u16) -> String {
    let address = host.address();
    format!(
        "nft 'table ip blocked {{ chain forward {{ type filter hook forward priority -10; \
         ip daddr {address} tcp dport {port} accept; ip saddr {address} tcp sport {port} accept; drop; }}; }}'"
    )
}

/// Alice's network lets only HTTPS through, bob's is an ordinary one.
struct Scene {
    alice: Daemon,
    bob: Daemon,
    home: Home,
    nginx: Option<Process>,
    proxy: Option<(Host, Process)>,
    front: Front,
}

impl Scene {
    fn new(name: &str, by_proxy: bool) -> Self {
        let front = Front::new(name).unwrap();
        front.certify("known", Front::NAME, 0).unwrap();
        let nginx = front.nginx(Does::Pass).unwrap();
        let internet = front.lab.internet();
        let [home, other] =
            ["alice", "bob"].map(|name| internet.home(name, Nat::PortRestricted).unwrap());
        let [a, b] = [&home, &other].map(|home| home.host("pc").unwrap());
        let proxy = by_proxy.then(|| {
            let host = internet.public_host("tunnel").unwrap();
            front.name_on(&host).unwrap();
            let process = tinyproxy(&host).unwrap();
            (host, process)
        });
        let (open, line) = match &proxy {
            Some((host, _)) => {
                let address = host.address();
                let line = format!("export HTTPS_PROXY=http://ann:hunter2@{address}:8888");
                (only(host, 8888), line)
            }
            None => (only(&front.front, 443), String::new()),
        };
        home.router().sh(&open).unwrap();
        let program = front.program(&a, "known.pem", &line).unwrap();
        if proxy.is_none() {
            front.name_on(&a).unwrap();
        }
        let up = |program, host, args: [&str; 4]| {
            let mut daemon = Daemon::launch_program(program, host, &args).unwrap();
            daemon.wait_ready().unwrap();
            daemon
        };
        let alice = up(&program, &a, ["--server", Front::URL, "--name", "alice"]);
        let link = alice.join_link().unwrap();
        let program = front.program(&b, "known.pem", "").unwrap();
        front.name_on(&b).unwrap();
        let bob = up(&program, &b, ["--join", &link, "--name", "bob"]);
        Self {
            alice,
            bob,
            home,
            nginx: Some(nginx),
            proxy,
            front,
        }
    }

    /// Processor time that programs have used so far, in seconds.
    fn seconds(&self) -> [(&'static str, f64); 2] {
        let of = |name: &str, pid: u32| {
            // With the children of nginx, which do its work.
            let line = format!(
                "cat /proc/{pid}/stat $(for c in $(cat /proc/{pid}/task/*/children); do echo /proc/$c/stat; done) \
                 | awk '{{ sum += $14 + $15 }} END {{ print sum / 100 }}'"
            );
            let text = self.front.front.sh(&line).unwrap().stdout;
            text.trim()
                .parse()
                .unwrap_or_else(|_| panic!("{name}: {text}"))
        };
        let nginx = self.nginx.as_ref().unwrap();
        [
            ("server", of("server", self.front.discovery.process.pid())),
            ("nginx", of("nginx", nginx.pid())),
        ]
    }

    /// A file of `megabytes` comes over whole.
    fn check_bulk(&self, megabytes: u32) {
        let before = self.seconds();
        let took = self.alice.check_bulk(&self.bob, megabytes * 1_000_000);
        println!("{megabytes} MB: {:.1} s", took.unwrap().as_secs_f64());
        for ((name, after), (_, before)) in self.seconds().into_iter().zip(before) {
            let per_gigabyte = (after - before) * 1000.0 / f64::from(megabytes);
            println!("{name}: {per_gigabyte:.1} CPU s/GB");
        }
    }

    fn check_restarts(&mut self) {
        self.front.discovery = self.front.discovery.restart().unwrap();
        self.check_again("the server");
        let old = self.nginx.take().unwrap();
        old.kill().unwrap();
        self.nginx = Some(self.front.nginx(Does::Pass).unwrap());
        self.check_again("nginx");
    }

    /// Nobody pings meanwhile: what stood before may answer for a moment, so five in a row count.
    fn check_again(&self, what: &str) {
        let took = wait_until("five echoes", 30 * SECOND, || {
            let report = self.bob.host().ping(self.alice.ip()?, 5)?;
            Ok(report.received() == 5)
        })
        .unwrap();
        println!(
            "five echoes {:.1} s after a restart of {what}",
            took.as_secs_f64()
        );
        assert!(took < 20 * SECOND, "{took:?}");
        self.alice
            .wait_for_way("bob", "turn websocket", SOON)
            .unwrap();
    }

    /// UDP passes from now on: both go back to it, and nothing is lost.
    fn check_back(&self) {
        let pings = [
            Pings::start(&self.alice, &self.bob).unwrap(),
            Pings::start(&self.bob, &self.alice).unwrap(),
        ];
        sleep(5 * SECOND);
        self.home.router().sh(UNBLOCK).unwrap();
        let took = self
            .alice
            .wait_for_way("bob", "direct ", 120 * SECOND)
            .unwrap();
        println!("direct {} s after UDP passes", took.as_secs());
        sleep(10 * SECOND);
        for ping in &pings {
            let (sent, lost) = ping.end().unwrap();
            println!("{lost} of {sent} lost");
            assert!(sent > 50 && lost == 0, "{lost} of {sent}: {}", ping.log());
        }
        assert_eq!(self.alice.way("bob").unwrap(), "direct ");
    }
}

#[test]
fn where_only_a_proxy_lets_https_through_members_meet_within_seconds_and_go_back_to_udp() {
    let mut scene = Scene::new("wsproxy", true);
    let (proxy, _) = scene.proxy.as_ref().unwrap();
    let filter = format!("ip and not (host {} and tcp port 8888)", proxy.address());
    let strays = Capture::start(scene.home.router(), "wan", "inout", &filter).unwrap();
    let outside = Bytes::start(&scene.front.front, "tcp port 443").unwrap();
    let inside = Bytes::start(&scene.front.server, "tcp port 7080").unwrap();
    let took = scene.alice.first_echo(&scene.bob, SOON).unwrap();
    println!("first echo: {} ms", took.as_millis());
    scene
        .alice
        .wait_for_way("bob", "turn websocket", SOON)
        .unwrap();
    let pong = scene.alice.ask(&["ping", "bob", "-c", "1"]).unwrap();
    assert!(pong.contains("via turn over websocket "), "{pong}");
    // `plaintext marker`, in each echo request, on each leg.
    let marked = format!(
        "ping -n -c 5 -s 64 -p 706c61696e74657874206d61726b6572 {}",
        scene.bob.virtual_ip
    );
    scene.alice.host().sh(&marked).unwrap();
    let secrets = ["plaintext marker", "GET /api/v1/turn", "hunter2"];
    assert_eq!(outside.finish(secrets).unwrap(), [0; 3], "what TLS hides");
    let [payload, turn, password] = inside.finish(secrets).unwrap();
    assert!(turn > 0, "the relay is reached by nginx");
    assert_eq!((payload, password), (0, 0));
    assert_eq!(strays.finish("", 0).unwrap(), "", "past the proxy");
    scene.check_bulk(100);
    assert!(
        !scene.alice.health().unwrap().contains("turn-"),
        "{}",
        scene.alice.health().unwrap()
    );
    scene.check_restarts();
    let log = scene.alice.process.log();
    assert!(!log.contains("hunter2"), "a password in the log");
    scene.check_back();
}

#[test]
fn where_only_tcp_to_port_443_passes_members_meet_at_the_server_behind_nginx() {
    let mut scene = Scene::new("wsfront", false);
    let took = scene.alice.first_echo(&scene.bob, SOON).unwrap();
    println!("first echo: {} ms", took.as_millis());
    scene
        .alice
        .wait_for_way("bob", "turn websocket", SOON)
        .unwrap();
    scene.check_bulk(20);
    scene.check_restarts();
    scene.check_back();
}

#[test]
fn a_proxy_that_refuses_is_named_with_its_answer_and_without_the_password() {
    let front = Front::new("wsrefused").unwrap();
    front.certify("known", Front::NAME, 0).unwrap();
    let _nginx = front.nginx(Does::Pass).unwrap();
    let proxy = front.lab.internet().public_host("tunnel").unwrap();
    front.name_on(&proxy).unwrap();
    let process = tinyproxy(&proxy).unwrap();
    let host = front.lab.internet().public_host("pc").unwrap();
    let line = format!(
        "export https_proxy=http://ann:wrong-one@{}:8888",
        proxy.address()
    );
    let program = front.program(&host, "known.pem", &line).unwrap();
    let args = ["--server", Front::URL, "--name", "alice"];
    let daemon = Daemon::launch_program(&program, &host, &args).unwrap();
    let why = format!("the proxy http://{}:8888/ answers 40", proxy.address());
    wait_until("it is told", 20 * SECOND, || {
        let told = daemon.cli(&["status", "--json"])?.stdout;
        Ok(told.contains(&why) || daemon.process.log().contains(&why))
    })
    .unwrap();
    assert!(!daemon.process.log().contains("wrong-one"));
    assert!(!process.log().contains("wrong-one"));
}
