//! What does a member tell the other members on its LAN, and how do strangers learn nothing of it?

use std::net::IpAddr;

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use data_encoding::{BASE32_NOPAD, BASE64};
use ed25519_dalek::SigningKey;
use zeroize::Zeroizing;

use crate::{
    DecodeError, NodeId, WireGuardKey,
    id::sign,
    peer_info::PeerRecord,
    psk::NetworkPsk,
    trust::{
        Certificate, MAX_CERTIFICATE,
        reader::{Reader, put_address},
    },
};

const KIND: &str = "announcement";
const VERSION: u8 = 1;
const NONCE: usize = 24;
const SIGNATURE: usize = 64;
/// A DNS label has 63 bytes at most, as a host name in a record.
const MAX_HOSTNAME: usize = 63;
/// Addresses that are told: a host with more than eight in one place names the first.
pub const MAX_ADDRESSES: usize = 8;
/// A mesh has a port for each thread that moves packets.
pub const MAX_PORTS: usize = 16;
/// The longest seal: a record with the longest certificate and all addresses, and the seal around it.
pub const MAX_SEALED: usize = MAX_CERTIFICATE + 512;

/// Where a member is, and what makes it one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// Rises with each announcement under one record, so that an old one that somebody repeats is known as such.
    pub count: u32,
    /// The UDP ports of its mesh, 1 to [`MAX_PORTS`]: member X comes to the one whose place is the first byte of X's id modulo
    /// their number.
    pub ports: Vec<u16>,
    /// Its addresses, at most [`MAX_ADDRESSES`].
    pub addresses: Vec<IpAddr>,
    /// What it signed, with its certificate where the network has a key. Not verified by reading it.
    pub record: PeerRecord,
}

/// What a network's announcements are sealed and named with. Only members have it.
pub struct LanKey {
    seal: Zeroizing<[u8; 32]>,
    name: Zeroizing<[u8; 32]>,
}

impl LanKey {
    /// That of a network.
    pub fn of(psk: &NetworkPsk) -> Self {
        let derive = |context| Zeroizing::new(blake3::derive_key(context, psk.expose()));
        Self {
            seal: derive("meshd 2026-11 lan announcement v1"),
            name: derive("meshd 2026-11 lan instance v1"),
        }
    }

    /// The instance name of a node on this day (since the Unix epoch): 26 letters and digits that say nothing to others, and
    /// are not those of another day or network.
    pub fn instance(&self, node: &NodeId, day: u64) -> String {
        let mut hasher = blake3::Hasher::new_keyed(&self.name);
        hasher.update(node.as_bytes()).update(&day.to_be_bytes());
        let [name @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] =
            *hasher.finalize().as_bytes();
        BASE32_NOPAD.encode(&name).to_ascii_lowercase()
    }

    /// Signs an announcement with the key of the node that its record is of, and seals it for the instance of this name. `nonce`
    /// is random.
    ///
    /// # Errors
    /// If the record has no form that a reader takes.
    pub fn seal(
        &self,
        instance: &str,
        announcement: &Announcement,
        (signer, nonce): (&SigningKey, [u8; NONCE]),
    ) -> Result<Vec<u8>, DecodeError> {
        let said = announcement.to_bytes()?;
        let signature = sign(signer, &signed_bytes(instance, &said));
        let payload = Payload {
            msg: &[signature, said].concat(),
            aad: instance.as_bytes(),
        };
        let sealed = self
            .cipher()
            .encrypt(&XNonce::from(nonce), payload)
            .map_err(|_| DecodeError::new(KIND, "cannot be sealed"))?;
        Ok([&nonce[..], &sealed].concat())
    }

    /// Opens what [`Self::seal`] made.
    ///
    /// # Errors
    /// If nobody with the network's secret sealed it for an instance of this name, the node of its record did not sign it, or
    /// it is not well-formed.
    pub fn open(&self, instance: &str, sealed: &[u8]) -> Result<Announcement, DecodeError> {
        let wrong = |why| DecodeError::new(KIND, why);
        if sealed.len() > MAX_SEALED {
            return Err(wrong("is too long"));
        }
        let (nonce, msg) = sealed
            .split_first_chunk::<NONCE>()
            .ok_or_else(|| wrong("is cut short"))?;
        let aad = instance.as_bytes();
        let opened = self
            .cipher()
            .decrypt(&XNonce::from(*nonce), Payload { msg, aad })
            .map_err(|_| wrong("was not sealed by a member of this network"))?;
        let (signature, said) = opened
            .split_first_chunk::<SIGNATURE>()
            .ok_or_else(|| wrong("is cut short"))?;
        let announcement = Announcement::read(said)?;
        // The secret is every member's, and was that of those who are out.
        let node = &announcement.record.node_id;
        if !node.verify(&signed_bytes(instance, said), signature) {
            return Err(wrong("was not signed by the node that it speaks of"));
        }
        Ok(announcement)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&(*self.seal).into())
    }
}

