//! Which tokens are the administrator's? One, or two while one replaces the other; the file is looked at again while the
//! server runs.

use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use data_encoding::BASE32_NOPAD;

use super::TokenHash;

/// Shorter admin tokens could be guessed.
const MIN_ADMIN_TOKEN: usize = 16;

/// The file is looked at so often at most, and only when somebody shows a token.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Where the administrator's bearer token comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminTokenSource {
    /// A file that exists and holds the token.
    File(PathBuf),
    /// The file `admin-token` in this directory; made on the first start.
    MadeIn(PathBuf),
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
        "the admin token in {path} is shorter than {MIN_ADMIN_TOKEN} characters or not plain text, or there are more than two"
    )]
    Unusable {
        /// The file.
        path: PathBuf,
    },
}

/// The administrator's tokens, as their file has them.
#[derive(Debug)]
pub(crate) struct AdminTokens {
    /// Where they stand.
    pub(crate) path: PathBuf,
    /// Whether this start made the file.
    pub(crate) made: bool,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    tokens: Vec<TokenHash>,
    changed: Option<SystemTime>,
    looked: Instant,
}

impl AdminTokens {
    /// Reads the file, or makes it.
    pub(crate) fn load(source: &AdminTokenSource) -> Result<Self, AdminTokenError> {
        let (path, made) = match source {
            AdminTokenSource::File(path) => (path.clone(), false),
            AdminTokenSource::MadeIn(directory) => {
                let path = directory.join("admin-token");
                let made = make_token_file(directory, &path);
                let made = made.map_err(|source| AdminTokenError::Make {
                    path: path.clone(),
                    source,
                })?;
                (path, made)
            }
        };
        let held = Held {
            changed: changed(&path),
            tokens: read(&path)?,
            looked: Instant::now(),
        };
        Ok(Self {
            path,
            made,
            held: Mutex::new(held),
        })
    }

    /// Whether this is a token of the administrator's now. A file that cannot be read, or holds none, changes nothing.
    pub(crate) fn admit(&self, token: TokenHash) -> bool {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.looked.elapsed() >= LOOK_INTERVAL {
            held.looked = Instant::now();
            let changed = changed(&self.path);
            if changed != held.changed {
                held.changed = changed;
                match read(&self.path) {
                    Ok(tokens) => held.tokens = tokens,
                    Err(error) => tracing::warn!(%error, "the admin token stays what it was"),
                }
            }
        }
        held.tokens.contains(&token)
    }
}

fn changed(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|data| data.modified()).ok()
}

fn read(path: &Path) -> Result<Vec<TokenHash>, AdminTokenError> {
    let text = fs::read_to_string(path).map_err(|source| AdminTokenError::Read {
        path: path.to_owned(),
        source,
    })?;
    let tokens: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let is_usable = |token: &&str| {
        token.len() >= MIN_ADMIN_TOKEN && token.bytes().all(|b| b.is_ascii_graphic())
    };
    if !(1..=2).contains(&tokens.len()) || !tokens.iter().all(is_usable) {
        return Err(AdminTokenError::Unusable {
            path: path.to_owned(),
        });
    }
    Ok(tokens.into_iter().map(TokenHash::of).collect())
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
        let first = AdminTokens::load(&source).unwrap();
        assert!(first.made);
        let mode = fs::metadata(&first.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let token = TokenHash::of(fs::read_to_string(&first.path).unwrap().trim());
        let second = AdminTokens::load(&source).unwrap();
        assert!(!second.made);
        assert!(first.admit(token) && second.admit(token));
        assert!(!first.admit(TokenHash::of("x")));
    }

    #[test]
    fn a_missing_or_weak_token_file_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let source = AdminTokenSource::File(path.clone());
        assert!(matches!(
            AdminTokens::load(&source),
            Err(AdminTokenError::Read { .. })
        ));
        let good = "a-token-of-enough-length\n";
        for bad in ["short\n", "\n", &good.repeat(3), &format!("{good}short")] {
            fs::write(&path, bad).unwrap();
            assert!(matches!(
                AdminTokens::load(&source),
                Err(AdminTokenError::Unusable { .. })
            ));
        }
        fs::write(&path, good).unwrap();
        let tokens = AdminTokens::load(&source).unwrap();
        assert!(tokens.admit(TokenHash::of("a-token-of-enough-length")));
    }
}
