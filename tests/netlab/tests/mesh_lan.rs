//! Who meets on a LAN without a server, and what do the others there see?

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, thread, time::Duration};

use netlab::{Capture, Daemon, Discovery, Home, Host, Lab, Nat};

/// What meeting may take here; a few seconds on a machine that does nothing else.
const MEETING: Duration = Duration::from_secs(15);

/// A server, and machines in one place each, `alice` and those who join her.
struct Scene<const N: usize> {
    daemons: [Daemon; N],
    hosts: [Host; N],
    office: Home,
    discovery: Discovery,
    lab: Lab,
}

/// A network with a telling name, of machines that are in one office, or else each in a home of its own.
fn scene<const N: usize>(name: &str, machines: [&str; N], in_office: bool) -> Scene<N> {
    let lab = Lab::new(name).unwrap();
    let server = lab.internet().public_host("server").unwrap();
    let discovery = Discovery::start(&server).unwrap();
    let office = lab.internet().home("office", Nat::PortRestricted).unwrap();
    let hosts = machines.map(|machine| match in_office {
        true => office.host(machine).unwrap(),
        false => {
            let home = lab.internet().home(machine, Nat::PortRestricted).unwrap();
            home.host("pc").unwrap()
        }
    });
    let mut link = String::new();
    let mut number = 0;
    let daemons = hosts.clone().map(|host| {
        let url = discovery.url();
        let how = match number {
            0 => vec!["--server", &url, "--network", "sesame-net"],
            _ => vec!["--join", &link],
        };
        let args = [how, vec!["--name", machines[number]]].concat();
        let daemon = Daemon::up(&host, &args).unwrap();
        if number == 0 {
            link = daemon.join_link().unwrap();
        }
        number += 1;
        daemon
    });
    Scene {
        daemons,
        hosts,
        office,
        discovery,
        lab,
    }
}

/// The server and all daemons are gone at once.
fn kill_all<const N: usize>(scene: &Scene<N>) {
    scene.discovery.process.kill().unwrap();
    scene
        .daemons
        .iter()
        .for_each(|daemon| daemon.kill().unwrap());
}

/// Starts them again, all at once.
fn restart<const N: usize>(hosts: &[Host; N], args: &[&str]) -> [Daemon; N] {
    let daemons = hosts
        .clone()
        .map(|host| Daemon::launch(&host, args).unwrap());
    daemons.map(|mut daemon| {
        daemon.wait_ready().unwrap();
        daemon
    })
}

/// What they know of each other goes, as if each had been a member at other times.
fn forget_each_other(hosts: &[Host]) {
    for host in hosts {
        for file in ["directory.json", "endpoints.json"] {
            let file = host.dir().join("state").join(file);
            if file.exists() {
                fs::remove_file(file).unwrap();
            }
        }
    }
}

fn names(daemon: &Daemon) -> Vec<String> {
    let status = daemon.status().unwrap();
    let peers = status["peers"].as_array().unwrap().iter();
    peers
        .map(|peer| peer["name"].as_str().unwrap().to_owned())
        .collect()
}

fn has_problem(daemon: &Daemon, code: &str) -> bool {
    let status = daemon.status().unwrap();
    let mut health = status["health"].as_array().unwrap().iter();
    health.any(|problem| problem["code"] == code)
}

fn wait_until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    netlab::wait_until(what, limit, || Ok(holds())).unwrap();
}

#[test]
fn two_that_restart_in_another_place_without_a_server_find_each_other() {
    let scene = scene("lanmoved", ["alice", "bob"], false);
    let [alice, bob] = &scene.daemons;
    alice.first_echo(bob, MEETING).unwrap();
    kill_all(&scene);
    for host in &scene.hosts {
        scene.office.connect(host).unwrap();
    }
    let [alice, bob] = restart(&scene.hosts, &[]);
    let took = alice.first_echo(&bob, MEETING).unwrap();
    assert!(took < MEETING, "{took:?}");
    bob.first_echo(&alice, MEETING).unwrap();
    assert_eq!(alice.status().unwrap()["server"]["connected"], false);
    // It lasts, from both sides.
    thread::sleep(Duration::from_secs(3));
    for (from, to) in [(&alice, &bob), (&bob, &alice)] {
        let report = from.host().ping(to.ip().unwrap(), 5).unwrap();
        assert_eq!(report.received(), 5, "{report:?}");
        assert_eq!(from.peer(&to.name).unwrap()["path"], "direct");
    }
    // One of them again, while the other stays.
    bob.kill().unwrap();
    let bob = Daemon::up(&scene.hosts[1], &[]).unwrap();
    bob.first_echo(&alice, MEETING).unwrap();
}

