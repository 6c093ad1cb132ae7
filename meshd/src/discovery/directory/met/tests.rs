use ed25519_dalek::SigningKey;
use mesh_wire::{
    NodeId, WireGuardKey,
    peer_info::Directory,
    trust::{Invite, InviteTerms, Revocation, Roles, Span},
};

use super::*;
use crate::discovery::{
    directory::{KEPT, tests::snapshot},
    scope::tests::{certified, keyed, peer, root, scope},
};

const NOW: u64 = 1_800_000_000;

fn believed() -> Believed {
    Believed::new(keyed(), Directory::default(), NOW)
}

fn member(number: u8) -> PeerInfo {
    certified(number, |binding| {
        binding.span = Span {
            from: NOW - 100,
            until: NOW + 1000,
        }
    })
}

#[test]
fn a_member_that_was_met_is_one_and_stays_when_the_server_lists_it() {
    let mut believed = believed();
    let bob = member(2);
    assert_eq!(believed.meet(&bob.record, NOW), Ok(true));
    assert_eq!(believed.meet(&bob.record, NOW), Ok(false));
    let met = believed.directory().by_node(&bob.record.node_id).unwrap();
    assert_eq!((&met.name, &met.virtual_ips), (&bob.name, &bob.virtual_ips));
    assert!(!met.online);
    believed.apply(0, &snapshot(vec![bob.clone()]), NOW + 9 * KEPT);
    let node = bob.record.node_id;
    assert!(
        believed
            .directory()
            .by_node(&node)
            .is_some_and(|bob| bob.online)
    );
    assert_eq!(believed.rejected(), 0);
}

#[test]
fn whom_no_server_lists_for_a_day_is_forgotten() {
    let mut believed = believed();
    let bob = certified(2, |binding| {
        binding.span = Span {
            from: NOW,
            until: NOW + 9 * KEPT,
        }
    });
    assert_eq!(believed.meet(&bob.record, NOW), Ok(true));
    believed.apply(0, &snapshot(vec![]), NOW + KEPT);
    assert_eq!(believed.directory().peers.len(), 1);
    believed.apply(0, &snapshot(vec![]), NOW + KEPT + 1);
    assert!(believed.directory().peers.is_empty());
}

#[test]
fn who_is_revoked_expired_or_uncertified_is_not_met() {
    let bob = member(2);
    let mut strict = believed();
    let key = SigningKey::from_bytes(&[1; 32]);
    let out = Revocation::sign(&root(), &key, None, (&bob.record.node_id, NOW)).unwrap();
    assert!(strict.revoke(&out));
    assert!(strict.meet(&bob.record, NOW).is_err());
    assert!(believed().meet(&bob.record, NOW + 1001).is_err());
    assert!(believed().meet(&peer(2, "bob", 1).record, NOW).is_err());
    let mut altered = bob.record.clone();
    altered.hostname = "eve".into();
    assert!(believed().meet(&altered, NOW).is_err());
    let mut other_key = bob.record;
    other_key.wireguard_key = WireGuardKey::from_bytes([77; 32]);
    assert!(believed().meet(&other_key, NOW).is_err());
    // Where the server gives addresses, nobody takes one without it.
    let mut psk = Believed::new(scope(), Directory::default(), NOW);
    assert!(psk.meet(&peer(2, "bob", 1).record, NOW).is_err());
    assert!(psk.directory().peers.is_empty());
}

#[test]
fn nobody_who_is_met_takes_what_is_known_to_be_anothers() {
    let bob = member(2);
    let change: [fn(&mut mesh_wire::trust::Binding); 3] = [
        |eve| eve.name = member(2).name,
        |eve| eve.virtual_ips = member(2).virtual_ips,
        |eve| eve.wireguard_key = member(2).record.wireguard_key,
    ];
    for change in change {
        let mut believed = believed();
        assert_eq!(believed.meet(&bob.record, NOW), Ok(true));
        let eve = certified(3, |binding| {
            binding.span.until = NOW + 1000;
            change(binding);
        });
        assert!(believed.meet(&eve.record, NOW).is_err());
        assert_eq!(believed.directory().peers.len(), 1);
    }
    // Nor our own address.
    let eve = certified(3, |binding| binding.virtual_ips = scope().own_ips);
    assert!(believed().meet(&eve.record, 1).is_err());
}

/// A member whose certificate rests on a link with these terms.
fn invited(uses: Option<u32>, until: u64) -> PeerRecord {
    let (network, link) = (
        SigningKey::from_bytes(&[1; 32]),
        SigningKey::from_bytes(&[8; 32]),
    );
    let terms = InviteTerms {
        key: NodeId::of(&link),
        uses,
        roles: Roles::default(),
        span: Span {
            from: NOW - 100,
            until,
        },
    };
    let invite = Invite::sign(&root(), &network, None, &terms).unwrap();
    let mut binding = member(2).record.stated_certificate().unwrap().binding;
    binding.roles = Roles::default();
    let certificate =
        Certificate::sign(&root(), &link, &Issuer::Invite(Box::new(invite)), &binding).unwrap();
    let words = ("host", Some(&certificate));
    let signer = SigningKey::from_bytes(&[2; 32]);
    PeerRecord::sign_with(
        &signer,
        &scope().network,
        binding.wireguard_key,
        words,
        (1, 1),
    )
    .unwrap()
}

#[test]
fn a_links_holder_is_met_only_while_the_link_holds_and_is_for_any_number() {
    assert_eq!(believed().meet(&invited(None, NOW + 10), NOW), Ok(true));
    assert!(believed().meet(&invited(None, NOW - 1), NOW).is_err());
    assert!(believed().meet(&invited(Some(1), NOW + 10), NOW).is_err());
}

#[test]
fn the_members_that_only_announced_themselves_are_bounded() {
    let mut believed = believed();
    for number in 0..300_u32 {
        let mut key = [7; 32];
        key[..4].copy_from_slice(&number.to_be_bytes());
        let signer = SigningKey::from_bytes(&key);
        let mut binding = member(2).record.stated_certificate().unwrap().binding;
        binding.node_id = NodeId::of(&signer);
        binding.wireguard_key = WireGuardKey::from_bytes(key);
        binding.name = format!("n{number}");
        let [.., high, low] = number.to_be_bytes();
        binding.virtual_ips = vec![[10, 100, 7 + high, low.max(1)].into()];
        let network = SigningKey::from_bytes(&[1; 32]);
        let certificate = Certificate::sign(&root(), &network, &Issuer::Network, &binding).unwrap();
        let words = ("host", Some(&certificate));
        let key = binding.wireguard_key;
        let record = PeerRecord::sign_with(&signer, &scope().network, key, words, (1, 1));
        let _ = believed.meet(&record.unwrap(), NOW);
    }
    assert_eq!(believed.directory().peers.len(), MAX_UNLISTED);
}
