use super::*;
use crate::trust::{InviteTerms, Revocation};

const DAY: u64 = 24 * 3600;
const NOW: u64 = 1_800_000_000;

fn key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

/// The network key is number 1.
fn root() -> Root {
    Root {
        network: "my-network".parse().unwrap(),
        key: NodeId::of(&key(1)),
    }
}

fn binding(node: u8, roles: Roles) -> Binding {
    let node_id = NodeId::of(&key(node));
    Binding {
        node_id,
        wireguard_key: WireGuardKey::from_bytes([node; 32]),
        name: format!("node-{node}"),
        virtual_ips: vec![[10, 100, 0, node].into()],
        mac: default_mac(&node_id),
        roles,
        subnets: Vec::new(),
        span: Span {
            from: NOW,
            until: NOW + MAX_LIFE,
        },
        serial: 7,
    }
}

fn relay() -> Roles {
    [Role::Relay].into_iter().collect()
}

fn terms(number: u8) -> InviteTerms {
    InviteTerms {
        key: NodeId::of(&key(number)),
        uses: Some(1),
        roles: relay(),
        span: Span {
            from: NOW - DAY,
            until: NOW + DAY,
        },
    }
}

fn admin() -> Certificate {
    let mut binding = binding(9, Roles::all());
    binding.span.from -= 2 * DAY;
    binding.span.until -= 2 * DAY;
    Certificate::sign(&root(), &key(1), &Issuer::Network, &binding).unwrap()
}

/// One of each kind of chain for node 2, with the admin of number 9 and invites of number 5.
fn chains() -> [(SigningKey, Issuer); 4] {
    let by_network = Invite::sign(&root(), &key(1), None, &terms(5)).unwrap();
    let by_admin = Invite::sign(&root(), &key(9), Some(&admin()), &terms(5)).unwrap();
    [
        (key(1), Issuer::Network),
        (key(5), Issuer::Invite(Box::new(by_network))),
        (key(5), Issuer::Invite(Box::new(by_admin))),
        (key(9), Issuer::Admin(Box::new(admin()))),
    ]
}

fn certificate((key, issuer): &(SigningKey, Issuer)) -> Certificate {
    Certificate::sign(&root(), key, issuer, &binding(2, relay())).unwrap()
}

#[test]
fn every_chain_survives_its_text_form_and_verifies_for_its_network_only() {
    let elsewhere = [
        Root {
            network: "other".parse().unwrap(),
            ..root()
        },
        Root {
            key: NodeId::of(&key(3)),
            ..root()
        },
    ];
    for chain in &chains() {
        let made = certificate(chain);
        let read = Certificate::from_text(&made.to_text()).unwrap();
        assert_eq!(read, made);
        assert_eq!(read.binding, binding(2, relay()));
        assert_eq!(read.verify(&root()), Ok(()));
        for other in &elsewhere {
            assert!(read.verify(other).is_err(), "{chain:?}");
        }
    }
}

#[test]
fn no_bit_can_be_changed_and_nothing_cut() {
    for chain in &chains() {
        let bytes = certificate(chain).as_bytes().to_vec();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            let read = Certificate::read(&changed);
            assert!(
                read.is_err() || read.unwrap().verify(&root()).is_err(),
                "byte {at}"
            );
            assert!(Certificate::read(&bytes[..at]).is_err());
        }
        assert!(Certificate::read(&[bytes, vec![0]].concat()).is_err());
    }
}

#[test]
fn only_the_issuer_can_sign() {
    for (signer, issuer) in chains() {
        for wrong in [1, 2, 3, 5, 9] {
            if key(wrong) != signer {
                let forged = certificate(&(key(wrong), issuer.clone()));
                assert!(forged.verify(&root()).is_err(), "{wrong} as {issuer:?}");
            }
        }
    }
}

#[test]
fn an_invite_gives_no_more_than_its_terms() {
    let [_, chain, ..] = chains();
    let signed = |change: fn(&mut Binding)| {
        let mut binding = binding(2, relay());
        change(&mut binding);
        let made = Certificate::sign(&root(), &chain.0, &chain.1, &binding).unwrap();
        made.verify(&root())
    };
    assert_eq!(signed(|_| {}), Ok(()));
    assert!(signed(|b| b.roles = Roles::all()).is_err());
    assert!(signed(|b| b.subnets = vec!["10.0.0.0/8".parse().unwrap()]).is_err());
    assert!(signed(|b| b.span.from = NOW - 2 * DAY).is_err());
    assert!(
        signed(|b| b.span = Span {
            from: NOW + 2 * DAY,
            until: NOW + 3 * DAY
        })
        .is_err()
    );
    assert!(signed(|b| b.span.until += 1).is_err(), "too long");
    assert!(
        signed(|b| b.span.until = NOW - 1).is_err(),
        "ends before it begins"
    );
}

