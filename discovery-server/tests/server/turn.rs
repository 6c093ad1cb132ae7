//! Who may be relayed, to whom, and how much? Asked with raw messages and with coturn's client; on loopback, where members
//! reach each other's relayed addresses only. `tests/netlab` has the rest.

mod client;
mod trains;
mod websocket;

use std::{
    net::{SocketAddr, TcpStream, UdpSocket},
    process::Command,
    time::Duration,
};

use mesh_wire::discovery::TurnAccess;
use reqwest::Method;
use tokio::time::{Instant, sleep};

use self::client::{
    ALLOCATE, Answer, BINDING, CHANNEL_BIND, CREATE_PERMISSION, Client, REFRESH, attribute, peer,
};
use crate::harness::{DEADLINE, Events, Net, Node, Server, within};

/// A network with one member that is connected.
struct Scene {
    server: Server,
    net: Net,
    member: Node,
    events: Events,
}

impl Scene {
    async fn new() -> Self {
        let server = Server::start();
        let net = Net::on(&server, "home", "10.100.0.0/24").await;
        let member = Node::new(1, "alice");
        let events = member_of(&server, &net, &member).await;
        Self {
            server,
            net,
            member,
            events,
        }
    }

    fn access(&self) -> TurnAccess {
        self.events.turn.clone().unwrap()
    }

    fn client(&self) -> Client {
        Client::udp(self.server.stun, Some(self.access()))
    }
}

/// Registers and connects a member, until it was handed what it needs for TURN.
async fn member_of(server: &Server, net: &Net, node: &Node) -> Events {
    node.join(server, net, 1).await;
    let mut events = Events::open_as(server, net, node).await;
    take_turn(&mut events, node).await;
    events
}

/// A signal to itself is answered at once, behind what came before it.
async fn take_turn(events: &mut Events, node: &Node) {
    while events.turn.is_none() {
        events.signal(node, "ping").await;
        events.next().await;
    }
}

async fn turn_metric(server: &Server, line: &str) -> u64 {
    server.metric(&format!("discovery_turn_{line}")).await
}

/// Waits for a metric, but not for ever.
async fn until_metric(server: &Server, line: &str, wanted: u64) {
    let end = Instant::now() + DEADLINE;
    while turn_metric(server, line).await != wanted {
        assert!(Instant::now() < end, "{line} did not become {wanted}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn members_are_handed_credentials_and_nobody_else_is() {
    let scene = Scene::new().await;
    let access = scene.access();
    let expires = format!("{}:{}", access.expires_at, scene.member.id());
    assert_eq!(access.username, expires);
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    assert!((now + 3_500..=now + 3_600).contains(&access.expires_at));
    let port = scene.server.stun.port();
    assert_eq!((access.udp_port, access.tcp_port), (Some(port), Some(port)));
    // Who only watches hears of the member and is handed nothing.
    let mut watcher = Events::open(&scene.server, &scene.net).await;
    let bob = Node::new(2, "bob");
    bob.join(&scene.server, &scene.net, 1).await;
    watcher.next().await;
    assert!(watcher.turn.is_none());
    let log = scene.server.log();
    assert!(
        !log.contains(access.password.expose()),
        "a password in the log"
    );
}

#[tokio::test]
async fn a_server_without_turn_hands_out_nothing_and_answers_binding_only() {
    let server = Server::start_with(&["--no-turn"]);
    let net = Net::on(&server, "home", "10.100.0.0/24").await;
    let node = Node::new(1, "alice");
    node.join(&server, &net, 1).await;
    let mut events = Events::open_as(&server, &net, &node).await;
    for _ in 0..3 {
        events.signal(&node, "ping").await;
        events.next().await;
    }
    assert!(events.turn.is_none());
    let mut client = Client::udp(server.stun, None);
    client.send(ALLOCATE, &[attribute(0x0019, &[17, 0, 0, 0])]);
    // Datagrams on loopback keep their order: the first answer is that to the request behind.
    client.send(BINDING, &[]);
    assert_eq!(client.receive().unwrap().method, BINDING);
    let metrics = server.get("/metrics", "").await.text().await.unwrap();
    assert!(!metrics.contains("discovery_turn"), "{metrics}");
}

#[tokio::test]
async fn strangers_are_refused_with_little_and_garbage_is_not_answered() {
    let scene = Scene::new().await;
    let mut stranger = Client::udp(scene.server.stun, None);
    for attributes in [vec![], vec![attribute(0x0019, &[17, 0, 0, 0])]] {
        for method in [ALLOCATE, REFRESH, CREATE_PERMISSION, CHANNEL_BIND] {
            let asked = stranger.send(method, &attributes);
            let answer = stranger.receive().unwrap();
            assert_eq!(answer.code, Some(401));
            assert!(answer.length <= 3 * asked, "{} for {asked}", answer.length);
        }
    }
    // A made-up user, a made-up password, a user name with a later end.
    let access = scene.access();
    for (username, password) in [
        ("admin", "admin"),
        (access.username.as_str(), "admin"),
        (
            &access.username.replacen('1', "2", 1),
            access.password.expose(),
        ),
    ] {
        let mut client = Client::udp(scene.server.stun, None);
        client.be(username, password);
        assert_eq!(client.allocate().code, Some(401), "{username}");
    }
    let mut client = scene.client();
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0x40, 0, 0, 0],
        &[0x40, 0, 0xFF, 0xFF, 1],
        &[0, 3, 0, 0, 0x21, 0x12, 0xA4, 0x42],
        &[0x16; 100],
    ] {
        client.send_raw(garbage);
    }
    client.send(BINDING, &[]);
    assert_eq!(client.receive().unwrap().method, BINDING);
    assert_eq!(turn_metric(&scene.server, "allocations").await, 0);
}

