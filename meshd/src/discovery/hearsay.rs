//! What do we learn of the network otherwise than from the server, and whom do we tell?

use std::{collections::VecDeque, net::IpAddr, time::Duration};

use mesh_core::Command;
use mesh_wire::{
    NodeId,
    discovery::{MAX_FOLLOW, MAX_FOLLOWED},
    letter::Content,
    peer_info::PeerRecord,
    signal::Signal,
    trust::{Forwarded, Gossip, Revocation},
};
use tokio::time::sleep;

use super::{
    client::DiscoveryClient,
    connection::{Errand, ServerId},
};
use crate::{
    dataplane::{Commands, Ended},
    trust::unix_time,
};

/// Something that did not come from the server.
#[derive(Debug)]
pub enum Hearsay {
    /// A session with this member stands now.
    Met(NodeId),
    /// A member told this.
    Told {
        /// The member.
        from: NodeId,
        /// What it said.
        message: Box<[u8]>,
    },
    /// We have signed this ourselves.
    Signed(Revocation),
    /// Somebody sends to this address, which no known member has.
    Sought(IpAddr),
    /// Somebody announced this record on the LAN.
    Seen(Box<PeerRecord>),
}

/// The newest revocations that a member we meet is told of, or that are passed on of a list.
const TOLD_AT_ONCE: usize = 64;

/// Over how many members a letter goes at most.
const MAX_HOPS: u8 = 3;

/// News are told again so much later: a datagram may be lost, and a neighbour have heard enough for this minute.
const AGAIN: [Duration; 3] = [
    Duration::from_secs(2),
    Duration::from_secs(10),
    Duration::from_secs(70),
];

impl DiscoveryClient {
    /// Takes something in.
    pub(super) async fn hear(&mut self, hearsay: Hearsay) -> Result<(), Ended> {
        let revocation = match hearsay {
            Hearsay::Met(node) => {
                return self.tell_all_to(node).await;
            }
            Hearsay::Signed(revocation) => revocation,
            Hearsay::Sought(address) => {
                return self.seek(address).await;
            }
            Hearsay::Seen(record) => {
                return self.meet(&record).await;
            }
            Hearsay::Told { from, message } => match Gossip::read(&message) {
                Ok(Gossip::Revocation(revocation)) => revocation,
                Ok(Gossip::Letter(letter)) => {
                    return self.on_forwarded(letter).await;
                }
                Ok(Gossip::List(list)) => {
                    return self.on_list(from, list).await;
                }
                Err(error) => {
                    tracing::debug!(peer = %from.short(), %error, "refused gossip");
                    return Ok(());
                }
            },
        };
        if !self.believed.revoke(&revocation) {
            return Ok(());
        }
        tracing::info!(key = %revocation.key.short(), "a key is revoked");
        self.show_all().await?;
        self.spread_news(None);
        Ok(())
    }

    /// Tells members and servers of revocations that we have just learnt, wherever from: the servers know nothing of each
    /// other, and who told us may reach neither the others nor our neighbours.
    pub(super) fn spread_news(&mut self, from: Option<ServerId>) {
        for revocation in self.believed.take_news(TOLD_AT_ONCE) {
            tell_everybody(self.outlets.commands.clone(), &revocation);
            let errand = || Errand::Revocation(revocation.clone());
            self.servers.ask_all(errand, |other| Some(other) != from);
        }
    }

    /// Asks who has an address, where not all members are listed. Whoever has it is told of like a new member. Where every server
    /// lists all and nobody is known to have it, nobody has.
    async fn seek(&self, address: IpAddr) -> Result<(), Ended> {
        let errand = || Errand::Follow {
            nodes: Vec::new(),
            addresses: vec![address],
        };
        let partial = |server| self.believed.is_partial(server);
        self.servers.ask_all(errand, partial);
        if self.believed.hears_all() {
            self.tell(Command::NobodyHas { address }).await?;
        }
        Ok(())
    }

    /// Asks a server that does not list all members for those that are known, and to be told of their changes.
    pub(super) fn follow_known(&self, server: ServerId) {
        let known = self.believed.directory().peers.iter();
        let known: Vec<NodeId> = known.map(|peer| peer.record.node_id).collect();
        for nodes in known
            .chunks(MAX_FOLLOW)
            .take(MAX_FOLLOWED.div_ceil(MAX_FOLLOW))
        {
            let errand = || Errand::Follow {
                nodes: nodes.to_vec(),
                addresses: Vec::new(),
            };
            self.servers.ask_all(errand, |other| other == server);
        }
    }

    /// Takes in a member that no server has told of.
    async fn meet(&mut self, record: &PeerRecord) -> Result<(), Ended> {
        match self.believed.meet(record, unix_time()) {
            Ok(true) => {
                tracing::info!(peer = %record.node_id.short(), "met a member on the LAN");
                self.show_all().await
            }
            Ok(false) => Ok(()),
            Err(why) => {
                tracing::debug!(peer = %record.node_id.short(), why, "is not taken for a member");
                Ok(())
            }
        }
    }

