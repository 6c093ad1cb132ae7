//! Do the lab's machines, routers and programs behave as the tests of the mesh assume?

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use netlab::{Home, HomePlan, Host, Lab, LinkShape, Nat};
use nix::sys::signal::Signal;

const MS: Duration = Duration::from_millis(1);
const SOON: Duration = Duration::from_secs(10);

fn answers(from: &Host, to: Ipv4Addr) -> bool {
    from.ping_each(50 * MS, to, 3).unwrap().received() > 0
}

#[test]
fn every_kind_of_home_reaches_a_public_host_and_only_open_ones_are_reached() {
    let lab = Lab::new("kinds").unwrap();
    let server = lab.internet().public_host("server").unwrap();
    for nat in Nat::ALL {
        let home = lab
            .internet()
            .home(&format!("{nat:?}").to_lowercase(), nat)
            .unwrap();
        let host = home.host("a").unwrap();
        assert!(answers(&host, server.address()), "{nat:?}");
        // An echo is answered where the filter lets anybody in, as the kernel of the host does.
        let inward = match nat {
            Nat::Open => answers(&server, host.address()),
            // A leaky router answers itself.
            Nat::OneToOne | Nat::Leaky => answers(&server, home.outermost().address()),
            Nat::FullCone
            | Nat::AddressRestricted
            | Nat::PortRestricted
            | Nat::Symmetric
            | Nat::Cgnat
            | Nat::CgnatSymmetric
            | Nat::UdpBlocked => !answers(&server, home.outermost().address()),
        };
        assert!(inward, "{nat:?}");
    }
}

#[test]
fn neighbours_of_one_home_meet_directly_and_other_homes_do_not_see_them() {
    let lab = Lab::new("neighbours").unwrap();
    let alice = lab.internet().home("alice", Nat::PortRestricted).unwrap();
    let bob = lab.internet().home("bob", Nat::PortRestricted).unwrap();
    let (a, b) = (alice.host("a").unwrap(), alice.host("b").unwrap());
    let c = bob.host("c").unwrap();
    assert!(answers(&a, b.address()));
    assert!(!answers(&c, a.address()));
    let hops = a
        .run("ping", ["-c1", "-n", &b.address().to_string()])
        .unwrap()
        .stdout;
    assert!(
        hops.contains("ttl=64"),
        "a neighbour is no hop away: {hops}"
    );
}

#[test]
fn two_homes_may_have_the_same_network() {
    let lab = Lab::new("overlap").unwrap();
    let server = lab.internet().public_host("server").unwrap();
    let lan = Some(Ipv4Addr::new(192, 168, 1, 0));
    let plan = HomePlan {
        lan,
        ..HomePlan::from(Nat::Symmetric)
    };
    let a = lab
        .internet()
        .home("alice", plan)
        .unwrap()
        .host("a")
        .unwrap();
    let b = lab.internet().home("bob", plan).unwrap().host("b").unwrap();
    assert_eq!(a.address(), b.address());
    assert!(answers(&a, server.address()) && answers(&b, server.address()));
}

#[test]
fn a_pulled_cable_is_seen_by_its_owner_and_works_again_when_plugged_in() {
    let lab = Lab::new("cable").unwrap();
    let server = lab.internet().public_host("server").unwrap();
    let second = lab.internet().add_address(&server).unwrap();
    let shaped = lab
        .internet()
        .public_host_shaped("shaped", LinkShape::default())
        .unwrap();
    let home = lab.internet().home("alice", Nat::PortRestricted).unwrap();
    let a = home.host("a").unwrap();
    for pulled in [&server, &shaped, &a] {
        pulled.set_link(false).unwrap();
        let device = pulled.run("ip", ["link", "show", "eth0"]).unwrap().stdout;
        assert!(device.contains("NO-CARRIER"), "{device}");
        let other = if pulled.name() == "shaped" {
            &server
        } else {
            &shaped
        };
        assert!(!answers(pulled, other.address()), "{}", pulled.name());
        pulled.set_link(true).unwrap();
        assert!(answers(pulled, other.address()), "{}", pulled.name());
    }
    assert!(
        answers(&shaped, second),
        "the route to a second address is back as well"
    );
}

