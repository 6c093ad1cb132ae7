//! Which TURN server may be asked now, and why are others left alone?

use std::{
    fmt,
    net::SocketAddr,
    time::{Duration, Instant},
};

use mesh_wire::discovery::TurnPassword;
use rand::Rng;

use super::{
    exchange::Exchange,
    streams::{Contact, Transport},
};
use crate::queue::transmit::StreamId;

/// After a server was silent, or refused: the first pause, and the longest. They double.
const SILENT: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));
const REFUSED: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(600));
/// How long one has to answer in a better way before ours is given up for it. Meanwhile direct paths come about, and what
/// goes by these loses nothing.
const SETTLING: Duration = Duration::from_secs(5);

/// A TURN server, and what is proven to it. One that is reached over several transports is several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnServer {
    /// Where it is; of one that is reached over a WebSocket, whose URL says it, only a name.
    pub address: SocketAddr,
    /// How it is reached.
    pub transport: Transport,
    /// Our name there.
    pub username: String,
    /// What belongs to it.
    pub password: TurnPassword,
}

/// Why a server does not relay for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It does not answer.
    Silent,
    /// It refuses, with this error code (RFC 8489 section 14.8, RFC 8656 section 19).
    Refused(u16),
    /// It answers what makes no sense.
    Nonsense,
    /// There is no connection to it.
    Unreachable,
    /// It has closed the connection.
    Closed,
    /// Its certificate does not prove that it is the one that is meant.
    Untrusted,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent => f.write_str("it does not answer"),
            Self::Refused(401) => f.write_str("it refuses user name and password (401)"),
            Self::Refused(300) => f.write_str("it wants us to ask another server (300)"),
            Self::Refused(403) => f.write_str("it relays nothing for this user (403)"),
            Self::Refused(486) => {
                f.write_str("this user has as many relayed addresses as it may (486)")
            }
            Self::Refused(508) => f.write_str("it has no room at the moment (508)"),
            Self::Refused(code) => write!(f, "it refuses with error {code}"),
            Self::Nonsense => f.write_str("it answers what makes no sense"),
            Self::Unreachable => f.write_str("there is no connection to it"),
            Self::Closed => f.write_str("it closes the connection"),
            Self::Untrusted => f.write_str("its certificate is not valid for its name here"),
        }
    }
}

/// A server that may be asked.
#[derive(Debug)]
pub(super) struct Server {
    /// The server.
    pub(super) known: TurnServer,
    /// The connection to it, if it is not reached over UDP and there is one.
    pub(super) stream: Option<StreamId>,
    /// A question without proof, whose answer tells how far the server is.
    pub(super) probe: Option<Exchange>,
    /// How far it was when it last answered.
    pub(super) rtt: Option<Duration>,
    /// What is wrong with it.
    pub(super) trouble: Option<Trouble>,
    /// Since when it answers in a better way than the one that relays for us.
    answers_since: Option<Instant>,
    failures: u32,
    rests_until: Option<Instant>,
}

impl Server {
    /// One that was not asked yet.
    pub(super) fn new(known: TurnServer) -> Self {
        Self {
            known,
            stream: None,
            probe: None,
            rtt: None,
            trouble: None,
            answers_since: None,
            failures: 0,
            rests_until: None,
        }
    }

    /// Whether it is reached over a connection.
    pub(super) fn is_stream(&self) -> bool {
        self.known.transport != Transport::Udp
    }

    /// See [`Transport::rank`].
    pub(super) fn rank(&self) -> u32 {
        self.known.transport.rank()
    }

    /// How it is spoken to now; `None` while there is no connection.
    pub(super) fn contact(&self) -> Option<Contact> {
        (self.stream.is_some() == self.is_stream()).then_some(Contact {
            address: self.known.address,
            stream: self.stream,
        })
    }

    /// Begins to ask it at `due`, unless it is asked already or left alone.
    pub(super) fn plan(&mut self, due: Instant, rng: &mut impl Rng, now: Instant) {
        if self.probe.is_none() && self.is_ready(now) {
            self.probe = Some(Exchange::begin(rng, due));
        }
    }

    /// It was silent, and may not be any more: it is asked soon.
    pub(super) fn wake(&mut self, now: Instant) {
        if self.trouble == Some(Trouble::Silent) {
            self.rests_until = Some(now);
        }
    }

    /// Whether it may be asked now.
    pub(super) fn is_ready(&self, now: Instant) -> bool {
        self.rests_until.is_none_or(|until| until <= now)
    }

    /// When it may be asked again, if not now.
    pub(super) fn rests_until(&self) -> Option<Instant> {
        self.rests_until
    }

    /// It answers, in a better way than the one that relays for us. Whether that has lasted; if not, it is asked again.
    pub(super) fn has_settled(&mut self, now: Instant) -> bool {
        let since = *self.answers_since.get_or_insert(now);
        let settled = now >= since + SETTLING;
        if !settled {
            self.trouble = None;
            self.rests_until = Some(since + SETTLING);
        }
        settled
    }

    /// There is nothing to compare it with any more, so it may be asked at once.
    pub(super) fn unsettle(&mut self) {
        if self.answers_since.take().is_some() {
            self.rests_until = None;
        }
    }

    /// It relays for us.
    pub(super) fn worked(&mut self) {
        self.answers_since = None;
        self.trouble = None;
        self.failures = 0;
        self.rests_until = None;
    }

    /// It does not, and is left alone for a while.
    pub(super) fn failed(&mut self, trouble: Trouble, now: Instant) {
        let (first, longest) = match trouble {
            Trouble::Silent | Trouble::Unreachable | Trouble::Closed => SILENT,
            Trouble::Refused(_) | Trouble::Nonsense | Trouble::Untrusted => REFUSED,
        };
        let pause = first * (1 << self.failures.min(8));
        self.probe = None;
        self.answers_since = None;
        self.trouble = Some(trouble);
        self.failures += 1;
        self.rests_until = Some(now + pause.min(longest));
    }

    /// There are other credentials, so what it said before no longer counts.
    pub(super) fn forgive(&mut self) {
        self.trouble = None;
        self.failures = 0;
        self.rests_until = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_refuses_is_asked_ever_more_seldom() {
        let start = Instant::now();
        let mut server = Server::new(TurnServer {
            address: ([198, 51, 100, 2], 3478).into(),
            transport: Transport::Udp,
            username: "ann".to_owned(),
            password: TurnPassword::new("x".to_owned()),
        });
        let (mut now, mut asked) = (start, 0);
        while now < start + Duration::from_secs(3600) {
            assert!(server.is_ready(now));
            server.failed(Trouble::Refused(401), now);
            assert!(!server.is_ready(now));
            now = server.rests_until().unwrap();
            asked += 1;
        }
        assert_eq!(asked, 10);
        server.forgive();
        assert!(server.is_ready(start));
    }
}
