//! How is a server asked and asked again, from one socket?

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use mesh_core::path::stun_question::{self, Change, MAX_ANSWER, Reply};
use tokio::{
    net::UdpSocket,
    time::{Instant, timeout_at},
};

/// Pauses before a request is repeated, and after the last: 2.1 s in all. RFC 8489 would wait for 39.5 s; here silence is
/// what half of the questions are to find, and 98 % of the answers come through a loss of 30 %.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(250),
    Duration::from_millis(450),
    Duration::from_millis(600),
    Duration::from_millis(800),
];

/// A socket that speaks with servers.
pub(super) struct Talk {
    socket: UdpSocket,
}

/// The answer to a Binding request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer {
    pub(super) mapped: SocketAddr,
    pub(super) other: Option<SocketAddr>,
    pub(super) rtt: Duration,
}

impl Talk {
    /// A socket of `server`'s version of IP.
    pub(super) async fn open(server: SocketAddr) -> io::Result<Self> {
        let any: IpAddr = match server {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).await?;
        Ok(Self { socket })
    }

    /// Asks for our address. `None` where nothing came, or a refusal.
    pub(super) async fn ask(&self, server: SocketAddr) -> Option<Answer> {
        self.ask_changed(server, None).await.ok().flatten()
    }

    /// As [`Self::ask`], and for what else the server has, if it has anything.
    pub(super) async fn ask_fully(&self, server: SocketAddr) -> Option<Answer> {
        match self.ask_changed(server, Some(Change::NOTHING)).await {
            Ok(answer) => answer,
            Err(_refused) => self.ask(server).await,
        }
    }

    /// Asks for an answer from elsewhere. A refusal is no silence: `Err` has its code.
    pub(super) async fn ask_changed(
        &self,
        server: SocketAddr,
        change: Option<Change>,
    ) -> Result<Option<Answer>, u16> {
        match self
            .exchange(server, |id| stun_question::binding(id, change))
            .await
        {
            Some((Reply::Binding { mapped, other }, rtt)) => {
                Ok(Some(Answer { mapped, other, rtt }))
            }
            Some((Reply::Error(code), _)) => Err(code),
            None => Ok(None),
        }
    }

    /// How long a TURN server takes to ask for credentials; `None` if it is none.
    pub(super) async fn ask_for_relay(&self, server: SocketAddr) -> Option<Duration> {
        match self.exchange(server, stun_question::allocate).await? {
            (Reply::Error(401), rtt) => Some(rtt),
            (Reply::Error(_) | Reply::Binding { .. }, _) => None,
        }
    }

    /// Sends one datagram, and forgets it.
    pub(super) async fn send(&self, to: SocketAddr, datagram: &[u8]) {
        if let Err(error) = self.socket.send_to(datagram, to).await {
            tracing::debug!(%to, %error, "netcheck");
        }
    }

    /// Whether exactly this datagram comes before `until`.
    pub(super) async fn hears(&self, datagram: &[u8], until: Instant) -> bool {
        let mut buffer = [0; MAX_ANSWER];
        while let Ok(received) = timeout_at(until, self.socket.recv_from(&mut buffer)).await {
            match received {
                Ok((length, _)) if buffer[..length] == *datagram => return true,
                // An ICMP error for what was sent before, or somebody else's.
                Ok(_) | Err(_) => {}
            }
        }
        false
    }

    /// Requests until there is an answer, wherever it comes from: that it may come from elsewhere is the point.
    async fn exchange(
        &self,
        server: SocketAddr,
        request: impl Fn(u128) -> Option<Vec<u8>>,
    ) -> Option<(Reply, Duration)> {
        let mut id = [0; 16];
        getrandom::fill(&mut id[4..]).ok()?;
        let id = u128::from_be_bytes(id);
        let request = request(id)?;
        let mut buffer = [0; MAX_ANSWER];
        for pause in PAUSES {
            let sent = Instant::now();
            self.send(server, &request).await;
            while let Ok(received) =
                timeout_at(sent + pause, self.socket.recv_from(&mut buffer)).await
            {
                let Ok((length, _)) = received else {
                    continue;
                };
                if let Some(reply) = read(&buffer[..length], id) {
                    return Some((reply, sent.elapsed()));
                }
            }
        }
        None
    }
}

/// The codec warns of each malformed message; a stranger must not be able to write our log.
pub(super) fn read(datagram: &[u8], id: u128) -> Option<Reply> {
    let quiet = tracing::Dispatch::none();
    tracing::dispatcher::with_default(&quiet, || stun_question::read(datagram, id))
}
