//! Which keys are in use? For a while those of several handshakes are.

use std::time::Instant;

use super::{keypair::Keypair, replay::Tally};

/// The three sets of keys that can be in use at once (paper, section 6.1): messages under the old ones may still be
/// under way, and the ones after a handshake that the peer began are not used before it has used them.
#[derive(Debug, Default)]
pub struct Keypairs {
    previous: Option<Box<Keypair>>,
    current: Option<Box<Keypair>>,
    next: Option<Box<Keypair>>,
}

impl Keypairs {
    /// What we seal with.
    pub fn current(&self) -> Option<&Keypair> {
        self.current.as_deref()
    }

    /// What we seal with.
    pub fn current_mut(&mut self) -> Option<&mut Keypair> {
        self.current.as_deref_mut()
    }

    /// The keys of a handshake that the peer began wait until it uses them.
    pub fn offer(&mut self, keys: Box<Keypair>) {
        self.next = Some(keys);
    }

    /// The keys that we named `local`.
    pub fn by_index(&mut self, local: u32) -> Option<&mut Keypair> {
        [&mut self.current, &mut self.previous, &mut self.next]
            .into_iter()
            .flatten()
            .find(|keys| keys.indices().local == local)
            .map(|keys| &mut **keys)
    }

    /// The keys of a handshake that we began are used at once.
    pub fn begin(&mut self, keys: Box<Keypair>) {
        self.previous = self.next.take().or_else(|| self.current.take());
        self.current = Some(keys);
    }

    /// Whatever comes under the keys of a handshake that the peer began confirms them; true the first time.
    pub fn confirm(&mut self, local: u32) -> bool {
        let next = self.next.take_if(|next| next.indices().local == local);
        if next.is_none() {
            return false;
        }
        self.previous = self.current.take();
        self.current = next;
        true
    }

    /// What has come under all of them, and which they are: the peer may use others than we do.
    pub fn tally(&self) -> ([Option<u32>; 3], Tally) {
        let all = [&self.previous, &self.current, &self.next];
        let tallies = all.into_iter().flatten().map(|keys| keys.tally());
        let names = all.map(|keys| Some(keys.as_ref()?.indices().local));
        (names, tallies.sum())
    }

    /// Forgets what is too old; true if the current keys were among it.
    pub fn expire(&mut self, now: Instant) -> bool {
        let old = |keys: &mut Box<Keypair>| now >= keys.expires();
        self.previous.take_if(old);
        self.next.take_if(old);
        self.current.take_if(old).is_some()
    }
}
