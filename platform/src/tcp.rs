//! A TCP connection that carries packets: what is late is of little use, and a dead path is better known soon.

use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;

/// What the kernel takes before it was sent. More would only wait there, where nothing can be dropped any more.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 64 << 10;

/// Each write is sent at once, little waits in the kernel, and the connection is over when nothing was acknowledged for
/// `patience`. Where the system knows no such thing it works all the same, with more delay.
pub fn carry_packets(stream: &TcpStream, patience: Duration) {
    let socket = SockRef::from(stream);
    let result = socket.set_tcp_nodelay(true);
    #[cfg(target_os = "linux")]
    let result = result
        .and_then(|()| socket.set_tcp_notsent_lowat(UNSENT))
        .and_then(|()| socket.set_tcp_user_timeout(Some(patience)));
    #[cfg(not(target_os = "linux"))]
    let _ = patience;
    if let Err(error) = result {
        tracing::debug!(%error, "a connection is not tuned for packets");
    }
}
