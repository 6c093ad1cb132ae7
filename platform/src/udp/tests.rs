use super::*;
use std::time::Duration;

const LOCAL4: &str = "127.0.0.1:0";
const LOCAL6: &str = "[::1]:0";

async fn readable(socket: &UdpSocket) {
    let seen = socket.std().try_clone().expect("clone");
    let seen = tokio::net::UdpSocket::from_std(seen).expect("register");
    seen.readable().await.expect("readable");
}

async fn writable(socket: &UdpSocket) {
    let seen = socket.std().try_clone().expect("clone");
    let seen = tokio::net::UdpSocket::from_std(seen).expect("register");
    seen.writable().await.expect("writable");
}

fn to(address: SocketAddr) -> Destination {
    Destination {
        address,
        source_ip: None,
        ecn: 0,
        hop_limit: None,
    }
}

fn socket(address: &str) -> UdpSocket {
    UdpSocket::bind(address.parse().expect("an address")).expect("bind")
}

/// Datagrams of `segment` bytes, each filled with its own number.
fn numbered(count: usize, segment: usize, last: usize) -> Vec<u8> {
    (0..count)
        .flat_map(|i| vec![i as u8; if i + 1 == count { last } else { segment }])
        .collect()
}

async fn send_all(from: &mut UdpSocket, address: SocketAddr, mut contents: &[u8], segment: usize) {
    while !contents.is_empty() {
        match from.try_send(to(address), contents, segment) {
            Ok(sent) => contents = &contents[sent..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                writable(from).await;
            }
            Err(error) => panic!("send: {error}"),
        }
    }
}

