use super::*;
use crate::testing::{
    add_address, add_interface, add_route, enter_namespace, in_namespace, join_with, runtime,
    set_up,
};
use std::time::Duration;
use tokio::{net::TcpSocket, time::timeout};

const MESH: &str = "10.9.0.1:80";

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

#[test]
fn two_devices_share_an_address_and_port() {
    in_namespace(async || {
        add_interface("mesh0").await;
        add_address("mesh0", "10.9.0.1", 24).await;
        let mesh = listen_on_device(address(MESH), "mesh0").expect("listen on mesh0");
        let host = listen_on_device(address(MESH), "lo").expect("listen on lo");
        // The host's own connections travel over `lo`, but kernels may count the interface that
        // has the address: one of the two takes them in any case.
        let connecting = tokio::net::TcpStream::connect(MESH);
        let accepting = async {
            tokio::select! {
                accepted = mesh.accept() => accepted,
                accepted = host.accept() => accepted,
            }
        };
        let both = async { tokio::join!(connecting, accepting) };
        let (client, accepted) = timeout(Duration::from_secs(5), both)
            .await
            .expect("in time");
        let (_, from) = accepted.expect("accept");
        let local = client.expect("connect").local_addr();
        assert_eq!(from, local.expect("address"));
        let error = listen_on_device(address(MESH), "mesh0").expect_err("taken");
        assert!(matches!(error, ListenError::PortInUse { .. }), "{error}");
    });
}

#[test]
fn each_reason_to_fail_has_its_own_error() {
    in_namespace(async || {
        let error = listen_on_device(address("127.0.0.1:0"), "nodev").expect_err("no device");
        assert!(matches!(error, ListenError::NoDevice { .. }), "{error}");
        let error = listen_on_device(address("192.0.2.1:0"), "lo").expect_err("foreign");
        assert!(
            matches!(error, ListenError::AddressNotAvailable { .. }),
            "{error}"
        );
    });
}

/// What a neighbour on the LAN saw when it connected to the mesh address.
#[derive(Debug, PartialEq)]
enum Seen {
    Connected,
    Refused,
    Silence,
}

/// Connects from `source` in the current namespace.
async fn attempt(source: &str, to: SocketAddr) -> Seen {
    let socket = TcpSocket::new_v4().expect("socket");
    socket
        .bind(address(&format!("{source}:0")))
        .expect("bind the source");
    match timeout(Duration::from_millis(1_500), socket.connect(to)).await {
        Ok(Ok(_)) => Seen::Connected,
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Seen::Refused,
        Ok(Err(error)) => panic!("connect: {error}"),
        Err(_) => Seen::Silence,
    }
}

/// The LAN neighbour: one interface towards the host, a route to the mesh through it, and a mesh
/// address of its own to forge.
fn neighbour(
    host: std::os::fd::OwnedFd,
    ready: std::sync::mpsc::Sender<()>,
) -> Vec<(u16, &'static str, Seen)> {
    enter_namespace();
    runtime().block_on(async {
        set_up("lo").await;
        join_with(&host, "lan0").await;
        add_address("lan0", "192.168.5.2", 24).await;
        set_up("lan0").await;
        add_address("lo", "10.9.0.7", 32).await;
        add_route("10.9.0.0", 24, "192.168.5.1").await;
        ready.send(()).expect("the host listens");
        tokio::time::sleep(Duration::from_millis(500)).await;
        let mut seen = Vec::new();
        for port in [80, 81] {
            let to = SocketAddr::new([10, 9, 0, 1].into(), port);
            for source in ["192.168.5.2", "10.9.0.7"] {
                seen.push((port, source, attempt(source, to).await));
            }
        }
        seen
    })
}

#[test]
fn a_connection_over_a_third_interface_is_refused_also_with_a_forged_source() {
    in_namespace(async || {
        add_interface("mesh0").await;
        add_address("mesh0", "10.9.0.1", 24).await;
        let (ready, is_ready) = std::sync::mpsc::channel();
        let host = crate::testing::namespace();
        let neighbour = std::thread::spawn(|| neighbour(host, ready));
        tokio::task::spawn_blocking(move || is_ready.recv())
            .await
            .expect("no panic")
            .expect("the neighbour is there");
        add_address("lan0-host", "192.168.5.1", 24).await;
        set_up("lan0-host").await;
        // The forger's answers shall reach it, or the attempt would fail for the wrong reason.
        add_route("10.9.0.7", 32, "192.168.5.2").await;
        let guarded = [
            listen_on_device(address(MESH), "mesh0").expect("listen"),
            listen_on_device(address(MESH), "lo").expect("listen"),
        ];
        // Not bound to a device: proves that the path is open and that the guard is the device.
        let open = TcpListener::bind("10.9.0.1:81").await.expect("listen");
        let seen = tokio::task::spawn_blocking(|| neighbour.join());
        let seen = seen.await.expect("no panic").expect("no panic");
        assert_eq!(
            seen,
            [
                (80, "192.168.5.2", Seen::Refused),
                (80, "10.9.0.7", Seen::Refused),
                (81, "192.168.5.2", Seen::Connected),
                (81, "10.9.0.7", Seen::Connected),
            ]
        );
        for listener in &guarded {
            let nobody = timeout(Duration::from_millis(50), listener.accept()).await;
            nobody.expect_err("nobody got through");
        }
        let reached = timeout(Duration::from_secs(1), open.accept()).await;
        reached.expect("in time").expect("accept");
    });
}