#[tokio::test]
async fn a_nonce_is_good_at_the_address_it_was_given_to_only() {
    let scene = Scene::new().await;
    let (mut first, mut second) = (scene.client(), scene.client());
    assert_eq!(first.allocate().code, None);
    second.nonce = first.nonce.clone();
    let asked = second.send(ALLOCATE, &[attribute(0x0019, &[17, 0, 0, 0])]);
    let answer = second.receive().unwrap();
    assert_eq!(answer.code, Some(438));
    assert!(answer.length <= asked);
    // With the one that the refusal brought it works.
    assert_eq!(second.allocate().code, None);
}

#[tokio::test]
async fn a_member_has_ten_allocations_at_once() {
    let scene = Scene::new().await;
    let mut clients: Vec<Client> = (0..10).map(|_| scene.client()).collect();
    for client in &mut clients {
        assert_eq!(client.allocate().code, None);
    }
    let mut one_more = scene.client();
    assert_eq!(one_more.allocate().code, Some(486));
    assert_eq!(turn_metric(&scene.server, "allocations").await, 10);
    // Another member has its own; and one that is given back may be taken again.
    let bob = Node::new(2, "bob");
    let events = member_of(&scene.server, &scene.net, &bob).await;
    let mut other = Client::udp(scene.server.stun, events.turn.clone());
    assert_eq!(other.allocate().code, None);
    let lifetime = attribute(0x000D, &[0; 4]);
    assert_eq!(clients[0].request(REFRESH, &[lifetime]).code, None);
    assert_eq!(one_more.allocate().code, None);
    let refused = turn_metric(&scene.server, "refused_total{code=\"486\"}").await;
    assert_eq!(refused, 1);
}

#[tokio::test]
async fn lifetimes_are_bounded_and_a_repeated_request_gets_the_same_answer() {
    let scene = Scene::new().await;
    let mut client = scene.client();
    let transport = attribute(0x0019, &[17, 0, 0, 0]);
    let long = attribute(0x000D, &100_000_u32.to_be_bytes());
    let made = client.request(ALLOCATE, &[transport.clone(), long.clone()]);
    assert_eq!((made.code, made.lifetime), (None, Some(3_600)));
    // As if the answer had been lost.
    client.send_again();
    let again = client.receive().unwrap();
    assert_eq!((again.code, again.relayed), (None, made.relayed));
    assert_eq!(client.allocate().code, Some(437));
    assert_eq!(client.request(REFRESH, &[long]).lifetime, Some(3_600));
    assert_eq!(client.request(REFRESH, &[]).lifetime, Some(600));
    // TCP is not relayed, IPv6 not where the server has none, and what is not understood is named.
    let mut other = scene.client();
    let tcp = attribute(0x0019, &[6, 0, 0, 0]);
    assert_eq!(other.request(ALLOCATE, &[tcp]).code, Some(442));
    let v6 = attribute(0x0017, &[2, 0, 0, 0]);
    let asked = [transport.clone(), v6];
    assert_eq!(other.request(ALLOCATE, &asked).code, Some(440));
    // An even port can be had, and the one after it not be kept; that a packet is not cut up is not promised.
    let asked = [transport.clone(), attribute(0x0018, &[0x80])];
    assert_eq!(other.request(ALLOCATE, &asked).code, Some(508));
    let asked = [transport.clone(), attribute(0x001A, &[])];
    assert_eq!(other.request(ALLOCATE, &asked).code, Some(420));
    for _ in 0..8 {
        let asked = [transport.clone(), attribute(0x0018, &[0])];
        let mut even = scene.client();
        let port = even.request(ALLOCATE, &asked).relayed.unwrap().port();
        assert_eq!(port % 2, 0);
        let end = [attribute(0x000D, &[0; 4])];
        assert_eq!(even.request(REFRESH, &end).code, None);
    }
    assert_eq!(other.request(ALLOCATE, &[]).code, Some(400));
}

