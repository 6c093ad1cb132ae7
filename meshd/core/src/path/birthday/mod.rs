//! How do two peers meet when the NAT of one gives each destination another port, and that of the other lets in only
//! whom it has written to? Neither knows which port to write to. So the first opens many ports towards the other, the
//! second writes to many ports of the first, and by the birthday paradox one of them fits: with 256 of 64,512 ports and
//! 1,536 probes 6.1 do on average, and none in 0.2 % of all attempts.
//!
//! What is sent are checks of RFC 8445. The first that comes through makes a peer-reflexive candidate of the socket and the
//! port that fitted, and everything else is ICE's. This file decides who does what when; `node::birthday` does it.

mod kept;
mod pause;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    net::SocketAddr,
    num::NonZeroU16,
    time::{Duration, Instant},
};

use mesh_wire::carrier::BirthdayStep;

use self::kept::Kept;
pub use self::pause::Pause;
use crate::peer::table::PeerIdx;

/// Sockets, and so ports of its NAT, that the side with the endpoint-dependent mapping opens.
pub const SOCKETS: u16 = 256;
/// Ports that the other side probes. With a shot and a check from each socket 2,048 datagrams for both sides.
pub const PROBES: usize = 1536;
/// Datagrams at once, and the pause between: 1,000 in a second, 60 kB.
const BURST: usize = 20;
const BURST_PAUSE: Duration = Duration::from_millis(20);
/// A letter that is not answered is repeated after this time, and so often.
const REPEAT: Duration = Duration::from_millis(300);
const LETTERS: u32 = 3;
/// How long the side that consented waits for the other to open its ports. All its letters take 0.9 s.
const CONSENT: Duration = Duration::from_secs(3);
/// From when the ports are open until checks go out of them: the probes take 1.54 s, and the letter before them the way
/// to the peer. They find what the probes missed because datagrams were lost, or the shots did not pass all NATs: the peer's filter
/// is open for the probed ports by then.
const PROBED: Duration = Duration::from_millis(1750);
/// How long answers are waited for in the end.
const LISTENING: Duration = Duration::from_secs(1);
/// A socket that is to carry the path has this time to prove itself before another one may.
const TRIAL: Duration = Duration::from_secs(1);
/// Attempts of one thread within [`pause::PAIR`]; both parts count. The sum over all pairs: 16,384 datagrams, at most
/// 2,048 mappings of our NAT, or 12,288 flows that a router remembers.
const MOST_ATTEMPTS: usize = 8;

/// What whoever holds the sockets shall do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketRequest {
    /// An attempt begins, for which so many sockets are wanted, maybe none. One attempt at a time is allowed on a machine:
    /// [`crate::Node::handle_sockets`] is told.
    Begin(u16),
    /// It is over. Its sockets are closed but that of this local port.
    End(Option<NonZeroU16>),
    /// That one is not needed any more either.
    Close(NonZeroU16),
}

/// What is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// A letter, inside the session.
    Tell(BirthdayStep),
    /// A datagram from a local port to the peer's address that opens our NAT and does not get there.
    Shoot(NonZeroU16),
    /// A check from a local port to the peer's address.
    Check(NonZeroU16),
    /// A check from the mesh's own socket to a port of the peer.
    Probe(u16),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The peer was asked.
    Asking { asked: u32 },
    /// Sockets, or leave, are asked for.
    Beginning { opening: bool },
    /// Datagrams leave the sockets: shots, or in the second round checks.
    Firing { fired: usize, second: bool },
    /// The peer is told, and probes.
    Waiting { told: u32, until: Instant },
    /// Answers may still come.
    Listening,
    /// The peer may ask us to begin.
    Consenting,
    /// Probes go out.
    Probing { probed: usize },
}

/// One attempt with one peer.
#[derive(Debug)]
struct Attempt {
    peer: PeerIdx,
    number: u64,
    /// The address that the peer's NAT gives it; of a peer that has many the port is of no meaning.
    aim: SocketAddr,
    stage: Stage,
    next: Instant,
    /// Local ports of our sockets; or the peer's ports to be probed.
    ports: Vec<u16>,
    /// The socket that a check came to, and when.
    adopted: Option<(SocketAddr, Instant)>,
}

/// The attempt under way, and what earlier ones have left.
#[derive(Debug, Default)]
pub struct Birthday {
    attempt: Option<Attempt>,
    kept: Kept,
    acts: VecDeque<Act>,
    requests: VecDeque<SocketRequest>,
    /// When the latest attempts began.
    recent: VecDeque<Instant>,
}

impl Birthday {
    /// Whether another attempt may begin.
    pub fn may_begin(&self, now: Instant) -> bool {
        let counts = |at: &&Instant| now < **at + pause::PAIR;
        self.attempt.is_none()
            && self.kept.has_room()
            && self.recent.iter().filter(counts).count() < MOST_ATTEMPTS
    }

