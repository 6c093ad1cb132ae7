//! How is the discovery server reached? A TCP connection to the first of its addresses that answers, or to an HTTP proxy
//! that passes it on, under TLS when its URL says https. The system decides which authorities are trusted, or the file that
//! `SSL_CERT_FILE` names.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, stream::FuturesUnordered};
use rustls::{CertificateError, ClientConfig, pki_types::ServerName};
use rustls_platform_verifier::ConfigVerifierExt as _;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    sync::OnceCell,
    time::{sleep, timeout},
};
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use super::{ServerError, proxy::Proxy};

/// Reaching the server, TLS included, takes no longer than this.
const TIMEOUT: Duration = Duration::from_secs(10);
/// An address that has not answered by then gets company by the next one (RFC 8305, 5: "Connection Attempt Delay").
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// So often one that is silent is asked anew: on a link that loses packets, or has just come up, a SYN is lost now and then, and the
/// system repeats it only after 1, 3 and 7 s (RFC 6298, 5.7).
const REPEATS: usize = 2;

/// Names of a certificate that are shown: whoever made it chose how many it has.
const SHOWN_NAMES: usize = 5;

/// A connection to the server, plain or under TLS.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// How servers prove who they are. The system's certificates take long to read, and a server on the local network has none.
#[derive(Debug, Clone, Default)]
pub struct Certificates(Arc<OnceCell<Arc<ClientConfig>>>);

/// Makes connections to one server.
#[derive(Debug, Clone)]
pub struct Dialer {
    server: Url,
    /// In front of the server, if any; or why it cannot be used.
    proxy: Result<Option<Proxy>, String>,
    certificates: Certificates,
}

impl Dialer {
    /// A dialer for the server at `server`, whose scheme is `http` or `https`.
    pub fn new(server: Url) -> Self {
        Self::sharing(server, Certificates::default())
    }

    /// The same, with certificates that others use too.
    pub fn sharing(server: Url, certificates: Certificates) -> Self {
        let variable = |name: &str| std::env::var(name).ok();
        Self {
            proxy: Proxy::in_front_of(&server, &variable),
            server,
            certificates,
        }
    }

    /// The server's URL.
    pub fn server(&self) -> &Url {
        &self.server
    }

    /// A new connection.
    pub async fn dial(&self) -> Result<Box<dyn Duplex>, ServerError> {
        timeout(TIMEOUT, self.connect()).await.map_err(|_| {
            let seconds = TIMEOUT.as_secs();
            ServerError::Unreachable(format!("no connection within {seconds} s"))
        })?
    }

    async fn connect(&self) -> Result<Box<dyn Duplex>, ServerError> {
        let stream = self.reach().await?;
        // Every message is written whole; none has to wait for the next.
        stream
            .set_nodelay(true)
            .map_err(|error| ServerError::unreachable(&error))?;
        self.secure(stream).await
    }

    /// The TCP connection alone, to the server or to its proxy.
    pub async fn reach(&self) -> Result<TcpStream, ServerError> {
        let (to, whose) = match self.proxy()? {
            Some(proxy) => (proxy.url(), format!("the proxy {proxy}: ")),
            None => (&self.server, String::new()),
        };
        let unreachable = |error: io::Error| ServerError::Unreachable(format!("{whose}{error}"));
        let addresses = addresses(to).await.map_err(unreachable)?;
        first_to_answer(addresses).await.map_err(unreachable)
    }

    /// What makes such a connection one to the server that cannot be another one's.
    pub async fn secure(&self, stream: TcpStream) -> Result<Box<dyn Duplex>, ServerError> {
        let stream: Box<dyn Duplex> = match self.proxy()? {
            Some(proxy) => Box::new(proxy.pass(stream, &self.server).await?),
            None => Box::new(stream),
        };
        if self.server.scheme() != "https" {
            return Ok(stream);
        }
        let connector = TlsConnector::from(self.certificates.config().await?);
        let stream = connector.connect(self.name()?, stream).await;
        Ok(Box::new(stream.map_err(|error| untrusted(&error))?))
    }

