//! Who is asking: the administrator, a member of a network, or a node about itself?

use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

use data_encoding::{BASE32_NOPAD, BASE64};
use mesh_wire::{NetworkId, NodeId};

/// The request header that carries the time of a [`deregister_bytes`] signature, in seconds since the Unix epoch.
pub const TIMESTAMP_HEADER: &str = "mesh-timestamp";

/// The request header that carries the base64 of the signature over [`deregister_bytes`].
pub const SIGNATURE_HEADER: &str = "mesh-signature";

/// How far the time of a signature may be from the server's clock, in seconds: wide enough for hosts without a
/// time service, short enough that a recorded request soon is worthless.
pub const MAX_CLOCK_SKEW: u64 = 300;

/// Shorter admin tokens could be guessed.
const MIN_ADMIN_TOKEN: usize = 16;

/// Where the administrator's bearer token comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminTokenSource {
    /// A file that exists and holds the token.
    File(PathBuf),
    /// The file `admin-token` in this directory; made on the first start.
    MadeIn(PathBuf),
}

/// The bytes that a node signs to deregister itself. Bound to the record's `seq`, so that the request is worthless
/// once the node has registered again, and to a time within [`MAX_CLOCK_SKEW`].
pub fn deregister_bytes(network: &NetworkId, node: &NodeId, seq: u64, timestamp: u64) -> Vec<u8> {
    format!("meshd deregister v1\0{network}\0{node}\0{seq}\0{timestamp}").into_bytes()
}

/// A node's proof that a request comes from itself, as its headers carry it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeProof {
    pub(crate) timestamp: u64,
    pub(crate) signature: Vec<u8>,
}

impl NodeProof {
    /// Reads the two headers' values; `None` if either is malformed.
    pub(crate) fn parse(timestamp: &str, signature: &str) -> Option<Self> {
        Some(Self {
            timestamp: timestamp.parse().ok()?,
            signature: BASE64.decode(signature.as_bytes()).ok()?,
        })
    }

    /// Whether `node` itself asks, now, to deregister the record with this `seq`.
    pub(crate) fn proves(&self, network: &NetworkId, node: &NodeId, seq: u64, now: u64) -> bool {
        let bytes = deregister_bytes(network, node, seq, self.timestamp);
        self.timestamp.abs_diff(now) <= MAX_CLOCK_SKEW && node.verify(&bytes, &self.signature)
    }
}

/// All that the server keeps of a bearer token. Comparing two of them takes constant time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct TokenHash(blake3::Hash);

impl TokenHash {
    /// Tokens are random, so a fast hash is as good as a slow one.
    pub(crate) fn of(token: &str) -> Self {
        let key = blake3::derive_key("meshd 2026-11 stored bearer token v1", token.as_bytes());
        Self(key.into())
    }

    /// From the 32 bytes that [`Self::as_bytes`] gave.
    pub(crate) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes.into())
    }

    /// To be stored.
    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }
}

impl std::fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenHash(..)")
    }
}

/// The administrator's token as it was found or made.
#[derive(Debug)]
pub(crate) struct AdminToken {
    pub(crate) hash: TokenHash,
    /// Where it stands.
    pub(crate) path: PathBuf,
    /// Whether this start made it.
    pub(crate) made: bool,
}

/// Why there is no admin token.
#[derive(Debug, thiserror::Error)]
pub enum AdminTokenError {
    /// The file cannot be read.
    #[error("read the admin token in {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be made.
    #[error("make the admin token in {path}: {source}")]
    Make {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file holds no usable token.
    #[error(
        "the admin token in {path} is shorter than {MIN_ADMIN_TOKEN} characters or not plain text"
    )]
    Unusable {
        /// The file.
        path: PathBuf,
    },
}

/// Reads or makes the admin token.
pub(crate) fn load_admin_token(source: &AdminTokenSource) -> Result<AdminToken, AdminTokenError> {
    let (path, made) = match source {
        AdminTokenSource::File(path) => (path.clone(), false),
        AdminTokenSource::MadeIn(directory) => {
            let path = directory.join("admin-token");
            let made =
                make_token_file(directory, &path).map_err(|source| AdminTokenError::Make {
                    path: path.clone(),
                    source,
                })?;
            (path, made)
        }
    };
    let text = fs::read_to_string(&path).map_err(|source| AdminTokenError::Read {
        path: path.clone(),
        source,
    })?;
    let token = text.trim();
    if token.len() < MIN_ADMIN_TOKEN || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(AdminTokenError::Unusable { path });
    }
    Ok(AdminToken {
        hash: TokenHash::of(token),
        path,
        made,
    })
}

/// Makes the file, readable by its owner only, unless it is there; whether it was made. The name appears with the
/// whole content in one step, so a crash leaves no half-written token, and an existing file is never replaced.
fn make_token_file(directory: &Path, path: &Path) -> io::Result<bool> {
    if path.try_exists()? {
        return Ok(false);
    }
    fs::create_dir_all(directory)?;
    let mut random = [0_u8; 32];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    writeln!(
        file,
        "{}",
        BASE32_NOPAD.encode(&random).to_ascii_lowercase()
    )?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path).map_err(|error| error.error)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_made_token_is_private_and_stays() {
        let directory = tempfile::tempdir().unwrap();
        let source = AdminTokenSource::MadeIn(directory.path().join("data"));
        let first = load_admin_token(&source).unwrap();
        assert!(first.made);
        let mode = fs::metadata(&first.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let second = load_admin_token(&source).unwrap();
        assert!(!second.made);
        assert_eq!(first.hash, second.hash);
    }

    #[test]
    fn a_missing_or_weak_token_file_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let source = AdminTokenSource::File(path.clone());
        assert!(matches!(
            load_admin_token(&source),
            Err(AdminTokenError::Read { .. })
        ));
        fs::write(&path, "short\n").unwrap();
        assert!(matches!(
            load_admin_token(&source),
            Err(AdminTokenError::Unusable { .. })
        ));
        fs::write(&path, "a-token-of-enough-length\n").unwrap();
        let token = load_admin_token(&source).unwrap();
        assert_eq!(token.hash, TokenHash::of("a-token-of-enough-length"));
    }

    #[test]
    fn a_node_proof_is_bound_to_network_node_seq_and_time() {
        let key = ed25519_dalek::SigningKey::from_bytes(&[1; 32]);
        let (node, network) = (NodeId::of(&key), "net".parse::<NetworkId>().unwrap());
        let signature = mesh_wire::id::sign(&key, &deregister_bytes(&network, &node, 5, 1_000));
        let proof = NodeProof::parse("1000", &BASE64.encode(&signature)).unwrap();
        assert!(proof.proves(&network, &node, 5, 1_000 + MAX_CLOCK_SKEW));
        assert!(proof.proves(&network, &node, 5, 1_000 - MAX_CLOCK_SKEW));
        assert!(!proof.proves(&network, &node, 5, 1_001 + MAX_CLOCK_SKEW));
        assert!(!proof.proves(&network, &node, 6, 1_000));
        assert!(!proof.proves(&"other".parse().unwrap(), &node, 5, 1_000));
        assert!(!proof.proves(&network, &NodeId::from_bytes([3; 32]), 5, 1_000));
        assert_eq!(NodeProof::parse("-1", ""), None);
        assert_eq!(NodeProof::parse("1", "*"), None);
    }

    #[test]
    fn token_hashes_print_nothing() {
        assert_eq!(format!("{:?}", TokenHash::of("x")), "TokenHash(..)");
    }
}
