//! Did this relay frame come from the neighbour, once? Tags for the frames on one link, under keys that both ends derive
//! from the keys of their session: one direction each, and new with every handshake.
//!
//! The tag is SipHash-2-4 (J.-P. Aumasson and D. J. Bernstein, 2012), a MAC made for short inputs. Its 64 bits are
//! enough here: a forger has one try per packet that he sends, and would gain that one frame is carried which its
//! receiver then refuses.

use std::{fmt, hash::Hasher as _};

use mesh_wire::relay::RelayTag;
use siphasher::sip::SipHasher24;

use super::{mac::derive, noise::TransportKeys, replay::ReplayWindow};

/// Names the keys that are derived for tags.
const LABEL: &[u8] = b"meshd relay v1";

/// Both directions of one link.
pub struct HopKeys {
    send: SipHasher24,
    receive: SipHasher24,
    /// Frames sent; the last number is never used, so none repeats.
    counter: u32,
    window: ReplayWindow,
}

impl HopKeys {
    /// Derives them.
    pub fn new(keys: &TransportKeys) -> Self {
        let hasher = |key: &[u8; 32]| {
            let derived = derive(key, LABEL);
            SipHasher24::new_with_key(derived.first_chunk().expect("32 bytes hold 16"))
        };
        Self {
            send: hasher(&keys.send),
            receive: hasher(&keys.receive),
            counter: 0,
            window: ReplayWindow::default(),
        }
    }

    /// The tag of the next frame to the neighbour that calls the session `remote`. `None` when the numbers are used up.
    pub fn tag(&mut self, remote: u32, covered: &[u8]) -> Option<RelayTag> {
        let counter = self.counter;
        self.counter = counter.checked_add(1)?;
        Some(RelayTag {
            receiver: remote,
            counter,
            mac: mac(self.send, counter, covered),
        })
    }

    /// Whether the neighbour made this tag, and we see it for the first time.
    pub fn check(&mut self, tag: &RelayTag, covered: &[u8]) -> bool {
        let counter = u64::from(tag.counter);
        if !self.window.may_accept(counter) {
            return false;
        }
        let expected = mac(self.receive, tag.counter, covered);
        let differ = expected
            .iter()
            .zip(&tag.mac)
            .fold(0, |any, (a, b)| any | (a ^ b));
        differ == 0 && self.window.accept(counter)
    }
}

impl fmt::Debug for HopKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HopKeys(..)")
    }
}

fn mac(mut keyed: SipHasher24, counter: u32, covered: &[u8]) -> [u8; 8] {
    keyed.write(covered);
    keyed.write(&counter.to_be_bytes());
    keyed.finish().to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_passes_once_unchanged_and_in_its_direction() {
        let keys = |send, receive| TransportKeys {
            send: [send; 32],
            receive: [receive; 32],
        };
        let (mut a, mut b) = (HopKeys::new(&keys(1, 2)), HopKeys::new(&keys(2, 1)));
        let tag = a.tag(7, b"covered").unwrap();
        assert!(!a.check(&tag, b"covered"), "reflected");
        assert!(!b.check(&tag, b"Covered"), "changed");
        let renumbered = RelayTag { counter: 9, ..tag };
        assert!(!b.check(&renumbered, b"covered"));
        assert!(b.check(&tag, b"covered"));
        assert!(!b.check(&tag, b"covered"), "repeated");
    }

    #[test]
    fn numbers_run_out_rather_than_repeat() {
        let mut keys = HopKeys::new(&TransportKeys {
            send: [1; 32],
            receive: [2; 32],
        });
        keys.counter = u32::MAX - 1;
        assert!(keys.tag(7, b"").is_some() && keys.tag(7, b"").is_none());
    }
}
