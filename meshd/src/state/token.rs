//! What must a program show to change anything over TCP?

use std::{fmt, path::Path, sync::Arc};

use data_encoding::BASE32_NOPAD;
use zeroize::Zeroizing;

use super::stored;
use crate::problem::Problem;

/// 32 random bytes in lower-case base32.
const TOKEN_LENGTH: usize = 52;

/// The local API's bearer token. `Debug` prints nothing of it.
#[derive(Clone)]
pub struct ApiToken(Arc<Zeroizing<String>>);

impl ApiToken {
    /// A new one from the system's random source.
    pub fn generate() -> Result<Self, Problem> {
        let bytes = stored::random_bytes()?;
        let mut text = Zeroizing::new(BASE32_NOPAD.encode(&*bytes));
        text.make_ascii_lowercase();
        Ok(Self(Arc::new(text)))
    }

    /// The token in `path` (one line), made and stored (0600) when there is none.
    pub(super) fn load_or_create(path: &Path) -> Result<Self, Problem> {
        if let Some(bytes) = stored::read_secret_bytes(path)? {
            let text = std::str::from_utf8(&bytes).map(str::trim_ascii);
            return match text {
                // A longer one may have been put there on purpose; a shorter one could be guessed.
                Ok(text) if text.len() >= TOKEN_LENGTH && text.bytes().all(is_token_byte) => {
                    Ok(Self(Arc::new(Zeroizing::new(text.to_owned()))))
                }
                Ok(_) | Err(_) => Err(stored::damaged(
                    path,
                    format!("it is not one word of at least {TOKEN_LENGTH} letters and digits"),
                )),
            };
        }
        let token = Self::generate()?;
        stored::create_bytes(path, format!("{}\n", token.expose()).as_bytes())?;
        Ok(token)
    }

    /// Whether `given` is the token. Takes the same time for every wrong one.
    pub fn matches(&self, given: &str) -> bool {
        // Comparing hashes, whose bytes no caller can steer, gives an early exit nothing to tell.
        blake3::hash(given.as_bytes()) == blake3::hash(self.0.as_bytes())
    }

    /// The token itself, to be stored or sent, never logged.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiToken(..)")
    }
}

/// A byte of RFC 6750's `b64token`.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte)
}