#[test]
fn only_an_admin_vouches_and_gives_what_it_has() {
    let plain = certificate(&(key(1), Issuer::Network));
    let by_plain = |roles| {
        let issuer = Issuer::Admin(Box::new(plain.clone()));
        let made = Certificate::sign(&root(), &key(2), &issuer, &binding(3, roles)).unwrap();
        made.verify(&root())
    };
    assert!(by_plain(Roles::default()).is_err());
    let only_admin = binding(9, [Role::Admin].into_iter().collect());
    let weak = Certificate::sign(&root(), &key(1), &Issuer::Network, &only_admin).unwrap();
    let issuer = Issuer::Admin(Box::new(weak.clone()));
    let given_on = |roles| {
        let made = Certificate::sign(&root(), &key(9), &issuer, &binding(3, roles)).unwrap();
        made.verify(&root())
    };
    assert_eq!(given_on(Roles::default()), Ok(()));
    assert!(given_on(relay()).is_err());
    assert!(
        Invite::sign(&root(), &key(9), Some(&weak), &terms(5))
            .unwrap()
            .verify(&root())
            .is_err()
    );
    assert!(
        Invite::sign(&root(), &key(2), Some(&plain), &terms(5))
            .unwrap()
            .verify(&root())
            .is_err()
    );
}

#[test]
fn chains_end_somewhere() {
    let mut chain = admin();
    for node in [8, 7] {
        let issuer = Issuer::Admin(Box::new(chain));
        chain = Certificate::sign(
            &root(),
            &key(node + 1),
            &issuer,
            &binding(node, Roles::all()),
        )
        .unwrap();
        assert_eq!(chain.verify(&root()), Ok(()));
    }
    let issuer = Issuer::Admin(Box::new(chain.clone()));
    assert!(Certificate::sign(&root(), &key(7), &issuer, &binding(6, relay())).is_err());
    assert_eq!(chain.keys(), [7, 8, 9].map(|n| NodeId::of(&key(n))));
}

#[test]
fn what_no_member_may_be_called_or_have_is_refused() {
    let refused = |change: fn(&mut Binding)| {
        let mut binding = binding(2, relay());
        change(&mut binding);
        Certificate::sign(&root(), &key(1), &Issuer::Network, &binding).is_err()
    };
    assert!(!refused(|_| {}));
    assert!(refused(|b| b.name = "Evil".into()));
    assert!(refused(|b| b.name = b.node_id.to_string()));
    assert!(refused(|b| b.virtual_ips.clear()));
    assert!(refused(|b| b.virtual_ips = vec!["fd00::1".parse().unwrap()]));
    assert!(refused(
        |b| b.virtual_ips = vec![[10, 0, 0, 1].into(), [10, 0, 0, 2].into()]
    ));
    assert!(refused(|b| b.mac = [1, 0, 0, 0, 0, 1]));
    assert!(refused(
        |b| b.subnets = vec!["10.0.0.0/8".parse().unwrap(); 17]
    ));
}

#[test]
fn a_revocation_holds_if_the_network_or_an_admin_signed_it() {
    let revoked = NodeId::of(&key(2));
    let by_network = Revocation::sign(&root(), &key(1), None, (&revoked, NOW)).unwrap();
    let by_admin = Revocation::sign(&root(), &key(9), Some(&admin()), (&revoked, NOW)).unwrap();
    for revocation in [&by_network, &by_admin] {
        let read = Revocation::from_text(&revocation.to_text()).unwrap();
        assert_eq!((read.key, read.at), (revoked, NOW));
        assert_eq!(read.verify(&root()), Ok(()));
        let bytes = read.as_bytes();
        for at in 0..bytes.len() {
            let mut changed = bytes.to_vec();
            changed[at] ^= 4;
            let read = Revocation::read(&changed);
            assert!(
                read.is_err() || read.unwrap().verify(&root()).is_err(),
                "byte {at}"
            );
            assert!(Revocation::read(&bytes[..at]).is_err());
        }
    }
    let member = certificate(&(key(1), Issuer::Network));
    let by_member = Revocation::sign(&root(), &key(2), Some(&member), (&revoked, NOW)).unwrap();
    assert!(by_member.verify(&root()).is_err());
    let early =
        Revocation::sign(&root(), &key(9), Some(&admin()), (&revoked, NOW - 3 * DAY)).unwrap();
    assert!(early.verify(&root()).is_err(), "the admin was none yet");
}

#[test]
fn a_certificate_of_three_fits() {
    let long = |node: u8| Binding {
        name: "n".repeat(63),
        virtual_ips: vec![[10, 100, 0, node].into(), [0xfd; 16].into()],
        subnets: vec!["fd00::/8".parse().unwrap(); MAX_SUBNETS],
        ..binding(node, Roles::all())
    };
    let mut chain = Certificate::sign(&root(), &key(1), &Issuer::Network, &long(9)).unwrap();
    for node in [8, 7] {
        let issuer = Issuer::Admin(Box::new(chain));
        chain = Certificate::sign(&root(), &key(node + 1), &issuer, &long(node)).unwrap();
    }
    assert!(chain.as_bytes().len() <= MAX_CERTIFICATE);
    assert_eq!(Certificate::from_text(&chain.to_text()), Ok(chain));
}
