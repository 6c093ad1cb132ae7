//! Do STUN clients of other make understand the server?

use std::process::{Command, Output};

use tokio::net::UdpSocket;

use crate::harness::{Server, within};

fn coturn(tool: &str, arguments: &[&str], server: &Server) -> (Output, String) {
    let output = Command::new(tool)
        .args(arguments)
        .args(["-p", &server.stun.port().to_string(), "127.0.0.1"])
        .output()
        .unwrap_or_else(|error| panic!("{tool} of the Debian package coturn is needed: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    (output, text)
}

#[tokio::test]
async fn coturns_clients_learn_their_address() {
    let server = Server::start();
    let (output, text) = coturn("turnutils_stunclient", &[], &server);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("UDP reflexive addr: 127.0.0.1:"), "{text}");
    let (output, text) = coturn("turnutils_natdiscovery", &["-m", "-f"], &server);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("UDP reflexive addr: 127.0.0.1:"), "{text}");
    assert!(server.metric("discovery_stun_requests_total").await >= 3);
}

#[tokio::test]
async fn garbage_is_counted_and_never_answered_or_logged() {
    let server = Server::start();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(server.stun).await.unwrap();
    let binding = [
        0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
    ];
    let log = server.log().len();
    let long = [7; 3_000];
    for garbage in [
        &[][..],
        &[0],
        &binding[..19],
        b"GET / HTTP/1.1\r\n\r\n",
        &long,
    ] {
        socket.send(garbage).await.unwrap();
    }
    // Datagrams on loopback keep their order: the first answer is that to the request behind the garbage.
    socket.send(&binding).await.unwrap();
    let mut buffer = [0; 2_048];
    let length = within(socket.recv(&mut buffer)).await.unwrap();
    assert_eq!(length, 32);
    assert_eq!(buffer[..2], [1, 1]);
    assert_eq!(buffer[4..20], binding[4..]);
    let logged = server.log().split_off(log);
    assert!(!logged.to_lowercase().contains("stun"), "{logged}");
    assert_eq!(server.metric("discovery_stun_garbage_total").await, 5);
    assert_eq!(server.metric("discovery_stun_requests_total").await, 1);
}