#[test]
fn a_host_moves_between_homes_and_the_internet() {
    let lab = Lab::new("moves").unwrap();
    let internet = lab.internet();
    let server = internet.public_host("server").unwrap();
    let homes: Vec<Home> = [Nat::PortRestricted, Nat::Open, Nat::Cgnat]
        .iter()
        .map(|nat| {
            internet
                .home(&format!("{nat:?}").to_lowercase(), *nat)
                .unwrap()
        })
        .collect();
    let laptop = homes[0].host("laptop").unwrap();
    assert!(answers(&laptop, server.address()));
    let before = laptop.address();
    for home in &homes[1..] {
        home.connect(&laptop).unwrap();
        assert_ne!(laptop.address(), before);
        assert!(answers(&laptop, server.address()));
    }
    internet.connect(&laptop).unwrap();
    assert!(answers(&server, laptop.address()));
}

#[test]
fn counters_count_what_a_device_carried() {
    let lab = Lab::new("counters").unwrap();
    let server = lab.internet().public_host("server").unwrap();
    let client = lab.internet().public_host("client").unwrap();
    let before = server.counters("eth0").unwrap();
    let report = client.ping_each(10 * MS, server.address(), 20).unwrap();
    let after = server.counters("eth0").unwrap();
    assert_eq!(report.received(), 20);
    // 98 bytes of Ethernet each; ARP adds a little.
    let received = after.rx_bytes - before.rx_bytes;
    assert!((20 * 98..20 * 98 + 500).contains(&received), "{received}");
    assert!(after.tx_packets - before.tx_packets >= 20);
    assert!(server.counters("eth7").is_err());
}

#[test]
fn programs_see_their_own_hostname_and_directory() {
    let lab = Lab::new("identity").unwrap();
    let home = lab.internet().home("alice", Nat::FullCone).unwrap();
    let host = home.host("a").unwrap();
    let seen = host
        .run("sh", ["-c", "hostname 2>/dev/null || uname -n; pwd"])
        .unwrap()
        .stdout;
    assert_eq!(seen, format!("alice-a\n{}\n", host.dir().display()));
}

#[test]
fn a_background_program_can_be_awaited_signalled_and_read() {
    let lab = Lab::new("process").unwrap();
    let host = lab.internet().public_host("host").unwrap();
    let script = "echo ready $$; trap 'echo bye; exit 3' TERM; while :; do sleep 0.05; done";
    let process = host.spawn("sh", ["-c", script]).unwrap();
    let line = process.wait_for_line("ready", SOON).unwrap();
    assert_eq!(line, format!("ready {}", process.pid()));
    assert_eq!(process.ended().unwrap(), None);
    process.signal(Signal::SIGTERM).unwrap();
    assert_eq!(process.wait(SOON).unwrap().code(), Some(3));
    assert_eq!(process.log(), format!("{line}\nbye\n"));
    let refused = process.signal(Signal::SIGTERM).unwrap_err().to_string();
    assert!(refused.contains("has ended"), "{refused}");
    let missed = process
        .wait_for_line("never", SOON)
        .unwrap_err()
        .to_string();
    assert!(
        missed.contains("before it printed") && missed.contains("bye"),
        "{missed}"
    );
}

#[test]
fn a_program_started_from_a_thread_that_ends_goes_on() {
    let lab = Lab::new("threads").unwrap();
    let host = lab.internet().public_host("host").unwrap();
    let process = std::thread::spawn(move || host.spawn("sleep", ["60"]).unwrap());
    let process = process.join().unwrap();
    std::thread::sleep(200 * MS);
    assert_eq!(process.ended().unwrap(), None);
    process.kill().unwrap();
    assert!(process.ended().unwrap().is_some());
}

#[test]
fn a_program_that_hangs_is_killed_at_its_limit_and_its_words_are_shown() {
    let lab = Lab::new("limit").unwrap();
    let host = lab.internet().public_host("host").unwrap();
    let mut command = host.command("sh");
    command.args(["-c", "echo started; sleep 60 & sleep 60"]);
    let start = Instant::now();
    let error = host.run_command(command, 300 * MS).unwrap_err();
    assert!(start.elapsed() < SOON);
    assert!(format!("{error:#}").contains("started"), "{error:#}");
}

#[test]
fn a_missing_program_names_the_packages_to_install() {
    let lab = Lab::new("missing").unwrap();
    let host = lab.internet().public_host("host").unwrap();
    let error = format!("{:#}", host.run("no-such-program", ["x"]).unwrap_err());
    assert!(
        error.contains("apt-get install") && error.contains("no-such-program"),
        "{error}"
    );
}

#[test]
fn an_impossible_shape_is_refused() {
    let lab = Lab::new("shape").unwrap();
    let shape = LinkShape {
        loss: 1.5,
        ..LinkShape::default()
    };
    let error = lab
        .internet()
        .public_host_shaped("host", shape)
        .unwrap_err()
        .to_string();
    assert!(error.contains("loss 1.5"), "{error}");
}
