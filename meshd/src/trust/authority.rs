//! What may this node sign for others, and how?

use ed25519_dalek::SigningKey;
use mesh_wire::{
    NodeId,
    trust::{
        Binding, Capability, Certificate, Invite, InviteTerms, Issuer, MAX_LIFE, Revocation, Role,
        Roles, Root, Span,
    },
};

use super::unix_time;
use crate::problem::{Problem, operation_failed};

/// The right to vouch: the network's own key, or that of a member whose certificate makes it an admin.
#[derive(Clone)]
pub struct Authority {
    root: Root,
    key: SigningKey,
    /// Absent where `key` is the network's.
    admin: Option<Certificate>,
}

/// What an invite shall allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// For how many seconds from now.
    pub seconds: u64,
    /// How many nodes; any number if absent.
    pub uses: Option<u32>,
    /// What they may do.
    pub roles: Roles,
}

/// How long a link holds that nobody said anything about.
pub const WEEK: u64 = 7 * 24 * 3600;

impl Default for Offer {
    /// A week, for any number of nodes, which carry for each other.
    fn default() -> Self {
        Self {
            seconds: WEEK,
            uses: None,
            roles: [Role::Relay].into_iter().collect(),
        }
    }
}

impl Authority {
    /// That of whoever made the network.
    pub fn of_network(root: Root, key: SigningKey) -> Self {
        Self {
            root,
            key,
            admin: None,
        }
    }

    /// That of a member; `None` if its certificate does not make it an admin.
    pub fn of_admin(root: Root, key: SigningKey, certificate: Certificate) -> Option<Self> {
        let is_admin = certificate.binding.roles.has(Role::Admin)
            && certificate.binding.node_id == NodeId::of(&key);
        is_admin.then_some(Self {
            root,
            key,
            admin: Some(certificate),
        })
    }

    /// Whether it is the network's own.
    pub fn is_network(&self) -> bool {
        self.admin.is_none()
    }

    /// Whether it is that of whoever made a link: of this admin, or of the network if absent.
    pub fn has_made(&self, maker: Option<NodeId>) -> bool {
        let admin = self.admin.as_ref();
        admin.map(|admin| admin.binding.node_id) == maker
    }

    /// The key of the network.
    pub fn network_key(&self) -> NodeId {
        self.root.key
    }

    /// The most that it can give.
    pub fn roles(&self) -> Roles {
        self.admin
            .as_ref()
            .map_or_else(Roles::all, |admin| admin.binding.roles)
    }

    /// Vouches for a node.
    pub fn certify(&self, binding: &Binding) -> Result<Certificate, Problem> {
        let issuer = match &self.admin {
            None => Issuer::Network,
            Some(admin) => Issuer::Admin(Box::new(admin.clone())),
        };
        Certificate::sign(&self.root, &self.key, &issuer, binding)
            .map_err(|error| operation_failed("sign a certificate", &error))
    }

    /// Makes an invite with a key of its own.
    pub fn invite(&self, offer: &Offer) -> Result<Capability, Problem> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret)
            .map_err(|error| operation_failed("get random bytes", &error))?;
        let secret = SigningKey::from_bytes(&secret);
        let from = self.signing_time();
        let terms = InviteTerms {
            key: NodeId::of(&secret),
            uses: offer.uses,
            roles: offer.roles,
            span: Span {
                from,
                until: from.saturating_add(offer.seconds.min(MAX_LIFE)),
            },
        };
        let failed = |error| operation_failed("sign an invite", &error);
        let invite = Invite::sign(&self.root, &self.key, self.admin.as_ref(), &terms);
        Capability::new(secret, invite.map_err(failed)?).map_err(failed)
    }

    /// Takes a key out for good.
    pub fn revoke(&self, key: &NodeId) -> Result<Revocation, Problem> {
        let at = self.signing_time();
        Revocation::sign(&self.root, &self.key, self.admin.as_ref(), (key, at))
            .map_err(|error| operation_failed("sign a revocation", &error))
    }

    /// Now; or, where the clock says that our own certificate does not hold yet, when it began to.
    fn signing_time(&self) -> u64 {
        let begin = self
            .admin
            .as_ref()
            .map_or(0, |admin| admin.binding.span.from);
        unix_time().max(begin)
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::anchor::tests::binding;

    #[test]
    fn the_network_and_its_admins_vouch_and_members_do_not() {
        let key = SigningKey::from_bytes(&[1; 32]);
        let root = Root {
            network: "my-network".parse().unwrap(),
            key: NodeId::of(&key),
        };
        let network = Authority::of_network(root.clone(), key);
        let member = SigningKey::from_bytes(&[2; 32]);
        let plain = network.certify(&binding(2, Roles::default())).unwrap();
        assert!(Authority::of_admin(root.clone(), member.clone(), plain).is_none());
        let admin = network.certify(&binding(2, Roles::all())).unwrap();
        let stranger = SigningKey::from_bytes(&[3; 32]);
        assert!(Authority::of_admin(root.clone(), stranger, admin.clone()).is_none());
        let admin = Authority::of_admin(root.clone(), member, admin).unwrap();
        for authority in [network, admin] {
            let invite = authority.invite(&Offer::default()).unwrap();
            assert_eq!(invite.invite.verify(&root), Ok(()));
            let revocation = authority.revoke(&NodeId::from_bytes([9; 32])).unwrap();
            assert_eq!(revocation.verify(&root), Ok(()));
            let certificate = authority.certify(&binding(4, Roles::default())).unwrap();
            assert_eq!(certificate.verify(&root), Ok(()));
        }
    }
}
