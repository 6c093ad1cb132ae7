//! Which keys are out for good, as far as this node has heard?

use std::collections::{BTreeMap, BTreeSet};

use mesh_wire::{
    NodeId,
    peer_info::PeerRecord,
    trust::{Revocation, Root},
};

/// As many as a discovery server keeps; more are not taken in.
const MAX_KNOWN: usize = 1_000;

/// The revocations that were verified. None is ever taken back.
#[derive(Debug)]
pub struct Revoked {
    root: Option<Root>,
    known: BTreeMap<NodeId, Revocation>,
    /// The keys of those that nobody was told of yet.
    news: Vec<NodeId>,
}

impl Revoked {
    /// Those of a cache, verified again.
    pub fn new(root: Option<Root>, cached: &[String]) -> Self {
        let mut revoked = Self {
            root,
            known: BTreeMap::new(),
            news: Vec::new(),
        };
        for text in cached {
            revoked.learn_text(text);
        }
        revoked.news.clear();
        revoked
    }

    /// Takes one in, if it is signed by who may; whether it is news.
    pub fn learn(&mut self, revocation: &Revocation) -> bool {
        let is_signed = |root: &Root| revocation.verify(root).is_ok();
        // Who is out puts nobody else out.
        let signer = revocation.admin.as_ref();
        if signer.is_some_and(|admin| self.covers(&admin.keys())) {
            return false;
        }
        if self.known.contains_key(&revocation.key)
            || self.known.len() >= MAX_KNOWN
            || !self.root.as_ref().is_some_and(is_signed)
        {
            return false;
        }
        self.known.insert(revocation.key, revocation.clone());
        self.news.push(revocation.key);
        true
    }

    /// As [`Self::learn`], from its text form.
    pub fn learn_text(&mut self, text: &str) -> bool {
        Revocation::from_text(text).is_ok_and(|revocation| self.learn(&revocation))
    }

    /// Of those that were learnt since and not yet taken, `most`, in the order in which they were signed. The rest stays for
    /// the next time.
    pub fn take_news(&mut self, most: usize) -> Vec<Revocation> {
        let known = &self.known;
        self.news
            .sort_by_key(|key| known.get(key).map(|revocation| revocation.at));
        let taken = self.news.drain(..most.min(self.news.len()));
        taken.filter_map(|key| known.get(&key).cloned()).collect()
    }

    /// Whether one of these keys is out.
    pub fn covers(&self, keys: &[NodeId]) -> bool {
        keys.iter().any(|key| self.known.contains_key(key))
    }

    /// Whether the member that this record describes rests on a key that is out.
    pub fn has(&self, record: &PeerRecord) -> bool {
        if self.known.is_empty() {
            return false;
        }
        let keys = record
            .stated_certificate()
            .map_or_else(|| vec![record.node_id], |certificate| certificate.keys());
        self.covers(&keys)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Revocation> {
        self.known.values()
    }

    /// Their text forms.
    pub fn texts(&self) -> Vec<String> {
        self.iter().map(Revocation::to_text).collect()
    }

    /// Those that are not in a list, which the server gave. In the order in which they were signed: what an admin said
    /// before it was put out itself holds.
    pub fn missing_in(&self, listed: &[String]) -> Vec<Revocation> {
        let listed: BTreeSet<&str> = listed.iter().map(String::as_str).collect();
        let mut missing: Vec<Revocation> = self
            .iter()
            .filter(|revocation| !listed.contains(revocation.to_text().as_str()))
            .cloned()
            .collect();
        missing.sort_by_key(|revocation| revocation.at);
        missing
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;
    use crate::discovery::scope::tests::{certified, root};

    fn revocation(signer: u8, revoked: u8) -> Revocation {
        let key = |number| SigningKey::from_bytes(&[number; 32]);
        let revoked = NodeId::of(&key(revoked));
        Revocation::sign(&root(), &key(signer), None, (&revoked, 1)).unwrap()
    }

    #[test]
    fn only_what_is_signed_counts_and_only_once() {
        let mut revoked = Revoked::new(Some(root()), &[]);
        assert!(
            !revoked.learn(&revocation(9, 2)),
            "the network key is number 1"
        );
        assert!(!revoked.has(&certified(2, |_| {}).record));
        assert!(revoked.learn(&revocation(1, 2)));
        assert!(!revoked.learn(&revocation(1, 2)));
        assert!(revoked.has(&certified(2, |_| {}).record));
        assert!(!revoked.has(&certified(3, |_| {}).record));
        let again = Revoked::new(Some(root()), &revoked.texts());
        assert!(again.has(&certified(2, |_| {}).record));
        assert_eq!(again.missing_in(&[]).len(), 1);
        assert!(again.missing_in(&revoked.texts()).is_empty());
    }

    #[test]
    fn news_that_are_too_many_at_once_come_the_next_time() {
        let mut revoked = Revoked::new(Some(root()), &[]);
        let signer = SigningKey::from_bytes(&[1; 32]);
        let sign = |number: u8| {
            let node = NodeId::from_bytes([number; 32]);
            Revocation::sign(&root(), &signer, None, (&node, u64::from(number))).unwrap()
        };
        for number in [5, 3, 4, 1, 2] {
            assert!(revoked.learn(&sign(number)));
        }
        let mut take = || -> Vec<u64> {
            let news = revoked.take_news(2);
            news.iter().map(|revocation| revocation.at).collect()
        };
        assert_eq!([take(), take(), take(), take()].concat(), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn without_a_key_nothing_can_be_revoked() {
        let mut revoked = Revoked::new(None, &[]);
        assert!(!revoked.learn(&revocation(1, 2)));
    }
}