    /// Asks a peer whose NAT gives it the address `aim` to probe our ports.
    pub fn ask(&mut self, (peer, number): (PeerIdx, u64), aim: SocketAddr, now: Instant) {
        self.begin((peer, number), aim, (Stage::Asking { asked: 0 }, now));
    }

    /// The peer may have us probe these ports at `aim`, if nothing else is under way on this machine.
    pub fn consent(
        &mut self,
        (peer, number): (PeerIdx, u64),
        aim: SocketAddr,
        ports: Vec<u16>,
        now: Instant,
    ) {
        let stage = Stage::Beginning { opening: false };
        self.begin((peer, number), aim, (stage, now + CONSENT));
        if let Some(attempt) = self.attempt.as_mut() {
            attempt.ports = ports;
            attempt.ports.truncate(PROBES);
        }
        self.requests.push_back(SocketRequest::Begin(0));
    }

    fn begin(
        &mut self,
        (peer, number): (PeerIdx, u64),
        aim: SocketAddr,
        (stage, next): (Stage, Instant),
    ) {
        self.attempt = Some(Attempt {
            peer,
            number,
            aim,
            stage,
            next,
            ports: Vec::new(),
            adopted: None,
        });
    }

    /// A letter of a peer for an attempt that is under way; returns whether it is.
    pub fn on_letter(
        &mut self,
        (peer, number): (PeerIdx, u64),
        step: BirthdayStep,
        now: Instant,
    ) -> bool {
        let attempt = self.attempt.as_mut();
        let Some(attempt) = attempt.filter(|it| (it.peer, it.number) == (peer, number)) else {
            return false;
        };
        match (step, attempt.stage) {
            (BirthdayStep::Ask, Stage::Consenting) => {
                self.acts.push_back(Act::Tell(BirthdayStep::Consent));
            }
            (BirthdayStep::Consent, Stage::Asking { .. }) => {
                attempt.stage = Stage::Beginning { opening: true };
                attempt.next = now + CONSENT;
                self.requests.push_back(SocketRequest::Begin(SOCKETS));
            }
            (BirthdayStep::Open, Stage::Consenting) => {
                attempt.stage = Stage::Probing { probed: 0 };
                attempt.next = now;
            }
            // Repeated, or out of order.
            (BirthdayStep::Ask | BirthdayStep::Consent | BirthdayStep::Open, _) => {}
        }
        true
    }

    /// The local ports that were opened, or `None` when nothing may begin.
    pub fn on_sockets(&mut self, ports: Option<Vec<u16>>, now: Instant) {
        // If it is over already, its end follows.
        let Some(attempt) = self.attempt.as_mut() else {
            return;
        };
        let Stage::Beginning { opening } = attempt.stage else {
            return;
        };
        let Some(ports) = ports else {
            self.attempt = None;
            return;
        };
        if opening {
            attempt.ports = ports;
            attempt.ports.truncate(SOCKETS.into());
            attempt.stage = Stage::Firing {
                fired: 0,
                second: false,
            };
            attempt.next = now;
        } else {
            attempt.stage = Stage::Consenting;
            self.acts.push_back(Act::Tell(BirthdayStep::Consent));
        }
        self.recent.push_back(now);
        while self.recent.len() > MOST_ATTEMPTS {
            self.recent.pop_front();
        }
    }

    /// The peer of the attempt under way, its number and its address.
    pub fn attempt(&self) -> Option<(PeerIdx, u64, SocketAddr)> {
        let attempt = self.attempt.as_ref()?;
        Some((attempt.peer, attempt.number, attempt.aim))
    }

    /// Whether our own ports are the ones that are probed in the attempt under way with this peer.
    pub fn has_asked(&self, peer: PeerIdx) -> bool {
        let attempt = self.attempt.as_ref().filter(|it| it.peer == peer);
        attempt.is_some_and(|attempt| match attempt.stage {
            Stage::Asking { .. }
            | Stage::Firing { .. }
            | Stage::Waiting { .. }
            | Stage::Listening => true,
            Stage::Beginning { opening } => opening,
            Stage::Consenting | Stage::Probing { .. } => false,
        })
    }

    /// The port, if it is that of a socket beside the mesh's own.
    pub fn additional(&self, port: u16) -> Option<NonZeroU16> {
        let opened = self
            .attempt
            .as_ref()
            .is_some_and(|attempt| self.has_asked(attempt.peer) && attempt.ports.contains(&port));
        NonZeroU16::new(port).filter(|_| opened || self.kept.has(port))
    }

    /// An authentic check of a peer has come to our address `base`. Whether that may carry the path from now on: its socket
    /// is one that was opened for this peer, and no other one is on trial.
    pub fn may_adopt(&self, peer: PeerIdx, base: SocketAddr, now: Instant) -> bool {
        let attempt = self.attempt.as_ref().filter(|_| self.has_asked(peer));
        attempt.is_some_and(|attempt| {
            let is_free =
                |(other, since): (SocketAddr, Instant)| other != base && now >= since + TRIAL;
            attempt.ports.contains(&base.port()) && attempt.adopted.is_none_or(is_free)
        })
    }

