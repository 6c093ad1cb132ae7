//! How does one connection to a TURN server live? (RFC 8489 section 6.2.2; under TLS section 6.2.3)

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::BytesMut;
use mesh_core::{StreamId, Transport, Trouble};
use mesh_wire::turn_stream::{self, Framed};
use rustls::{ClientConfig, pki_types::ServerName};
use rustls_platform_verifier::ConfigVerifierExt as _;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    sync::{OnceCell, mpsc},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{
    News, Surroundings,
    websocket::{self, Socket},
};

/// Reaching the server, TLS included, takes no longer than this. Another one is asked meanwhile.
const CONNECT: Duration = Duration::from_secs(5);
/// A server that acknowledges nothing for so long is gone.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// What is still to be written at the end is written in this time.
pub(super) const FAREWELL: Duration = Duration::from_secs(1);
/// Room for a read: a TLS record is at most 16 KiB, and several messages are handed over at once.
const READ: usize = 64 << 10;

/// A connection with what it needs.
pub(super) struct Connection {
    pub(super) stream: StreamId,
    pub(super) server: SocketAddr,
    pub(super) transport: Transport,
    pub(super) queue: mpsc::Receiver<Vec<u8>>,
    /// Bytes in the queue.
    pub(super) waiting: Arc<AtomicUsize>,
    pub(super) surroundings: Surroundings,
}

/// How servers under TLS prove who they are: the system decides which certificates are trusted. They take long to read,
/// and are only where there is such a server.
#[derive(Clone, Default)]
pub(super) struct Tls(Arc<OnceCell<Arc<ClientConfig>>>);

impl Connection {
    /// Runs until the connection ends, the node lets go of it, or the daemon ends.
    pub(super) async fn run(self) {
        let (stream, surroundings) = (self.stream, self.surroundings.clone());
        let shutdown = surroundings.shutdown.clone();
        let connected = tokio::select! {
            connected = timeout(CONNECT, self.connect()) => connected,
            () = shutdown.cancelled() => return,
        };
        let trouble = match connected {
            Ok(Ok((link, local))) => self.carry(link, local).await,
            Ok(Err(trouble)) => Some(trouble),
            Err(_) => Some(Trouble::Unreachable),
        };
        if let Some(trouble) = trouble {
            // Who does not hear it has ended.
            let _heard = surroundings.tell(News::Ended(stream, trouble)).await;
        }
    }

    async fn connect(&self) -> Result<(Link, SocketAddr), Trouble> {
        let (server, transport) = (self.server, &self.transport);
        if let Transport::WebSocket(url) = transport {
            let (socket, local) = websocket::connect(url, &self.surroundings.certificates).await?;
            return Ok((Link::WebSocket(Box::new(socket)), local));
        }
        let failed = |error: io::Error| {
            tracing::debug!(%server, %transport, %error, "no connection to a TURN server");
            Trouble::Unreachable
        };
        let stream = TcpStream::connect(server).await.map_err(failed)?;
        platform::tcp::carry_packets(&stream, PATIENCE);
        let local = stream.local_addr().map_err(failed)?;
        let Transport::Tls(name) = transport else {
            return Ok((Link::Plain(stream), local));
        };
        let connector = self.surroundings.tls.connector().await.map_err(failed)?;
        let name = server_name(name).map_err(failed)?;
        let stream = connector.connect(name, stream).await;
        let stream = stream.map_err(|error| match is_about_certificate(&error) {
            true => {
                tracing::warn!(%server, %error, "a TURN server is not believed");
                Trouble::Untrusted
            }
            false => failed(error),
        })?;
        Ok((Link::Tls(Box::new(stream)), local))
    }

    /// Carries both ways. `None` if it was the node's wish to end.
    async fn carry(self, link: Link, local: SocketAddr) -> Option<Trouble> {
        match link {
            Link::Plain(stream) => self.carry_on(stream, local).await,
            Link::Tls(stream) => self.carry_on(*stream, local).await,
            Link::WebSocket(socket) => self.carry_in(*socket, local).await,
        }
    }

