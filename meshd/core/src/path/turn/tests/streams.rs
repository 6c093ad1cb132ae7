use super::*;

const MS: Duration = Duration::from_millis(1);

fn over_tcp(number: u8) -> TurnServer {
    TurnServer {
        transport: Transport::Tcp,
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
        let request = loop {
            self.now = self.turn.poll_timeout().unwrap().max(self.now);
            if let Some((on, request)) = self.says().pop() {
                assert_eq!(on, stream);
                break request;
            }
        };
        let answer = answer(&request, number, code, "right");
        assert!(self.hear_on(Some(stream), server(number), &answer));
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
    let route = client.turn.bind(peer, &mut client.rng, client.now).unwrap();
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
    let asked = client.sends();
    let (to, question) = asked.last().unwrap();
    assert!(client.hear(*to, &answer(question, 2, Some(401), "right")));
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
