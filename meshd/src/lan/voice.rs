//! What do we say of ourselves on the LAN? It is sealed anew when something of it changes, and each day under another name.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ed25519_dalek::SigningKey;
use mesh_wire::{
    NodeId,
    lan::{Announcement, LanKey, dns::Service},
    peer_info::PeerRecord,
};

use crate::problem::{Problem, operation_failed};

const DAY: u64 = 24 * 3600;

/// What is said, and what it is made of.
pub struct Voice {
    key: LanKey,
    signer: SigningKey,
    record: PeerRecord,
    ports: Vec<u16>,
    count: u32,
    day: u64,
    instance: String,
    said: Option<Said>,
}

/// What is said, without the addresses of one interface.
pub struct Said {
    instance: String,
    port: u16,
    sealed: Vec<u8>,
}

impl Voice {
    /// That of the node with this record and key, whose mesh has these ports.
    pub fn new((key, signer): (LanKey, SigningKey), record: PeerRecord, ports: Vec<u16>) -> Self {
        let day = today();
        Self {
            instance: key.instance(&record.node_id, day),
            key,
            signer,
            record,
            ports,
            count: 0,
            day,
            said: None,
        }
    }

    /// Who speaks.
    pub fn node_id(&self) -> NodeId {
        self.record.node_id
    }

    /// Under which name.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Takes over a record that the server knows; whether it says more than the one that we have. One of an earlier run of
    /// this daemon does not.
    pub fn learn(&mut self, record: &PeerRecord) -> bool {
        let is_newer = record.instance == self.record.instance && record.seq > self.record.seq;
        let says_more = record.certificate != self.record.certificate;
        if is_newer && says_more {
            self.record = record.clone();
            self.count = 0;
        }
        is_newer && says_more
    }

    /// Whether the name is that of another day.
    pub fn is_of_yesterday(&self) -> bool {
        today() != self.day
    }

    /// Makes what is said from now on, with these addresses.
    ///
    /// # Errors
    /// If the system has no random bytes, or the record cannot be told.
    pub fn compose(&mut self, addresses: Vec<IpAddr>) -> Result<(), Problem> {
        let failed =
            |error: &dyn std::fmt::Display| operation_failed("seal an announcement", error);
        let mut nonce = [0; 24];
        getrandom::fill(&mut nonce).map_err(|error| failed(&error))?;
        self.day = today();
        self.instance = self.key.instance(&self.record.node_id, self.day);
        self.count = self.count.saturating_add(1);
        let announcement = Announcement {
            count: self.count,
            ports: self.ports.clone(),
            addresses,
            record: self.record.clone(),
        };
        let signed = (&self.signer, nonce);
        let sealed = self.key.seal(&self.instance, &announcement, signed);
        self.said = Some(Said {
            instance: self.instance.clone(),
            port: self.ports.first().copied().unwrap_or_default(),
            sealed: sealed.map_err(|error| failed(&error))?,
        });
        Ok(())
    }

    /// What is said; nothing before the first [`Self::compose`].
    pub fn said(&self) -> Option<&Said> {
        self.said.as_ref()
    }
}

impl Said {
    /// As it is said on an interface where we have these addresses.
    pub fn on(&self, addresses: Vec<IpAddr>) -> Service {
        Service {
            instance: self.instance.clone(),
            port: self.port,
            addresses,
            sealed: self.sealed.clone(),
        }
    }
}

fn today() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs() / DAY
}

/// `least` to `least + spread` milliseconds.
pub(super) fn random_wait((least, spread): (u64, u64)) -> Duration {
    let mut byte = [0];
    // Without random bytes all speak at once, which is no harm but for the moment.
    let more = getrandom::fill(&mut byte).map_or(0, |()| spread * u64::from(byte[0]) / 255);
    Duration::from_millis(least + more)
}

#[cfg(test)]
mod tests {
    use mesh_wire::{WireGuardKey, psk::NetworkPsk};

    use super::*;

    fn key() -> LanKey {
        LanKey::of(&NetworkPsk::from_bytes([1; 32]))
    }

    fn signer() -> SigningKey {
        SigningKey::from_bytes(&[3; 32])
    }

    fn record(seq: u64, instance: u64) -> PeerRecord {
        let wireguard = WireGuardKey::from_bytes([4; 32]);
        let network = "my-network".parse().unwrap();
        PeerRecord::sign(&signer(), &network, wireguard, "alice", (seq, instance)).unwrap()
    }

    #[test]
    fn what_is_said_is_ours_and_each_time_newer() {
        let mut voice = Voice::new((key(), signer()), record(7, 1), vec![7081, 7082]);
        assert!(voice.said().is_none() && !voice.is_of_yesterday());
        let mut heard = Vec::new();
        for _ in 0..2 {
            voice.compose(vec![[192, 168, 1, 2].into()]).unwrap();
            let service = voice.said().unwrap().on(vec![]);
            assert_eq!(service.instance, voice.instance());
            heard.push(key().open(&service.instance, &service.sealed).unwrap());
        }
        assert!(heard[0].count < heard[1].count);
        assert_eq!(heard[1].record, record(7, 1));
    }

    #[test]
    fn a_record_of_an_earlier_run_or_with_nothing_new_is_not_taken_over() {
        let mut voice = Voice::new((key(), signer()), record(7, 1), vec![7081]);
        let renewed = |seq, instance| PeerRecord {
            certificate: Some("new".into()),
            ..record(seq, instance)
        };
        assert!(!voice.learn(&renewed(9, 2)));
        assert!(!voice.learn(&renewed(6, 1)));
        assert!(!voice.learn(&record(8, 1)));
        assert!(voice.learn(&renewed(8, 1)));
        assert!(!voice.learn(&renewed(8, 1)));
    }

    #[test]
    fn a_wait_has_its_bounds() {
        for _ in 0..100 {
            let wait = random_wait((20, 100)).as_millis();
            assert!((20..=120).contains(&wait), "{wait}");
        }
    }
}
