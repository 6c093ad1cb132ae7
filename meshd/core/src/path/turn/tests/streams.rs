use super::*;

const MS: Duration = Duration::from_millis(1);

fn over_tcp(number: u8) -> TurnServer {
    TurnServer {
        transport: Transport::Tcp,
        ..access(number, "right")
    }
}

/// The same server, as a discovery server's URL names it.
fn over_websocket(number: u8) -> TurnServer {
    TurnServer {
        address: ([0, 0, 0, 0], 443).into(),
        transport: Transport::WebSocket("https://mesh.example/".into()),
        ..access(number, "right")
    }
}

impl Client {
    /// What is asked of whoever holds connections.
    fn requests(&mut self) -> Vec<StreamRequest> {
        std::iter::from_fn(|| self.turn.poll_stream()).collect()
    }

    /// Lets time pass until a connection is asked for, while nobody answers; its name.
    fn until_opened(&mut self) -> StreamId {
        loop {
            self.now = self.turn.poll_timeout().unwrap().max(self.now);
            self.sends();
            if let Some(StreamRequest::Open { stream, .. }) = self.requests().first() {
                return *stream;
            }
        }
    }

    /// What is sent now through connections.
    fn says(&mut self) -> Vec<(StreamId, Vec<u8>)> {
        let mut transmit = TransmitQueue::new();
        self.turn
            .handle_timeout(self.now, &mut self.rng, |_| true, &mut transmit);
        let trains = transmit.trains().iter();
        let on_stream = trains.filter_map(|train| Some((train.route().stream?, train)));
        let all = on_stream.flat_map(|(stream, train)| {
            train.datagrams().map(move |bytes| (stream, bytes.to_vec()))
        });
        all.collect()
    }

    /// Answers what is asked next through a connection.
    fn reply_on(&mut self, stream: StreamId, number: u8, code: Option<u16>) {
        self.reply_at((server(number), stream), number, code);
    }

    fn reply_at(&mut self, (at, stream): (SocketAddr, StreamId), number: u8, code: Option<u16>) {
        let request = loop {
            self.now = self.turn.poll_timeout().unwrap().max(self.now);
            if let Some((on, request)) = self.says().pop() {
                assert_eq!(on, stream);
                break request;
            }
        };
        let answer = answer(&request, number, code, "right");
        assert!(self.hear_on(Some(stream), at, &answer));
    }

    /// Has an address through a connection, because nobody answers over UDP.
    fn on_stream() -> (Self, StreamId) {
        let mut client = Self::new(&[access(2, "right"), over_tcp(2)]);
        let stream = client.until_opened();
        client.reply_on(stream, 2, Some(401));
        client.reply_on(stream, 2, None);
        assert_eq!(client.turn.relayed(), Some(relayed(2)));
        (client, stream)
    }

    /// A server that is reached in a better way than ours answers, and again after five seconds; not before that ours is
    /// given up. It is the one with this number, over UDP.
    fn answers_for_long(&mut self, at: usize) {
        let news = |client: &mut Self| std::iter::from_fn(|| client.turn.poll_event()).last();
        news(self);
        let began = self.now;
        for last in [false, true] {
            let (to, question) = loop {
                let asked = self.sends();
                let to = self.turn.status()[at].server;
                let is_question = |(sent_to, bytes): &(SocketAddr, Vec<u8>)| {
                    *sent_to == to && bytes[..2] == [0, 3]
                };
                match asked.into_iter().find(is_question) {
                    Some(question) => break question,
                    None => self.now = self.turn.poll_timeout().unwrap().max(self.now),
                }
            };
            assert!(self.hear(to, &answer(&question, 2, Some(401), "right")));
            let told = news(self);
            match last {
                false => assert_eq!(told, Some(TurnEvent::BetterAnswers)),
                true => assert!(matches!(told, Some(TurnEvent::Lost(_))), "{told:?}"),
            }
        }
        let took = self.now - began;
        assert!((5000 * MS..8000 * MS).contains(&took), "{took:?}");
    }

    fn transport(&self) -> Option<Transport> {
        let servers = self.turn.status().into_iter();
        let mut relays = servers.filter(|server| server.relayed.is_some());
        relays.next().map(|server| server.transport)
    }
}

#[test]
fn nobody_is_asked_over_tcp_while_udp_answers() {
    let mut client = Client::new(&[over_tcp(2), access(2, "right")]);
    assert_eq!(client.reply(Some(401)), ALLOCATE);
    assert_eq!(client.reply(None), ALLOCATE);
    assert_eq!(client.transport(), Some(Transport::Udp));
    client.now += Duration::from_secs(2);
    client.sends();
    assert_eq!(client.requests(), []);
}

