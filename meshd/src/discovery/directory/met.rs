//! Whom do we take for a member that no server has told us of, because it announced itself on the LAN? Who has a certificate that
//! says so today, and takes nothing that is known to be another's.

use mesh_wire::{
    peer_info::{PeerInfo, PeerRecord},
    trust::{Certificate, Issuer},
};

use super::{Believed, Claim, shares_address};

/// Members at most whom the server does not list: those of a segment.
const MAX_UNLISTED: usize = 256;

impl Believed {
    /// Takes a record in; whether it changed anything. Until the server lists it, its member is one that it has ceased to list.
    ///
    /// # Errors
    /// With the reason why it is not believed.
    pub fn meet(&mut self, record: &PeerRecord, now: u64) -> Result<bool, &'static str> {
        let node = record.node_id;
        let known = self.directory.by_node(&node);
        if known.is_some_and(|known| record.seq <= known.record.seq) {
            return Ok(false);
        }
        // Without certificates it is for the server to say who has which address.
        let root = self.scope.root.as_ref().ok_or("the network has no key")?;
        let certificate = record.certified(root).map_err(|_| "has no certificate")?;
        holds_by_itself(&certificate, self.latest(now))?;
        let peer = PeerInfo {
            name: certificate.binding.name,
            virtual_ips: certificate.binding.virtual_ips,
            online: known.is_some_and(|known| known.online),
            last_seen: known.map_or(now, |known| known.last_seen),
            record: record.clone(),
        };
        let takes_from = |known: &PeerInfo| {
            let other = &known.record;
            other.node_id != node
                && (other.wireguard_key == record.wireguard_key
                    || shares_address(known, &peer)
                    || known.name == peer.name)
        };
        if self.directory.peers.iter().any(takes_from) {
            return Err("claims what is known to be another's");
        }
        let unlisted_since = match known {
            Some(_) => self.unlisted.get(&node).copied(),
            None if self.unlisted.len() >= MAX_UNLISTED => return Err("is one of too many"),
            None => Some(now),
        };
        let rejected = self.rejected;
        let changed = self.put(peer, now, Claim::Ours);
        if self.rejected > rejected {
            // Not the server's fault.
            self.rejected = rejected;
            return Err("is not signed, revoked, expired, or out of range");
        }
        if let Some(since) = unlisted_since {
            self.unlisted.insert(node, since);
        }
        Ok(changed)
    }
}

/// Whether a certificate makes a member without a server's word. What a link's holder signed does so only while the link holds
/// and lets in any number: when it was signed, and how many others there are, the server alone knows.
fn holds_by_itself(certificate: &Certificate, now: u64) -> Result<(), &'static str> {
    match &certificate.issuer {
        Issuer::Network | Issuer::Admin(_) => Ok(()),
        Issuer::Invite(invite) if invite.terms.uses.is_some() => {
            Err("rests on a link for some machines, which a server must count")
        }
        Issuer::Invite(invite) if !invite.terms.span.contains(now) => {
            Err("rests on a link that does not hold any more")
        }
        Issuer::Invite(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests;