#[test]
fn two_that_are_carried_to_another_place_while_they_run_find_each_other() {
    let scene = scene("lancarried", ["alice", "bob"], false);
    let [alice, bob] = &scene.daemons;
    alice.first_echo(bob, MEETING).unwrap();
    scene.discovery.process.kill().unwrap();
    wait_until("both notice", MEETING, || {
        let is_alone = |daemon: &Daemon| daemon.status().unwrap()["server"]["connected"] == false;
        scene.daemons.iter().all(is_alone)
    });
    for host in &scene.hosts {
        scene.office.connect(host).unwrap();
    }
    // Without the LAN it takes until the keys of the session are too old: three minutes.
    alice.first_echo(bob, 2 * MEETING).unwrap();
    bob.first_echo(alice, MEETING).unwrap();
}

#[test]
fn a_segment_with_ipv6_alone_is_enough() {
    let scene = scene("lansix", ["alice", "bob"], true);
    kill_all(&scene);
    for (number, host) in (1..).zip(&scene.hosts) {
        let lines = format!("addr flush dev eth0\naddr add fd00:7::{number}/64 dev eth0\n");
        host.namespace().ip(&lines).unwrap();
    }
    forget_each_other(&scene.hosts);
    let [alice, bob] = restart(&scene.hosts, &[]);
    alice.first_echo(&bob, MEETING).unwrap();
    bob.first_echo(&alice, MEETING).unwrap();
    // The status is made once a second.
    wait_until("the path is told", MEETING, || {
        alice.peer("bob").unwrap()["path"] == "direct"
    });
}

#[test]
fn two_members_who_never_heard_of_each_other_meet_without_a_server() {
    let scene = scene("lannever", ["alice", "bob", "carol"], true);
    kill_all(&scene);
    forget_each_other(&scene.hosts);
    let [alice, bob, carol] = restart(&scene.hosts, &[]);
    alice.first_echo(&bob, MEETING).unwrap();
    bob.first_echo(&carol, MEETING).unwrap();
    carol.first_echo(&alice, MEETING).unwrap();
    assert_eq!(names(&alice), ["bob", "carol"]);
    assert_eq!(names(&bob), ["alice", "carol"]);
    assert!(!has_problem(&alice, "lan-discovery-off"));

    // Who is put out does not come back by way of the LAN.
    alice.ask(&["revoke", "carol"]).unwrap();
    wait_until("bob has heard", MEETING, || names(&bob) == ["alice"]);
    carol.kill().unwrap();
    let carol = Daemon::up(&scene.hosts[2], &[]).unwrap();
    thread::sleep(Duration::from_secs(5));
    assert_eq!(names(&alice), ["bob"]);
    assert_eq!(names(&bob), ["alice"]);
    let ping = carol.host().ping(alice.ip().unwrap(), 3).unwrap();
    assert_eq!(ping.received(), 0);

    // What the server says when it is back is no news.
    let _discovery = scene.discovery.restart().unwrap();
    wait_until("alice is back", Duration::from_secs(90), || {
        alice.status().unwrap()["server"]["connected"] == true
    });
    assert_eq!(names(&alice), ["bob"]);
    alice.first_echo(&bob, MEETING).unwrap();
}

#[test]
fn who_does_not_want_it_says_nothing_and_meets_nobody() {
    let scene = scene("lanoff", ["alice", "bob"], true);
    kill_all(&scene);
    forget_each_other(&scene.hosts);
    let capture = Capture::start(scene.office.router(), "lan0", "inout", "udp port 5353").unwrap();
    for host in &scene.hosts {
        let off = "mesh:\n  discovery:\n    lan: false\n";
        fs::write(host.dir().join("off.yaml"), off).unwrap();
    }
    let daemons = scene.hosts.map(|host| {
        let file = host.dir().join("off.yaml");
        Daemon::up(&host, &["--config", file.to_str().unwrap()]).unwrap()
    });
    thread::sleep(Duration::from_secs(5));
    for daemon in &daemons {
        assert!(names(daemon).is_empty());
    }
    let told = capture.finish("", 0).unwrap();
    assert!(told.is_empty(), "{told}");
}

