//! The relay in WebSockets at the HTTP address.

use super::{client::attribute, *};

impl Scene {
    fn websocket(&self) -> Client {
        Client::websocket(self.server.http, Some(self.access()), &[])
    }
}

#[tokio::test]
async fn data_goes_both_ways_between_udp_and_websocket_clients_and_ends_with_the_connection() {
    let scene = Scene::new().await;
    assert!(scene.access().websocket, "members are told");
    let (mut udp, mut web) = (scene.client(), scene.websocket());
    web.send(BINDING, &[]);
    assert_eq!(web.receive().unwrap().method, BINDING);
    let at_udp = udp.allocate().relayed.unwrap();
    let at_web = web.allocate().relayed.unwrap();
    assert_eq!(udp.request(CREATE_PERMISSION, &[peer(at_web)]).code, None);
    let bind = [attribute(0x000C, &[0x40, 1, 0, 0]), peer(at_udp)];
    assert_eq!(web.request(CHANNEL_BIND, &bind).code, None);
    let mut expected = Vec::new();
    // Of every length, so that there is padding, and several in one piece.
    for length in 1..=40 {
        let data = vec![length; usize::from(length)];
        udp.send_indication(at_web, &data);
        expected.push((0x4001, data));
    }
    for expected in expected {
        assert_eq!(web.receive_channel().unwrap(), expected);
    }
    let several = [
        &[0x40, 1, 0, 3, 1, 2, 3, 0][..],
        &[0x40, 1, 0, 1, 9, 0, 0, 0],
    ]
    .concat();
    web.send_raw(&several);
    for expected in [&[1, 2, 3][..], &[9]] {
        let answer: Answer = udp.receive().unwrap();
        assert_eq!(answer.data.unwrap(), (at_web, expected.to_vec()));
    }
    assert_eq!(turn_metric(&scene.server, "allocations").await, 2);
    drop(web);
    until_metric(&scene.server, "allocations", 1).await;
}

#[tokio::test]
async fn in_a_websocket_too_a_member_has_ten_allocations_and_none_once_it_is_put_out() {
    let scene = Scene::new().await;
    let mut all: Vec<_> = (0..11).map(|_| scene.websocket()).collect();
    let codes: Vec<_> = all.iter_mut().map(|one| one.allocate().code).collect();
    assert_eq!(codes[..10], [None; 10]);
    assert_eq!(codes[10], Some(486));
    let path = scene.net.path(&format!("/peers/{}", scene.member.id()));
    let delete = scene.server.request(Method::DELETE, &path);
    let delete = delete.bearer_auth(scene.server.admin_token());
    assert!(within(delete.send()).await.unwrap().status().is_success());
    assert_eq!(all[0].request(REFRESH, &[]).code, Some(401));
    until_metric(&scene.server, "allocations", 0).await;
}

#[tokio::test]
async fn clients_of_one_proxys_address_are_not_taken_for_each_other() {
    let server = Server::start_with(&["--trusted-proxy", "127.0.0.1"]);
    let net = Net::on(&server, "home", "10.100.0.0/24").await;
    let alice = Node::new(1, "alice");
    let events = member_of(&server, &net, &alice).await;
    let access = events.turn.clone();
    let from = |address| [("x-forwarded-for", address)];
    let of = |address| Client::websocket(server.http, access.clone(), &from(address));
    let (mut one, mut same, mut other) = (of("192.0.2.1"), of("192.0.2.1"), of("192.0.2.2"));
    let places = [&mut one, &mut same, &mut other].map(|client| client.allocate().relayed.unwrap());
    assert!(places[0] != places[1] && places[1] != places[2]);
    assert_eq!(server.metric("discovery_turn_allocations").await, 3);
    // A proven one is not counted any more, others of its address are.
    let held: Vec<_> = (0..64)
        .map(|_| Client::websocket(server.http, None, &from("192.0.2.1")))
        .collect();
    let over = server.request(Method::GET, "/api/v1/turn");
    let over = over.header("x-forwarded-for", "192.0.2.1");
    assert_eq!(within(over.send()).await.unwrap().status(), 429);
    drop(held);
}

