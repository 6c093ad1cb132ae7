//! What does a server get to know by requests, beside the event connection, and when? A request that fails or takes its time
//! holds up nothing: it is made again later.

use std::time::Duration;

use mesh_wire::{
    discovery::ServerMessage,
    peer_info::PeerInfo,
    trust::{Certificate, Revocation},
};
use tokio::time::Instant;

use super::{ServerError, connection::own_trouble, rest::Rest};
use crate::membership::Membership;

/// Who did not sign a revocation lets the server hear it from somebody else for up to so long: all members learn it at the same
/// moment, and those behind one router have few connections between them.
const OTHERS_FIRST: Duration = Duration::from_secs(30);

/// Revocations that are told over one connection.
const AT_ONCE: usize = 64;

/// As many wait as a server keeps.
const MAX_WAITING: usize = 1_000;

/// The pause after a first failure, and the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What one server is still to be told.
#[derive(Debug)]
pub struct Beside {
    /// In the order in which they were signed: what an admin said before it was put out itself holds.
    revocations: Vec<Revocation>,
    /// When they are told.
    due: Instant,
    pause: Duration,
    certificate: Option<Certificate>,
}

/// What is told over one connection.
#[derive(Debug)]
pub enum Work {
    /// These keys are out.
    Revocations(Vec<Revocation>),
    /// We register with this.
    Certificate(Certificate),
}

/// What became of it.
#[derive(Debug)]
pub enum Done {
    /// These could not be told yet.
    Told(Vec<Revocation>),
    /// The server registered us so; or it knows us by the old certificate still.
    Registered(Option<Box<PeerInfo>>),
}

impl Beside {
    /// Nothing yet.
    pub fn new(now: Instant) -> Self {
        Self {
            revocations: Vec::new(),
            due: now,
            pause: FIRST_PAUSE,
            certificate: None,
        }
    }

    /// A revocation that the server may not know: told now if it `is_ours`, else after a wait of which `share` (0 to 1) is
    /// random. All go together, so that none overtakes another.
    pub fn revoke(&mut self, revocation: Revocation, (is_ours, share): (bool, f64), now: Instant) {
        let is_there = |known: &Revocation| known.key == revocation.key;
        if self.revocations.len() >= MAX_WAITING || self.revocations.iter().any(is_there) {
            return;
        }
        if is_ours {
            self.due = now;
        } else if self.revocations.is_empty() {
            self.due = self.due.max(now + OTHERS_FIRST.mul_f64(share));
        }
        let place = |known: &Revocation| known.at <= revocation.at;
        let place = self.revocations.partition_point(place);
        self.revocations.insert(place, revocation);
    }

    /// A certificate to register with; a newer one takes its place.
    pub fn register(&mut self, certificate: Certificate) {
        self.certificate = Some(certificate);
    }

    /// The server said this: what it knows it need not be told.
    pub fn note(&mut self, message: &ServerMessage) {
        if let ServerMessage::Revoked { revocation, .. } = message
            && let Ok(known) = Revocation::from_text(revocation)
        {
            self.revocations.retain(|waiting| waiting.key != known.key);
        }
    }

    /// When there is something to do.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        if self.certificate.is_some() {
            return Some(now);
        }
        (!self.revocations.is_empty()).then_some(self.due)
    }

    /// What is to be done now.
    pub fn take(&mut self, now: Instant) -> Option<Work> {
        if let Some(certificate) = self.certificate.take() {
            return Some(Work::Certificate(certificate));
        }
        let count = self.revocations.len().min(AT_ONCE);
        let is_due = count > 0 && self.due <= now;
        is_due.then(|| Work::Revocations(self.revocations.drain(..count).collect()))
    }

    /// These could not be told; `share` (0 to 1) of the pause is random.
    pub fn put_back(&mut self, left: Vec<Revocation>, share: f64, now: Instant) {
        if left.is_empty() {
            self.pause = FIRST_PAUSE;
            return;
        }
        for revocation in left {
            self.revoke(revocation, (true, share), now);
        }
        self.due = now + self.pause.mul_f64(0.5 + share);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}

impl Work {
    /// Makes the requests. What the server refuses for good is done: members tell each other of revocations, and the old
    /// certificate still holds.
    pub async fn run(self, rest: Rest, membership: Membership) -> Done {
        match self {
            Self::Revocations(mut left) => {
                if let Err(error) = tell(&rest, &membership, &mut left).await {
                    tracing::debug!(server = %rest.server(), %error, "tells the server of a revocation later");
                }
                Done::Told(left)
            }
            Self::Certificate(certificate) => {
                let registered = register(&rest, &membership, certificate).await;
                let own = registered.inspect_err(|error| {
                    tracing::warn!(server = %rest.server(), %error, "did not register with a new certificate");
                });
                Done::Registered(own.ok().map(Box::new))
            }
        }
    }
}

