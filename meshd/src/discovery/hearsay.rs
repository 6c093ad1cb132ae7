//! What do we learn of the network otherwise than from the server, and whom do we tell?

use std::time::Duration;

use mesh_core::Command;
use mesh_wire::{
    NodeId,
    trust::{Gossip, Revocation},
};
use tokio::time::sleep;

use super::{ServerError, client::DiscoveryClient};
use crate::dataplane::Commands;

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
}

/// The newest revocations that a member we meet is told of.
const TOLD_AT_ONCE: usize = 64;

/// News are told again so much later: a datagram may be lost.
const AGAIN: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(10)];

impl DiscoveryClient {
    /// Takes something in; returns what the server should hear of us.
    pub(super) async fn hear(
        &mut self,
        hearsay: Hearsay,
    ) -> Result<Option<Revocation>, ServerError> {
        let is_ours = matches!(hearsay, Hearsay::Signed(_));
        let revocation = match hearsay {
            Hearsay::Met(node) => {
                self.tell_all_to(node).await?;
                return Ok(None);
            }
            Hearsay::Signed(revocation) => revocation,
            Hearsay::Told { from, message } => match Gossip::read(&message) {
                Ok(Gossip::Revocation(revocation)) => revocation,
                Err(error) => {
                    tracing::debug!(peer = %from.short(), %error, "refused gossip");
                    return Ok(None);
                }
            },
        };
        if !self.believed.revoke(&revocation) {
            return Ok(None);
        }
        tracing::info!(key = %revocation.key.short(), "a key is revoked");
        self.show_directory().await?;
        tell_everybody(self.outlets.commands.clone(), &revocation);
        // What others signed, they tell the server.
        Ok(is_ours.then_some(revocation))
    }

    /// What we know, to a member that may have been away.
    async fn tell_all_to(&self, node: NodeId) -> Result<(), ServerError> {
        let mut known: Vec<&Revocation> = self.believed.revocations().iter().collect();
        known.sort_by_key(|revocation| std::cmp::Reverse(revocation.at));
        for revocation in known.into_iter().take(TOLD_AT_ONCE) {
            let message = Gossip::Revocation(revocation.clone()).to_bytes();
            let to = Some(node);
            self.tell(Command::Gossip { to, message }).await?;
        }
        Ok(())
    }

    /// Lets the server know of a revocation, by a conversation of its own.
    pub(super) async fn publish(&self, revocation: &Revocation) -> Result<(), ServerError> {
        let network = &self.membership.network().id;
        self.rest
            .converse()
            .await?
            .revoke(network, revocation)
            .await
    }
}

/// Tells all with whom a session stands, now and twice more.
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