#[tokio::test]
async fn forbidden_peers_are_refused_however_they_are_written() {
    let scene = Scene::new().await;
    let mut client = scene.client();
    let made = client.allocate().relayed.unwrap();
    for forbidden in [
        "127.0.0.1:9999",
        "127.0.0.2:9999",
        "0.0.0.0:9999",
        "10.0.0.1:9999",
        "172.16.0.1:9999",
        "192.168.0.1:9999",
        "100.64.0.1:9999",
        "169.254.169.254:80",
        "224.0.0.1:9999",
        "255.255.255.255:9999",
        "198.51.100.1:53",
        "[::ffff:127.0.0.1]:9999",
        "[::ffff:10.0.0.1]:9999",
        "[::127.0.0.1]:9999",
        "[64:ff9b::7f00:1]:9999",
        "[64:ff9b::a00:1]:9999",
        // NAT64 with a prefix of the site's own (RFC 8215).
        "[64:ff9b:1::7f00:1]:9999",
        "[64:ff9b:1::a00:1]:9999",
        "[::1]:9999",
        "[fe80::1]:9999",
        "[fd00::1]:9999",
    ] {
        let address: SocketAddr = forbidden.parse().unwrap();
        let asked = [peer(address)];
        let answer = client.request(CREATE_PERMISSION, &asked);
        assert_eq!(answer.code, Some(403), "{forbidden}");
        let asked = [attribute(0x000C, &[0x40, 0, 0, 0]), peer(address)];
        let answer = client.request(CHANNEL_BIND, &asked);
        assert_eq!(answer.code, Some(403), "{forbidden}");
    }
    // 6to4 (RFC 3056) and Teredo (RFC 4380) to 127.0.0.1 and 10.0.0.1: addresses of the other family than the relayed one.
    for other_family in [
        "[2002:7f00:1::1]:9999",
        "[2002:a00:1::1]:9999",
        "[2001:0:c633:6401::80ff:fffe]:9999",
        "[2001:0:c633:6401::f5ff:fffe]:9999",
    ] {
        let asked = [peer(other_family.parse().unwrap())];
        let answer = client.request(CREATE_PERMISSION, &asked);
        assert_eq!(answer.code, Some(443), "{other_family}");
    }
    // One among allowed ones spoils them all.
    let allowed: SocketAddr = "198.51.100.1:9999".parse().unwrap();
    let asked = [peer(allowed), peer("10.0.0.1:9999".parse().unwrap())];
    assert_eq!(client.request(CREATE_PERMISSION, &asked).code, Some(403));
    assert_eq!(
        client.request(CREATE_PERMISSION, &[peer(allowed)]).code,
        None
    );
    // The server's own port, by way of a permission for another client's relayed address on the same host.
    let mut other = scene.client();
    let theirs = other.allocate().relayed.unwrap();
    assert_eq!(theirs.ip(), made.ip());
    assert_eq!(
        client.request(CREATE_PERMISSION, &[peer(theirs)]).code,
        None
    );
    let dropped = "dropped_total{reason=\"forbidden_peer\"}";
    assert_eq!(turn_metric(&scene.server, dropped).await, 0);
    let witness = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.send_indication(witness.local_addr().unwrap(), b"hello");
    client.send_indication(scene.server.stun, b"hello");
    until_metric(&scene.server, dropped, 2).await;
    witness.set_nonblocking(true).unwrap();
    assert!(witness.recv_from(&mut [0; 16]).is_err());
}