/// Tells the server of these, one after the other; those that it heard are removed.
async fn tell(
    rest: &Rest,
    membership: &Membership,
    left: &mut Vec<Revocation>,
) -> Result<(), ServerError> {
    let network = membership.network().id;
    let mut conversation = rest.converse().await?;
    while let Some(revocation) = left.first() {
        match conversation.revoke(&network, revocation).await {
            Err(error) if error.is_final() => {
                tracing::warn!(server = %rest.server(), %error, "the server does not take a revocation");
            }
            answer => answer?,
        }
        left.remove(0);
    }
    Ok(())
}

async fn register(
    rest: &Rest,
    membership: &Membership,
    certificate: Certificate,
) -> Result<PeerInfo, ServerError> {
    let mut conversation = rest.converse().await?;
    let registered = membership.register_with(&mut conversation, certificate);
    registered.await.map_err(own_trouble)?
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;
    use mesh_wire::NodeId;

    use super::*;
    use crate::discovery::scope::tests::root;

    const SECOND: Duration = Duration::from_secs(1);

    fn out(number: u8, at: u64) -> Revocation {
        let signer = SigningKey::from_bytes(&[1; 32]);
        let node = NodeId::from_bytes([number; 32]);
        Revocation::sign(&root(), &signer, None, (&node, at)).unwrap()
    }

    fn taken(beside: &mut Beside, now: Instant) -> Vec<u64> {
        match beside.take(now) {
            Some(Work::Revocations(all)) => all.iter().map(|one| one.at).collect(),
            Some(Work::Certificate(_)) | None => Vec::new(),
        }
    }

    #[test]
    fn what_others_signed_waits_and_is_not_told_to_a_server_that_says_it_meanwhile() {
        let start = Instant::now();
        let mut beside = Beside::new(start);
        assert_eq!(beside.due(start), None);
        beside.revoke(out(3, 20), (false, 0.5), start);
        beside.revoke(out(2, 10), (false, 0.0), start);
        assert_eq!(beside.due(start), Some(start + 15 * SECOND));
        assert!(beside.take(start + 14 * SECOND).is_none());
        let revocation = out(3, 20).to_text();
        beside.note(&ServerMessage::Revoked {
            revision: 1,
            revocation,
        });
        assert_eq!(taken(&mut beside, start + 15 * SECOND), [10]);
        assert_eq!(beside.due(start), None);
    }

    #[test]
    fn what_we_signed_is_told_at_once_and_what_was_signed_before_it_with_it() {
        let start = Instant::now();
        let mut beside = Beside::new(start);
        beside.revoke(out(3, 20), (false, 1.0), start);
        beside.revoke(out(2, 30), (true, 1.0), start);
        assert_eq!(taken(&mut beside, start), [20, 30]);
    }

    #[test]
    fn what_could_not_be_told_is_told_after_growing_pauses() {
        let start = Instant::now();
        let mut beside = Beside::new(start);
        beside.revoke(out(2, 10), (true, 0.0), start);
        for pause in [2, 4, 8, 16, 32, 60, 60] {
            let now = beside.due(start).unwrap();
            assert_eq!(taken(&mut beside, now), [10]);
            beside.put_back(vec![out(2, 10)], 0.5, now);
            assert_eq!(beside.due(now), Some(now + pause * SECOND));
            // Another one does not hurry it.
            beside.revoke(out(9, 90), (false, 0.0), now);
            beside.note(&ServerMessage::Revoked {
                revision: 1,
                revocation: out(9, 90).to_text(),
            });
        }
        beside.put_back(Vec::new(), 0.5, start);
        assert_eq!(beside.pause, FIRST_PAUSE);
    }

    #[test]
    fn no_more_wait_than_a_server_keeps_and_no_more_are_told_at_once_than_some() {
        let start = Instant::now();
        let mut beside = Beside::new(start);
        for number in 0..1_100_u32 {
            let mut revocation = out(2, 10);
            let mut bytes = [0; 32];
            bytes[..4].copy_from_slice(&number.to_be_bytes());
            revocation.key = NodeId::from_bytes(bytes);
            beside.revoke(revocation, (true, 0.0), start);
        }
        assert_eq!(beside.revocations.len(), MAX_WAITING);
        assert_eq!(taken(&mut beside, start).len(), AT_ONCE);
        assert_eq!(beside.due(start), Some(start));
    }
}
