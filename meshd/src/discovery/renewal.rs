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
    links::{Standing, counted, maker},
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
            .filter_map(|peer| Some((peer, self.better_for(&authority, peer)?)));
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

    fn better_for(&self, authority: &Authority, peer: &PeerInfo) -> Option<Certificate> {
        let now = unix_time();
        let standing = |current: &Certificate| self.believed.standing(current, now);
        better(authority, peer, (standing, now))
    }
}

/// A certificate for the member that holds for longer, or rests on less.
fn better(
    authority: &Authority,
    peer: &PeerInfo,
    (standing, now): (impl FnOnce(&Certificate) -> Option<Standing>, u64),
) -> Option<Certificate> {
    let current = peer.record.stated_certificate()?;
    let Span { from, until } = current.binding.span;
    let is_half_over = now > from + until.saturating_sub(from) / 2;
    // Whom an expired link let in is not vouched for by chance: a server might have helped.
    let rests_on_others = match &current.issuer {
        Issuer::Network => false,
        Issuer::Admin(_) => true,
        Issuer::Invite(invite) => now <= invite.terms.span.until,
    };
    let is_due = match counted(&current) {
        // Whom it let in before others its maker says; or, if that one is gone, time.
        Some((invite, _)) => {
            let standing = standing(&current)?;
            match authority.has_made(maker(invite)) {
                true => {
                    standing.is_first && (is_half_over || rests_on_others || standing.came_in_time)
                }
                false => standing.is_long_known && is_half_over,
            }
        }
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

    const FIRST: Standing = Standing {
        is_first: true,
        is_long_known: false,
        came_in_time: false,
    };

    fn renewed(authority: &Authority, peer: &PeerInfo) -> Option<Certificate> {
        renewed_as(FIRST, authority, (peer, unix_time()))
    }

    fn renewed_as(
        standing: Standing,
        authority: &Authority,
        (peer, now): (&PeerInfo, u64),
    ) -> Option<Certificate> {
        better(authority, peer, (|_: &Certificate| Some(standing), now))
    }

    #[test]
    fn what_rests_on_others_or_is_half_over_is_made_anew() {
        let network = Authority::of_network(root(), SigningKey::from_bytes(&[1; 32]));
        assert_eq!(
            renewed(&network, &certified(2, |_| {})),
            None,
            "good as it is"
        );
        let old = certified(2, |binding| {
            binding.span.from -= MAX_LIFE / 2 + 60;
            binding.span.until = binding.span.from + MAX_LIFE;
        });
        let made = renewed(&network, &old).unwrap();
        assert_eq!(made.verify(&root()), Ok(()));
        assert_eq!(made.binding.virtual_ips, old.virtual_ips);

        let own = network.certify(&binding(9, Roles::all())).unwrap();
        let key = SigningKey::from_bytes(&[9; 32]);
        let admin = Authority::of_admin(root(), key, own).unwrap();
        let by_admin = admin.certify(&binding(3, Roles::default())).unwrap();
        let mut member = certified(3, |_| {});
        member.record.certificate = Some(by_admin.to_text());
        let made = renewed(&network, &member).unwrap();
        assert_eq!(made.issuer, Issuer::Network);
        assert_eq!(renewed(&admin, &member), None);
        assert!(renewed(&admin, &old).is_some());
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
        assert_eq!(renewed(&network, &by_admin), None);
        let made = renewed(&admin, &by_admin).unwrap();
        assert!(matches!(made.issuer, Issuer::Admin(_)));
        let by_network = joined(&network, Some(1));
        assert_eq!(renewed(&admin, &by_network), None);
        let made = renewed(&network, &by_network).unwrap();
        assert_eq!(made.issuer, Issuer::Network);
        let uncounted = joined(&admin, None);
        assert_eq!(renewed(&admin, &uncounted), None);
        assert!(renewed(&network, &uncounted).is_some());
    }

    #[test]
    fn who_may_have_come_too_late_is_vouched_for_by_nobody_and_who_came_in_time_also_later() {
        let network = Authority::of_network(root(), SigningKey::from_bytes(&[1; 32]));
        let own = network.certify(&binding(9, Roles::all())).unwrap();
        let key = SigningKey::from_bytes(&[9; 32]);
        let admin = Authority::of_admin(root(), key, own).unwrap();
        let offer = Offer {
            uses: Some(1),
            ..Offer::default()
        };
        let link = network.invite(&offer).unwrap();
        let roles = link.invite.terms.roles;
        let by_link = link.certify(&root(), &binding(3, roles)).unwrap();
        let mut bob = certified(3, |_| {});
        bob.record.certificate = Some(by_link.to_text());
        let now = unix_time();
        let (holds, over) = ((&bob, now), (&bob, link.invite.terms.span.until + 1));
        let half_over = (&bob, now + MAX_LIFE / 2 + 60);
        let contested = Standing {
            is_first: false,
            ..FIRST
        };
        let in_time = Standing {
            came_in_time: true,
            ..FIRST
        };
        let long_known = Standing {
            is_long_known: true,
            ..FIRST
        };
        for (standing, at, by_its_maker, by_another) in [
            (FIRST, holds, true, false),
            (contested, holds, false, false),
            (contested, half_over, false, false),
            (FIRST, over, false, false),
            (in_time, over, true, false),
            (FIRST, half_over, true, false),
            (long_known, holds, true, false),
            (long_known, half_over, true, true),
        ] {
            let made = [&network, &admin].map(|by| renewed_as(standing, by, at).is_some());
            assert_eq!(made, [by_its_maker, by_another], "{standing:?} at {}", at.1);
        }
    }
}
