//! How do messages for a TURN server travel where nothing but HTTP passes? In a WebSocket (RFC 6455) at the discovery
//! server, by the same way as everything else that is said to that server.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use bytes::{Bytes, BytesMut};
use futures::{
    SinkExt as _, StreamExt as _,
    stream::{SplitSink, SplitStream},
};
use mesh_core::Trouble;
use mesh_wire::turn_stream::{MAX_PIECE, SUBPROTOCOL, WEBSOCKET_PATH, pieces};
use tokio::{sync::mpsc, time::timeout};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        Error, Message,
        client::IntoClientRequest as _,
        http::{HeaderValue, Request, header::SEC_WEBSOCKET_PROTOCOL},
        protocol::WebSocketConfig,
    },
};
use url::Url;

use super::{
    News,
    connection::{Connection, FAREWELL, PATIENCE, whole_messages},
};
use crate::discovery::{
    ServerError,
    dial::{Certificates, Dialer, Duplex},
};

/// Each connection holds one of these all the time.
const READ_BUFFER: usize = 64 << 10;

/// A WebSocket that stands.
pub(super) type Socket = WebSocketStream<Box<dyn Duplex>>;

/// Makes one at the discovery server with this URL; also says which address of ours it begins at.
pub(super) async fn connect(
    url: &str,
    certificates: &Certificates,
) -> Result<(Socket, SocketAddr), Trouble> {
    let failed = |error: &dyn std::fmt::Display| {
        tracing::debug!(url, %error, "no WebSocket to a TURN server");
        Trouble::Unreachable
    };
    let unreachable = |error: ServerError| match error {
        ServerError::Untrusted(why) => {
            tracing::warn!(url, why, "a TURN server is not believed");
            Trouble::Untrusted
        }
        other @ (ServerError::Unreachable(_) | ServerError::Refused(_)) => failed(&other),
    };
    let server: Url = url
        .parse()
        .map_err(|error: url::ParseError| failed(&error))?;
    let request = request(&server).ok_or(Trouble::Nonsense)?;
    let dialer = Dialer::sharing(server, certificates.clone());
    let stream = dialer.reach().await.map_err(unreachable)?;
    platform::tcp::carry_packets(&stream, PATIENCE);
    let local = stream.local_addr().map_err(|error| failed(&error))?;
    let stream = dialer.secure(stream).await.map_err(unreachable)?;
    let limits = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .max_message_size(Some(MAX_PIECE))
        .max_frame_size(Some(MAX_PIECE));
    let shaken = client_async_with_config(request, stream, Some(limits)).await;
    match shaken {
        Ok((socket, _)) => Ok((socket, local)),
        // A server that does not know the path says so for long; one that is being restarted, or has no room, does not.
        Err(Error::Http(answer)) if is_lasting(answer.status().as_u16()) => {
            failed(&answer.status());
            Err(Trouble::Nonsense)
        }
        Err(error) => Err(failed(&error)),
    }
}

fn is_lasting(status: u16) -> bool {
    status < 500 && status != 429
}

/// The request that asks the server for one.
fn request(server: &Url) -> Option<Request<()>> {
    let mut url = server.join(WEBSOCKET_PATH).ok()?;
    let scheme = match url.scheme() {
        "https" => "wss",
        _ => "ws",
    };
    url.set_scheme(scheme).ok()?;
    let mut request = url.as_str().into_client_request().ok()?;
    let protocol = HeaderValue::from_static(SUBPROTOCOL);
    request
        .headers_mut()
        .insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    Some(request)
}

impl Connection {
    /// Carries both ways. `None` if it was the node's wish to end.
    pub(super) async fn carry_in(self, socket: Socket, local: SocketAddr) -> Option<Trouble> {
        let (writer, mut reader) = socket.split();
        let arrival = self.surroundings.arrival(self.stream, self.server, local);
        let read = async {
            loop {
                let piece = match next(&mut reader).await {
                    Ok(piece) => piece,
                    Err(trouble) => return Some(trouble),
                };
                let news = News::Arrived(arrival, BytesMut::from(piece));
                if !self.surroundings.tell(news).await {
                    return None;
                }
            }
        };
        tokio::select! {
            trouble = read => trouble,
            trouble = write(writer, self.queue, &self.waiting) => trouble,
        }
    }
}

/// The next piece, which is whole messages.
async fn next(reader: &mut SplitStream<Socket>) -> Result<Bytes, Trouble> {
    loop {
        match reader.next().await {
            Some(Ok(Message::Binary(piece))) => {
                return match whole_messages(&piece) {
                    Some(whole) if whole == piece.len() => Ok(piece),
                    Some(_) | None => Err(Trouble::Nonsense),
                };
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Text(_) | Message::Frame(_))) => return Err(Trouble::Nonsense),
            Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(Trouble::Closed),
        }
    }
}

/// Writes what waits, until the node lets go of the connection.
async fn write(
    mut writer: SplitSink<Socket, Message>,
    mut queue: mpsc::Receiver<Vec<u8>>,
    waiting: &AtomicUsize,
) -> Option<Trouble> {
    while let Some(bytes) = queue.recv().await {
        let length = bytes.len();
        let bytes = Bytes::from(bytes);
        let written = async {
            for piece in pieces(&bytes) {
                writer.feed(Message::Binary(bytes.slice_ref(piece))).await?;
            }
            writer.flush().await
        };
        let written = written.await;
        waiting.fetch_sub(length, Relaxed);
        if written.is_err() {
            return Some(Trouble::Closed);
        }
    }
    // The server notices the end in any case.
    let _ended = timeout(FAREWELL, writer.close()).await;
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_relay_is_below_the_servers_url_under_tls_if_that_is() {
        for (server, expected) in [
            ("https://mesh.example/", "wss://mesh.example/api/v1/turn"),
            (
                "http://198.51.100.2:7080/",
                "ws://198.51.100.2:7080/api/v1/turn",
            ),
            (
                "https://example.com/mesh/",
                "wss://example.com/mesh/api/v1/turn",
            ),
        ] {
            let request = request(&server.parse().unwrap()).unwrap();
            assert_eq!(request.uri(), expected);
            assert_eq!(request.headers()[SEC_WEBSOCKET_PROTOCOL], "turn");
        }
    }

    #[test]
    fn a_server_that_is_being_restarted_is_asked_again_soon() {
        assert_eq!(
            [400, 403, 404, 426, 429, 502, 503].map(is_lasting),
            [true, true, true, true, false, false, false]
        );
    }
}
