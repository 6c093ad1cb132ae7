use super::*;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const FULL: usize = 1400;

/// A path with a machine at its end.
struct Path {
    mtu: PathMtu,
    now: Instant,
    start: Instant,
    rtt: Duration,
    /// Longer packets vanish; shorter ones too while it is 0.
    width: usize,
    /// Every so many probes one vanishes.
    loss: usize,
    under_way: Vec<(Instant, u64, Duration)>,
    probes: usize,
}

impl Path {
    fn new(width: usize, rtt: Duration) -> Self {
        let now = Instant::now();
        let mut mtu = PathMtu::new(FULL);
        mtu.follow(route(1), 77, now);
        Self {
            mtu,
            now,
            start: now,
            rtt,
            width,
            loss: usize::MAX,
            under_way: Vec::new(),
            probes: 0,
        }
    }

    /// Lets time pass while packets as long as the path is said to carry are sent, or none.
    fn run(&mut self, duration: Duration, busy: bool) -> &mut Self {
        let end = self.now + duration;
        while self.now < end {
            if busy {
                let len = self.mtu.shown();
                self.mtu.sent(len, self.now);
            }
            let now = self.now;
            let (arrived, rest) = self.under_way.drain(..).partition(|(at, ..)| *at <= now);
            self.under_way = rest;
            let arrived: Vec<_> = arrived;
            for (_, id, rtt) in arrived {
                assert!(self.mtu.answered(id, rtt, now));
            }
            if self.mtu.handle_timeout(now) {
                for (id, size) in self.mtu.probes() {
                    self.probes += 1;
                    if size <= self.width && !self.probes.is_multiple_of(self.loss) {
                        self.under_way.push((now + self.rtt, id, self.rtt));
                    }
                }
            }
            self.now += MS;
        }
        self
    }

    /// Runs until the path is known to carry `size`; returns how long after the start that was.
    fn until(&mut self, size: usize) -> Duration {
        while (self.mtu.proven(), self.mtu.shown()) != (size, size) || self.mtu.round.is_some() {
            self.run(MS, true);
            assert!(self.now < self.start + 60 * SECOND, "{:?}", self.mtu);
        }
        self.now - self.start
    }
}

fn route(last: u8) -> Route {
    Route::to(([192, 0, 2, last], 7081).into())
}

#[test]
fn a_clean_path_is_proven_within_one_round_trip_by_two_probes() {
    for rtt in [MS, 40 * MS, 200 * MS] {
        let mut path = Path::new(1500, rtt);
        assert_eq!(path.mtu.limit(), usize::MAX, "from the first packet on");
        assert!(path.until(FULL) <= rtt + 2 * MS);
        assert_eq!(path.probes, 2);
    }
}

#[test]
fn a_narrow_path_is_measured_to_the_byte_within_three_seconds() {
    for (width, rtt) in [
        (1220, MS),
        (1064, MS),
        (1200, 20 * MS),
        (1399, 20 * MS),
        (1065, 40 * MS),
        (1300, 80 * MS),
        (1064, 100 * MS),
    ] {
        let took = Path::new(width, rtt).until(width);
        assert!(took < 3 * SECOND, "{width} in {took:?}");
    }
}

#[test]
fn tcp_is_cut_to_what_passes_all_the_time() {
    let mut path = Path::new(1064, 40 * MS);
    while path.now < path.start + 3 * SECOND {
        path.run(MS, true);
        assert!(path.mtu.proven() <= 1064, "{:?}", path.mtu);
    }
}

#[test]
fn what_is_narrower_than_all_that_is_usual_is_found_as_well() {
    for width in [1000, 700, FLOOR] {
        let took = Path::new(width, 20 * MS).until(width);
        assert!(took < 8 * SECOND, "{width} in {took:?}");
    }
}

#[test]
fn a_path_that_gets_narrow_under_traffic_is_noticed_within_three_seconds() {
    for width in [1220, 1064] {
        let mut path = Path::new(1500, 20 * MS);
        path.until(FULL);
        path.run(30 * SECOND, true);
        path.start = path.now;
        path.width = width;
        while path.mtu.proven() > width {
            path.run(MS, true);
        }
        assert!(path.now - path.start < 3 * SECOND);
        path.until(width);
    }
}

#[test]
fn a_path_that_gets_wide_again_is_used_after_ten_minutes_of_traffic() {
    let mut path = Path::new(1220, 20 * MS);
    path.until(1220);
    path.run(60 * SECOND, true);
    path.width = 1500;
    path.run(620 * SECOND, true);
    assert_eq!(path.mtu.shown(), FULL);
    assert_eq!(path.mtu.limit(), usize::MAX);
}

