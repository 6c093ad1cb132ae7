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

/// How long a credential is valid unless the operator says otherwise. Whoever copies one from a member has the use of it for
/// no longer.
pub(crate) const LIFETIME: Duration = Duration::from_secs(3_600);

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
    /// Which secret the credential was made with.
    pub(crate) generation: u64,
}

impl Holder {
    /// For how many seconds the credential still holds.
    pub(crate) fn left(&self, now: u64) -> u64 {
        self.expires_at.saturating_sub(now)
    }
}

/// Hands out credentials and checks them.
pub(crate) struct Issuer {
    lifetime: Duration,
    state: Mutex<State>,
}

/// What makes a credential hold.
struct State {
    secret: Zeroizing<[u8; 32]>,
    generation: u64,
    /// What was handed to a key and expires up to then holds no longer.
    out: BTreeMap<NodeId, u64>,
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer").finish_non_exhaustive()
    }
}

impl Issuer {
    /// `secret` is random, and no other process has it.
    pub(crate) fn new(secret: [u8; 32], lifetime: Duration) -> Self {
        Self {
            lifetime,
            state: Mutex::new(State {
                secret: Zeroizing::new(secret),
                generation: 0,
                out: BTreeMap::new(),
            }),
        }
    }

    /// When a member gets the next one: half of the lifetime is left then, for a call in progress to refresh with.
    pub(crate) fn renewal(&self) -> Duration {
        self.lifetime / 2
    }

    /// A credential for a member. `now` is in seconds since the Unix epoch.
    pub(crate) fn mint(&self, node: NodeId, now: u64) -> Credential {
        let state = self.state();
        // One who comes back in the second in which it was put out gets what was not handed to it before.
        let after_that = state.out.get(&node).map_or(0, |end| end + 1);
        let expires_at = after_that.max(now + self.lifetime.as_secs());
        let username = format!("{expires_at}:{node}");
        Credential {
            password: TurnPassword::new(state.password(&username)),
            username,
            expires_at,
        }
    }

    /// Whom a user name is for, if what was handed out under it still holds. That it was handed out, its password shows.
    pub(crate) fn holder(&self, username: &str, now: u64) -> Option<Holder> {
        let (expiry, node) = username.split_once(':')?;
        let state = self.state();
        let holder = Holder {
            node: node.parse().ok()?,
            expires_at: expiry.parse().ok()?,
            generation: state.generation,
        };
        (holder.expires_at > now && state.holds(holder)).then_some(holder)
    }

    /// Whether this was not put out since it was handed out. What has merely expired holds on.
    pub(crate) fn holds(&self, holder: Holder) -> bool {
        self.state().holds(holder)
    }

    /// The password that belongs to a user name, whoever made that up.
    pub(crate) fn password(&self, username: &str) -> String {
        self.state().password(username)
    }

    /// Everything that was handed to this key holds no longer.
    pub(crate) fn put_out(&self, node: NodeId, now: u64) {
        let mut state = self.state();
        if state.out.len() >= MAX_OUT {
            state.begin_anew();
        }
        // The last one may have been minted a second ahead of its time.
        let ahead = state.out.get(&node).map_or(0, |end| end + 1);
        state
            .out
            .insert(node, ahead.max(now + self.lifetime.as_secs()));
    }

    /// Nothing that was handed out so far holds any longer. Members get something new with their next connection, or when
    /// half of the lifetime is over.
    pub(crate) fn put_out_all(&self) {
        self.state().begin_anew();
    }

    /// Forgets who was put out so long ago that all that it had has expired.
    pub(crate) fn forget_expired(&self, now: u64) {
        self.state().out.retain(|_, end| *end > now);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn holds(&self, holder: Holder) -> bool {
        let end = self.out.get(&holder.node);
        holder.generation == self.generation && end.is_none_or(|end| holder.expires_at > *end)
    }

    fn password(&self, username: &str) -> String {
        let mac = blake3::keyed_hash(&self.secret, username.as_bytes());
        BASE64.encode(mac.as_bytes())
    }

    fn begin_anew(&mut self) {
        let next = blake3::derive_key("meshd 2026-11 next turn secret v1", &*self.secret);
        self.secret = Zeroizing::new(next);
        self.generation += 1;
        self.out.clear();
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
        let issuer = Issuer::new([1; 32], LIFETIME);
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
        let other = Issuer::new([2; 32], LIFETIME);
        assert_ne!(
            other.password(&credential.username),
            credential.password.expose()
        );
    }

    #[test]
    fn names_of_other_forms_are_nobodys() {
        let issuer = Issuer::new([1; 32], LIFETIME);
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
        let issuer = Issuer::new([1; 32], LIFETIME);
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

    /// Whether the server takes it.
    fn is_good(issuer: &Issuer, credential: &Credential, now: u64) -> bool {
        issuer.holder(&credential.username, now).is_some()
            && issuer.password(&credential.username) == credential.password.expose()
    }

    #[test]
    fn when_all_are_put_out_allocations_end_too_and_everybody_gets_something_new() {
        let issuer = Issuer::new([1; 32], LIFETIME);
        let before = issuer.mint(node(1), NOW);
        let holder = issuer.holder(&before.username, NOW).unwrap();
        assert!(is_good(&issuer, &before, NOW) && issuer.holds(holder));
        issuer.put_out_all();
        assert!(!is_good(&issuer, &before, NOW) && !issuer.holds(holder));
        let after = issuer.mint(node(1), NOW);
        assert!(is_good(&issuer, &after, NOW));
        assert_ne!(issuer.mint(node(1), NOW + 1).username, after.username);
    }

    #[test]
    fn the_memory_of_keys_put_out_is_bounded_and_fails_safe() {
        let issuer = Issuer::new([1; 32], LIFETIME);
        let mine = issuer.mint(node(u32::MAX), NOW);
        let first = issuer.mint(node(0), NOW);
        for number in 0..=MAX_OUT as u32 {
            issuer.put_out(node(number), NOW);
        }
        assert!(issuer.state().out.len() <= MAX_OUT);
        // The first is not remembered by name any more, and does not come to life.
        assert!(!is_good(&issuer, &mine, NOW));
        assert!(!is_good(&issuer, &first, NOW));
        assert!(is_good(&issuer, &issuer.mint(node(0), NOW), NOW));
        // An hour later nothing needs to be remembered.
        issuer.put_out(node(7), NOW + 3_700);
        issuer.forget_expired(NOW + 3_700);
        assert_eq!(issuer.state().out.len(), 1);
    }

    #[test]
    fn nothing_shows_a_password() {
        let issuer = Issuer::new([1; 32], LIFETIME);
        let credential = issuer.mint(node(1), NOW);
        let shown = format!("{credential:?} {issuer:?}");
        assert!(!shown.contains(credential.password.expose()), "{shown}");
    }
}
