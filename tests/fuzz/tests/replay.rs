//! Does every target survive its corpus and what is near it?

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    str::from_utf8,
    time::Instant,
};

use fuzz::{TARGETS, mutate::mutate, node::feed, run};
use mesh_core::{
    DropReason,
    lan::{ip::IpHeader, mss, segment::Segments},
};
use mesh_wire::{
    carrier::Carrier,
    discovery::{ClientMessage, ServerMessage},
    join_link::JoinLink,
    lan::{Announcement, dns},
    letter::Letter,
    peer_info::PeerRecord,
    psk::NetworkPsk,
    relay::RelayFrame,
    routing,
    trust::{Certificate, Gossip, Revocation},
    wireguard::Message,
};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

/// Mutations per target: seconds in all.
const MUTATIONS: u64 = 4000;

fn corpus_directory(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target)
}

/// The files of a corpus, sorted by name, so that a mutation's number always means the same bytes.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let directory = corpus_directory(target);
    let entries = fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("read corpus {}: {error}", directory.display()));
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("a directory can be read").path())
        .collect();
    paths.sort();
    assert!(
        !paths.is_empty(),
        "the corpus {} is empty",
        directory.display()
    );
    paths
        .iter()
        .map(|path| fs::read(path).expect("a corpus holds readable files"))
        .collect()
}

fn replay(target: &str) {
    let corpus = corpus(target);
    for bytes in &corpus {
        survives(target, bytes);
        for cut in 0..bytes.len().min(600) {
            survives(target, &bytes[..cut]);
        }
    }
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for _ in 0..MUTATIONS {
        survives(target, &mutate(&corpus, &mut rng));
    }
}

/// Runs one input; when it breaks something, leaves it in a file and says where it belongs.
fn survives(target: &str, bytes: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| run(target, bytes))).is_ok() {
        return;
    }
    let found = std::env::temp_dir().join(format!("fuzz-{target}-{}", bytes.len()));
    fs::write(&found, bytes).expect("the temporary directory is writable");
    panic!(
        "target `{target}` fails on {}; mend it and move the file to {}",
        found.display(),
        corpus_directory(target).display()
    );
}

/// Some file of the target's corpus is accepted.
fn accepted(target: &str, accepts: fn(&[u8]) -> bool) {
    let count = corpus(target).iter().filter(|bytes| accepts(bytes)).count();
    assert!(count > 0, "nothing in the corpus of `{target}` is accepted");
}

/// Mutations of what is refused at the door never come further than the door.
#[test]
fn the_corpus_holds_what_is_accepted() {
    accepted("letter", |b| Letter::read(b).is_ok());
    accepted("join_link", |b| {
        from_utf8(b).is_ok_and(|t| JoinLink::parse(t).is_ok())
    });
    accepted("network_psk", |b| {
        from_utf8(b).is_ok_and(|t| NetworkPsk::from_text(t).is_ok())
    });
    accepted("certificate", |b| Certificate::read(b).is_ok());
    accepted("gossip", |b| Gossip::read(b).is_ok());
    accepted("turn", fuzz::turn::accepts);
    accepted("lan_announcement", |b| Announcement::read(b).is_ok());
    accepted("lan_packet", |b| {
        matches!(dns::read(b, "own"), dns::Heard::Answer(_))
    });
    accepted("revocation", |b| Revocation::read(b).is_ok());
    accepted("carrier", |b| Carrier::decode(b).is_ok());
    accepted("relay", |b| RelayFrame::parse(b).is_some());
    accepted("routing", |b| routing::Message::decode(b).is_ok());
    for kind in 1..=4 {
        let read = corpus("wireguard");
        let mut read = read.iter().filter(|b| b.first() == Some(&kind));
        assert!(read.any(|b| Message::parse(b).is_some()), "type {kind}");
    }
    accepted("peer_record", |b| {
        serde_json::from_slice::<PeerRecord>(b).is_ok()
    });
    for (count, target) in [(9, "server_message"), (2, "client_message")] {
        let corpus = corpus(target);
        let read = corpus.iter().filter(|b| {
            serde_json::from_slice::<ServerMessage>(b).is_ok()
                || serde_json::from_slice::<ClientMessage>(b).is_ok()
        });
        assert_eq!(read.count(), count, "{target}");
    }
    accepted("segments", |b| {
        Segments::parse(&mut b.to_vec()).is_ok_and(|s| s.count() > 1)
    });
    accepted("narrow", |b| {
        IpHeader::parse(&b[2..]).is_some_and(|ip| mss::is_syn(&b[2..], &ip))
    });
}

/// The same of what a whole node takes.
#[test]
fn the_corpus_holds_what_a_node_accepts() {
    accepted("node", |b| {
        let status = feed(b).status(Instant::now());
        status.peers.iter().any(|peer| peer.since_rx.is_some())
    });
    accepted("turn_relayed", |b| {
        let status = fuzz::relayed::feed(b).status(Instant::now());
        status.peers.iter().any(|peer| peer.since_rx.is_some())
    });
    let stun = |b: &Vec<u8>| {
        let counters = feed(b).status(Instant::now()).counters;
        counters.get(DropReason::RefusedStun) == 0
            && b.get(6..10) == Some(&[0x21, 0x12, 0xA4, 0x42])
    };
    assert!(
        corpus("node").iter().any(stun),
        "no STUN request of the peer is accepted"
    );
}

macro_rules! replayed {
    ($($test:ident: $target:literal),* $(,)?) => {
        $(
            #[test]
            fn $test() {
                replay($target);
            }
        )*

        #[test]
        fn every_target_is_replayed() {
            let replayed = [$($target),*];
            assert_eq!(TARGETS.map(|(name, _)| name), replayed);
        }
    };
}

replayed! {
    any_datagram_is_classified: "frame",
    any_letter_is_read_or_refused: "letter",
    any_join_link_is_read_or_refused: "join_link",
    any_server_address_is_read_or_refused: "server_address",
    any_carrier_is_read_or_refused: "carrier",
    any_wireguard_message_is_read_or_refused: "wireguard",
    any_relay_frame_is_read_or_refused: "relay",
    any_routing_message_is_read_or_refused: "routing",
    any_peer_record_is_read_or_refused: "peer_record",
    any_server_message_is_read_or_refused: "server_message",
    any_client_message_is_read_or_refused: "client_message",
    any_network_secret_is_read_or_refused: "network_psk",
    any_frame_from_the_tun_is_cut_or_refused: "segments",
    any_ip_header_is_read_or_refused: "ip_header",
    any_packet_is_made_to_fit_or_left_alone: "narrow",
    any_datagrams_leave_a_node_whole: "node",
    any_answer_of_a_stun_server_is_read_or_refused: "stun_answer",
    any_answer_to_a_question_about_a_nat_is_read_or_refused: "stun_question",
    any_certificate_is_read_or_refused: "certificate",
    any_revocation_is_read_or_refused: "revocation",
    any_gossip_is_read_or_refused: "gossip",
    any_message_to_the_relay_is_read_or_refused: "turn",
    anything_that_a_turn_server_sends_is_taken_or_refused: "turn_relayed",
    any_packet_of_the_lan_is_read_or_skipped: "lan_packet",
    any_announcement_is_read_or_refused: "lan_announcement",
}
