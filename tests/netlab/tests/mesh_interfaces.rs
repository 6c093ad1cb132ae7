//! A machine with Wi-Fi and a cable: what happens to its streams and downloads when the better way comes up beside the one in
//! use, and when that one goes away?

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use netlab::{Home, Host, Nat, Roaming, Talker};

/// Of default routes, as a desktop's network manager gives them.
const CABLE: u32 = 100;
const WIFI: u32 = 600;
/// The promise of a move, and what one of four may take on a machine that is busy with other tests.
const PROMISED: Duration = Duration::from_secs(1);
const SOON: Duration = Duration::from_secs(3);

/// Bob has Wi-Fi at home, and can plug a cable in that leads elsewhere.
struct Scene {
    roaming: Roaming,
    wifi: Home,
    cable: Home,
}

impl Scene {
    fn new(name: &str) -> Self {
        let roaming = Roaming::new(name, (Nat::PortRestricted, Nat::PortRestricted)).unwrap();
        let internet = roaming.pair.lab.internet();
        let [wifi, cable] =
            ["wifi", "office"].map(|name| internet.home(name, Nat::PortRestricted).unwrap());
        let scene = Self {
            roaming,
            wifi,
            cable,
        };
        scene.start_over();
        scene
    }

    fn bob(&self) -> Host {
        self.roaming.pair.bob.host().clone()
    }

    /// Only Wi-Fi.
    fn start_over(&self) {
        let bob = self.bob();
        bob.sh("for device in eth0 eth1; do ! ip link show $device || ip link del $device; done")
            .unwrap();
        self.wifi.connect_beside(&bob, "eth0", WIFI).unwrap();
        let limit = Duration::from_secs(20);
        self.roaming
            .pair
            .bob
            .first_echo(&self.roaming.pair.alice, limit)
            .unwrap();
    }
}

/// The cable is plugged in.
fn cable_comes(bob: &Host, cable: &Home) -> Instant {
    cable.connect_beside(bob, "eth1", CABLE).unwrap();
    Instant::now()
}

/// Wi-Fi is out of reach.
fn wifi_goes(bob: &Host) -> Instant {
    let since = Instant::now();
    bob.sh("ip link del eth0").unwrap();
    since
}

#[allow(
    clippy::print_stdout,
    reason = "figures for the reader of the test's output"
)]
fn are_short(what: &str, gaps: &[Duration]) {
    println!("{what}: {gaps:?}");
    let long = gaps.iter().filter(|gap| **gap > PROMISED).count();
    assert!(long <= gaps.len() / 4, "{what}: {gaps:?}");
    assert!(gaps.iter().all(|gap| *gap < SOON), "{what}: {gaps:?}");
}

#[test]
fn a_stream_goes_over_to_the_cable_and_stays_there_whichever_side_talks() {
    let mut scene = Scene::new("interfaces");
    let (bob, cable) = (scene.bob(), scene.cable.clone());
    let (mut coming, mut going) = (Vec::new(), Vec::new());
    for talker in [Talker::Mover, Talker::Stayer, Talker::Mover, Talker::Stayer] {
        scene.start_over();
        let roaming = &mut scene.roaming;
        let calm = Duration::from_secs(2);
        let gap = roaming.gap_of(talker, |_| {
            thread::sleep(calm);
            Ok(cable_comes(&bob, &cable))
        });
        coming.push(gap.unwrap());
        let gap = roaming.gap_of(talker, |_| {
            thread::sleep(calm);
            Ok(wifi_goes(&bob))
        });
        going.push(gap.unwrap());
    }
    are_short("a better interface comes up", &coming);
    are_short("the other one goes away", &going);
}

#[test]
fn a_download_survives_both_on_one_connection_and_arrives_whole() {
    let scene = Scene::new("two-cables");
    let pair = &scene.roaming.pair;
    let folder = pair.alice.host().dir().join("files");
    fs::create_dir(&folder).unwrap();
    let words = (0..6_000_000_u32).flat_map(|word| word.wrapping_mul(2_654_435_761).to_le_bytes());
    fs::write(folder.join("file.bin"), words.collect::<Vec<u8>>()).unwrap();
    let folder = folder.to_str().unwrap();
    pair.alice
        .ask(&["share", "add", "files", folder, "--to", "all"])
        .unwrap();
    let url = format!("http://{}/files/file.bin", pair.alice.virtual_ip);
    let bob = scene.bob();
    let download = thread::spawn(move || {
        bob.sh(&format!(
            "curl -sS -f --limit-rate 1M -m 50 -w '%{{num_connects}}' -o file.bin {url}"
        ))
    });
    let bob = scene.bob();
    thread::sleep(Duration::from_secs(3));
    cable_comes(&bob, &scene.cable);
    thread::sleep(Duration::from_secs(3));
    wifi_goes(&bob);
    if download.is_finished() {
        panic!("it was over before the second move: {:?}", download.join());
    }
    assert_eq!(download.join().unwrap().unwrap().stdout, "1", "connections");
    let sum = |file: &str| bob.sh(&format!("sha256sum < {file}")).unwrap().stdout;
    assert_eq!(sum("file.bin"), sum(&format!("{folder}/file.bin")));
}
