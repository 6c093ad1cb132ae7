//! Who may use the relay? Members, with credentials that the server can check without having kept them.
//!
//! A user name is `EXPIRY:NODE`, its password a MAC of it with a secret that lives as long as the process. Keys that were
//! put out are remembered until everything that was handed to them has expired.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use data_encoding::BASE64;
use mesh_wire::{NodeId, discovery::TurnPassword};
use zeroize::Zeroizing;

/// How long a credential is valid. Whoever copies one from a member has the use of it for no longer.
pub(crate) const LIFETIME: Duration = Duration::from_secs(3_600);

/// When a member gets the next one: half of the lifetime is left then, for a call in progress to refresh with.
pub(crate) const RENEWAL: Duration = Duration::from_secs(1_800);

/// Keys remembered as put out, at some 60 bytes each. Over it nothing that was handed out so far is valid any more.
const MAX_OUT: usize = 65_536;

/// What a member gets.
#[derive(Debug, Clone)]
pub(crate) struct Credential {
    pub(crate) username: String,
    pub(crate) password: TurnPassword,
    pub(crate) expires_at: u64,
}

/// Whom a user name names, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) node: NodeId,
    /// Seconds since the Unix epoch.
    pub(crate) expires_at: u64,
}

/// Hands out credentials and checks them.
pub(crate) struct Issuer {
    secret: Zeroizing<[u8; 32]>,
    out: Mutex<Out>,
}

/// What no longer holds although it has not expired.
#[derive(Debug, Default)]
struct Out {
    /// What was handed to a key and expires up to then.
    nodes: BTreeMap<NodeId, u64>,
    /// What was handed to anybody and expires up to then.
    all: u64,
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer").finish_non_exhaustive()
    }
}

impl Issuer {
    /// `secret` is random, and no other process has it.
    pub(crate) fn new(secret: [u8; 32]) -> Self {
        Self {
            secret: Zeroizing::new(secret),
            out: Mutex::default(),
        }
    }

    /// A credential for a member. `now` is in seconds since the Unix epoch.
    pub(crate) fn mint(&self, node: NodeId, now: u64) -> Credential {
        // One who comes back in the second in which it was put out gets what was not handed to it before.
        let expires_at = self
            .out()
            .end(&node)
            .map_or(now + LIFETIME.as_secs(), |end| {
                (end + 1).max(now + LIFETIME.as_secs())
            });
        let username = format!("{expires_at}:{node}");
        Credential {
            password: TurnPassword::new(self.password(&username)),
            username,
            expires_at,
        }
    }

    /// Whom a user name is for, if what was handed out under it still holds.
    pub(crate) fn holder(&self, username: &str, now: u64) -> Option<Holder> {
        let (expiry, node) = username.split_once(':')?;
        let holder = Holder {
            node: node.parse().ok()?,
            expires_at: expiry.parse().ok()?,
        };
        (holder.expires_at > now && self.holds(holder)).then_some(holder)
    }

    /// Whether this was not put out since it was handed out. What has merely expired holds on.
    pub(crate) fn holds(&self, holder: Holder) -> bool {
        let out = self.out();
        out.end(&holder.node)
            .is_none_or(|end| holder.expires_at > end)
    }

    /// The password that belongs to a user name, whoever made that up.
    pub(crate) fn password(&self, username: &str) -> String {
        let mac = blake3::keyed_hash(&self.secret, username.as_bytes());
        BASE64.encode(mac.as_bytes())
    }

    /// Everything that was handed to this key holds no longer.
    pub(crate) fn put_out(&self, node: NodeId, now: u64) {
        let mut out = self.out();
        let end = now + LIFETIME.as_secs();
        out.nodes.retain(|_, end| *end > now);
        if out.nodes.len() >= MAX_OUT {
            out.nodes.clear();
            out.all = end;
        }
        // The last one may have been minted a second ahead of its time.
        let ahead = out.end(&node).map_or(0, |end| end + 1);
        out.nodes.insert(node, end.max(ahead));
    }

    fn out(&self) -> MutexGuard<'_, Out> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Out {
    fn end(&self, node: &NodeId) -> Option<u64> {
        let end = self.nodes.get(node).copied().unwrap_or(0).max(self.all);
        (end > 0).then_some(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn node(number: u32) -> NodeId {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        NodeId::from_bytes(bytes)
    }

    #[test]
    fn a_credential_names_its_member_and_its_end() {
        let issuer = Issuer::new([1; 32]);
        let credential = issuer.mint(node(1), NOW);
        assert_eq!(credential.expires_at, NOW + 3_600);
        assert_eq!(credential.username, format!("{}:{}", NOW + 3_600, node(1)));
        let holder = issuer.holder(&credential.username, NOW + 3_599).unwrap();
        assert_eq!(holder.node, node(1));
        assert_eq!(
            issuer.password(&credential.username),
            credential.password.expose()
        );
        assert_eq!(issuer.holder(&credential.username, NOW + 3_600), None);
        // Another end or another process makes another password.
        let longer = credential.username.replacen('1', "2", 1);
        assert_ne!(issuer.password(&longer), credential.password.expose());
        let other = Issuer::new([2; 32]);
        assert_ne!(
            other.password(&credential.username),
            credential.password.expose()
        );
    }

    #[test]
    fn names_of_other_forms_are_nobodys() {
        let issuer = Issuer::new([1; 32]);
        for bad in [
            "",
            ":",
            "x",
            "99999999999",
            "99999999999:",
            "99999999999:abc",
        ] {
            assert_eq!(issuer.holder(bad, NOW), None, "{bad}");
        }
        let huge = format!("{}0:{}", u64::MAX, node(1));
        assert_eq!(issuer.holder(&huge, NOW), None);
    }

    #[test]
    fn what_was_put_out_holds_no_longer_and_what_comes_after_does() {
        let issuer = Issuer::new([1; 32]);
        let (before, other) = (issuer.mint(node(1), NOW), issuer.mint(node(2), NOW));
        for _ in 0..3 {
            issuer.put_out(node(1), NOW);
            assert_eq!(issuer.holder(&before.username, NOW), None);
            let after = issuer.mint(node(1), NOW);
            assert!(issuer.holder(&after.username, NOW).is_some());
            issuer.put_out(node(1), NOW);
            assert_eq!(issuer.holder(&after.username, NOW), None);
        }
        assert!(issuer.holder(&other.username, NOW).is_some());
    }

    #[test]
    fn the_memory_of_keys_put_out_is_bounded_and_fails_safe() {
        let issuer = Issuer::new([1; 32]);
        let mine = issuer.mint(node(u32::MAX), NOW);
        for number in 0..=MAX_OUT as u32 {
            issuer.put_out(node(number), NOW);
        }
        assert!(issuer.out().nodes.len() <= MAX_OUT);
        // The first is not remembered by name any more, and does not come to life.
        assert_eq!(issuer.holder(&mine.username, NOW), None);
        let first = format!("{}:{}", NOW + 3_600, node(0));
        assert_eq!(issuer.holder(&first, NOW), None);
        assert!(
            issuer
                .holder(&issuer.mint(node(0), NOW).username, NOW)
                .is_some()
        );
        // An hour later nothing needs to be remembered.
        issuer.put_out(node(7), NOW + 3_700);
        assert_eq!(issuer.out().nodes.len(), 1);
    }

    #[test]
    fn nothing_shows_a_password() {
        let issuer = Issuer::new([1; 32]);
        let credential = issuer.mint(node(1), NOW);
        let shown = format!("{credential:?} {issuer:?}");
        assert!(!shown.contains(credential.password.expose()), "{shown}");
    }
}