/// What a node signs: an announcement under one name.
fn signed_bytes(instance: &str, said: &[u8]) -> Vec<u8> {
    let mut bytes = format!("meshd lan announcement v1\0{instance}\0").into_bytes();
    bytes.extend_from_slice(said);
    bytes
}

impl std::fmt::Debug for LanKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LanKey(..)")
    }
}

impl Announcement {
    /// The bytes to be sealed.
    ///
    /// # Errors
    /// If the record has no form that [`Self::read`] takes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, DecodeError> {
        let wrong = |why| DecodeError::new(KIND, why);
        let record = &self.record;
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.count.to_be_bytes());
        if !(1..=MAX_PORTS).contains(&self.ports.len()) {
            return Err(wrong("has no port, or too many"));
        }
        bytes.push(u8::try_from(self.ports.len()).unwrap_or_default());
        for port in &self.ports {
            bytes.extend_from_slice(&port.to_be_bytes());
        }
        let addresses = self.addresses.iter().take(MAX_ADDRESSES);
        bytes.push(u8::try_from(addresses.len()).unwrap_or_default());
        addresses.for_each(|address| put_address(&mut bytes, *address));
        bytes.extend_from_slice(record.node_id.as_bytes());
        bytes.extend_from_slice(record.wireguard_key.as_bytes());
        let hostname = u8::try_from(record.hostname.len())
            .ok()
            .filter(|len| usize::from(*len) <= MAX_HOSTNAME)
            .ok_or_else(|| wrong("has a host name that is too long"))?;
        bytes.push(hostname);
        bytes.extend_from_slice(record.hostname.as_bytes());
        bytes.extend_from_slice(&record.seq.to_be_bytes());
        bytes.extend_from_slice(&record.instance.to_be_bytes());
        let signature = BASE64
            .decode(record.signature.as_bytes())
            .ok()
            .filter(|signature| signature.len() == SIGNATURE)
            .ok_or_else(|| wrong("has a signature of another form"))?;
        bytes.extend_from_slice(&signature);
        if let Some(text) = &record.certificate {
            bytes.extend_from_slice(Certificate::from_text(text)?.as_bytes());
        }
        Ok(bytes)
    }

    /// The inverse of [`Self::to_bytes`]. Nothing is verified.
    ///
    /// # Errors
    /// If the bytes have another form.
    pub fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(KIND, bytes);
        if reader.byte()? != VERSION {
            return Err(reader.error("is of a version that this one does not know"));
        }
        let count = reader.array().map(u32::from_be_bytes)?;
        let ports = usize::from(reader.byte()?);
        if !(1..=MAX_PORTS).contains(&ports) {
            return Err(reader.error("has no port, or too many"));
        }
        let ports = (0..ports)
            .map(|_| reader.array().map(u16::from_be_bytes))
            .collect::<Result<Vec<_>, _>>()?;
        let addresses = usize::from(reader.byte()?);
        if addresses > MAX_ADDRESSES {
            return Err(reader.error("has too many addresses"));
        }
        let addresses = (0..addresses)
            .map(|_| reader.address())
            .collect::<Result<Vec<_>, _>>()?;
        let node_id = NodeId::from_bytes(reader.array()?);
        let wireguard_key = WireGuardKey::from_bytes(reader.array()?);
        let hostname = reader.text()?.to_owned();
        if hostname.len() > MAX_HOSTNAME {
            return Err(reader.error("has a host name that is too long"));
        }
        let (seq, instance) = (reader.u64()?, reader.u64()?);
        let signature = BASE64.encode(&reader.array::<SIGNATURE>()?);
        let certificate = match reader.rest() {
            [] => None,
            certificate => Some(Certificate::read(certificate)?.to_text()),
        };
        let record = PeerRecord {
            node_id,
            wireguard_key,
            hostname,
            seq,
            instance,
            signature,
            certificate,
        };
        Ok(Self {
            count,
            ports,
            addresses,
            record,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::{Binding, Issuer, Roles, Root, Span, default_mac};

    fn announcement(with_certificate: bool) -> Announcement {
        let network = "my-network".parse().unwrap();
        let (creator, key) = (SigningKey::from_bytes(&[1; 32]), signer());
        let wireguard_key = WireGuardKey::from_bytes([4; 32]);
        let root = Root {
            network: "my-network".parse().unwrap(),
            key: NodeId::of(&creator),
        };
        let node_id = NodeId::of(&key);
        let binding = Binding {
            node_id,
            wireguard_key,
            name: "alice".into(),
            virtual_ips: vec![[10, 100, 0, 1].into()],
            mac: default_mac(&node_id),
            roles: Roles::default(),
            subnets: Vec::new(),
            span: Span { from: 1, until: 9 },
            serial: 5,
        };
        let certificate = Certificate::sign(&root, &creator, &Issuer::Network, &binding).unwrap();
        let certificate = Some(&certificate).filter(|_| with_certificate);
        let of_record = ("alice", certificate);
        let record =
            PeerRecord::sign_with(&key, &network, wireguard_key, of_record, (7, 8)).unwrap();
        Announcement {
            count: 3,
            ports: vec![7081, 7082],
            addresses: vec![[192, 168, 1, 2].into(), "fd00::2".parse().unwrap()],
            record,
        }
    }

    /// Whose record [`announcement`] has.
    fn signer() -> SigningKey {
        SigningKey::from_bytes(&[3; 32])
    }

    #[test]
    fn whoever_has_the_secret_cannot_speak_for_another() {
        let mut said = announcement(true);
        said.count = u32::MAX;
        let other = SigningKey::from_bytes(&[5; 32]);
        let sealed = key(1).seal("abc", &said, (&other, [9; 24])).unwrap();
        let error = key(1).open("abc", &sealed).unwrap_err().to_string();
        assert!(error.contains("not signed"), "{error}");
    }

    fn key(byte: u8) -> LanKey {
        LanKey::of(&NetworkPsk::from_bytes([byte; 32]))
    }

    #[test]
    fn an_announcement_survives_and_its_record_still_verifies() {
        for with_certificate in [true, false] {
            let said = announcement(with_certificate);
            let sealed = key(1).seal("abc", &said, (&signer(), [9; 24])).unwrap();
            let heard = key(1).open("abc", &sealed).unwrap();
            assert_eq!(heard, said);
            assert_eq!(heard.record.verify(&"my-network".parse().unwrap()), Ok(()));
        }
    }

    #[test]
    fn only_members_open_it_and_only_under_its_name() {
        let sealed = key(1)
            .seal("abc", &announcement(true), (&signer(), [9; 24]))
            .unwrap();
        assert!(key(2).open("abc", &sealed).is_err(), "another network");
        assert!(key(1).open("abd", &sealed).is_err(), "another instance");
        for at in 0..sealed.len() {
            let mut bent = sealed.clone();
            bent[at] ^= 1;
            assert!(key(1).open("abc", &bent).is_err(), "{at}");
            assert!(key(1).open("abc", &sealed[..at]).is_err(), "{at}");
        }
        assert!(key(1).open("abc", &[0; MAX_SEALED + 1]).is_err());
    }

    #[test]
    fn nothing_that_is_sealed_can_be_seen() {
        let said = announcement(true);
        let sealed = key(1).seal("abc", &said, (&signer(), [9; 24])).unwrap();
        let shows = |secret: &[u8]| sealed.windows(secret.len()).any(|bytes| bytes == secret);
        assert!(!shows(b"alice") && !shows(b"my-network"));
        assert!(!shows(said.record.node_id.as_bytes()));
        assert!(!shows(&said.record.node_id.as_bytes()[..8]));
    }

    #[test]
    fn a_name_is_a_label_that_changes_with_the_day_the_node_and_the_network() {
        let nodes = [1, 2].map(|byte| NodeId::from_bytes([byte; 32]));
        let name = key(1).instance(&nodes[0], 20_000);
        assert_eq!(name.len(), 26);
        assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert_eq!(name, key(1).instance(&nodes[0], 20_000));
        assert_ne!(name, key(1).instance(&nodes[0], 20_001));
        assert_ne!(name, key(1).instance(&nodes[1], 20_000));
        assert_ne!(name, key(2).instance(&nodes[0], 20_000));
        assert_eq!(format!("{:?}", key(1)), "LanKey(..)");
    }

    #[test]
    fn what_is_cut_or_beyond_the_limits_is_refused() {
        let bytes = announcement(false).to_bytes().unwrap();
        for cut in 0..bytes.len() {
            assert!(Announcement::read(&bytes[..cut]).is_err(), "{cut}");
        }
        let mut many = bytes.clone();
        many[10] = 9;
        assert!(Announcement::read(&many).is_err(), "addresses");
        for ports in [0, 17] {
            many[5] = ports;
            assert!(Announcement::read(&many).is_err(), "{ports} ports");
        }
        let mut newer = bytes;
        newer[0] = 2;
        assert!(Announcement::read(&newer).is_err());
    }
}
