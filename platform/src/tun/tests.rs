use super::{segmenter::segment, *};
use crate::testing::{drop_net_admin, find, in_namespace, index_of, netlink, readable};
use std::{net::SocketAddr, time::Duration};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn config(name: &str, offload: bool) -> TunConfig {
    TunConfig {
        name: name.to_owned(),
        mtu: 1_380,
        addresses: ["10.9.0.1/24", "fd00:9::1/64"]
            .map(|address| address.parse().expect("an address"))
            .to_vec(),
        offload,
        super_packet_segments: None,
        multi_queue: false,
    }
}

#[test]
fn an_interface_lives_as_long_as_its_device() {
    in_namespace(async || {
        let tun = Tun::create(&config("mesh0", true)).await.expect("create");
        assert_eq!(tun.name(), "mesh0");
        assert!(find("mesh0").is_some());
        drop(tun);
        assert!(find("mesh0").is_none());
        // The name is free again at once.
        Tun::create(&config("mesh0", true)).await.expect("again");
    });
}

#[test]
fn this_kernel_merges_tcp_and_udp_when_asked() {
    in_namespace(async || {
        let with = Tun::create(&config("mesh0", true)).await.expect("create");
        assert!(with.offload());
        assert_eq!(
            with.device.merge(),
            Merge {
                tcp: true,
                udp: true
            }
        );
        drop(with);
        let without = Tun::create(&config("mesh0", false)).await.expect("create");
        assert!(!without.offload());
    });
}

#[test]
fn each_reason_to_fail_has_its_own_error() {
    in_namespace(async || {
        let _first = Tun::create(&config("mesh0", true)).await.expect("create");
        let error = Tun::create(&config("mesh0", true))
            .await
            .expect_err("taken");
        assert!(matches!(error, TunError::NameTaken { .. }), "{error}");
        let error = Tun::create(&config("lo", false)).await.expect_err("taken");
        assert!(matches!(error, TunError::NameTaken { .. }), "{error}");
        for name in ["", "sixteen-letters-", "a/b", "a b", "mesh%d", "..", "a:1"] {
            let error = Tun::create(&config(name, true)).await.expect_err("invalid");
            assert!(
                matches!(error, TunError::InvalidName { .. }),
                "{name}: {error}"
            );
        }
        let mut twice = config("mesh1", true);
        twice.addresses.push(twice.addresses[0]);
        let error = Tun::create(&twice).await.expect_err("refused");
        assert!(matches!(error, TunError::AddressRefused { .. }), "{error}");
        assert!(
            error
                .to_string()
                .starts_with("add address 10.9.0.1/24 to TUN `mesh1`: ")
        );
        assert!(find("mesh1").is_none(), "nothing is left behind");
        let mut tiny = config("mesh1", true);
        tiny.mtu = 10;
        let error = Tun::create(&tiny).await.expect_err("refused");
        assert!(
            matches!(error, TunError::MtuRefused { mtu: 10, .. }),
            "{error}"
        );
    });
}

#[test]
fn without_the_right_to_create_it_the_error_says_so() {
    in_namespace(async || {
        drop_net_admin();
        let error = Tun::create(&config("mesh0", true))
            .await
            .expect_err("refused");
        assert!(
            matches!(error, TunError::PermissionDenied { .. }),
            "{error}"
        );
        assert_eq!(error.to_string(), "create TUN `mesh0`: permission denied");
    });
}

/// Writes packets, all at once.
fn write<'a>(
    tun: &Tun,
    packets: impl IntoIterator<Item = &'a [u8]>,
    coalescer: &mut Coalescer,
) -> io::Result<WriteReport> {
    let mut report = tun.put(packets, coalescer)?;
    let rest = tun.flush(coalescer)?;
    report.packets += rest.packets;
    report.writes += rest.writes;
    report.refused += rest.refused;
    report.refusal = rest.refusal.or(report.refusal);
    Ok(report)
}