    fn proxy(&self) -> Result<Option<&Proxy>, ServerError> {
        let proxy = self.proxy.as_ref();
        let proxy = proxy.map_err(|why| ServerError::Unreachable(why.clone()))?;
        Ok(proxy.as_ref())
    }

    /// The name that the server's certificate must have.
    fn name(&self) -> Result<ServerName<'static>, ServerError> {
        let name = match self.server.host() {
            Some(Host::Ipv4(ip)) => ServerName::from(IpAddr::V4(ip)),
            Some(Host::Ipv6(ip)) => ServerName::from(IpAddr::V6(ip)),
            Some(Host::Domain(name)) => ServerName::try_from(name.to_owned())
                .map_err(|error| ServerError::unreachable(&error))?,
            None => return Err(ServerError::Unreachable("the URL names no host".to_owned())),
        };
        Ok(name)
    }
}

impl Certificates {
    async fn config(&self) -> Result<Arc<ClientConfig>, ServerError> {
        let config = self.0.get_or_try_init(|| async {
            let mut config = tokio::task::spawn_blocking(ClientConfig::with_platform_verifier)
                .await
                .map_err(|error| ServerError::unreachable(&error))?
                .map_err(|error| ServerError::Untrusted(error.to_string()))?;
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            Ok(Arc::new(config))
        });
        config.await.cloned()
    }
}

/// Of the host that a URL names, in the order in which they are to be tried.
async fn addresses(url: &Url) -> io::Result<Vec<SocketAddr>> {
    let port = url.port_or_known_default().unwrap_or(80);
    match url.host() {
        Some(Host::Ipv4(ip)) => Ok(vec![SocketAddr::from((ip, port))]),
        Some(Host::Ipv6(ip)) => Ok(vec![SocketAddr::from((ip, port))]),
        Some(Host::Domain(name)) => Ok(in_turn(lookup_host((name, port)).await?)),
        None => Ok(Vec::new()),
    }
}

/// Why TLS did not come about.
#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "what else is wrong with a certificate is told in the library's words"
)]
fn untrusted(error: &io::Error) -> ServerError {
    use CertificateError::{
        Expired, ExpiredContext, NotValidForName, NotValidForNameContext, NotValidYet,
        NotValidYetContext, UnknownIssuer,
    };
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    let why = match cause {
        Some(rustls::Error::InvalidCertificate(why)) => why,
        Some(rustls::Error::InvalidMessage(_)) => {
            let why = "does not speak TLS at this port, as https asks for";
            return ServerError::Unreachable(why.to_owned());
        }
        Some(_) | None => return ServerError::unreachable(error),
    };
    let why = match why {
        UnknownIssuer => "no authority that this machine trusts has signed its certificate".into(),
        NotValidForName => "its certificate is for another name".into(),
        NotValidForNameContext { presented, .. } => {
            let names: Vec<_> = presented
                .iter()
                .take(SHOWN_NAMES)
                .map(|name| bare(name))
                .collect();
            format!(
                "its certificate is for {} and not for this name",
                names.join(", ")
            )
        }
        Expired | ExpiredContext { .. } => "its certificate has expired".into(),
        NotValidYet | NotValidYetContext { .. } => "its certificate does not hold yet".into(),
        other => format!("its certificate cannot be used: {other}"),
    };
    ServerError::Untrusted(why)
}

/// The name in `DnsName("example.com")`, as the library writes it.
fn bare(presented: &str) -> &str {
    let inner = presented
        .split_once('(')
        .map_or(presented, |(_, inner)| inner);
    inner.trim_end_matches(')').trim_matches('"')
}

/// The system's order, the IP versions taking turns, so that a version that leads nowhere costs one delay (RFC 8305, 4).
fn in_turn(addresses: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let addresses: Vec<_> = addresses.collect();
    let v6_first = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (mut first, mut second): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv6() == v6_first);
    let mut ordered = Vec::with_capacity(first.len() + second.len());
    let (mut first, mut second) = (first.drain(..), second.drain(..));
    loop {
        let pair = [first.next(), second.next()];
        if pair == [None, None] {
            return ordered;
        }
        ordered.extend(pair.into_iter().flatten());
    }
}

