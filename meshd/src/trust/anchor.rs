//! What does this node hold in a network with a key?

use ed25519_dalek::SigningKey;
use mesh_wire::{
    NetworkId, NodeId, WireGuardKey,
    place::is_name_for,
    trust::{Binding, Capability, Certificate, Issuer, MAX_LIFE, Roles, Root, Span, default_mac},
};

use super::{authority::Authority, place::Place, random_u64, unix_time};
use crate::problem::{Problem, cannot_certify, operation_failed};

/// The network's key and what we have of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// The public half.
    pub network_key: NodeId,
    /// The secret half; only the node that created the network has it.
    pub creator_key: Option<SigningKey>,
    /// What let us in.
    pub capability: Option<Capability>,
    /// What we are.
    pub certificate: Option<Certificate>,
}

/// The keys of this node that a certificate binds.
#[derive(Debug, Clone, Copy)]
pub struct OwnKeys {
    /// Its identity.
    pub node_id: NodeId,
    /// That of its sessions.
    pub wireguard_key: WireGuardKey,
}

impl Anchor {
    /// What everything in the network is verified against.
    pub fn root(&self, network: &NetworkId) -> Root {
        Root {
            network: network.clone(),
            key: self.network_key,
        }
    }

    /// What we may sign for others.
    pub fn authority(&self, network: &NetworkId, identity: &SigningKey) -> Option<Authority> {
        let root = self.root(network);
        match &self.creator_key {
            Some(key) => Some(Authority::of_network(root, key.clone())),
            None => Authority::of_admin(root, identity.clone(), self.certificate.clone()?),
        }
    }

    /// Our certificate, if it still says what it should and holds for long enough, or if we could not make a better one.
    pub fn current(&self, keys: OwnKeys, hostname: &str) -> Option<&Certificate> {
        let certificate = self.certificate.as_ref()?;
        let binding = &certificate.binding;
        let is_ours =
            (binding.node_id, binding.wireguard_key) == (keys.node_id, keys.wireguard_key);
        let half = binding.span.from + (binding.span.until - binding.span.from) / 2;
        let is_good = is_name_for(&binding.name, hostname)
            && (self.creator_key.is_none() || unix_time() < half);
        (is_ours && (is_good || !self.can_certify())).then_some(certificate)
    }

    /// Whether a certificate that somebody sent says of us what ours says, and is worth more: it rests on the network's key
    /// where ours does not, or on an admin's where ours rests on a link, or holds for longer where ours is half over. None that a link's holder signed is.
    pub fn is_better(&self, network: &NetworkId, certificate: &Certificate) -> bool {
        let Some(current) = &self.certificate else {
            return false;
        };
        let of_ours = &current.binding;
        let says_the_same = *of_ours
            == Binding {
                span: of_ours.span,
                serial: of_ours.serial,
                ..certificate.binding.clone()
            };
        let Span { from, until } = of_ours.span;
        let is_half_over = unix_time() > from + until.saturating_sub(from) / 2;
        let rests_on_network = matches!(current.issuer, Issuer::Network);
        let is_worth_more = match &certificate.issuer {
            Issuer::Invite(_) => false,
            Issuer::Network if !rests_on_network => true,
            // The link may be ended, or another holder of it be counted first elsewhere.
            Issuer::Admin(_) if matches!(current.issuer, Issuer::Invite(_)) => {
                certificate.binding.span.until >= until
            }
            Issuer::Network | Issuer::Admin(_) => {
                is_half_over && certificate.binding.span.until > until
            }
        };
        says_the_same && is_worth_more && certificate.verify(&self.root(network)).is_ok()
    }

    /// Whether we can sign for a place of our own: as the creator, or while the link that let us in holds.
    pub fn can_certify(&self) -> bool {
        let holds = |capability: &Capability| unix_time() <= capability.invite.terms.span.until;
        self.creator_key.is_some() || self.capability.as_ref().is_some_and(holds)
    }