#[test]
fn a_connection_is_asked_for_when_udp_was_silent_for_a_second() {
    let mut client = Client::new(&[access(2, "right"), over_tcp(2)]);
    let began = client.now;
    client.until_opened();
    assert_eq!(client.now - began, 1000 * MS);
    let (client, _) = Client::on_stream();
    assert_eq!(client.transport(), Some(Transport::Tcp));
}

#[test]
fn what_is_relayed_goes_through_the_connection_and_comes_from_nowhere_else() {
    let (mut client, stream) = Client::on_stream();
    let peer = SocketAddr::from(PEER);
    let route = client.bind(peer, 1).unwrap();
    assert_eq!((route.dst, route.stream), (server(2), Some(stream)));
    let wrapped = data_indication_of(peer, &[7; 5]);
    let by = |stream| Contact {
        address: server(2),
        stream,
    };
    assert!(client.turn.unwrap(by(Some(stream)), &wrapped).is_some());
    assert_eq!(client.turn.unwrap(by(None), &wrapped), None);
    let other = StreamId(stream.0.saturating_add(1));
    assert_eq!(client.turn.unwrap(by(Some(other)), &wrapped), None);
}

#[test]
fn a_server_that_answers_over_udp_takes_the_place_of_a_connection() {
    let (mut client, stream) = Client::on_stream();
    // Until it was silent for long enough.
    while client.turn.status()[0].trouble.is_none() {
        client.now = client.turn.poll_timeout().unwrap().max(client.now);
        client.sends();
    }
    assert_eq!(client.transport(), Some(Transport::Tcp));
    client.turn.datagrams_pass(client.now);
    client.answers_for_long(0);
    assert_eq!(client.requests(), [StreamRequest::Close(stream)]);
    assert_eq!(client.reply(None), ALLOCATE);
    assert_eq!(client.transport(), Some(Transport::Udp));
    assert_eq!(client.turn.status()[0].trouble, None);
}

#[test]
fn an_allocation_whose_server_is_silent_over_udp_gives_way_within_a_second() {
    let mut client = Client::new(&[access(2, "right"), over_tcp(2)]);
    client.reply(Some(401));
    client.reply(None);
    client.now += 2000 * MS;
    let began = client.now;
    client.turn.doubt(&mut client.rng, client.now);
    let stream = client.until_opened();
    assert_eq!(client.now - began, 750 * MS);
    assert_eq!(
        client.transport(),
        Some(Transport::Udp),
        "until there is better"
    );
    client.reply_on(stream, 2, Some(401));
    client.reply_on(stream, 2, None);
    assert_eq!(client.transport(), Some(Transport::Tcp));
}

#[test]
fn an_answer_that_was_only_late_lets_go_of_the_connection() {
    let mut client = Client::new(&[access(2, "right"), over_tcp(2)]);
    client.reply(Some(401));
    client.reply(None);
    client.now += 2000 * MS;
    client.turn.doubt(&mut client.rng, client.now);
    let (to, refresh) = client.sends().remove(0);
    let stream = client.until_opened();
    client.now += 100 * MS;
    assert!(client.hear(to, &answer(&refresh, 2, None, "right")));
    assert_eq!(client.requests(), [StreamRequest::Close(stream)]);
    assert_eq!(client.transport(), Some(Transport::Udp));
}

#[test]
fn a_server_that_was_restarted_has_another_connection_at_once_and_one_that_only_closes_has_not() {
    let (mut client, stream) = Client::on_stream();
    client.now += Duration::from_secs(6);
    let turn = &mut client.turn;
    turn.on_stream_end(stream, Trouble::Closed, client.now, &mut client.rng);
    assert_eq!(client.turn.relayed(), None);
    let began = client.now;
    let second = client.until_opened();
    assert_ne!(second, stream);
    assert!(client.now - began <= 1000 * MS, "{:?}", client.now - began);
    client.reply_on(second, 2, Some(401));
    client.reply_on(second, 2, None);
    let (began, turn) = (client.now, &mut client.turn);
    turn.on_stream_end(second, Trouble::Closed, client.now, &mut client.rng);
    client.until_opened();
    assert!(client.now - began >= 5000 * MS, "{:?}", client.now - began);
}