/// Receives until `count` datagrams are there.
async fn receive(socket: &UdpSocket, count: usize) -> Vec<(RecvMeta, Vec<u8>)> {
    let mut buffers = RecvBuffers::new();
    let mut datagrams = Vec::new();
    let work = async {
        while datagrams.len() < count {
            readable(socket).await;
            let result = socket.try_recv(&mut buffers, SLOTS, |meta, bytes| {
                datagrams.extend(bytes.chunks(meta.stride).map(|d| (meta, d.to_vec())));
            });
            match result {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => panic!("receive: {error}"),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), work)
        .await
        .expect("all datagrams within ten seconds");
    datagrams
}

#[tokio::test]
async fn a_train_arrives_as_the_same_datagrams_in_order() {
    for local in [LOCAL4, LOCAL6] {
        let (mut sender, receiver) = (socket(local), socket(local));
        let contents = numbered(150, 1_200, 77);
        send_all(&mut sender, receiver.local_addr(), &contents, 1_200).await;
        let received = receive(&receiver, 150).await;
        let expected: Vec<&[u8]> = contents.chunks(1_200).collect();
        assert_eq!(received.len(), expected.len());
        for ((meta, datagram), expected) in received.iter().zip(expected) {
            assert_eq!(datagram, expected);
            assert_eq!(meta.from, sender.local_addr());
            assert_eq!(meta.to_ip, Some(receiver.local_addr().ip()));
        }
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn linux_carries_a_train_in_one_message() {
    let (mut sender, receiver) = (socket(LOCAL4), socket(LOCAL4));
    assert_eq!(sender.max_gso_segments(), 64);
    assert_eq!(receiver.gro_segments(), 64);
    let contents = numbered(40, 1_400, 1_400);
    send_all(&mut sender, receiver.local_addr(), &contents, 1_400).await;
    readable(&receiver).await;
    let mut lengths = Vec::new();
    let trains = receiver
        .try_recv(&mut RecvBuffers::new(), SLOTS, |meta, bytes| {
            lengths.push((meta.stride, bytes.len()));
        })
        .expect("receive");
    assert_eq!(trains, 1);
    assert_eq!(lengths, [(1_400, 40 * 1_400)]);
}

#[tokio::test]
async fn a_bad_destination_fails_alone_and_leaves_offload_on() {
    let (mut sender, receiver) = (socket(LOCAL4), socket(LOCAL4));
    let before = sender.max_gso_segments();
    let contents = numbered(4, 500, 500);
    let port_zero = SocketAddr::new(receiver.local_addr().ip(), 0);
    let foreign_source = Some("192.0.2.1".parse().expect("an address"));
    for (address, source_ip) in [
        (port_zero, None),
        (receiver.local_addr(), foreign_source),
        ("[::1]:9".parse().expect("an address"), None),
    ] {
        let to = Destination {
            source_ip,
            ..to(address)
        };
        let error = sender.try_send(to, &contents, 500);
        let error = error.expect_err("must be refused");
        assert_ne!(error.kind(), io::ErrorKind::WouldBlock);
    }
    assert_eq!(sender.max_gso_segments(), before);
    send_all(&mut sender, receiver.local_addr(), &contents, 500).await;
    assert_eq!(receive(&receiver, 4).await.len(), 4);
}

#[tokio::test]
async fn a_segment_size_of_nothing_or_too_much_is_an_error() {
    let mut sender = socket(LOCAL4);
    for size in [0, 70_000] {
        let error = sender.try_send(to(sender.local_addr()), &[0; 100], size);
        assert_eq!(
            error.expect_err("must be refused").kind(),
            io::ErrorKind::InvalidInput
        );
    }
}

#[tokio::test]
async fn datagrams_of_all_sizes_do_not_stop_the_receiver() {
    let (mut sender, receiver) = (socket(LOCAL4), socket(LOCAL4));
    let plain = std::net::UdpSocket::bind(LOCAL4).expect("bind");
    let there = receiver.local_addr();
    for size in [0, 1, 9_000, 65_507, 0, 31] {
        plain.send_to(&vec![0xff; size], there).expect("send");
    }
    plain
        .send_to(&vec![0; 65_508], there)
        .expect_err("larger than UDP can carry");
    send_all(&mut sender, there, b"after", 5).await;
    let received = receive(&receiver, 5).await;
    let sizes: Vec<usize> = received.iter().map(|(_, bytes)| bytes.len()).collect();
    assert_eq!(
        sizes,
        [1, 9_000, 65_507, 31, 5],
        "empty datagrams are left out"
    );
    assert_eq!(received[4].1, b"after");
}

#[tokio::test]
async fn an_unreachable_port_is_not_fatal() {
    let (mut sender, mut receiver) = (socket(LOCAL4), socket(LOCAL4));
    let closed = std::net::UdpSocket::bind(LOCAL4).expect("bind");
    let nobody = closed.local_addr().expect("address");
    drop(closed);
    for _ in 0..20 {
        send_all(&mut sender, nobody, b"anyone?", 7).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        send_all(&mut sender, receiver.local_addr(), b"hello", 5).await;
    }
    assert_eq!(receive(&receiver, 20).await.len(), 20);
    // The sender, who got the ICMP errors, still receives.
    send_all(&mut receiver, sender.local_addr(), b"back", 4).await;
    assert_eq!(receive(&sender, 1).await[0].1, b"back");
}

#[tokio::test]
async fn a_full_buffer_loses_no_part_of_a_train_twice() {
    let (mut sender, receiver) = (socket(LOCAL4), socket(LOCAL4));
    let contents = numbered(64, 1_000, 1_000);
    let sent = sender
        .try_send(to(receiver.local_addr()), &contents, 1_000)
        .expect("send");
    assert_eq!(sent % 1_000, 0);
    let received = receive(&receiver, sent / 1_000).await;
    for (i, (_, datagram)) in received.iter().enumerate() {
        assert_eq!(datagram[0], i as u8);
    }
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let first = socket(LOCAL4);
    let error = UdpSocket::bind(first.local_addr()).expect_err("taken");
    assert!(matches!(error, UdpError::PortInUse { .. }), "{error}");
    assert!(error.to_string().contains("the port is in use"));
    let error = UdpSocket::bind("192.0.2.1:0".parse().expect("an address")).expect_err("foreign");
    assert!(
        matches!(error, UdpError::AddressNotAvailable { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn both_ip_versions_bind_the_same_port() {
    let six = socket("[::]:0");
    let port = six.local_addr().port();
    let four = UdpSocket::bind(SocketAddr::new([0, 0, 0, 0].into(), port)).expect("bind");
    assert_eq!(four.local_addr().port(), port);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_buffers_are_as_large_as_asked() {
    let socket = socket(LOCAL4);
    let inner = socket2::SockRef::from(&socket.socket);
    // The kernel doubles what is asked, for its own bookkeeping.
    assert!(inner.recv_buffer_size().expect("size") >= BUFFER);
    assert!(inner.send_buffer_size().expect("size") >= BUFFER);
}

#[tokio::test]
async fn a_congestion_mark_crosses_with_the_train() {
    for local in [LOCAL4, LOCAL6] {
        let (mut sender, receiver) = (socket(local), socket(local));
        for ecn in 0..4 {
            let to = Destination {
                ecn,
                ..to(receiver.local_addr())
            };
            sender.try_send(to, &[7; 100], 50).expect("send");
            assert_eq!(receive(&receiver, 2).await[0].0.ecn, ecn);
        }
    }
}

#[tokio::test]
async fn no_more_trains_are_taken_than_asked_for() {
    let (mut sender, receiver) = (socket(LOCAL4), socket(LOCAL4));
    for size in [100, 200, 300] {
        send_all(&mut sender, receiver.local_addr(), &vec![1; size], size).await;
    }
    readable(&receiver).await;
    let mut buffers = RecvBuffers::new();
    assert_eq!(
        receiver.try_recv(&mut buffers, 2, |_, _| {}).expect("two"),
        2
    );
    assert_eq!(
        receiver.try_recv(&mut buffers, 2, |_, _| {}).expect("one"),
        1
    );
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_hop_limit_holds_for_its_own_message_only() {
    let v4 = (LOCAL4, libc::IPPROTO_IP, libc::IP_RECVTTL);
    let v6 = (LOCAL6, libc::IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT);
    for (local, level, option) in [v4, v6] {
        let (mut sender, receiver) = (socket(local), socket(local));
        tell_hop_limits(receiver.std(), (level, option));
        for (asked, seen) in [(None, 64), (Some(2), 2), (Some(255), 255), (None, 64)] {
            let to = Destination {
                hop_limit: asked,
                ..to(receiver.local_addr())
            };
            assert_eq!(sender.try_send(to, b"shot", 4).expect("send"), 4);
            readable(&receiver).await;
            assert_eq!(received_hop_limit(receiver.std()), seen, "{local}");
        }
    }
}

#[cfg(target_os = "linux")]
fn tell_hop_limits(socket: &std::net::UdpSocket, (level, option): (i32, i32)) {
    use std::os::fd::AsRawFd;
    let on: libc::c_int = 1;
    let len = size_of_val(&on) as libc::socklen_t;
    // SAFETY: the option reads one int, which outlives the call.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const on).cast(),
            len,
        )
    };
    assert_eq!(set, 0, "{}", io::Error::last_os_error());
}

/// Takes one datagram; its hop limit is the int in the one control message that was asked for.
#[cfg(target_os = "linux")]
fn received_hop_limit(socket: &std::net::UdpSocket) -> i32 {
    use std::mem::MaybeUninit;
    let (mut bytes, mut control) = ([MaybeUninit::uninit(); 64], [MaybeUninit::uninit(); 256]);
    let mut contents = [socket2::MaybeUninitSlice::new(&mut bytes)];
    let mut message = socket2::MsgHdrMut::new()
        .with_buffers(&mut contents)
        .with_control(&mut control);
    let socket = socket2::SockRef::from(socket);
    assert_eq!(socket.recvmsg(&mut message, 0).expect("receive"), 4);
    let len = message.control_len();
    // SAFETY: the system has written `len` bytes.
    let told = unsafe { std::slice::from_raw_parts(control.as_ptr().cast::<u8>(), len) };
    let (header, int) = (size_of::<libc::cmsghdr>(), size_of::<libc::c_int>());
    let is_hop_limit = |at: &usize| {
        let kind = told[*at + header - int..][..int]
            .try_into()
            .expect("four bytes");
        [libc::IP_TTL, libc::IPV6_HOPLIMIT].contains(&i32::from_ne_bytes(kind))
    };
    let mut starts = (0..len).step_by(size_of::<usize>());
    let at = starts.find(is_hop_limit).expect("a hop limit");
    i32::from_ne_bytes(told[at + header..][..int].try_into().expect("four bytes"))
}