#[tokio::test]
async fn what_is_no_turn_ends_a_websocket() {
    let scene = Scene::new().await;
    let binding = [
        0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
    ];
    let too_long = vec![0x40; 17_000];
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        // Half a message: nothing is put together again.
        &binding[..12],
        &[&binding[..], &[0]].concat(),
        // Longer than anything that is relayed, and than a piece may be.
        &[&[0x40, 1, 0x30, 0][..], &[0; 0x3000]].concat(),
        &too_long,
    ] {
        let mut client = scene.websocket();
        client.send_raw(garbage);
        loop {
            match client.receive() {
                None => break,
                // What came before it still counts.
                Some(answer) => assert_eq!(answer.method, BINDING),
            }
        }
    }
    assert!(scene.server.metric("discovery_stun_garbage_total").await >= 4);
}

#[tokio::test]
async fn a_websocket_without_an_allocation_is_closed_whatever_it_says() {
    let scene = Scene::new().await;
    let (mut relayed, mut chatty) = (
        scene.websocket(),
        Client::websocket(scene.server.http, None, &[]),
    );
    assert_eq!(relayed.allocate().code, None);
    let since = Instant::now();
    loop {
        chatty.send(BINDING, &[]);
        if chatty.receive().is_none() {
            break;
        }
        assert!(since.elapsed() < DEADLINE, "it is held for ever");
        sleep(Duration::from_millis(200)).await;
    }
    assert!(since.elapsed() > Duration::from_secs(20), "{since:?}");
    assert_eq!(relayed.request(REFRESH, &[]).code, None);
}

#[tokio::test]
async fn who_does_not_read_is_let_go_and_holds_up_nobody() {
    let scene = Scene::new().await;
    let (mut udp, mut deaf) = (scene.client(), scene.websocket());
    let at_udp = udp.allocate().relayed.unwrap();
    let at_deaf = deaf.allocate().relayed.unwrap();
    assert_eq!(udp.request(CREATE_PERMISSION, &[peer(at_deaf)]).code, None);
    assert_eq!(deaf.request(CREATE_PERMISSION, &[peer(at_udp)]).code, None);
    let since = Instant::now();
    // Far more than all buffers on the way hold, until the server has had enough.
    while turn_metric(&scene.server, "allocations").await == 2 {
        for _ in 0..100 {
            udp.send_indication(at_deaf, &[7; 1_400]);
        }
        assert!(since.elapsed() < DEADLINE, "it is borne with for ever");
    }
    let dropped = "dropped_total{reason=\"congested\"}";
    assert!(turn_metric(&scene.server, dropped).await > 0);
    assert_eq!(udp.request(REFRESH, &[]).code, None);
}

#[tokio::test]
async fn a_page_is_not_a_relay_and_neither_is_a_server_without_turn() {
    let scene = Scene::new().await;
    let plain = scene.server.get("/api/v1/turn", "").await;
    assert_eq!(plain.status(), 400);
    assert!(plain.text().await.unwrap().contains("websocket-only"));
    // Another subprotocol, or none.
    let upgrade = scene.server.request(Method::GET, "/api/v1/turn").headers({
        let pairs = [
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-protocol", "chat"),
        ];
        let named = pairs.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        named.into_iter().collect()
    });
    let answer = within(upgrade.send()).await.unwrap();
    assert_eq!(answer.status(), 400);
    assert!(answer.text().await.unwrap().contains("subprotocol"));
    let without = Server::start_with(&["--no-turn"]);
    let answer = without.get("/api/v1/turn", "").await;
    assert_eq!(answer.status(), 404);
    assert!(answer.text().await.unwrap().contains("no-turn"));
}