    /// That address may carry the path. Returns the one that it replaces.
    pub fn adopt(&mut self, base: SocketAddr, now: Instant) -> Option<SocketAddr> {
        let replaced = self.attempt.as_mut()?.adopted.replace((base, now));
        replaced.map(|(before, _)| before)
    }

    /// The attempt is over. The socket with the local port `keep` carries the path. Returns another one's address that was
    /// to carry it.
    pub fn end(&mut self, keep: Option<NonZeroU16>) -> Option<SocketAddr> {
        let attempt = self.attempt.take()?;
        self.acts.clear();
        let adopted = attempt.adopted.map(|(base, _)| base);
        let kept = adopted.filter(|base| NonZeroU16::new(base.port()) == keep);
        if let Some(base) = kept {
            self.kept.add(attempt.peer, base);
        }
        if !matches!(attempt.stage, Stage::Asking { .. }) {
            let keep = kept.and(keep);
            self.requests.push_back(SocketRequest::End(keep));
        }
        adopted.filter(|_| kept.is_none())
    }

    /// The address of the socket that an earlier attempt has left for this peer.
    pub fn base(&self, peer: PeerIdx) -> Option<SocketAddr> {
        self.kept.base(peer)
    }

    /// A peer is gone.
    pub fn forget(&mut self, peer: PeerIdx) {
        if self.attempt.as_ref().is_some_and(|it| it.peer == peer) {
            self.end(None);
        }
        self.requests.extend(self.kept.forget(peer));
    }

    /// Closes sockets that no path has used for a while. `is_used` tells whether the peer's does.
    pub fn tidy(&mut self, is_used: impl Fn(PeerIdx, u16) -> bool, now: Instant) {
        self.requests.extend(self.kept.tidy(is_used, now));
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let attempt = self.attempt.as_ref().map(|attempt| attempt.next);
        [attempt, self.kept.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Lets time pass. Returns whether the attempt has come to its end, which [`Self::end`] then has to make.
    pub fn handle_timeout(&mut self, now: Instant) -> bool {
        let Some(attempt) = self.attempt.as_mut().filter(|it| it.next <= now) else {
            return false;
        };
        attempt.stage = match attempt.stage {
            Stage::Asking { asked } if asked < LETTERS => {
                self.acts.push_back(Act::Tell(BirthdayStep::Ask));
                attempt.next = now + REPEAT;
                Stage::Asking { asked: asked + 1 }
            }
            Stage::Firing { fired, second } => {
                let burst = burst(&attempt.ports, fired);
                let ports = burst.iter().copied().filter_map(NonZeroU16::new);
                self.acts.extend(ports.map(|port| match second {
                    false => Act::Shoot(port),
                    true => Act::Check(port),
                }));
                let fired = fired + burst.len();
                let done = fired == attempt.ports.len();
                attempt.next = now
                    + if done && second {
                        LISTENING
                    } else {
                        BURST_PAUSE
                    };
                match (done, second) {
                    (false, _) => Stage::Firing { fired, second },
                    (true, false) => Stage::Waiting {
                        told: 0,
                        until: now + PROBED,
                    },
                    (true, true) => Stage::Listening,
                }
            }
            Stage::Waiting { told, until } if told < LETTERS => {
                self.acts.push_back(Act::Tell(BirthdayStep::Open));
                let told = told + 1;
                attempt.next = if told < LETTERS { now + REPEAT } else { until };
                Stage::Waiting { told, until }
            }
            Stage::Waiting { .. } => Stage::Firing {
                fired: 0,
                second: true,
            },
            Stage::Probing { probed } if probed < attempt.ports.len() => {
                let burst = burst(&attempt.ports, probed);
                self.acts.extend(burst.iter().copied().map(Act::Probe));
                attempt.next = now + BURST_PAUSE;
                Stage::Probing {
                    probed: probed + burst.len(),
                }
            }
            Stage::Asking { .. }
            | Stage::Beginning { .. }
            | Stage::Listening
            | Stage::Consenting
            | Stage::Probing { .. } => return true,
        };
        false
    }

    /// The next datagram or letter to send.
    pub fn poll_act(&mut self) -> Option<Act> {
        self.acts.pop_front()
    }

    /// What is next to be done about sockets.
    pub fn poll_request(&mut self) -> Option<SocketRequest> {
        self.requests.pop_front()
    }
}

/// The next ports after the first `done`.
fn burst(ports: &[u16], done: usize) -> &[u16] {
    let rest = ports.get(done..).unwrap_or_default();
    rest.get(..BURST).unwrap_or(rest)
}