/// Tries one address after the other, the next one when the last has failed or has been silent for
/// [`ATTEMPT_DELAY`], then those that are silent once more. The error is that of the last one that failed.
async fn first_to_answer(mut addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "its name has no address");
    let mut attempts = FuturesUnordered::new();
    let attempt = |address| async move { (address, TcpStream::connect(address).await) };
    for _ in 0..=REPEATS {
        for address in addresses.clone() {
            if !addresses.contains(&address) {
                continue;
            }
            attempts.push(attempt(address));
            tokio::select! {
                Some((address, connected)) = attempts.next() => match connected {
                    Ok(stream) => return Ok(stream),
                    Err(error) => {
                        addresses.retain(|other| *other != address);
                        failure = error;
                    }
                },
                () = sleep(ATTEMPT_DELAY) => {}
            }
        }
    }
    while let Some((_, connected)) = attempts.next().await {
        match connected {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn ip_versions_take_turns_and_the_systems_first_choice_stays_first() {
        let system = ["[2001:db8::1]:1", "[2001:db8::2]:1", "192.0.2.1:1"].map(at);
        let expected = ["[2001:db8::1]:1", "192.0.2.1:1", "[2001:db8::2]:1"].map(at);
        assert_eq!(in_turn(system.into_iter()), expected);
        assert_eq!(in_turn(std::iter::empty()), []);
    }

    #[tokio::test]
    async fn an_address_that_refuses_gives_way_to_the_next() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = listener.local_addr().unwrap();
        // Nobody listens on a port that was just given back.
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let bad = gone.local_addr().unwrap();
        drop(gone);
        let stream = first_to_answer(vec![bad, good]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good);
        let error = first_to_answer(vec![bad]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let error = first_to_answer(Vec::new()).await.unwrap_err();
        assert!(error.to_string().contains("no address"), "{error}");
    }

    /// A backlog that is full drops whoever comes, as a link does that is not up yet.
    #[tokio::test]
    async fn a_connection_whose_first_packet_is_lost_is_there_in_a_moment() {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(at("127.0.0.1:0")).unwrap();
        let listener = socket.listen(1).unwrap();
        let full = listener.local_addr().unwrap();
        let mut before = Vec::new();
        while let Ok(connected) = timeout(ATTEMPT_DELAY / 2, TcpStream::connect(full)).await {
            before.push(connected.unwrap());
        }
        let begun = std::time::Instant::now();
        let room = async {
            sleep(ATTEMPT_DELAY / 2).await;
            for _ in &before {
                listener.accept().await.unwrap();
            }
        };
        let (reached, ()) = tokio::join!(first_to_answer(vec![full]), room);
        assert_eq!(reached.unwrap().peer_addr().unwrap(), full);
        let took = begun.elapsed();
        assert!(took < Duration::from_millis(800), "{took:?}");
    }

    #[test]
    fn a_certificate_for_others_is_told_by_their_names() {
        use rustls::{Error, pki_types::DnsName};

        let presented = ["DnsName(\"a.example\")", "IpAddress(192.0.2.1)"];
        let cause = CertificateError::NotValidForNameContext {
            expected: ServerName::DnsName(DnsName::try_from("mesh.example").unwrap()),
            presented: presented.map(str::to_owned).to_vec(),
        };
        let error = io::Error::other(Error::InvalidCertificate(cause));
        let ServerError::Untrusted(why) = untrusted(&error) else {
            panic!("{error}");
        };
        assert_eq!(
            why,
            "its certificate is for a.example, 192.0.2.1 and not for this name"
        );
        let lost = untrusted(&io::Error::from(io::ErrorKind::ConnectionReset));
        assert!(matches!(lost, ServerError::Unreachable(_)));
    }

    #[tokio::test]
    async fn certificates_are_read_for_https_only() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let url = Url::parse(&format!("http://{address}/")).unwrap();
        let dialer = Dialer::new(url);
        dialer.dial().await.map(drop).unwrap();
        assert!(!dialer.certificates.0.initialized());
    }
}
