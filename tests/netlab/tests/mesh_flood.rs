//! What do bad datagrams from everywhere do to those who belong here?
//!
//! The flood, both daemons, the stream and whoever else is on this machine share its cores, so what a host loses that is
//! given more than it has time for says nothing. The flood is held to what the machine carries beside the rest, and each
//! run prints what it was.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    net::{SocketAddr, SocketAddrV4, UdpSocket},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant, SystemTime},
};

use data_encoding::BASE64;
use mesh_core::{
    peer::{
        keys::{Addressee, KeyConfig, SessionKeys},
        session::Session,
        table::PeerIdx,
    },
    wireguard::{keypair::Uses, noise::public_key},
};
use mesh_wire::{WireGuardKey, psk::NetworkPsk, wireguard::Message};
use netlab::{Daemon, Discovery, Flood, Host, Junk, Lab, wait_until};
use serde_json::Value;

/// Datagrams of a flood a second: what this machine's two cores carry beside everything else. The guard's limit is a
/// hundred-and-fiftieth of it.
const RATE: u32 = 30_000;
/// Fewer than these show nothing.
const LEAST: f64 = 10_000.0;
/// A stream of 5,000 datagrams of 1,200 bytes a second, 48 Mbit/s. It is paced, because one that takes all that it can get
/// measures who else wants the cores.
const PACE: u32 = 5_000;
const HANDSHAKES: usize = 120;
/// How long a stream, or one kind of junk, is looked at.
const LOOK: Duration = Duration::from_secs(3);
/// The promise.
const IN_TIME: Duration = Duration::from_secs(2);

struct Scene {
    alice: Daemon,
    bob: Daemon,
    /// A member whose daemon has ended: the test goes on in its name.
    carol: Daemon,
    mallory: Host,
    _discovery: Discovery,
    _lab: Lab,
}

impl Scene {
    fn new(name: &str) -> Self {
        let lab = Lab::new(name).unwrap();
        let internet = lab.internet();
        // Answers to made-up addresses get lost without a word.
        internet
            .router()
            .sh("ip route add blackhole default")
            .unwrap();
        let host = |name| {
            let host = internet.public_host(name).unwrap();
            host.sysctl("net.ipv4.conf.all.rp_filter", "0").unwrap();
            host.sysctl("net.ipv4.conf.eth0.rp_filter", "0").unwrap();
            host
        };
        let discovery = Discovery::start(&host("server")).unwrap();
        let [a, b, c, mallory] = ["a", "b", "c", "mallory"].map(host);
        internet
            .router()
            .sh("for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 > $f; done")
            .unwrap();
        let alice = Daemon::up(&a, &["--server", &discovery.url(), "--name", "alice"]).unwrap();
        let link = alice.join_link().unwrap();
        let bob = Daemon::up(&b, &["--join", &link, "--name", "bob"]).unwrap();
        let carol = Daemon::up(&c, &["--join", &link, "--name", "carol"]).unwrap();
        carol.first_echo(&alice, Duration::from_secs(5)).unwrap();
        carol.ask(&["down"]).unwrap();
        bob.first_echo(&alice, Duration::from_secs(5)).unwrap();
        bob.ask(&["ping", "alice", "-c", "10", "--until-direct"])
            .unwrap();
        Self {
            alice,
            bob,
            carol,
            mallory,
            _discovery: discovery,
            _lab: lab,
        }
    }

    fn flood(&self, junk: Junk) -> Flood {
        let target = SocketAddrV4::new(self.alice.host().address(), 7081);
        Flood::begin(&self.mallory, target, junk, RATE).unwrap()
    }

    fn counter(&self, reason: &str) -> u64 {
        let status = self.alice.status().unwrap();
        status["counters"][reason].as_u64().unwrap()
    }
}

fn stored(daemon: &Daemon, file: &str) -> Value {
    serde_json::from_slice(&fs::read(daemon.state_dir().join(file)).unwrap()).unwrap()
}

fn private_key(daemon: &Daemon) -> [u8; 32] {
    let text = stored(daemon, "identity.json")["wireguard_key"].clone();
    let bytes = BASE64.decode(text.as_str().unwrap().as_bytes()).unwrap();
    bytes.try_into().unwrap()
}

fn key_of(daemon: &Daemon) -> WireGuardKey {
    public_key(&private_key(daemon))
}

