use std::collections::BTreeMap;

use mesh_wire::signal::Signal;

use super::*;

/// What a member says that wants others to be sent to: new credentials each time, and all the candidates that fit.
fn naming(number: u32, kind: &str, addresses: &[&str]) -> Signal {
    let candidate = |port: u32| {
        let address = addresses[port as usize % addresses.len()];
        format!(
            "candidate:1 1 udp 2130706431 {address} {} typ {kind}",
            1024 + port
        )
    };
    Signal {
        ufrag: format!("ufrag{number:05}"),
        pwd: "p".repeat(24),
        remote_ufrag: None,
        candidates: (0..32).map(|n| candidate(number * 32 + n)).collect(),
    }
}

/// Datagrams by destination while a member says this 20 times a second for a minute.
fn knocked_at(kind: &str, addresses: &[&str]) -> (BTreeMap<IpAddr, usize>, Station) {
    let begin = Instant::now();
    let mut station = Station::new(1, begin);
    station.tell(Command::SetPeers(vec![entry(2)]), begin);
    let mut sent = BTreeMap::new();
    for number in 0..1200 {
        let now = begin + Duration::from_millis(50) * number;
        let (from, signal) = (node_id(2), naming(number, kind, addresses));
        station.tell(Command::Signal { from, signal }, now);
        for step in [10, 20, 30, 40] {
            let now = now + Duration::from_millis(step);
            station.node.handle_timeout(now, &mut station.transmit);
        }
        for (to, _) in station.sent() {
            *sent.entry(to.ip()).or_default() += 1;
        }
    }
    (sent, station)
}

#[test]
fn a_member_that_names_a_victim_again_and_again_makes_nobody_flood_it() {
    let victim = "203.0.113.9";
    // Those behind a NAT are shot at too.
    for kind in ["host", "srflx raddr 0.0.0.0 rport 0"] {
        let (sent, station) = knocked_at(kind, &[victim]);
        // 20, and then one in 20 seconds, over all ports and agents; shots alone leave half.
        let checks = sent[&victim.parse().unwrap()];
        assert!((10..=23).contains(&checks), "{kind}: {checks} checks");
        let now = Instant::now() + Duration::from_secs(60);
        assert!(station.drops(DropReason::UnansweredCheck, now) > 0);
    }
}

#[test]
fn nothing_is_sent_to_where_no_peer_can_be() {
    for kind in ["host", "srflx raddr 0.0.0.0 rport 0"] {
        let (sent, station) = knocked_at(
            kind,
            &[
                "127.0.0.1",
                "169.254.169.254",
                "10.100.7.7",
                "224.0.0.251",
                "255.255.255.255",
                "0.0.0.0",
                "::1",
                "::ffff:127.0.0.1",
                "fe80::1",
                "ff02::fb",
            ],
        );
        assert_eq!(sent, BTreeMap::new());
        let now = Instant::now() + Duration::from_secs(60);
        assert_eq!(station.drops(DropReason::RefusedCandidate, now), 1200 * 32);
    }
}