#[tokio::test]
async fn a_permission_without_a_port_lets_no_program_of_the_servers_host_in() {
    let scene = Scene::new().await;
    let (mut one, mut two) = (scene.client(), scene.client());
    let at_one = one.allocate().relayed.unwrap();
    let at_two = two.allocate().relayed.unwrap();
    let own = |ip: &str| peer(SocketAddr::new(ip.parse().unwrap(), 0));
    // Where nobody is relayed it is refused, whether the host has the address or not.
    for ip in ["127.0.0.2", "10.0.0.1"] {
        let answer = one.request(CREATE_PERMISSION, &[own(ip)]);
        assert_eq!(answer.code, Some(403), "{ip}");
    }
    let answer = one.request(CREATE_PERMISSION, &[own("127.0.0.1")]);
    assert_eq!(answer.code, None);
    let program = UdpSocket::bind("127.0.0.1:0").unwrap();
    program.send_to(b"let me in", at_one).unwrap();
    let dropped = "dropped_total{reason=\"no_permission\"}";
    until_metric(&scene.server, dropped, 1).await;
    one.send_indication(program.local_addr().unwrap(), b"come out");
    let forbidden = "dropped_total{reason=\"forbidden_peer\"}";
    until_metric(&scene.server, forbidden, 1).await;
    // The other member's relayed address is what it is good for.
    let answer = two.request(CREATE_PERMISSION, &[peer(at_one)]);
    assert_eq!(answer.code, None);
    two.send_indication(at_one, b"hello");
    let heard = one.receive().unwrap().data.unwrap();
    assert_eq!(heard, (at_two, b"hello".to_vec()));
    program.set_nonblocking(true).unwrap();
    assert!(program.recv_from(&mut [0; 16]).is_err());
}

#[tokio::test]
async fn a_member_that_is_put_out_is_relayed_no_longer() {
    let scene = Scene::new().await;
    let mut client = scene.client();
    let mut connected = Client::tcp(scene.server.stun, Some(scene.access()));
    assert_eq!(client.allocate().code, None);
    assert_eq!(connected.allocate().code, None);
    assert_eq!(turn_metric(&scene.server, "allocations").await, 2);
    let path = scene.net.path(&format!("/peers/{}", scene.member.id()));
    let delete = scene
        .server
        .request(Method::DELETE, &path)
        .bearer_auth(scene.server.admin_token());
    let since = Instant::now();
    assert!(within(delete.send()).await.unwrap().status().is_success());
    assert_eq!(client.request(REFRESH, &[]).code, Some(401));
    assert_eq!(scene.client().allocate().code, Some(401));
    until_metric(&scene.server, "allocations", 0).await;
    // It takes a second; on a machine that is busy with other things, some more.
    assert!(since.elapsed() < Duration::from_secs(20));
    // Back again, it is handed another one that works.
    let mut back = member_of(&scene.server, &scene.net, &scene.member).await;
    take_turn(&mut back, &scene.member).await;
    let mut client = Client::udp(scene.server.stun, back.turn.clone());
    assert_eq!(client.allocate().code, None);
}

#[tokio::test]
async fn an_allocation_is_refreshed_with_the_next_credential_and_not_with_another_members() {
    let scene = Scene::new().await;
    let mut client = scene.client();
    assert_eq!(client.allocate().code, None);
    sleep(Duration::from_millis(1_100)).await;
    let next = Events::open_as(&scene.server, &scene.net, &scene.member);
    let mut next = next.await;
    take_turn(&mut next, &scene.member).await;
    let (old, new) = (scene.access(), next.turn.clone().unwrap());
    assert_ne!(old.username, new.username);
    client.be(&new.username, new.password.expose());
    assert_eq!(client.request(REFRESH, &[]).code, None);
    let bob = Node::new(2, "bob");
    let bob = member_of(&scene.server, &scene.net, &bob).await;
    let theirs = bob.turn.unwrap();
    client.be(&theirs.username, theirs.password.expose());
    assert_eq!(client.request(REFRESH, &[]).code, Some(441));
}