/// Begins sessions with alice as a daemon of carol's does that was just started: with nothing but the keys.
struct Newcomer {
    keys: SessionKeys,
    alice: WireGuardKey,
    psk: [u8; 32],
    socket: UdpSocket,
}

impl Newcomer {
    fn new(scene: &Scene) -> Self {
        let private = private_key(&scene.carol);
        let alice = key_of(&scene.alice);
        let psk = stored(&scene.carol, "network.json")["psk"].clone();
        let psk = NetworkPsk::from_text(psk.as_str().unwrap()).unwrap();
        let socket = scene.carol.host().namespace();
        let socket = socket.enter(|| UdpSocket::bind("0.0.0.0:0").unwrap());
        let socket = socket.unwrap();
        socket
            .connect((scene.alice.host().address(), 7081))
            .unwrap();
        let config = KeyConfig {
            private,
            uses: Uses {
                gcm: false,
                relay: false,
            },
            unix_time: SystemTime::UNIX_EPOCH.elapsed().unwrap(),
        };
        Self {
            psk: psk.session_psk(&public_key(&private), &alice),
            keys: SessionKeys::new(config, [3; 32], Instant::now()),
            alice,
            socket,
        }
    }

    /// How long a handshake takes; none if it is not over in time.
    fn handshake(&mut self) -> Option<Duration> {
        let index = PeerIdx::new(1);
        let mut session = Session::new(self.alice, index, self.psk, Duration::ZERO);
        let from: SocketAddr = self.socket.peer_addr().unwrap();
        let began = Instant::now();
        let mut buffer = [0; 2048];
        while began.elapsed() < IN_TIME {
            if let Some(message) = session.initiate(&mut self.keys, Instant::now()) {
                self.socket.send(&message).unwrap();
            }
            let _due = session.handle_timeout(Instant::now());
            let wait = session.poll_timeout().unwrap_or(began + IN_TIME);
            let wait = wait.min(began + IN_TIME);
            let wait = wait.saturating_duration_since(Instant::now());
            let wait = wait.max(Duration::from_millis(1));
            self.socket.set_read_timeout(Some(wait)).unwrap();
            let Ok(length) = self.socket.recv(&mut buffer) else {
                continue;
            };
            let (datagram, now) = (&buffer[..length], Instant::now());
            let Some(message) = Message::parse(datagram) else {
                continue;
            };
            let addressee = self.keys.addressee((from, datagram), &message, now);
            let Addressee::Session(_) = addressee else {
                continue;
            };
            if !session.take_cookie(&message, now) && session.finish(&self.keys, &message, now) {
                return Some(began.elapsed());
            }
        }
        None
    }
}

/// A stream from bob to alice that goes on until the scene is over.
#[derive(Default)]
struct Stream {
    stop: AtomicBool,
    sent: AtomicU64,
    received: AtomicU64,
}

