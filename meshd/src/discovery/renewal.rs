//! Who gets a new certificate, before the old one ends or the invite behind it is forgotten?
//!
//! A device that may vouch writes to members that are online; whoever gets a better certificate registers with it.

use std::time::Duration;

use mesh_wire::{
    NodeId,
    letter::Content,
    peer_info::PeerInfo,
    trust::{Binding, Certificate, Issuer, MAX_LIFE, Span},
};
use tokio::time::Instant;

use super::{client::DiscoveryClient, post::Posted};
use crate::trust::{
    authority::Authority,
    links::{counted, maker},
    random_u64, unix_time,
};

/// A member that got a certificate and does not show it is not written to again for so long.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Certificates that are sent at each change of the list; the server forwards 64 letters at once, and signals need some.
const AT_ONCE: usize = 16;

impl DiscoveryClient {
    /// Writes to those members that need a new certificate, if this node may vouch.
    pub(super) fn renew(&mut self) {
        let Some(authority) = self.membership.authority() else {
            return;
        };
        if !self.keep_links() {
            return;
        }
        let now = Instant::now();
        self.renewed.retain(|_, at| now < *at + PATIENCE);
        let due: Vec<PeerInfo> = self
            .believed
            .directory()
            .peers
            .iter()
            .filter(|peer| peer.online && !self.is_own(peer.record.node_id))
            .filter(|peer| !self.renewed.contains_key(&peer.record.node_id))
            .cloned()
            .collect();
        let letters = due
            .iter()
            .filter_map(|peer| Some((peer, better(&authority, peer)?)));
        for (peer, better) in letters.take(AT_ONCE).collect::<Vec<_>>() {
            tracing::debug!(peer = %peer.name, "sends a new certificate");
            let content = Content::Certificate(better.to_text());
            let node = peer.record.node_id;
            if matches!(self.hand_over(&node, content, &[]), Posted::By(_)) {
                self.renewed.insert(node, now);
            }
        }
    }

    /// Takes a certificate that a member sent, if it is a better one, and registers with it.
    pub(super) fn adopt(&self, text: &str) {
        let Ok(certificate) = Certificate::from_text(text) else {
            return;
        };
        let is_revoked = self.believed.revocations().covers(&certificate.keys());
        if is_revoked || !self.membership.is_better(&certificate) {
            tracing::debug!("refused a certificate that is no better");
            return;
        }
        self.servers.register(&certificate);
    }

    fn is_own(&self, node: NodeId) -> bool {
        self.roster.node_id == node
    }
}

/// A certificate for the member that holds for longer, or rests on less.
fn better(authority: &Authority, peer: &PeerInfo) -> Option<Certificate> {
    let current = peer.record.stated_certificate()?;
    let Span { from, until } = current.binding.span;
    let now = unix_time();
    let is_half_over = now > from + until.saturating_sub(from) / 2;
    // Whom an expired link let in is not vouched for by chance: a server might have helped.
    let rests_on_others = match &current.issuer {
        Issuer::Network => false,
        Issuer::Admin(_) => true,
        Issuer::Invite(invite) => now <= invite.terms.span.until,
    };
    let is_due = match counted(&current) {
        // Whom it let in before others its maker alone says.
        Some((invite, _)) => authority.has_made(maker(invite)) && (is_half_over || rests_on_others),
        None => is_half_over || rests_on_others && authority.is_network(),
    };
    if !is_due {
        return None;
    }
    // A clock that is behind makes none that ends earlier.
    let from = now.max(from);
    authority
        .certify(&Binding {
            span: Span {
                from,
                until: from.saturating_add(MAX_LIFE),
            },
            serial: random_u64().ok()?,
            ..current.binding
        })
        .ok()
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;
    use mesh_wire::trust::Roles;

    use super::*;
    use crate::{
        discovery::scope::tests::{certified, root},
        trust::{anchor::tests::binding, authority::Offer},
    };

    #[test]
    fn what_rests_on_others_or_is_half_over_is_made_anew() {
        let network = Authority::of_network(root(), SigningKey::from_bytes(&[1; 32]));
        assert_eq!(
            better(&network, &certified(2, |_| {})),
            None,
            "good as it is"
        );
        let old = certified(2, |binding| {
            binding.span.from -= MAX_LIFE / 2 + 60;
            binding.span.until = binding.span.from + MAX_LIFE;
        });
        let made = better(&network, &old).unwrap();
        assert_eq!(made.verify(&root()), Ok(()));
        assert_eq!(made.binding.virtual_ips, old.virtual_ips);

        let own = network.certify(&binding(9, Roles::all())).unwrap();
        let key = SigningKey::from_bytes(&[9; 32]);
        let admin = Authority::of_admin(root(), key, own).unwrap();
        let by_admin = admin.certify(&binding(3, Roles::default())).unwrap();
        let mut member = certified(3, |_| {});
        member.record.certificate = Some(by_admin.to_text());
        let made = better(&network, &member).unwrap();
        assert_eq!(made.issuer, Issuer::Network);
        assert_eq!(better(&admin, &member), None);
        assert!(better(&admin, &old).is_some());
    }

    #[test]
    fn whom_a_link_for_some_machines_let_in_its_maker_alone_vouches_for() {
        let network = Authority::of_network(root(), SigningKey::from_bytes(&[1; 32]));
        let own = network.certify(&binding(9, Roles::all())).unwrap();
        let key = SigningKey::from_bytes(&[9; 32]);
        let admin = Authority::of_admin(root(), key, own).unwrap();
        let joined = |maker: &Authority, uses| {
            let offer = Offer {
                uses,
                ..Offer::default()
            };
            let link = maker.invite(&offer).unwrap();
            let roles = link.invite.terms.roles;
            let by_link = link.certify(&root(), &binding(3, roles)).unwrap();
            let mut member = certified(3, |_| {});
            member.record.certificate = Some(by_link.to_text());
            member
        };
        let by_admin = joined(&admin, Some(1));
        assert_eq!(better(&network, &by_admin), None);
        let made = better(&admin, &by_admin).unwrap();
        assert!(matches!(made.issuer, Issuer::Admin(_)));
        let by_network = joined(&network, Some(1));
        assert_eq!(better(&admin, &by_network), None);
        let made = better(&network, &by_network).unwrap();
        assert_eq!(made.issuer, Issuer::Network);
        let uncounted = joined(&admin, None);
        assert_eq!(better(&admin, &uncounted), None);
        assert!(better(&network, &uncounted).is_some());
    }
}