    /// Whether our certificate rests on another link than the one that we have now, or on an admin and the link does not rest on
    /// any of its keys.
    pub fn has_another_link(&self) -> bool {
        let (Some(certificate), Some(new)) = (&self.certificate, &self.capability) else {
            return false;
        };
        match &certificate.issuer {
            Issuer::Invite(old) => old.terms.key != new.invite.terms.key,
            Issuer::Admin(_) => {
                let old = certificate.keys();
                !new.invite.keys().iter().any(|key| old.contains(key))
            }
            Issuer::Network => false,
        }
    }

    /// Signs what we are.
    ///
    /// # Errors
    /// If there is nothing to sign with.
    pub fn certify(
        &self,
        network: &NetworkId,
        keys: OwnKeys,
        place: &Place,
    ) -> Result<Certificate, Problem> {
        let serial = random_u64().map_err(|error| operation_failed("get random bytes", &error))?;
        let binding = |roles, from: u64| Binding {
            node_id: keys.node_id,
            wireguard_key: keys.wireguard_key,
            name: place.name.clone(),
            virtual_ips: vec![place.address.into()],
            mac: default_mac(&keys.node_id),
            roles,
            subnets: Vec::new(),
            span: Span {
                from,
                until: from.saturating_add(MAX_LIFE),
            },
            serial,
        };
        let root = self.root(network);
        let failed = |error| operation_failed("sign our certificate", &error);
        if let Some(key) = &self.creator_key {
            let binding = binding(Roles::all(), unix_time());
            return Certificate::sign(&root, key, &Issuer::Network, &binding).map_err(failed);
        }
        let capability = self.capability.as_ref().ok_or_else(cannot_certify)?;
        let terms = &capability.invite.terms;
        // A clock that is years off must not keep a machine out: whether the link holds today is for the server to say.
        let from = unix_time().clamp(terms.span.from, terms.span.until);
        let binding = binding(terms.roles, from);
        capability.certify(&root, &binding).map_err(failed)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::trust::authority::Offer;

    pub(crate) fn keys(number: u8) -> OwnKeys {
        OwnKeys {
            node_id: NodeId::of(&SigningKey::from_bytes(&[number; 32])),
            wireguard_key: WireGuardKey::from_bytes([number; 32]),
        }
    }

    pub(crate) fn binding(number: u8, roles: Roles) -> Binding {
        let from = unix_time();
        Binding {
            node_id: keys(number).node_id,
            wireguard_key: keys(number).wireguard_key,
            name: format!("node-{number}"),
            virtual_ips: vec![[10, 100, 0, number].into()],
            mac: default_mac(&keys(number).node_id),
            roles,
            subnets: Vec::new(),
            span: Span {
                from,
                until: from + MAX_LIFE,
            },
            serial: 1,
        }
    }

    fn network() -> NetworkId {
        "my-network".parse().unwrap()
    }

    fn place() -> Place {
        Place {
            address: [10, 100, 0, 2].into(),
            name: "web-2".to_owned(),
        }
    }

    fn creator() -> Anchor {
        let key = SigningKey::from_bytes(&[1; 32]);
        Anchor {
            network_key: NodeId::of(&key),
            creator_key: Some(key),
            capability: None,
            certificate: None,
        }
    }

    fn joined() -> Anchor {
        let identity = SigningKey::from_bytes(&[2; 32]);
        let authority = creator().authority(&network(), &identity).unwrap();
        Anchor {
            creator_key: None,
            capability: Some(authority.invite(&Offer::default()).unwrap()),
            ..creator()
        }
    }

    #[test]
    fn the_creator_and_who_has_a_link_sign_for_themselves_and_others_do_not() {
        for anchor in [creator(), joined()] {
            let made = anchor.certify(&network(), keys(2), &place()).unwrap();
            assert_eq!(made.verify(&anchor.root(&network())), Ok(()));
            assert_eq!(made.binding.name, "web-2");
        }
        let bare = Anchor {
            capability: None,
            ..joined()
        };
        let refused = bare.certify(&network(), keys(2), &place()).unwrap_err();
        assert_eq!(refused.code, "cannot-certify");
    }

    #[test]
    fn nobody_makes_a_member_less_by_sending_it_a_certificate() {
        let mut anchor = joined();
        let capability = anchor.capability.clone().unwrap();
        let own = anchor.certify(&network(), keys(2), &place()).unwrap();
        anchor.certificate = Some(own.clone());
        let root = anchor.root(&network());
        let made = |change: fn(&mut Binding)| {
            let mut binding = own.binding.clone();
            change(&mut binding);
            binding
        };
        // Another holder of the same link signs a longer one, and one without rights.
        let longer = made(|b| b.span.from = b.span.from.max(1) + 3600);
        let longer = capability.certify(&root, &longer).unwrap();
        assert!(!anchor.is_better(&network(), &longer));
        let creator = SigningKey::from_bytes(&[1; 32]);
        let by_network = |binding| Certificate::sign(&root, &creator, &Issuer::Network, &binding);
        for lesser in [
            made(|b| b.roles = Roles::default()),
            made(|b| b.mac = [2, 0, 0, 0, 0, 1]),
            made(|b| b.virtual_ips = vec![[10, 100, 0, 9].into()]),
            made(|b| b.subnets = vec!["10.0.0.0/8".parse().unwrap()]),
        ] {
            assert!(!anchor.is_better(&network(), &by_network(lesser).unwrap()));
        }
        let same = by_network(made(|_| {})).unwrap();
        assert!(anchor.is_better(&network(), &same));
        anchor.certificate = Some(same);
        let longer = by_network(made(|b| b.span.from += 3600)).unwrap();
        assert!(
            !anchor.is_better(&network(), &longer),
            "it is not half over"
        );
    }

    #[test]
    fn who_was_given_another_link_knows_it() {
        let mut anchor = joined();
        assert!(!anchor.has_another_link(), "no certificate");
        anchor.certificate = Some(anchor.certify(&network(), keys(2), &place()).unwrap());
        assert!(!anchor.has_another_link());
        anchor.capability = joined().capability;
        assert!(anchor.has_another_link());
        anchor.certificate = creator()
            .certify(&network(), keys(2), &place())
            .ok()
            .filter(|made| made.issuer == Issuer::Network);
        assert!(anchor.certificate.is_some() && !anchor.has_another_link());
    }

    #[test]
    fn who_is_out_with_an_admin_comes_back_by_a_link_of_another_and_not_by_one_of_the_same() {
        let root = creator().root(&network());
        let identity = SigningKey::from_bytes(&[1; 32]);
        let by_network = creator().authority(&network(), &identity).unwrap();
        let admin = |number: u8| {
            let own = by_network.certify(&binding(number, Roles::all())).unwrap();
            let key = SigningKey::from_bytes(&[number; 32]);
            Authority::of_admin(root.clone(), key, own).unwrap()
        };
        let (gone, other) = (admin(9), admin(8));
        let certificate = gone.certify(&binding(2, Roles::default())).unwrap();
        for (maker, is_another) in [(&gone, false), (&other, true), (&by_network, true)] {
            let anchor = Anchor {
                capability: Some(maker.invite(&Offer::default()).unwrap()),
                certificate: Some(certificate.clone()),
                ..joined()
            };
            assert_eq!(anchor.has_another_link(), is_another);
        }
    }

    #[test]
    fn a_certificate_is_kept_while_it_fits() {
        let mut anchor = joined();
        anchor.certificate = Some(anchor.certify(&network(), keys(2), &place()).unwrap());
        assert!(anchor.current(keys(2), "web").is_some());
        assert!(anchor.current(keys(3), "web").is_none(), "other keys");
        assert!(anchor.current(keys(2), "db").is_none(), "another name");
        anchor.capability = None;
        assert!(
            anchor.current(keys(2), "db").is_some(),
            "none better to be had"
        );
    }
}