impl Stream {
    fn send(&self, socket: &UdpSocket) {
        let (began, datagram) = (Instant::now(), [7; 1200]);
        while !self.stop.load(Relaxed) {
            let due = (began.elapsed().as_secs_f64() * f64::from(PACE)) as u64;
            while self.sent.load(Relaxed) < due {
                socket.send(&datagram).unwrap();
                self.sent.fetch_add(1, Relaxed);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn receive(&self, socket: &UdpSocket) {
        let mut buffer = [0; 2048];
        while !self.stop.load(Relaxed) {
            if socket.recv(&mut buffer).is_ok() {
                self.received.fetch_add(1, Relaxed);
            }
        }
    }

    /// The share that arrives while `work` is done.
    fn share_during<T>(&self, work: impl FnOnce() -> T) -> (f64, T) {
        let count = || [&self.received, &self.sent].map(|count| count.load(Relaxed) as f64);
        let before = count();
        let result = work();
        let after = count();
        ((after[0] - before[0]) / (after[1] - before[1]), result)
    }
}

/// Runs `work` beside a stream from bob to alice.
fn beside_stream(scene: &Scene, work: impl FnOnce(&Stream)) {
    let address = (scene.alice.ip().unwrap(), 5555);
    let near = scene.bob.host().namespace();
    let near = near.enter(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    let far = scene.alice.host().namespace();
    let far = far.enter(move || UdpSocket::bind(address).unwrap());
    let (near, far) = (near.unwrap(), far.unwrap());
    near.connect(address).unwrap();
    far.set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let stream = Stream::default();
    std::thread::scope(|threads| {
        threads.spawn(|| stream.send(&near));
        threads.spawn(|| stream.receive(&far));
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&stream)));
        stream.stop.store(true, Relaxed);
        if let Err(panic) = ended {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Nanoseconds of processor time that the thread of alice's daemon that moves packets has had.
fn worked(scene: &Scene) -> u64 {
    let tasks = format!("/proc/{}/task", scene.alice.process.pid());
    let tasks = fs::read_dir(tasks)
        .unwrap()
        .map(|task| task.unwrap().path());
    let of = |name: &str| {
        let named = |task: &std::path::PathBuf| {
            fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == name)
        };
        tasks.into_iter().find(named).unwrap()
    };
    let text = fs::read_to_string(of("dataplane").join("schedstat")).unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

/// Without a flood: the share of the stream that arrives, and nanoseconds of work a second.
fn calm_time(scene: &Scene, stream: &Stream) -> (f64, f64) {
    let (began, work) = (Instant::now(), worked(scene));
    let (share, ()) = stream.share_during(|| std::thread::sleep(LOOK));
    let work = (worked(scene) - work) as f64;
    (share, work / began.elapsed().as_secs_f64())
}

#[test]
fn made_up_handshakes_from_everywhere_keep_no_member_out_and_no_stream_down() {
    let scene = Scene::new("flood");
    let mut newcomer = Newcomer::new(&scene);
    let alone = newcomer.handshake().expect("no handshake without a flood");
    let key = key_of(&scene.alice);
    beside_stream(&scene, |stream| {
        let (before, calm) = calm_time(&scene, stream);
        let proofs = scene.counter("unproven_initiation");
        let flood = scene.flood(Junk::Initiations(key));
        let what = "alice is busy";
        wait_until(what, Duration::from_secs(5), || {
            Ok(scene.counter("unproven_initiation") > proofs)
        })
        .unwrap();
        let (began, work, sent) = (Instant::now(), worked(&scene), flood.sent());
        let (during, mut took) = stream.share_during(|| {
            let handshakes = (0..HANDSHAKES).map(|_| newcomer.handshake());
            handshakes.collect::<Vec<_>>()
        });
        let work = (worked(&scene) - work) as f64 - calm * began.elapsed().as_secs_f64();
        let each = work / (flood.sent() - sent) as f64 / 1e3;
        let rate = flood.end().unwrap();
        took.sort_unstable_by_key(|took| took.unwrap_or(Duration::MAX));
        let in_time = took.iter().flatten().count();
        println!(
            "{rate:.0} initiations/s, {each:.2} us each: {in_time} of {HANDSHAKES} handshakes within {IN_TIME:?}, median {:?}, before the flood {alone:?}; \
             the stream keeps {:.1} % of its packets, before {:.1} %",
            took[HANDSHAKES / 2],
            during * 100.0,
            before * 100.0
        );
        assert!(rate > LEAST, "no flood");
        assert!(in_time * 100 >= HANDSHAKES * 99, "{took:?}");
        assert!(during >= before * 0.8, "{during} of {before}");
    });
}

#[test]
fn other_junk_from_everywhere_is_counted_and_takes_little() {
    let scene = Scene::new("junk");
    beside_stream(&scene, |stream| {
        let (before, calm) = calm_time(&scene, stream);
        for (junk, reason) in [
            (Junk::Damaged, "refused_message"),
            (Junk::Noise, "unknown_datagram"),
            (Junk::Channels, "unknown_datagram"),
            (Junk::Stun, "refused_stun"),
        ] {
            let flood = scene.flood(junk);
            let counted = scene.counter(reason);
            let (began, work) = (Instant::now(), worked(&scene));
            let (during, ()) = stream.share_during(|| std::thread::sleep(LOOK));
            let work = (worked(&scene) - work) as f64 - calm * began.elapsed().as_secs_f64();
            let sent = flood.sent() as f64;
            let rate = flood.end().unwrap();
            let what = format!("most of the flood is counted as {reason}");
            wait_until(&what, Duration::from_secs(5), || {
                Ok((scene.counter(reason) - counted) as f64 > sent / 2.0)
            })
            .unwrap();
            println!(
                "{junk:?}: {rate:.0}/s, the stream keeps {:.1} %, before {:.1} %; {:.2} us each",
                during * 100.0,
                before * 100.0,
                work / sent / 1e3
            );
            assert!(rate > LEAST, "no flood");
            assert!(during >= before * 0.8, "{junk:?}: {during} of {before}");
        }
    });
}