/// Sends everything that leaves through the device back in, with source and destination address
/// exchanged: the host talks to itself as if it were its own neighbour. Segments each frame as
/// the mesh does and merges again. The pseudo-header sum does not change by the exchange.
async fn reflect(tun: &Tun, totals: &mut (usize, usize)) -> io::Result<()> {
    let mut coalescer = tun.coalescer();
    let mut buffer = vec![0; MAX_FRAME];
    loop {
        readable(tun.descriptor()).await;
        let mut packets = Vec::new();
        while packets.len() < 500 {
            match tun.try_read(&mut buffer) {
                Ok(length) => packets.extend(segment(&exchange(&mut buffer[..length]))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        let report = write(tun, packets.iter().map(Vec::as_slice), &mut coalescer)?;
        assert_eq!(report.refused, 0, "{:?}", report.refusal);
        assert_eq!(report.packets, packets.len());
        totals.0 += report.packets;
        totals.1 += report.writes;
    }
}

fn exchange(frame: &mut [u8]) -> Vec<u8> {
    let packet = &mut frame[VNET_HEADER..];
    let (at, length) = if packet[0] >> 4 == 4 {
        (12, 4)
    } else {
        (8, 16)
    };
    let (source, destination) = packet[at..at + 2 * length].split_at_mut(length);
    source.swap_with_slice(destination);
    frame.to_vec()
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length as u64)
        .map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
        .collect()
}

/// Moves `length` bytes over TCP to ourselves through the device.
async fn transfer(local: &str, neighbour: &str, length: usize) {
    let local: SocketAddr = local.parse().expect("an address");
    let neighbour: SocketAddr = neighbour.parse().expect("an address");
    let listener = tokio::net::TcpListener::bind(local).await.expect("listen");
    let sending = async {
        let mut stream = tokio::net::TcpStream::connect(neighbour)
            .await
            .expect("connect");
        stream.write_all(&pattern(length)).await.expect("send");
        stream.shutdown().await.expect("shut down");
    };
    let receiving = async {
        let (mut stream, _) = listener.accept().await.expect("accept");
        let mut received = Vec::new();
        stream.read_to_end(&mut received).await.expect("receive");
        let wrong = received
            .iter()
            .zip(pattern(length))
            .position(|(a, b)| *a != b);
        assert_eq!(wrong, None, "the bytes arrive as they were sent");
        assert_eq!(received.len(), length);
    };
    tokio::join!(sending, receiving);
}

#[test]
fn the_kernel_takes_our_super_packets_and_the_stream_is_whole() {
    in_namespace(async || {
        let tun = Tun::create(&config("mesh0", true)).await.expect("create");
        for (local, neighbour) in [
            ("10.9.0.1:7000", "10.9.0.2:7000"),
            ("[fd00:9::1]:7000", "[fd00:9::2]:7000"),
        ] {
            let mut totals = (0, 0);
            let both = async {
                tokio::select! {
                    result = reflect(&tun, &mut totals) => panic!("{result:?}"),
                    () = transfer(local, neighbour, 8 << 20) => {}
                }
            };
            let time = Duration::from_secs(30);
            tokio::time::timeout(time, both).await.expect("in time");
            let (packets, writes) = totals;
            assert!(packets > 8 << 20 >> 11, "{packets} packets");
            assert!(writes * 3 < packets, "{packets} packets in {writes} writes");
        }
    });
}

#[test]
fn a_stream_is_whole_without_offload() {
    in_namespace(async || {
        let tun = Tun::create(&config("mesh0", false)).await.expect("create");
        let mut totals = (0, 0);
        let both = async {
            tokio::select! {
                result = reflect(&tun, &mut totals) => panic!("{result:?}"),
                () = transfer("10.9.0.1:7000", "10.9.0.2:7000", 2 << 20) => {}
            }
        };
        let time = Duration::from_secs(30);
        tokio::time::timeout(time, both).await.expect("in time");
        assert_eq!(totals.0, totals.1, "one write per packet");
    });
}

#[test]
fn merged_datagrams_reach_a_socket_one_by_one() {
    in_namespace(async || {
        let tun = Tun::create(&config("mesh0", true)).await.expect("create");
        let socket = tokio::net::UdpSocket::bind("10.9.0.1:0")
            .await
            .expect("bind");
        let port = socket.local_addr().expect("address").port();
        let to: SocketAddr = ("10.9.0.2".parse::<std::net::IpAddr>().expect("ip"), port).into();
        for i in 0..40u8 {
            let length = if i == 39 { 10 } else { 900 };
            socket.send_to(&vec![i; length], to).await.expect("send");
        }
        let mut totals = (0, 0);
        let receive = async {
            let mut buffer = [0; 2_000];
            for i in 0..40u8 {
                let length = socket.recv(&mut buffer).await.expect("receive");
                assert_eq!((buffer[0], length), (i, if i == 39 { 10 } else { 900 }));
            }
        };
        let both = async {
            tokio::select! {
                result = reflect(&tun, &mut totals) => panic!("{result:?}"),
                () = receive => {}
            }
        };
        let time = Duration::from_secs(10);
        tokio::time::timeout(time, both).await.expect("in time");
    });
}

#[test]
fn a_refused_packet_is_counted_and_does_not_stop_the_others() {
    in_namespace(async || {
        let tun = Tun::create(&config("mesh0", true)).await.expect("create");
        let good = segmenter::Spec::default().build();
        let packets: [&[u8]; 4] = [&good, &[], &[0xff; 40], &good];
        let report = write(&tun, packets, &mut tun.coalescer()).expect("write");
        assert_eq!((report.packets, report.refused), (2, 2));
        assert!(report.refusal.is_some());
    });
}

#[test]
fn a_deleted_interface_is_an_error_of_the_device() {
    in_namespace(async || {
        let tun = Tun::create(&config("mesh0", true)).await.expect("create");
        let netlink = netlink();
        let request = netlink.link().del(index_of("mesh0"));
        request.execute().await.expect("delete");
        let good = segmenter::Spec::default().build();
        let error = write(&tun, [good.as_slice()], &mut tun.coalescer());
        error.expect_err("the device is gone");
        let (mut watch, _bell) = crate::readiness::Watch::new().expect("watch");
        let ready = watch.wait(&tun, ([None, None], &[]), Some(Duration::from_secs(5)));
        assert!(
            ready.expect("wait").tun,
            "a vanished device wakes its reader"
        );
        let error = tun.try_read(&mut vec![0; MAX_FRAME]).expect_err("gone");
        assert!(device::is_gone(&error), "{error}");
    });
}

#[test]
fn super_packets_have_no_more_segments_than_asked_for() {
    in_namespace(async || {
        let mut limited = config("mesh0", true);
        limited.super_packet_segments = Some(7);
        let tun = Tun::create(&limited).await.expect("create");
        let most = async {
            let mut buffer = vec![0; MAX_FRAME];
            let mut most = 0;
            loop {
                readable(tun.descriptor()).await;
                while let Ok(length) = tun.try_read(&mut buffer) {
                    let frame = exchange(&mut buffer[..length]);
                    let packets = segment(&frame);
                    most = most.max(packets.len());
                    let written = write(
                        &tun,
                        packets.iter().map(Vec::as_slice),
                        &mut tun.coalescer(),
                    );
                    written.expect("write");
                    assert!(most <= 7, "{most} segments");
                }
                if most == 7 {
                    return;
                }
            }
        };
        let stream = transfer("10.9.0.1:7000", "10.9.0.2:7000", 4 << 20);
        tokio::time::timeout(Duration::from_secs(30), async {
            tokio::select! {
                () = most => {}
                () = stream => panic!("no super-packet reached the limit"),
            }
        })
        .await
        .expect("in time");
    });
}

/// The length of the next IPv4 packet: the system itself sends IPv6 ones whenever it likes.
fn read_ipv4(tun: &Tun, buffer: &mut [u8]) -> Option<usize> {
    loop {
        let len = tun.try_read(buffer).ok()?;
        if buffer[VNET_HEADER] >> 4 == 4 {
            return Some(len);
        }
    }
}

#[test]
fn a_flow_is_read_where_its_other_direction_is_written() {
    in_namespace(async || {
        let mut many = config("mesh0", true);
        many.multi_queue = true;
        let first = Tun::create(&many).await.expect("create");
        let queues = [first.another_queue().expect("a queue"), first];
        let socket = std::net::UdpSocket::bind("10.9.0.1:7000").expect("bind");
        let mut buffer = vec![0; MAX_FRAME];
        for (at, tun) in queues.iter().enumerate() {
            // One flow for each queue, from the neighbour's port to ours.
            let port = 8_000 + at as u16;
            socket.send_to(b"hello", ("10.9.0.2", port)).expect("send");
            let from = queues.iter().find_map(|tun| read_ipv4(tun, &mut buffer));
            let answer = exchange(&mut buffer[..from.expect("a packet")]);
            let answer = segment(&answer).remove(0);
            let answer = [
                &answer[..20],
                &answer[22..24],
                &answer[20..22],
                &answer[24..],
            ]
            .concat();
            write(tun, [answer.as_slice()], &mut tun.coalescer()).expect("write");
            socket.send_to(b"again", ("10.9.0.2", port)).expect("send");
            assert!(read_ipv4(tun, &mut buffer).is_some(), "queue {at}");
        }
    });
}