#[test]
fn a_second_look_costs_no_packets() {
    let mut path = Path::new(1220, 20 * MS);
    path.until(1220);
    for _ in 0..1300 {
        path.run(500 * MS, true);
        assert_eq!((path.mtu.proven(), path.mtu.limit()), (1220, 1220));
    }
}

#[test]
fn without_long_packets_nothing_is_sent() {
    for width in [1500, 1220, 0] {
        let mut path = Path::new(width, 20 * MS);
        path.run(20 * SECOND, false);
        let before = path.probes;
        path.run(3600 * SECOND, false);
        assert_eq!(path.probes, before);
        assert!(!path.mtu.sent(100, path.now));
        assert_eq!(path.mtu.poll_timeout(), None);
    }
}

#[test]
fn under_traffic_a_known_path_is_asked_once_a_second() {
    let mut path = Path::new(1500, 20 * MS);
    path.until(FULL);
    let before = path.probes;
    path.run(60 * SECOND, true);
    let probes = path.probes - before;
    assert!((100..=120).contains(&probes), "{probes} in a minute");
}

#[test]
fn a_dead_path_says_nothing_of_lengths() {
    let mut path = Path::new(1500, 20 * MS);
    path.until(FULL);
    path.width = 0;
    path.run(60 * SECOND, true);
    assert_eq!((path.mtu.shown(), path.mtu.limit()), (FULL, usize::MAX));
    let mut path = Path::new(0, 20 * MS);
    path.run(60 * SECOND, true);
    assert_eq!(path.mtu.limit(), usize::MAX, "a peer that does not answer");
    assert!(path.probes < 100, "{} probes", path.probes);
}

#[test]
fn random_loss_takes_no_path_for_narrow_for_long() {
    for loss in [2, 3, 4, 5, 7, 11] {
        let mut path = Path::new(1500, 20 * MS);
        path.loss = loss;
        path.run(120 * SECOND, true);
        let mut narrow = Duration::ZERO;
        for _ in 0..600 {
            path.run(100 * MS, true);
            if path.mtu.shown() < FULL {
                narrow += 100 * MS;
            }
        }
        assert!(narrow < 5 * SECOND, "1 of {loss}: narrow for {narrow:?}");
    }
}

#[test]
fn bad_luck_with_the_control_does_not_end_the_measurement() {
    for lost in 1..12 {
        let mut path = Path::new(1220, 20 * MS);
        // The path is dead for a while, from a different moment each time.
        path.run(lost * 25 * MS, true);
        path.width = 0;
        path.run(500 * MS, true);
        path.width = 1220;
        path.run(30 * SECOND, true);
        assert_eq!(path.mtu.shown(), 1220, "{lost}");
    }
}

#[test]
fn what_a_router_says_is_believed_at_once_and_tested() {
    let mut path = Path::new(1220, 50 * MS);
    path.run(10 * MS, true);
    path.mtu.claimed(1220, path.now);
    assert_eq!((path.mtu.proven(), path.mtu.limit()), (1220, 1220));
    let took = path.until(1220);
    assert!(took < 700 * MS, "{took:?}");
}

#[test]
fn a_false_claim_lasts_for_one_round_trip() {
    let mut path = Path::new(1500, 50 * MS);
    path.until(FULL);
    path.mtu.claimed(FLOOR, path.now);
    assert_eq!(path.mtu.limit(), FLOOR);
    path.run(60 * MS, true);
    assert_eq!((path.mtu.proven(), path.mtu.limit()), (FULL, usize::MAX));
    for nonsense in [0, FLOOR - 1, FULL, FULL + 1, usize::MAX] {
        path.mtu.claimed(nonsense, path.now);
        assert_eq!(path.mtu.limit(), usize::MAX, "{nonsense}");
    }
}

#[test]
fn another_path_begins_anew_and_answers_to_the_old_one_count_no_more() {
    let mut path = Path::new(1220, 50 * MS);
    path.until(1220);
    let now = path.now;
    path.mtu.follow(route(2), 78, now);
    assert_eq!(path.mtu.limit(), usize::MAX);
    let old = MARK | u64::from(77_u32 >> 1) << 32 | 1 << 16 | 1400;
    assert!(path.mtu.answered(old, MS, now), "it is no ping of people's");
    assert_eq!(path.mtu.proven(), BASE);
    assert!(!path.mtu.answered(1400, MS, now));
    path.mtu.forget();
    assert_eq!(path.mtu.poll_timeout(), None);
    assert!(!path.mtu.sent(FULL, now), "no session, no timer");
}

#[test]
fn an_interface_that_takes_little_is_enough() {
    for full in [FLOOR - 10, 576, BASE] {
        let mut path = Path::new(1500, 20 * MS);
        path.mtu = PathMtu::new(full);
        path.mtu.follow(route(1), 1, path.now);
        assert!(path.until(full) < 40 * MS);
    }
}
