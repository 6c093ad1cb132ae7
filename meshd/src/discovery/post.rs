//! How does a letter reach a member? Over the server that is said to reach it, then over the others, and by way of members
//! where a server is missing.

use std::time::{Duration, Instant};

use mesh_core::Command;
use mesh_wire::{NodeId, discovery::SIGNALS_AT_ONCE, letter::Content, signal::Signal};

use super::{client::DiscoveryClient, connection::ServerId};
use crate::dataplane::Ended;

/// Signals whose fate is not known; the oldest is given up for a new one.
const MAX_UNDER_WAY: usize = 256;

/// A signal that no server has taken is of use for so long: who moves to another network reaches a server in this time.
const KEPT: Duration = Duration::from_secs(10);

/// So many that waited are handed to a server that has just been reached: it forwards [`SIGNALS_AT_ONCE`], and others follow.
/// The node writes first to those who matter most, and again to who has not answered.
const AT_ONCE: usize = SIGNALS_AT_ONCE as usize * 3 / 4;

/// A signal on its way.
#[derive(Debug)]
pub struct UnderWay {
    since: Instant,
    to: NodeId,
    signal: Signal,
    /// The servers that were asked to carry it, the last one last.
    tried: Vec<ServerId>,
    /// The one that was asked to carry the letter before: it comes last.
    late: Option<ServerId>,
}

impl DiscoveryClient {
    /// Sends a signal; what becomes of an older one to the same member does not matter any more.
    pub(super) async fn post(&mut self, to: NodeId, signal: Signal) -> Result<(), Ended> {
        // A server that has taken the last letter and brought nothing about is not the first to be asked for the next one.
        let last = self.under_way.iter().find(|other| other.to == to);
        let last = last.and_then(|letter| letter.tried.last().copied());
        self.under_way.retain(|other| other.to != to);
        if self.under_way.len() >= MAX_UNDER_WAY {
            self.under_way.remove(0);
        }
        let is_online = |server| self.believed.is_online_at(server, &to);
        let late = last.filter(|last| self.servers.any_other(*last, is_online));
        let tried = Vec::new();
        let letter = UnderWay {
            since: Instant::now(),
            to,
            signal,
            tried,
            late,
        };
        self.forward(letter).await
    }

    /// A server could not deliver the last letter for this member.
    pub(super) async fn on_undeliverable(
        &mut self,
        server: ServerId,
        to: NodeId,
    ) -> Result<(), Ended> {
        // One that speaks of an older letter, or of none, changes nothing.
        let is_asked = |letter: &UnderWay| letter.to == to && letter.tried.last() == Some(&server);
        match self.under_way.iter().position(is_asked) {
            Some(at) => {
                let letter = self.under_way.remove(at);
                self.forward(letter).await
            }
            None => Ok(()),
        }
    }

    /// The connection to a server is lost, and with it what was handed over last, as far as anybody knows.
    pub(super) fn take_back(&mut self, server: ServerId) {
        for letter in &mut self.under_way {
            letter.tried.pop_if(|tried| *tried == server);
        }
    }

    /// There is a server: whatever none has taken is handed to it.
    pub(super) async fn post_what_waited(&mut self) -> Result<(), Ended> {
        let (due, rest) = due(std::mem::take(&mut self.under_way), Instant::now());
        self.under_way = rest;
        for letter in due {
            self.forward(letter).await?;
        }
        Ok(())
    }

    /// Hands it to the next server; after the last one to members, if somebody may be where we are not.
    async fn forward(&mut self, mut letter: UnderWay) -> Result<(), Ended> {
        let to = letter.to;
        let signal = letter.signal.clone();
        let content = || Content::Signal(signal.clone());
        let late = letter.late.take();
        let but_late: Vec<ServerId> = letter.tried.iter().copied().chain(late).collect();
        let posted = match self.hand_over(&to, content(), &but_late) {
            Posted::Nowhere if late.is_some() => self.hand_over(&to, content(), &letter.tried),
            Posted::By(server) => {
                letter.late = late;
                Posted::By(server)
            }
            nowhere @ (Posted::Nowhere | Posted::Unknown) => nowhere,
        };
        match posted {
            Posted::Unknown => Ok(()),
            Posted::By(server) => {
                letter.tried.push(server);
                self.under_way.push(letter);
                Ok(())
            }
            Posted::Nowhere if self.servers.any_missing() => {
                if letter.tried.is_empty() {
                    self.under_way.push(letter);
                }
                self.write_through_members(to, signal).await
            }
            Posted::Nowhere => self.tell(Command::Undeliverable { to }).await,
        }
    }

    /// Seals for a member and hands it to a server that was not tried.
    pub(super) fn hand_over(
        &mut self,
        to: &NodeId,
        content: Content,
        tried: &[ServerId],
    ) -> Posted {
        let seq = self.membership.seq();
        let sealed = self
            .believed
            .directory()
            .by_node(to)
            .and_then(|peer| self.correspondence.seal(&peer.record, seq, content));
        let Some(sealed) = sealed else {
            tracing::debug!(peer = %to.short(), "a letter to somebody who is no member was not written");
            return Posted::Unknown;
        };
        let is_online = |server| self.believed.is_online_at(server, to);
        match self.servers.send(*to, &sealed, (is_online, tried)) {
            Some(server) => Posted::By(server),
            None => Posted::Nowhere,
        }
    }
}

/// Of what is under way that which no server has taken and that is of use still, the oldest first; and what servers have.
fn due(letters: Vec<UnderWay>, now: Instant) -> (Vec<UnderWay>, Vec<UnderWay>) {
    let (mut waiting, rest): (Vec<_>, Vec<_>) = letters
        .into_iter()
        .partition(|letter| letter.tried.is_empty());
    waiting.retain(|letter| now.saturating_duration_since(letter.since) < KEPT);
    waiting.truncate(AT_ONCE);
    (waiting, rest)
}

/// What became of a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Posted {
    /// This server has it.
    By(ServerId),
    /// No server takes it.
    Nowhere,
    /// Nobody can be written to by that name.
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_reached_again_gets_what_it_forwards_and_what_is_of_use_still() {
        let now = Instant::now() + KEPT;
        let letter = |number: u8, age: Duration| UnderWay {
            since: now - age,
            to: NodeId::from_bytes([number; 32]),
            signal: Signal {
                ufrag: "ufrag".into(),
                pwd: "p".repeat(24),
                remote_ufrag: None,
                candidates: Vec::new(),
            },
            tried: Vec::new(),
            late: None,
        };
        let old = letter(0, KEPT);
        let young = (1..=200).map(|number| letter(number, Duration::from_secs(3)));
        let (due, rest) = due([old].into_iter().chain(young).collect(), now);
        let due: Vec<_> = due.iter().map(|letter| letter.to).collect();
        let first: Vec<_> = (1..=48)
            .map(|number| NodeId::from_bytes([number; 32]))
            .collect();
        assert_eq!(due, first);
        assert!(rest.is_empty(), "the others are written again");
    }
}
