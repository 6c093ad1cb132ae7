//! With which record, address and name does this node register?

use mesh_wire::{
    discovery::RegisterPeer,
    peer_info::{Directory, PeerInfo, PeerRecord},
    trust::{Certificate, Issuer},
};

use super::{Membership, random_u64};
use crate::{
    discovery::{ServerError, rest::Conversation},
    problem::{self, Problem},
    trust::{
        anchor::{Anchor, OwnKeys},
        place::Wish,
    },
};

/// How often a place is chosen anew after another member was faster. The first time a hundred who join at once choose the
/// same one; then they choose at random, and in a range of a hundred addresses two meet again in half of the cases.
const ATTEMPTS: u32 = 20;

impl Membership {
    /// Registers, with the certificate that we have, or one for a place that is free.
    ///
    /// # Errors
    /// The outer one if this node can do nothing about it.
    pub async fn register(
        &mut self,
        conversation: &mut Conversation<'_>,
    ) -> Result<Result<PeerInfo, ServerError>, Problem> {
        let id = self.network.id.clone();
        let Some(anchor) = &self.network.anchor else {
            let registration = self.registration(None)?;
            return Ok(conversation.register(&id, &registration).await);
        };
        let mut certificate = anchor.current(self.keys(), &self.network.name).cloned();
        for attempt in 0..ATTEMPTS {
            let current = match certificate.take() {
                Some(current) => current,
                None => match conversation.peers(&id).await {
                    Ok(members) => self.certify(&members, attempt)?,
                    Err(error) => return Ok(Err(error)),
                },
            };
            let registration = self.registration(Some(&current))?;
            match conversation.register(&id, &registration).await {
                Err(ServerError::Refused(refusal)) if self.may_move(&refusal) => {
                    tracing::debug!(%refusal, "another member was faster");
                }
                Err(error) => return Ok(Err(error)),
                Ok(own) => {
                    self.keep(current)?;
                    return Ok(Ok(own));
                }
            }
        }
        Ok(Err(ServerError::Unreachable(format!(
            "{ATTEMPTS} times another member took the address or name first"
        ))))
    }

    /// Takes a certificate in place of ours, if it says the same and holds for longer or rests on less; whether it did.
    pub fn adopt(&mut self, certificate: Certificate) -> Result<bool, Problem> {
        let keys = self.keys();
        let Some(anchor) = &self.network.anchor else {
            return Ok(false);
        };
        let Some(current) = &anchor.certificate else {
            return Ok(false);
        };
        let (new, old) = (&certificate.binding, &current.binding);
        let is_ours = (new.node_id, new.wireguard_key) == (keys.node_id, keys.wireguard_key)
            && (&new.name, &new.virtual_ips) == (&old.name, &old.virtual_ips);
        let is_better = new.span.until > old.span.until
            || matches!(certificate.issuer, Issuer::Network)
                && !matches!(current.issuer, Issuer::Network);
        let is_signed = certificate.verify(&anchor.root(&self.network.id)).is_ok();
        if is_ours && is_better && is_signed {
            self.keep(certificate)?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Whether another place may be tried, because this one is another member's.
    fn may_move(&self, refusal: &Problem) -> bool {
        let can_certify = self
            .network
            .anchor
            .as_ref()
            .is_some_and(Anchor::can_certify);
        can_certify && ["address-taken", "name-taken"].contains(&refusal.code.as_str())
    }

    fn certify(&self, members: &Directory, attempt: u32) -> Result<Certificate, Problem> {
        let anchor = self
            .network
            .anchor
            .as_ref()
            .ok_or_else(problem::cannot_certify)?;
        let wish = Wish {
            node_id: self.identity.node_id(),
            cidr: self.network.cidr,
            address: self.network.virtual_ips.first().copied(),
            hostname: &self.network.name,
            start: if attempt == 0 { 0 } else { random_u64()? },
        };
        let place = wish
            .choose(members)
            .ok_or_else(|| problem::no_address_left(self.network.cidr))?;
        anchor.certify(&self.network.id, self.keys(), &place)
    }

    fn keep(&mut self, certificate: Certificate) -> Result<(), Problem> {
        if let Some(anchor) = &mut self.network.anchor
            && anchor.certificate.as_ref() != Some(&certificate)
        {
            anchor.certificate = Some(certificate);
            self.state.save_network(&self.network)?;
        }
        Ok(())
    }

    /// A record with the next sequence number, to be registered.
    fn registration(&mut self, certificate: Option<&Certificate>) -> Result<RegisterPeer, Problem> {
        let seq = self.state.next_seq(&mut self.network)?;
        let record = PeerRecord::sign_with(
            self.identity.signing_key(),
            &self.network.id,
            self.identity.wireguard_key(),
            (&self.network.name, certificate),
            (seq, self.instance),
        )
        .map_err(|error| problem::operation_failed("sign our peer record", &error))?;
        Ok(RegisterPeer {
            record,
            requested_ip: self.network.virtual_ips.first().copied(),
        })
    }

    fn keys(&self) -> OwnKeys {
        OwnKeys {
            node_id: self.identity.node_id(),
            wireguard_key: self.identity.wireguard_key(),
        }
    }
}
