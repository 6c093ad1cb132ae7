use super::*;
use std::{net::Ipv4Addr, time::Duration};

async fn socket() -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    join_arrivals(&socket);
    socket
}

/// What arrives until `count` datagrams are there, and by how many trains.
async fn receive(socket: &UdpSocket, count: usize) -> (Vec<Vec<u8>>, usize) {
    let (mut buffer, mut all, mut trains) = (vec![0; TRAIN], Vec::new(), 0);
    while all.len() < count {
        let arrived = recv_train(socket, &mut buffer);
        let arrived = tokio::time::timeout(Duration::from_secs(20), arrived).await;
        all.extend(
            arrived
                .unwrap()
                .unwrap()
                .datagrams(&buffer)
                .map(<[u8]>::to_vec),
        );
        trains += 1;
    }
    (all, trains)
}

fn send(from: &UdpSocket, to: &UdpSocket, departing: &mut Departing<'_>) {
    let to = to.local_addr().unwrap();
    departing.send(from, to, |error| panic!("{error}"));
}

#[tokio::test]
async fn headers_and_data_arrive_as_the_datagrams_they_were_and_on_linux_together() {
    let (from, to) = (socket().await, socket().await);
    let data: Vec<Vec<u8>> = (0..40).map(|number| vec![number; 1_200]).collect();
    let mut departing = Departing::new();
    for data in &data {
        assert!(departing.push(b"head", data));
    }
    assert!(departing.push(b"", b"the last is shorter"));
    assert!(!departing.push(b"", b"and nothing may follow it"));
    send(&from, &to, &mut departing);
    let (arrived, trains) = receive(&to, 41).await;
    for (arrived, data) in arrived.iter().zip(&data) {
        assert_eq!(arrived[..], [b"head", &data[..]].concat());
    }
    assert_eq!(arrived[40], b"the last is shorter");
    if cfg!(target_os = "linux") {
        assert_eq!(trains, 1);
    }
    // It is empty again, and takes what it took no more before.
    assert!(departing.push(b"", &[9; 1_300]));
    send(&from, &to, &mut departing);
    assert_eq!(receive(&to, 1).await.0, [vec![9; 1_300]]);
}

#[test]
fn a_train_is_no_longer_than_the_system_takes() {
    let (small, large) = ([1; 100], [2; 9_000]);
    let fits = |data: &[u8]| {
        let mut departing = Departing::new();
        let all = (0..1_000).take_while(|_| departing.push(&[0; 4], data));
        all.count()
    };
    assert_eq!(fits(&small), MAX_SEGMENTS);
    assert_eq!(fits(&large), 7);
    assert_eq!(fits(&[]), MAX_SEGMENTS);
    // An empty datagram is alone.
    let mut departing = Departing::new();
    assert!(departing.push(&[], &[]) && !departing.push(&[], &[]));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn what_the_system_does_not_cut_goes_alone() {
    let (from, to) = (socket().await, socket().await);
    // Linux cuts no train that shall have no checksums.
    crate::udp::bind::set_option(&from, libc::SO_NO_CHECK, 1).unwrap();
    let data = vec![7; 30_000];
    let mut departing = Departing::new();
    assert!(departing.push(b"", &data) && departing.push(b"", &data));
    send(&from, &to, &mut departing);
    assert_eq!(receive(&to, 2).await.0, [&data[..], &data[..]]);
}

#[tokio::test]
async fn each_datagram_that_is_not_sent_is_told_of() {
    let from = socket().await;
    let (mut departing, mut lost) = (Departing::new(), 0);
    assert!(departing.push(b"", b"one") && departing.push(b"", b"two"));
    // An IPv4 socket reaches no IPv6 address.
    departing.send(&from, "[::1]:9".parse().unwrap(), |_| lost += 1);
    assert_eq!(lost, 2);
}

#[tokio::test]
async fn an_empty_datagram_is_one() {
    let (from, to) = (socket().await, socket().await);
    from.send_to(&[], to.local_addr().unwrap()).await.unwrap();
    assert_eq!(receive(&to, 1).await, (vec![Vec::new()], 1));
}