/// Runs `avahi-browse` with an avahi of its own on `host`; what it prints.
fn browse(host: &Host) -> String {
    let file = |name: &str, text: &str| {
        let file = host.dir().join(name);
        fs::write(&file, text).unwrap();
        file.display().to_string()
    };
    let bus = file(
        "bus.conf",
        "<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen><auth>EXTERNAL</auth>\
         <policy context='default'><allow user='*'/><allow own='*'/><allow send_destination='*'/>\
         <allow receive_sender='*'/></policy></busconfig>",
    );
    let avahi = file(
        "avahi.conf",
        "[server]\nuse-ipv6=yes\nenable-dbus=yes\n[publish]\ndisable-publishing=yes\n",
    );
    // A process and mount namespace of its own: nothing of it outlives the shell, and the system's avahi is another.
    let script = format!(
        "mount -t tmpfs none /run; mkdir -p /run/dbus\n\
         dbus-daemon --config-file={bus} --fork --nopidfile\n\
         avahi-daemon -f {avahi} --no-drop-root --no-chroot >avahi.log 2>&1 &\n\
         for n in $(seq 50); do avahi-daemon --check && break; sleep 0.2; done\n\
         avahi-browse -rtp _meshd._udp"
    );
    let mut command = host.command("unshare");
    command.args(["--mount", "--propagation", "private", "--pid", "--fork"]);
    command.args(["--mount-proc", "--kill-child", "sh", "-c", &script]);
    let output = host.run_command(command, Duration::from_secs(60)).unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        output.stdout,
        output.stderr
    );
    output.stdout
}

/// The instances that it resolved.
fn resolved(browsed: &str) -> Vec<String> {
    let lines = browsed.lines().filter(|line| line.starts_with('='));
    let mut instances: Vec<_> = lines
        .map(|line| line.split(';').nth(3).unwrap().to_owned())
        .collect();
    instances.sort_unstable();
    instances.dedup();
    instances
}

#[test]
fn avahi_browse_sees_each_daemon_and_learns_no_name() {
    let scene = scene("lanbrowse", ["alice", "bob"], true);
    let [alice, bob] = &scene.daemons;
    let onlooker = scene.office.host("onlooker").unwrap();
    let browsed = browse(&onlooker);
    assert_eq!(resolved(&browsed).len(), 2, "{browsed}");
    for daemon in [alice, bob] {
        let address = format!(";{};7081;", daemon.host().address());
        assert!(browsed.contains(&address), "{browsed}");
        let status = daemon.status().unwrap();
        let id = status["node_id"].as_str().unwrap();
        for secret in ["sesame", "alice", "bob", &id[..8], &daemon.virtual_ip] {
            assert!(!browsed.contains(secret), "{secret} in {browsed}");
        }
    }
    // It works beside an avahi on the same machine, and who leaves says so.
    bob.ask(&["down"]).unwrap();
    bob.process.wait(MEETING).unwrap();
    let browsed = browse(alice.host());
    assert_eq!(resolved(&browsed).len(), 1, "{browsed}");
}

#[test]
fn a_member_of_another_network_is_a_stranger() {
    let scene = scene("lanstranger", ["alice", "bob"], true);
    let host = scene.office.host("eve").unwrap();
    let url = scene.discovery.url();
    let other = ["--server", &url, "--network", "other-net", "--name", "eve"];
    let eve = Daemon::up(&host, &other).unwrap();
    let filter = format!("udp and host {} and not port 5353", host.address());
    let capture = Capture::start(&scene.hosts[0], "eth0", "inout", &filter).unwrap();
    kill_all(&scene);
    forget_each_other(&scene.hosts);
    eve.kill().unwrap();
    let eve = Daemon::up(&host, &[]).unwrap();
    let [alice, bob] = restart(&scene.hosts, &[]);
    alice.first_echo(&bob, MEETING).unwrap();
    thread::sleep(Duration::from_secs(3));
    assert_eq!(names(&alice), ["bob"]);
    assert!(names(&eve).is_empty());
    let told = capture.finish("", 0).unwrap();
    assert!(told.is_empty(), "{told}");
}

/// Speaks multicast DNS to everybody, for some seconds: junk, thousands of instances, and what others said with the victim's
/// address beside it.
const HOSTILE: &str = r#"
import os, random, socket, struct, sys, time
own, victim, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
group = ("224.0.0.251", 5353)
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("", 5353))
s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(own))
s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group[0]) + socket.inet_aton(own))
s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
s.setblocking(False)
def label(b): return bytes([len(b)]) + b
service = label(b"_meshd") + label(b"_udp") + label(b"local") + b"\0"
def record(name, kind, data): return name + struct.pack(">HHIH", kind, 0x8001, 4500, len(data)) + data
def junk():
    name = label(b"%026x" % random.getrandbits(100)) + service
    txt = b"".join(label(bytes([97 + i]) + b"=" + os.urandom(253)) for i in range(random.randrange(1, 8)))
    host = label(b"h%d" % random.getrandbits(30)) + label(b"local") + b"\0"
    return (struct.pack(">6H", 0, 0x8400, 0, 4, 0, 0)
        + record(service, 12, name)
        + record(name, 33, struct.pack(">3H", 0, 0, 7081) + host)
        + record(name, 16, txt)
        + record(host, 1, socket.inet_aton(victim)))