    /// Writes to a member by way of others, because no server can.
    pub(super) async fn write_through_members(
        &mut self,
        to: NodeId,
        mut signal: Signal,
    ) -> Result<(), Ended> {
        let seq = self.membership.seq();
        let Some(peer) = self.believed.directory().by_node(&to) else {
            return Ok(());
        };
        loop {
            let content = Content::Signal(signal.clone());
            let sealed = self.correspondence.seal_bytes(&peer.record, seq, content);
            let Some(sealed) = sealed else {
                return Ok(());
            };
            if sealed.len() <= Forwarded::MAX_SEALED {
                let letter = Forwarded {
                    hops: MAX_HOPS,
                    from: self.roster.node_id,
                    to,
                    sealed: sealed.into(),
                };
                return self.pass_on(letter).await;
            }
            // The candidates are in order of worth; a host with so many loses the last.
            if signal.candidates.pop().is_none() {
                return Ok(());
            }
        }
    }

    /// A letter that a member brought.
    async fn on_forwarded(&mut self, letter: Forwarded) -> Result<(), Ended> {
        let members = self.believed.directory();
        let (Some(from), Some(_)) = (members.by_node(&letter.from), members.by_node(&letter.to))
        else {
            return Ok(());
        };
        if letter.to == self.roster.node_id {
            let opened = self.correspondence.open_bytes(&from.record, &letter.sealed);
            return match opened {
                Ok(content) => self.on_content(letter.from, content).await,
                // Most are those that came twice, by different ways.
                Err(_) => Ok(()),
            };
        }
        if letter.hops == 0 || letter.from == self.roster.node_id || !self.passed.is_new(&letter) {
            return Ok(());
        }
        let hops = letter.hops.min(MAX_HOPS) - 1;
        self.pass_on(Forwarded { hops, ..letter }).await
    }

    /// To its receiver, if a session with it stands; else to all with whom one does.
    async fn pass_on(&self, letter: Forwarded) -> Result<(), Ended> {
        let is_reached = self
            .reached
            .borrow()
            .peers
            .iter()
            .any(|peer| peer.node_id == letter.to && peer.endpoint.is_some());
        let to = is_reached.then_some(letter.to);
        let message = Gossip::Letter(letter).to_bytes();
        self.tell(Command::Gossip { to, message }).await
    }

    /// What we know, to a member that may have been away.
    async fn tell_all_to(&self, node: NodeId) -> Result<(), Ended> {
        let mut known: Vec<&Revocation> = self.believed.revocations().iter().collect();
        known.sort_by_key(|revocation| std::cmp::Reverse(revocation.at));
        for revocation in known.into_iter().take(TOLD_AT_ONCE) {
            let message = Gossip::Revocation(revocation.clone()).to_bytes();
            let to = Some(node);
            self.tell(Command::Gossip { to, message }).await?;
        }
        Ok(())
    }
}

/// The letters that were passed on lately, so that none circles.
#[derive(Debug, Default)]
pub struct Passed {
    recent: VecDeque<[u8; 32]>,
}

/// A minute's worth of what one neighbour may bring, eight times over.
const REMEMBERED: usize = 1_024;

impl Passed {
    fn is_new(&mut self, letter: &Forwarded) -> bool {
        let mut hasher = blake3::Hasher::new();
        hasher
            .update(letter.from.as_bytes())
            .update(letter.to.as_bytes())
            .update(&letter.sealed);
        let digest = *hasher.finalize().as_bytes();
        if self.recent.contains(&digest) {
            return false;
        }
        if self.recent.len() >= REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back(digest);
        true
    }
}

/// Tells all with whom a session stands, now and some times more.
fn tell_everybody(commands: Commands, revocation: &Revocation) {
    let message = Gossip::Revocation(revocation.clone()).to_bytes();
    tokio::spawn(async move {
        for pause in std::iter::once(Duration::ZERO).chain(AGAIN) {
            sleep(pause).await;
            let message = message.clone();
            if commands
                .send(Command::Gossip { to: None, message })
                .await
                .is_err()
            {
                return;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_passed_on_once() {
        let letter = |number: u32| Forwarded {
            hops: 1,
            from: NodeId::from_bytes([1; 32]),
            to: NodeId::from_bytes([2; 32]),
            sealed: number.to_be_bytes().into(),
        };
        let mut passed = Passed::default();
        assert!(passed.is_new(&letter(0)));
        assert!(!passed.is_new(&letter(0)));
        for number in 1..5_000 {
            assert!(passed.is_new(&letter(number)));
        }
        assert_eq!(passed.recent.len(), REMEMBERED);
    }
}
