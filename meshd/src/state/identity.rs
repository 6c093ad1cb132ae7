//! Who is this node? Its two keys, in one file that is made once and never replaced.

use std::{fmt, path::Path};

use data_encoding::BASE64;
use ed25519_dalek::SigningKey;
use mesh_wire::{NodeId, WireGuardKey};
use serde::{Deserialize, Serialize};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::stored::{self, SecretString};
use crate::problem::Problem;

const FORMAT: u32 = 1;

/// The Ed25519 identity key and the Curve25519 key of the WireGuard sessions. Both are wiped when dropped, and
/// `Debug` prints nothing of them.
#[derive(Clone)]
pub struct Identity {
    signing: SigningKey,
    wireguard: StaticSecret,
}

/// `identity.json`
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentityFile {
    format: u32,
    identity_key: SecretString,
    wireguard_key: SecretString,
}

impl Identity {
    /// Two new keys from the system's random source.
    pub fn generate() -> Result<Self, Problem> {
        Ok(Self {
            signing: SigningKey::from_bytes(&*stored::random_bytes()?),
            wireguard: StaticSecret::from(*stored::random_bytes()?),
        })
    }

    /// The identity in `path`, made and stored (0600, never over an existing file) when there is none.
    pub(super) fn load_or_create(path: &Path) -> Result<Self, Problem> {
        if let Some(identity) = Self::load(path)? {
            return Ok(identity);
        }
        let identity = Self::generate()?;
        stored::create(path, &identity.to_file())?;
        Ok(identity)
    }

    fn load(path: &Path) -> Result<Option<Self>, Problem> {
        let Some(file) = stored::read_secret::<IdentityFile>(path)? else {
            return Ok(None);
        };
        if file.format != FORMAT {
            return Err(stored::damaged(path, "another version of meshd wrote it"));
        }
        let key = |text: &SecretString, name: &str| {
            decode_key(&text.0).ok_or_else(|| {
                stored::damaged(path, format!("its {name} is not a key of 32 bytes"))
            })
        };
        Ok(Some(Self {
            signing: SigningKey::from_bytes(&*key(&file.identity_key, "identity_key")?),
            wireguard: StaticSecret::from(*key(&file.wireguard_key, "wireguard_key")?),
        }))
    }

    fn to_file(&self) -> IdentityFile {
        IdentityFile {
            format: FORMAT,
            identity_key: SecretString(BASE64.encode(self.signing.as_bytes())),
            wireguard_key: SecretString(BASE64.encode(self.wireguard.as_bytes())),
        }
    }

    /// The node's public identity.
    pub fn node_id(&self) -> NodeId {
        NodeId::of(&self.signing)
    }

    /// The key that signs for the node.
    pub const fn signing_key(&self) -> &SigningKey {
        &self.signing
    }

    /// The public key of its WireGuard sessions.
    pub fn wireguard_key(&self) -> WireGuardKey {
        WireGuardKey::from_bytes(PublicKey::from(&self.wireguard).to_bytes())
    }

    /// The secret key of its WireGuard sessions (32 bytes).
    pub fn wireguard_secret(&self) -> &[u8; 32] {
        self.wireguard.as_bytes()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.node_id().short())
    }
}

/// The 32 bytes behind base64 text.
pub(super) fn decode_key(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    let bytes = Zeroizing::new(BASE64.decode(text.as_bytes()).ok()?);
    bytes.as_slice().try_into().ok().map(Zeroizing::new)
}