#[test]
fn who_is_not_believed_or_not_there_is_left_alone() {
    for (trouble, pause) in [(Trouble::Untrusted, 30), (Trouble::Unreachable, 5)] {
        let mut client = Client::new(&[over_tcp(2)]);
        let stream = client.until_opened();
        let (began, turn) = (client.now, &mut client.turn);
        turn.on_stream_end(stream, trouble, client.now, &mut client.rng);
        assert_eq!(client.trouble(), Some(trouble));
        client.until_opened();
        assert_eq!(client.now - began, Duration::from_secs(pause), "{trouble}");
    }
}

#[test]
fn a_connection_from_an_address_that_is_gone_is_closed() {
    let (mut client, stream) = Client::on_stream();
    let elsewhere = [([10, 0, 0, 1], 7081).into()];
    client
        .turn
        .set_hosts(&elsewhere, client.now, &mut client.rng);
    assert_eq!(client.turn.relayed(), None);
    assert_eq!(client.requests(), [StreamRequest::Close(stream)]);
    assert_ne!(client.until_opened(), stream);
}

#[test]
fn a_websocket_is_asked_for_when_udp_and_tcp_were_silent_a_second_each() {
    let all = [over_websocket(2), over_tcp(2), access(2, "right")];
    for (servers, expected) in [(&all[..], [1000, 2000]), (&all[..2], [0, 1000])] {
        let mut client = Client::new(servers);
        let began = client.now;
        let opened = expected.map(|_| {
            client.until_opened();
            client.now - began
        });
        assert_eq!(opened, expected.map(|ms| ms * MS));
    }
    let mut client = Client::new(&all[..1]);
    let began = client.now;
    client.until_opened();
    assert_eq!(client.now, began, "where there is nothing else, at once");
}

#[test]
fn a_server_that_answers_over_tcp_needs_no_websocket() {
    let mut client = Client::new(&[over_websocket(2), over_tcp(2)]);
    let stream = client.until_opened();
    client.reply_on(stream, 2, Some(401));
    client.reply_on(stream, 2, None);
    client.now += Duration::from_secs(2);
    client.sends();
    assert_eq!(client.requests(), []);
    assert_eq!(client.transport(), Some(Transport::Tcp));
}

#[test]
fn a_server_that_answers_over_tcp_takes_the_place_of_a_websocket() {
    let mut client = Client::new(&[over_websocket(2), over_tcp(2)]);
    let tcp = client.until_opened();
    let turn = &mut client.turn;
    turn.on_stream_end(tcp, Trouble::Unreachable, client.now, &mut client.rng);
    let websocket = client.until_opened();
    let at = (over_websocket(2).address, websocket);
    client.reply_at(at, 2, Some(401));
    client.reply_at(at, 2, None);
    let transport = over_websocket(2).transport;
    assert_eq!(client.transport(), Some(transport.clone()));
    let tcp = client.until_opened();
    client.reply_on(tcp, 2, Some(401));
    // Its connection is not held until it is asked again.
    assert_eq!(client.requests(), [StreamRequest::Close(tcp)]);
    assert_eq!(client.transport(), Some(transport));
    let tcp = client.until_opened();
    client.reply_on(tcp, 2, Some(401));
    assert_eq!(client.requests(), [StreamRequest::Close(websocket)]);
    client.reply_on(tcp, 2, None);
    assert_eq!(client.transport(), Some(Transport::Tcp));
}

#[test]
fn what_one_websocket_refuses_another_one_may_grant() {
    // Both are reached by their names alone.
    let [first, mut second] = [2, 2].map(over_websocket);
    second.transport = Transport::WebSocket("https://other.example/".into());
    let mut client = Client::new(&[first.clone(), second.clone()]);
    client.sends();
    let opened = client.requests().into_iter().map(|request| match request {
        StreamRequest::Open { stream, .. } => stream,
        other => panic!("{other:?}"),
    });
    let opened: Vec<StreamId> = opened.collect();
    let [one, two] = opened[..] else {
        panic!("{opened:?}");
    };
    let mut answers = [
        (one, Some(401)),
        (one, Some(486)),
        (two, Some(401)),
        (two, None),
    ]
    .into_iter();
    let mut next = answers.next();
    while let Some((stream, code)) = next {
        let asked = client.says().into_iter().find(|(on, _)| *on == stream);
        match asked {
            Some((_, request)) => {
                let answer = answer(&request, 2, code, "right");
                assert!(client.hear_on(Some(stream), first.address, &answer));
                next = answers.next();
            }
            None => client.now = client.turn.poll_timeout().unwrap().max(client.now),
        }
    }
    assert_eq!(client.transport(), Some(second.transport));
}
