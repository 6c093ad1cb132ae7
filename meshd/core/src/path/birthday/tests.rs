use super::*;

const AIM: ([u8; 4], u16) = ([203, 0, 113, 9], 4000);

fn peer(number: u32) -> PeerIdx {
    PeerIdx::new(number)
}

/// Lets time pass for at most `limit`; what was to be sent, with the milliseconds since the beginning.
fn run(birthday: &mut Birthday, start: Instant, limit: Duration) -> (Vec<(u128, Act)>, bool) {
    let mut acts = Vec::new();
    while let Some(due) = birthday.attempt.as_ref().map(|attempt| attempt.next) {
        if due > start + limit {
            return (acts, false);
        }
        let over = birthday.handle_timeout(due);
        let at = (due - start).as_millis();
        acts.extend(std::iter::from_fn(|| birthday.poll_act()).map(|act| (at, act)));
        if over {
            return (acts, true);
        }
    }
    (acts, true)
}

/// The most that go out within any second.
fn most_in_a_second(acts: &[(u128, Act)]) -> usize {
    let datagrams = acts.iter().filter(|(_, act)| !matches!(act, Act::Tell(_)));
    let times: Vec<u128> = datagrams.map(|(at, _)| *at).collect();
    let within = |from: u128| {
        times
            .iter()
            .filter(|at| (from..from + 1000).contains(*at))
            .count()
    };
    times.iter().map(|from| within(*from)).max().unwrap_or(0)
}

fn asked(start: Instant) -> Birthday {
    let mut birthday = Birthday::default();
    birthday.ask((peer(1), 7), AIM.into(), start);
    birthday
}

#[test]
fn a_peer_that_does_not_answer_is_asked_three_times_and_no_socket_is_opened() {
    let start = Instant::now();
    let mut birthday = asked(start);
    let (acts, over) = run(&mut birthday, start, Duration::from_secs(10));
    assert!(over);
    let ask = Act::Tell(BirthdayStep::Ask);
    assert_eq!(acts, [(0, ask), (300, ask), (600, ask)]);
    assert_eq!(birthday.end(None), None);
    assert_eq!(birthday.poll_request(), None);
    assert!(birthday.may_begin(start));
}

#[test]
fn whoever_asked_opens_256_ports_tells_the_peer_and_checks_from_all_of_them_in_the_end() {
    let start = Instant::now();
    let mut birthday = asked(start);
    assert!(birthday.on_letter((peer(1), 7), BirthdayStep::Consent, start));
    assert_eq!(birthday.poll_request(), Some(SocketRequest::Begin(256)));
    birthday.on_sockets(Some((1..=300).collect()), start);
    let (acts, over) = run(&mut birthday, start, Duration::from_secs(10));
    assert!(over);
    let times = |wanted: fn(&Act) -> bool| -> Vec<u128> {
        acts.iter()
            .filter(|(_, act)| wanted(act))
            .map(|(at, _)| *at)
            .collect()
    };
    let shots = times(|act| matches!(act, Act::Shoot(_)));
    let told = times(|act| *act == Act::Tell(BirthdayStep::Open));
    let checks = times(|act| matches!(act, Act::Check(_)));
    assert_eq!((shots.len(), told.len(), checks.len()), (256, 3, 256));
    assert!(shots.last() < told.first());
    assert!(checks[0] >= told[0] + 1540, "the peer needs 1.54 s");
    assert!(*checks.last().unwrap() < 2500);
    assert!(most_in_a_second(&acts) <= 1000);
    assert_eq!(birthday.end(None), None);
    assert_eq!(birthday.poll_request(), Some(SocketRequest::End(None)));
    assert_eq!(birthday.additional(9), None);
}

#[test]
fn whoever_consented_sends_1536_probes_when_the_ports_are_open_and_not_before() {
    let start = Instant::now();
    let mut birthday = Birthday::default();
    birthday.consent((peer(1), 7), AIM.into(), (1..=2000).collect(), start);
    assert_eq!(birthday.poll_request(), Some(SocketRequest::Begin(0)));
    birthday.on_sockets(Some(Vec::new()), start);
    let consent = Some(Act::Tell(BirthdayStep::Consent));
    assert_eq!(birthday.poll_act(), consent);
    assert!(birthday.on_letter((peer(1), 7), BirthdayStep::Ask, start));
    assert_eq!(birthday.poll_act(), consent, "the first one was lost");
    assert!(!birthday.on_letter((peer(2), 7), BirthdayStep::Open, start));
    assert!(!birthday.on_letter((peer(1), 8), BirthdayStep::Open, start));
    assert_eq!(run(&mut birthday, start, Duration::from_secs(2)).0, []);
    assert!(birthday.on_letter((peer(1), 7), BirthdayStep::Open, start));
    let (acts, over) = run(&mut birthday, start, Duration::from_secs(10));
    assert!(over);
    let expected: Vec<Act> = (1..=1536).map(Act::Probe).collect();
    assert_eq!(
        acts.iter().map(|(_, act)| *act).collect::<Vec<_>>(),
        expected
    );
    assert!(most_in_a_second(&acts) <= 1000);
    assert_eq!(acts.last().unwrap().0, 76 * 20);
    assert_eq!(PROBES + 2 * usize::from(SOCKETS), 2048);
}

