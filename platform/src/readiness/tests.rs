use super::*;
use crate::{
    testing::in_namespace,
    tun::{Tun, TunConfig},
    udp::{Destination, RecvBuffers, Report, SLOTS, UdpSocket},
};
use std::time::{Duration, Instant};

const LONG: Option<Duration> = Some(Duration::from_secs(10));
const SHORT: Option<Duration> = Some(Duration::from_millis(20));

async fn tun() -> Tun {
    let config = TunConfig {
        name: "mesh0".to_owned(),
        // Too small for IPv6, of which the system itself would have something to say.
        mtu: 1_200,
        addresses: vec!["10.9.0.1/24".parse().expect("an address")],
        offload: true,
        super_packet_segments: None,
        multi_queue: false,
    };
    Tun::create(&config).await.expect("create")
}

fn both(sockets: &[UdpSocket; 2]) -> ([Option<&UdpSocket>; 2], &[UdpSocket]) {
    (sockets.each_ref().map(Some), &[])
}

#[test]
fn each_source_is_told_from_the_others_for_as_long_as_it_has_something() {
    in_namespace(async || {
        let (mut watch, bell) = Watch::new().expect("watch");
        let tun = tun().await;
        let mut sockets = ["127.0.0.1:0", "[::1]:0"]
            .map(|address| UdpSocket::bind(address.parse().expect("an address")).expect("bind"));
        assert_eq!(
            watch.wait(&tun, both(&sockets), SHORT).expect("wait"),
            Ready::default()
        );
        for at in [0, 1] {
            let to = Destination {
                address: sockets[at].local_addr(),
                source_ip: None,
                ecn: 0,
                hop_limit: None,
            };
            sockets[at].try_send(to, b"hello", 5).expect("send");
            let mut expected = Ready::default();
            expected.sockets[at] = true;
            assert_eq!(
                watch.wait(&tun, both(&sockets), LONG).expect("wait"),
                expected
            );
            assert_eq!(
                watch.wait(&tun, both(&sockets), LONG).expect("again"),
                expected
            );
            let mut buffers = RecvBuffers::new();
            sockets[at]
                .try_recv(&mut buffers, SLOTS, |_, _| {})
                .expect("receive");
        }

        bell.ring();
        bell.ring();
        let rung = Ready {
            bell: true,
            ..Ready::default()
        };
        assert_eq!(
            watch
                .wait(&tun, ([None, Some(&sockets[1])], &[]), LONG)
                .expect("wait"),
            rung
        );
        assert_eq!(
            watch
                .wait(&tun, ([None, Some(&sockets[1])], &[]), SHORT)
                .expect("wait"),
            Ready::default()
        );
        let plain = std::net::UdpSocket::bind("10.9.0.1:0").expect("bind");
        plain.send_to(b"hello", "10.9.0.2:9").expect("send");
        let readable = Ready {
            tun: true,
            ..Ready::default()
        };
        assert_eq!(
            watch.wait(&tun, both(&sockets), LONG).expect("wait"),
            readable
        );
        assert!(
            watch
                .wait_writable(&sockets[0], Duration::ZERO)
                .expect("wait")
        );
    });
}

#[test]
fn a_bell_ends_a_wait_of_another_thread() {
    in_namespace(async || {
        let (mut watch, bell) = Watch::new().expect("watch");
        let tun = tun().await;
        let ringer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            bell.ring();
        });
        let begun = Instant::now();
        assert!(
            watch
                .wait(&tun, ([None, None], &[]), LONG)
                .expect("wait")
                .bell
        );
        assert!(begun.elapsed() < Duration::from_secs(9));
        ringer.join().expect("ring");
    });
}

#[test]
fn an_error_wakes_its_socket_until_it_is_taken_and_costs_no_datagram() {
    in_namespace(async || {
        let (mut watch, _bell) = Watch::new().expect("watch");
        let tun = tun().await;
        let bound = |at: &str| UdpSocket::bind(at.parse().expect("an address")).expect("bind");
        let (mut sockets, other) = ([bound("0.0.0.0:0"), bound("[::1]:0")], bound("127.0.0.1:0"));
        let to = |address| Destination {
            address,
            source_ip: None,
            ecn: 0,
            hop_limit: None,
        };
        let beyond = to("10.9.0.2:9".parse().expect("an address"));
        let closed = to("127.0.0.1:9".parse().expect("an address"));
        let refused = sockets[0].try_send(beyond, &[7; 1_300], 1_300);
        assert!(refused.is_err(), "longer than the interface takes");
        sockets[0].try_send(closed, b"knock", 5).expect("send");
        // The error that waits is told by the next send, and concerns another destination.
        sockets[0]
            .try_send(to(other.local_addr()), b"hello", 5)
            .expect("send");
        let ready = watch.wait(&tun, both(&sockets), LONG).expect("wait");
        assert_eq!(ready.errors, [true, false]);
        let Some(Report::TooLong(news)) = sockets[0].next_error() else {
            panic!("the system says why");
        };
        assert_eq!(
            (news.to.ip(), news.mtu, news.local),
            (beyond.address.ip(), 1_200, true)
        );
        // A send that fails for an earlier one's sake is tried twice, and so told twice.
        let rest: Vec<_> = std::iter::from_fn(|| sockets[0].next_error()).collect();
        let others = rest.iter().filter(|it| matches!(it, Report::Other));
        assert_eq!(others.count(), 1, "nobody is there: {rest:?}");
        assert!(rest.len() <= 2, "{rest:?}");
        assert!(
            watch
                .wait_writable(&sockets[0], Duration::ZERO)
                .expect("wait")
        );
        let ready = watch.wait(&tun, both(&sockets), SHORT).expect("wait");
        assert_eq!(ready, Ready::default());
        let mut got = Vec::new();
        let mut buffers = RecvBuffers::new();
        other
            .try_recv(&mut buffers, SLOTS, |_, bytes| got.extend_from_slice(bytes))
            .expect("receive");
        assert_eq!(got, b"hello");
    });
}

#[test]
fn of_sockets_beside_the_two_those_are_told_that_have_something() {
    in_namespace(async || {
        let (mut watch, _bell) = Watch::new().expect("watch");
        let tun = tun().await;
        let mut more = [(); 3]
            .map(|()| UdpSocket::bind("127.0.0.1:0".parse().expect("an address")).expect("bind"));
        let to = Destination {
            address: more[2].local_addr(),
            source_ip: None,
            ecn: 0,
            hop_limit: None,
        };
        more[0].try_send(to, b"hello", 5).expect("send");
        for _ in 0..2 {
            let ready = watch.wait(&tun, ([None, None], &more), LONG).expect("wait");
            assert_eq!(ready, Ready::default());
            let told: Vec<_> = watch
                .additional()
                .iter()
                .map(|found| (found.socket, found.error))
                .collect();
            assert_eq!(told, [(2, false)]);
        }
        let mut buffers = RecvBuffers::new();
        more[2]
            .try_recv(&mut buffers, SLOTS, |_, _| {})
            .expect("receive");
        watch
            .wait(&tun, ([None, None], &more), SHORT)
            .expect("wait");
        assert!(watch.additional().is_empty());
    });
}