    async fn carry_on(
        self,
        link: impl AsyncRead + AsyncWrite,
        local: SocketAddr,
    ) -> Option<Trouble> {
        let (reader, writer) = tokio::io::split(link);
        let arrival = self.surroundings.arrival(self.stream, self.server, local);
        let read = async {
            let (mut reader, mut buffer) = (std::pin::pin!(reader), BytesMut::new());
            loop {
                buffer.reserve(READ);
                match reader.read_buf(&mut buffer).await {
                    Ok(0) | Err(_) => return Some(Trouble::Closed),
                    Ok(_) => {}
                }
                let Some(whole) = whole_messages(&buffer) else {
                    return Some(Trouble::Nonsense);
                };
                if whole == 0 {
                    continue;
                }
                let news = News::Arrived(arrival, buffer.split_to(whole));
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

/// A connection that stands.
enum Link {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
    WebSocket(Box<Socket>),
}

impl Tls {
    async fn connector(&self) -> io::Result<TlsConnector> {
        let config = self.0.get_or_try_init(|| async {
            let config = tokio::task::spawn_blocking(ClientConfig::with_platform_verifier);
            let config = config.await.map_err(io::Error::other)?;
            config.map(Arc::new).map_err(io::Error::other)
        });
        Ok(TlsConnector::from(Arc::clone(config.await?)))
    }
}

/// Writes what waits, until the node lets go of the connection.
async fn write(
    writer: impl AsyncWrite,
    mut queue: mpsc::Receiver<Vec<u8>>,
    waiting: &AtomicUsize,
) -> Option<Trouble> {
    let mut writer = std::pin::pin!(writer);
    while let Some(bytes) = queue.recv().await {
        // Under TLS what was written may still wait for the rest of a record.
        let written = match writer.write_all(&bytes).await {
            Ok(()) => writer.flush().await,
            Err(error) => Err(error),
        };
        waiting.fetch_sub(bytes.len(), Relaxed);
        if written.is_err() {
            return Some(Trouble::Closed);
        }
    }
    // The server notices the end in any case.
    let _ended = timeout(FAREWELL, writer.shutdown()).await;
    None
}

/// How many bytes of whole messages a stream begins with; `None` if it cannot be read any further.
pub(super) fn whole_messages(stream: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match turn_stream::next(&stream[at..], turn_stream::LONGEST) {
            Framed::Message { total, .. } => at += total,
            Framed::Incomplete => return Some(at),
            Framed::Garbage => return (at > 0).then_some(at),
        }
    }
}

fn server_name(name: &str) -> io::Result<ServerName<'static>> {
    match name.parse::<IpAddr>() {
        Ok(ip) => Ok(ServerName::from(ip)),
        Err(_) => ServerName::try_from(name.to_owned()).map_err(io::Error::other),
    }
}

/// Whether it is the server's certificate that is refused.
fn is_about_certificate(error: &io::Error) -> bool {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    matches!(cause, Some(rustls::Error::InvalidCertificate(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_before_garbage_still_counts_and_garbage_ends_the_stream() {
        let message = [0x40, 1, 0, 2, 7, 7, 0, 0];
        let stream = [&message[..], &message[..5]].concat();
        assert_eq!(whole_messages(&stream), Some(8));
        let stream = [&message[..], b"\xFFgarbage"].concat();
        assert_eq!(whole_messages(&stream), Some(8));
        assert_eq!(whole_messages(&stream[8..]), None);
        assert_eq!(whole_messages(&[]), Some(0));
    }

    #[test]
    fn a_certificate_may_be_for_an_address() {
        for name in ["198.51.100.2", "2001:db8::1"] {
            let name = server_name(name).unwrap();
            assert!(matches!(name, ServerName::IpAddress(_)), "{name:?}");
        }
        let name = server_name("turn.example.com").unwrap();
        assert!(matches!(name, ServerName::DnsName(_)), "{name:?}");
        server_name("not a name").unwrap_err();
    }
}
