//! What happens to streams and downloads when a machine moves, its router forgets it, its cable is pulled, or it sleeps?
//! `cargo run --release -p netlab --bin roams` prints how long each takes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, thread, time::Duration};

use netlab::{Nat, Roam, Roaming, Talker};

const CONE: (Nat, Nat) = (Nat::PortRestricted, Nat::PortRestricted);
/// Several times what it takes, for a machine that is busy with other tests; without what is tested it takes far longer.
const SOON: Duration = Duration::from_secs(3);

#[allow(
    clippy::print_stdout,
    reason = "a figure for the reader of the test's output"
)]
fn is_back_soon(roaming: &mut Roaming, roam: Roam) {
    for talker in [Talker::Mover, Talker::Stayer] {
        let gap = roaming.gap(roam, talker).unwrap();
        println!("{}, {talker:?} talks: {} ms", roam.name(), gap.as_millis());
        assert!(
            gap < SOON,
            "{} while the {talker:?} talks: {gap:?}",
            roam.name()
        );
    }
}

#[test]
fn a_stream_goes_on_after_a_move_and_a_pulled_cable_whichever_side_talks() {
    let mut roaming = Roaming::new("roam", CONE).unwrap();
    for roam in [Roam::OtherNetwork, Roam::Flap] {
        is_back_soon(&mut roaming, roam);
    }
}

#[test]
fn a_stream_goes_on_after_the_routers_forget_it_and_after_a_sleep_whichever_side_talks() {
    let mut roaming = Roaming::new("rebinding", CONE).unwrap();
    for roam in [Roam::Rebinding, Roam::Sleep] {
        is_back_soon(&mut roaming, roam);
    }
}

#[test]
fn a_symmetric_nat_that_gives_new_ports_and_an_address_that_changes_are_followed() {
    let mut roaming = Roaming::new("symmetric", (Nat::FullCone, Nat::Symmetric)).unwrap();
    for roam in [Roam::Rebinding, Roam::OtherAddress] {
        is_back_soon(&mut roaming, roam);
    }
}

#[test]
fn a_download_survives_moves_and_arrives_whole() {
    let mut roaming = Roaming::new("download", CONE).unwrap();
    let folder = roaming.pair.alice.host().dir().join("files");
    fs::create_dir(&folder).unwrap();
    let words = (0..3_000_000_u32).flat_map(|word| word.wrapping_mul(2_654_435_761).to_le_bytes());
    fs::write(folder.join("file.bin"), words.collect::<Vec<u8>>()).unwrap();
    let share = [
        "share",
        "add",
        "files",
        folder.to_str().unwrap(),
        "--to",
        "all",
    ];
    roaming.pair.alice.ask(&share).unwrap();
    let url = format!("http://{}/files/file.bin", roaming.pair.alice.virtual_ip);
    let bob = roaming.pair.bob.host().clone();
    let download = thread::spawn(move || {
        bob.sh(&format!(
            "curl -sS -f --limit-rate 1M -m 50 -o file.bin {url}"
        ))
    });
    // Twelve seconds of download, and two moves within them.
    for roam in [Roam::OtherNetwork, Roam::Rebinding] {
        roaming.roam(roam).unwrap();
    }
    download.join().unwrap().unwrap();
    let sum = |file: &std::path::Path| {
        let line = roaming.pair.bob.host().run("sha256sum", [file]).unwrap();
        line.stdout.split(' ').next().unwrap().to_owned()
    };
    let fetched = roaming.pair.bob.host().dir().join("file.bin");
    assert_eq!(sum(&fetched), sum(&folder.join("file.bin")));
}
