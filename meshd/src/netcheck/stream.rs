//! Is a server reached over TCP where UDP does not pass, and does it relay there?

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use mesh_core::path::stun_question::{self, MAX_ANSWER, Reply};
use mesh_wire::turn_stream::{self, Framed};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::talk::read;

/// How long a connection, or the answer on it, may take.
const LIMIT: Duration = Duration::from_secs(2);

/// What came of a connection to a server.
pub(super) struct OverTcp {
    /// Whether there was one.
    pub(super) connects: bool,
    /// Round trip of an Allocate request on it; none if the server is no TURN server.
    pub(super) relay: Option<Duration>,
}

/// Connects, and asks for a relayed address without credentials.
pub(super) async fn ask(server: SocketAddr) -> OverTcp {
    let connected = timeout(LIMIT, TcpStream::connect(server)).await;
    let Ok(Ok(stream)) = connected else {
        return OverTcp {
            connects: false,
            relay: None,
        };
    };
    let answer = timeout(LIMIT, ask_for_relay(stream)).await;
    OverTcp {
        connects: true,
        relay: answer.ok().and_then(Result::ok).flatten(),
    }
}

async fn ask_for_relay(mut stream: TcpStream) -> io::Result<Option<Duration>> {
    let mut id = [0; 16];
    getrandom::fill(&mut id[4..]).map_err(io::Error::other)?;
    let id = u128::from_be_bytes(id);
    let Some(request) = stun_question::allocate(id) else {
        return Ok(None);
    };
    let (begun, mut answer, mut filled) = (Instant::now(), [0; MAX_ANSWER], 0);
    stream.write_all(&request).await?;
    loop {
        let count = stream.read(&mut answer[filled..]).await?;
        filled += count;
        match turn_stream::next(&answer[..filled], MAX_ANSWER) {
            Framed::Incomplete if count > 0 => {}
            Framed::Incomplete | Framed::Garbage => return Ok(None),
            Framed::Message { length, .. } => {
                let refused = matches!(read(&answer[..length], id), Some(Reply::Error(401)));
                return Ok(refused.then(|| begun.elapsed()));
            }
        }
    }
}