#[tokio::test]
async fn a_tcp_connection_that_is_no_turn_is_closed_and_its_allocation_ends_with_it() {
    let scene = Scene::new().await;
    let mut client = Client::tcp(scene.server.stun, Some(scene.access()));
    client.send(BINDING, &[]);
    assert_eq!(client.receive().unwrap().method, BINDING);
    assert_eq!(client.allocate().code, None);
    drop(client);
    until_metric(&scene.server, "allocations", 0).await;
    let mut client = Client::tcp(scene.server.stun, None);
    client.send_raw(b"GET / HTTP/1.1\r\n\r\n");
    assert!(client.receive().is_none());
    // From one source, so many at once and no more.
    let held: Vec<TcpStream> = (0..64)
        .map(|_| TcpStream::connect(scene.server.stun).unwrap())
        .collect();
    let mut one_more = Client::tcp(scene.server.stun, None);
    one_more.send(BINDING, &[]);
    assert!(one_more.receive().is_none());
    drop(held);
}

#[tokio::test]
async fn a_silent_tcp_connection_is_closed_unless_it_has_an_allocation() {
    let scene = Scene::new().await;
    let mut relayed = Client::tcp(scene.server.stun, Some(scene.access()));
    assert_eq!(relayed.allocate().code, None);
    let mut idle = Client::tcp(scene.server.stun, None);
    idle.send(BINDING, &[]);
    assert_eq!(idle.receive().unwrap().method, BINDING);
    // Half a message does not count.
    idle.send_raw(&[0, 1, 0, 0, 0x21]);
    let since = Instant::now();
    assert!(idle.receive().is_none());
    assert!(since.elapsed() < DEADLINE);
    assert_eq!(relayed.request(REFRESH, &[]).code, None);
}

#[tokio::test]
async fn data_goes_both_ways_between_udp_and_tcp_clients() {
    let scene = Scene::new().await;
    let mut udp = scene.client();
    let mut tcp = Client::tcp(scene.server.stun, Some(scene.access()));
    let at_udp = udp.allocate().relayed.unwrap();
    let at_tcp = tcp.allocate().relayed.unwrap();
    // Nothing passes without the receiver's permission.
    assert_eq!(udp.request(CREATE_PERMISSION, &[peer(at_tcp)]).code, None);
    udp.send_indication(at_tcp, b"too early");
    let dropped = "dropped_total{reason=\"no_permission\"}";
    until_metric(&scene.server, dropped, 1).await;
    let bind = [attribute(0x000C, &[0x40, 1, 0, 0]), peer(at_udp)];
    assert_eq!(tcp.request(CHANNEL_BIND, &bind).code, None);
    udp.send_indication(at_tcp, b"hello");
    assert_eq!(tcp.receive_channel().unwrap(), (0x4001, b"hello".to_vec()));
    tcp.send_channel(0x4001, b"there");
    let answer: Answer = udp.receive().unwrap();
    assert_eq!(answer.data.unwrap(), (at_tcp, b"there".to_vec()));
}

/// coturn's client as two clients that send to each other through relayed addresses.
fn uclient(server: &Server, access: &TurnAccess, arguments: &[&str]) -> String {
    let output = Command::new("turnutils_uclient")
        .args(["-y", "-c", "-m", "2", "-n", "50", "-l", "1000"])
        .args(["-u", &access.username, "-w", access.password.expose()])
        .args(arguments)
        .args(["-p", &server.stun.port().to_string(), "127.0.0.1"])
        .output()
        .expect("turnutils_uclient of the Debian package coturn is needed");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[tokio::test]
async fn coturns_client_is_relayed_over_udp_and_tcp_and_not_with_a_wrong_password() {
    let scene = Scene::new().await;
    let access = scene.access();
    for (number, arguments) in [&[][..], &["-s"], &["-t"], &["-t", "-s"]]
        .into_iter()
        .enumerate()
    {
        let text = uclient(&scene.server, &access, arguments);
        assert!(
            text.contains("Total lost packets 0 (0.000000%)"),
            "{arguments:?}: {text}"
        );
        let relayed = turn_metric(&scene.server, "bytes_total{to=\"clients\"}").await;
        assert!(relayed > 100_000 * (number as u64 + 1) / 2, "{relayed}");
    }
    // It gives back nothing that it had over UDP.
    let left = turn_metric(&scene.server, "allocations").await;
    let mut wrong = access;
    wrong.password = mesh_wire::discovery::TurnPassword::new("wrong".to_owned());
    let text = uclient(&scene.server, &wrong, &[]);
    assert!(!text.contains("Total lost packets"), "{text}");
    assert_eq!(turn_metric(&scene.server, "allocations").await, left);
}
