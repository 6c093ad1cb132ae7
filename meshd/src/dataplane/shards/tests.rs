use platform::readiness::Watch;

use super::*;

fn frame(destination: [u8; 4]) -> Vec<u8> {
    let mut frame = vec![0; VNET_HEADER + 20];
    let packet = &mut frame[VNET_HEADER..];
    packet[0] = 0x45;
    packet[3] = 20;
    packet[16..20].copy_from_slice(&destination);
    frame
}

/// What connects two threads, of which the first has 10.0.0.1 and the second 10.0.0.2.
fn two_threads() -> [Strays; 2] {
    let bells = [0, 1].map(|_| Watch::new().expect("a watch").1);
    let owners = watch::Sender::new(Arc::default());
    let mut strays = Strays::between(&bells, &owners);
    assert!(
        !strays[0].hand_over(&frame([10, 0, 0, 2])),
        "nobody is known yet"
    );
    let known = [([10, 0, 0, 1].into(), 0), ([10, 0, 0, 2].into(), 1)];
    owners.send_replace(Arc::new(Owners::from(known)));
    strays.iter_mut().for_each(Strays::refresh);
    strays.try_into().unwrap_or_else(|_| panic!("two"))
}

#[test]
fn a_packet_goes_to_the_thread_that_has_its_destination() {
    let [mut first, second] = two_threads();
    assert!(!first.hand_over(&frame([10, 0, 0, 1])), "our own");
    assert!(!first.hand_over(&frame([10, 0, 0, 9])), "nobody's");
    assert!(!first.hand_over(b"no frame"));
    assert!(first.hand_over(&frame([10, 0, 0, 2])));
    assert!(first.next().is_none());
    assert_eq!(second.next().as_deref(), Some(&frame([10, 0, 0, 2])[..]));
    assert!(second.next().is_none());
}

#[test]
fn a_thread_that_is_behind_costs_packets_and_no_memory() {
    let [mut first, second] = two_threads();
    for _ in 0..2 * STRAYS {
        assert!(first.hand_over(&frame([10, 0, 0, 2])));
    }
    assert_eq!(std::iter::from_fn(|| second.next()).count(), STRAYS);
    assert_eq!(usize::try_from(first.lost()), Ok(STRAYS));
}

#[test]
fn every_thread_has_about_its_share_of_the_peers() {
    let mut counts = [0; 3];
    for byte in 0..=255 {
        counts[thread_of(&NodeId::from_bytes([byte; 32]), 3)] += 1;
    }
    assert_eq!(counts, [86, 85, 85]);
}

#[tokio::test]
async fn one_status_tells_of_the_peers_of_all_threads() {
    let part = |byte| {
        let mut counters = mesh_core::node::event::Counters::default();
        counters.count(mesh_core::DropReason::NoRoute, 1);
        watch::channel(Arc::new(NodeStatus {
            routes: Vec::new(),
            turn: Vec::new(),
            peers: vec![mesh_core::PeerStatus {
                node_id: NodeId::from_bytes([byte; 32]),
                endpoint: None,
                via: Vec::new(),
                relayed: false,
                avoids_direct: false,
                transport: mesh_core::Transport::Udp,
                rtt: None,
                tx_bytes: 0,
                rx_bytes: 0,
                mtu: 1400,
                since_handshake: None,
                since_rx: None,
            }],
            reflexive: Vec::new(),
            stun_servers: Vec::new(),
            stun_silent: false,
            counters,
        }))
    };
    let ((first, first_seen), (_second, second_seen)) = (part(1), part(2));
    let (whole, mut merged) = watch::channel(first.borrow().clone());
    tokio::spawn(merge(vec![first_seen, second_seen], whole));
    merged.changed().await.expect("merged");
    let status = Arc::clone(&merged.borrow_and_update());
    assert_eq!(status.peers.len(), 2);
    assert_eq!(status.counters.get(mesh_core::DropReason::NoRoute), 2);
    first.send_modify(|part| Arc::make_mut(part).peers.clear());
    merged.changed().await.expect("merged again");
    assert_eq!(merged.borrow().peers.len(), 1);
}
