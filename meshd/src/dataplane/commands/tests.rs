use mesh_wire::WireGuardKey;
use platform::readiness::Watch;

use super::*;

fn node(byte: u8) -> NodeId {
    NodeId::from_bytes([byte; 32])
}

fn entry(byte: u8) -> PeerEntry {
    PeerEntry {
        node_id: node(byte),
        wireguard_key: WireGuardKey::from_bytes([byte; 32]),
        virtual_ips: vec![[10, 0, 0, byte].into()],
        instance: 0,
        online: true,
        psk: [0; 32],
    }
}

/// Two threads with the ports 71 and 72.
fn two() -> (
    Commands,
    [mpsc::Receiver<Command>; 2],
    watch::Receiver<Arc<Owners>>,
) {
    let (owners, seen) = watch::channel(Arc::default());
    let inboxes = [71, 72].map(|port| Inbox::new(Watch::new().expect("a watch").1, port));
    let [(first, to_first), (second, to_second)] = inboxes;
    let commands = Commands::new(vec![first, second], owners);
    (commands, [to_first, to_second], seen)
}

#[tokio::test]
async fn each_thread_hears_of_its_own_peers_only() {
    let (commands, [mut first, mut second], owners) = two();
    let all = Command::SetPeers(vec![entry(2), entry(4)]);
    commands.send(all).await.expect("sent");
    let expected = Command::SetPeers(vec![entry(2), entry(4)]);
    assert_eq!(first.try_recv(), Ok(expected));
    assert_eq!(second.try_recv(), Ok(Command::SetPeers(Vec::new())));
    commands
        .send(Command::SetPeer(entry(3)))
        .await
        .expect("sent");
    commands
        .send(Command::RemovePeer(node(3)))
        .await
        .expect("sent");
    assert_eq!(second.try_recv(), Ok(Command::SetPeer(entry(3))));
    assert_eq!(second.try_recv(), Ok(Command::RemovePeer(node(3))));
    assert!(first.try_recv().is_err());
    let of = |last| owners.borrow().get(&[10, 0, 0, last].into()).copied();
    assert_eq!(
        [of(2), of(3), of(4), of(5)],
        [Some(0), Some(1), Some(0), None]
    );
}

#[tokio::test]
async fn each_thread_offers_its_own_port() {
    let (commands, threads, _owners) = two();
    let hosts = |port| Command::SetHosts(vec![([192, 0, 2, 1], port).into()]);
    commands.send(hosts(71)).await.expect("sent");
    for (mut thread, port) in threads.into_iter().zip([71, 72]) {
        assert_eq!(thread.try_recv(), Ok(hosts(port)));
    }
}

#[tokio::test]
async fn a_data_plane_that_has_ended_is_an_error() {
    let ended = Commands::unheard().send(Command::RemovePeer(node(1))).await;
    assert_eq!(ended, Err(Ended));
}