def loops(): return struct.pack(">6H", 0, 0x8400, 0, 65535, 65535, 65535) + b"\xc0\x0c" * 600
def ask(): return struct.pack(">6H", 0, 0, 1, 0, 0, 0) + service + struct.pack(">2H", 12, 1)
heard, sent, end = [], 0, time.time() + seconds
s.sendto(ask(), group)
while time.time() < end:
    try:
        while True:
            packet, source = s.recvfrom(9000)
            if len(packet) > 300 and len(heard) < 50: heard.append(packet)
    except BlockingIOError: pass
    batch = [junk() for _ in range(40)] + [loops(), ask(), os.urandom(1400)]
    # What others said, said again by us with another address behind it; and bent.
    for packet in heard:
        more = bytearray(packet) + record(label(b"x") + label(b"local") + b"\0", 1, socket.inet_aton(victim))
        batch.append(bytes(more))
        more[random.randrange(12, len(more))] ^= 1
        batch.append(bytes(more))
    for packet in batch:
        try: s.sendto(packet, group); sent += 1
        except OSError: time.sleep(0.001)
    time.sleep(0.005)
print("sent", sent, "heard", len(heard), flush=True)
"#;

/// Resident memory of a daemon, in KiB.
fn memory(daemon: &Daemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.process.pid())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_hostile_announcer_takes_no_memory_and_has_nobody_flooded() {
    let scene = scene("lanhostile", ["alice", "bob"], true);
    let victim = scene.office.host("victim").unwrap();
    let mallory = scene.office.host("mallory").unwrap();
    let outside = scene.lab.internet().public_host("outside").unwrap();
    kill_all(&scene);
    let [alice, bob] = restart(&scene.hosts, &[]);
    alice.first_echo(&bob, MEETING).unwrap();
    let before = memory(&alice);
    let filter = format!(
        "udp and src host {} and (dst host {} or dst host {} or dst host {})",
        alice.host().address(),
        victim.address(),
        mallory.address(),
        outside.address()
    );
    let capture = Capture::start(alice.host(), "eth0", "out", &filter).unwrap();
    for (target, seconds) in [(&victim, "8"), (&outside, "4")] {
        let mut command = mallory.command("python3");
        let addresses = [mallory.address().to_string(), target.address().to_string()];
        command.args(["-c", HOSTILE, &addresses[0], &addresses[1], seconds]);
        let output = mallory
            .run_command(command, Duration::from_secs(60))
            .unwrap();
        let told: Vec<&str> = output.stdout.split_whitespace().collect();
        let number = |at: usize| told[at].parse::<u64>().unwrap();
        assert!(number(1) > 5_000, "{}{}", output.stdout, output.stderr);
        assert!(
            number(3) > 0,
            "it heard nobody whom it could repeat: {}",
            output.stdout
        );
    }
    let told = capture.finish("", 0).unwrap();
    assert!(told.is_empty(), "{told}");
    let after = memory(&alice);
    assert!(after < before + 8 * 1024, "{before} KiB, then {after} KiB");
    assert_eq!(names(&alice), ["bob"]);
    let report = alice.host().ping(bob.ip().unwrap(), 5).unwrap();
    assert_eq!(report.received(), 5, "{report:?}");
    // Who comes now is still found.
    bob.kill().unwrap();
    let bob = Daemon::up(&scene.hosts[1], &[]).unwrap();
    bob.first_echo(&alice, MEETING).unwrap();
}

#[test]
fn a_program_that_has_the_port_for_itself_is_named_and_its_end_noticed() {
    let scene = scene("lantaken", ["alice"], true);
    let [host] = &scene.hosts;
    kill_all(&scene);
    let alone = "import socket, time\n\
                 s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind((\"\", 5353))\n\
                 print(\"bound\", flush=True); time.sleep(600)";
    let program = host.spawn("python3", ["-c", alone]).unwrap();
    program.wait_for_line("bound", MEETING).unwrap();
    let [alice] = restart(&scene.hosts, &[]);
    wait_until("it is told", MEETING, || {
        has_problem(&alice, "lan-discovery-off")
    });
    let shown = alice.ask(&["status"]).unwrap();
    assert!(shown.contains("mesh.discovery.lan: false"), "{shown}");
    program.kill().unwrap();
    // It is tried again whenever the host's addresses change, and each half minute.
    host.namespace()
        .ip("addr add 192.168.77.2/24 dev eth0")
        .unwrap();
    wait_until("it works", Duration::from_secs(45), || {
        !has_problem(&alice, "lan-discovery-off")
    });
}
