//! What comes as one train is judged datagram by datagram, whatever stands beside it.

use super::{CHANNEL_BIND, Client, Scene, attribute, client::channel_data, peer};

/// Bytes of each datagram of the train but its last.
const SEGMENT: usize = 104;

fn bind(client: &mut Client, number: u8, to: std::net::SocketAddr) {
    let bind = [attribute(0x000C, &[0x40, number, 0, 0]), peer(to)];
    assert_eq!(client.request(CHANNEL_BIND, &bind).code, None);
}

#[tokio::test]
async fn each_datagram_of_a_train_goes_where_it_may_and_no_other_one_goes() {
    let scene = Scene::new().await;
    let [mut alice, mut bob, mut carol] = [0; 3].map(|_| scene.client());
    let at = [&mut alice, &mut bob, &mut carol].map(|client| client.allocate().relayed.unwrap());
    bind(&mut alice, 1, at[1]);
    bind(&mut alice, 2, at[2]);
    bind(&mut bob, 1, at[0]);
    bind(&mut carol, 1, at[0]);
    let mut lies = channel_data(0x4001, &[b'x'; 100]);
    lies[2..4].copy_from_slice(&2_000_u16.to_be_bytes());
    let mut garbage = vec![0xFF; SEGMENT];
    garbage[0] = 7;
    let train = [
        channel_data(0x4001, &[b'a'; 100]),
        channel_data(0x4001, &[b'b'; 100]),
        channel_data(0x4005, &[b'x'; 100]),
        lies,
        channel_data(0x4002, &[b'c'; 100]),
        garbage,
        channel_data(0x4001, &[b'd'; 80]),
    ];
    alice.send_train(SEGMENT, &train.concat());
    alice.send_channel(0x4001, b"end");
    alice.send_channel(0x4002, b"end");
    let told = |client: &Client| {
        let heard = std::iter::from_fn(|| client.receive_channel());
        let data = heard.map(|(channel, data)| {
            assert_eq!(channel, 0x4001);
            String::from_utf8(data).unwrap()
        });
        data.take_while(|data| data != "end").collect::<Vec<_>>()
    };
    let all = |letter: &str, count| letter.repeat(count);
    assert_eq!(told(&bob), [all("a", 100), all("b", 100), all("d", 80)]);
    assert_eq!(told(&carol), [all("c", 100)]);
    // What is longer than it came, and what is of no protocol.
    assert_eq!(scene.server.metric("discovery_stun_garbage_total").await, 2);
}