#[test]
fn a_consent_that_nothing_follows_ends() {
    let start = Instant::now();
    let mut birthday = Birthday::default();
    birthday.consent((peer(1), 7), AIM.into(), vec![1], start);
    birthday.on_sockets(Some(Vec::new()), start);
    assert!(run(&mut birthday, start, CONSENT).1);
}

#[test]
fn one_socket_that_a_check_came_to_is_kept_and_another_one_waits_for_its_turn() {
    let start = Instant::now();
    let mut birthday = asked(start);
    birthday.on_letter((peer(1), 7), BirthdayStep::Consent, start);
    birthday.on_sockets(Some((1..=256).collect()), start);
    let base = |port| SocketAddr::from(([192, 168, 1, 10], port));
    assert!(
        !birthday.may_adopt(peer(1), base(300), start),
        "not one of them"
    );
    assert!(!birthday.may_adopt(peer(2), base(9), start), "not the peer");
    assert!(birthday.may_adopt(peer(1), base(9), start));
    assert_eq!(birthday.adopt(base(9), start), None);
    assert!(!birthday.may_adopt(peer(1), base(10), start));
    let later = start + TRIAL;
    assert!(birthday.may_adopt(peer(1), base(10), later));
    assert_eq!(birthday.adopt(base(10), later), Some(base(9)));
    let port = NonZeroU16::new(10);
    assert_eq!(birthday.additional(10), port);
    assert_eq!(birthday.end(port), None);
    birthday.poll_request();
    assert_eq!(birthday.poll_request(), Some(SocketRequest::End(port)));
    assert_eq!(
        (birthday.additional(10), birthday.additional(9)),
        (port, None)
    );
    assert_eq!(birthday.base(peer(1)), Some(base(10)));
    birthday.tidy(|_, _| true, later);
    let idle = later + Duration::from_secs(40);
    birthday.tidy(|_, _| false, later + Duration::from_secs(20));
    birthday.tidy(|_, _| false, idle);
    let close = port.map(SocketRequest::Close);
    assert_eq!(birthday.poll_request(), close);
    assert_eq!(birthday.additional(10), None);
}

#[test]
fn eight_attempts_in_ten_minutes_are_all() {
    let start = Instant::now();
    let mut birthday = Birthday::default();
    let mut begun = 0;
    for number in 0..20 {
        if birthday.may_begin(start) {
            birthday.consent((peer(number), 1), AIM.into(), vec![1], start);
            assert!(!birthday.may_begin(start), "one at a time");
            birthday.on_sockets(Some(Vec::new()), start);
            birthday.end(None);
            begun += 1;
        }
    }
    assert_eq!(begun, MOST_ATTEMPTS);
    assert!(birthday.may_begin(start + pause::PAIR));
}

#[test]
fn where_another_thread_makes_an_attempt_none_begins() {
    let start = Instant::now();
    let mut birthday = asked(start);
    birthday.on_letter((peer(1), 7), BirthdayStep::Consent, start);
    birthday.on_sockets(None, start);
    assert_eq!(birthday.attempt(), None);
}

#[test]
fn a_pair_pauses_for_ten_minutes_after_an_attempt_and_a_minute_after_an_unanswered_question() {
    let (mut pause, now) = (Pause::default(), Instant::now());
    assert!(!pause.take_due(now));
    pause.relayed(now);
    assert!(!pause.take_due(now));
    let looks = (0..100).filter(|tenth| pause.take_due(now + Duration::from_millis(100 * tenth)));
    assert_eq!(looks.count(), 4);
    pause.relayed(now);
    pause.direct();
    assert_eq!(pause.poll_timeout(), None);
    pause.asked(now);
    assert!(!pause.is_over(now + Duration::from_secs(59)));
    assert!(pause.is_over(now + Duration::from_secs(60)));
    pause.began(now);
    assert!(!pause.is_over(now + Duration::from_secs(599)));
    assert!(pause.is_over(now + Duration::from_secs(600)));
}
