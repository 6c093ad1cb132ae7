//! What does the state directory hold, and who may use it?
//!
//! One directory is one node: [`StateDir::open`] takes it for this process. Files with secrets have mode 0600 and
//! are refused when others may read them; a damaged file is a problem and stays as it is.

mod cache;
mod identity;
mod network;
mod options;
mod stored;
mod token;

use std::path::{Path, PathBuf};

use mesh_wire::{NetworkId, peer_info::Directory};
use platform::files::{self, FileError, LockGuard};

pub use self::{
    identity::Identity, network::JoinedNetwork, options::StartOptions, token::ApiToken,
};
use crate::{
    problem::{self, Problem},
    trust::links::Links,
    whereabouts::Endpoints,
};

/// The state directory, locked for this process until it is dropped.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: LockGuard,
}

impl StateDir {
    /// Makes the directory (0700) when it is missing, and takes its lock.
    pub fn open(path: &Path) -> Result<Self, Problem> {
        files::create_private_dir(path).map_err(|error| problem::state_unwritable(path, &error))?;
        let lock_path = path.join("lock");
        let lock = files::lock_exclusive(&lock_path).map_err(|error| {
            if matches!(error, FileError::Locked { .. }) {
                problem::state_locked(path)
            } else {
                problem::state_unwritable(&lock_path, &error)
            }
        })?;
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The Unix socket of the local API.
    pub fn socket(&self) -> PathBuf {
        self.path.join("meshd.sock")
    }

    /// The database of shares.
    pub fn shares_database(&self) -> PathBuf {
        self.path.join("shares.db")
    }

    /// The directory of the embedded discovery server, made (0700) when it is missing.
    pub fn discovery(&self) -> Result<PathBuf, Problem> {
        let path = self.path.join("discovery");
        files::create_private_dir(&path)
            .map_err(|error| problem::state_unwritable(&path, &error))?;
        Ok(path)
    }

    /// This node's keys; made on the first start.
    pub fn identity(&self) -> Result<Identity, Problem> {
        Identity::load_or_create(&self.path.join("identity.json"))
    }

    /// The local API's token; made on the first start.
    pub fn api_token(&self) -> Result<ApiToken, Problem> {
        ApiToken::load_or_create(&self.path.join("api-token"))
    }

    /// The joined network; `None` before the first join.
    pub fn network(&self) -> Result<Option<JoinedNetwork>, Problem> {
        network::load(&self.network_file())
    }

    /// Stores the joined network, atomically.
    pub fn save_network(&self, network: &JoinedNetwork) -> Result<(), Problem> {
        network::save(&self.network_file(), network)
    }

    /// Forgets a network that never came to be.
    pub fn remove_network(&self) -> Result<(), Problem> {
        let path = self.network_file();
        std::fs::remove_file(&path).map_err(|error| problem::state_unwritable(&path, &error))
    }

    /// What earlier starts were told on the command line.
    pub fn start_options(&self) -> Result<StartOptions, Problem> {
        options::load(&self.options_file())
    }

    /// Stores what later starts need not be told again, atomically.
    pub fn save_start_options(&self, options: &StartOptions) -> Result<(), Problem> {
        options::save(&self.options_file(), options)
    }

    /// The mode of the directory, if it lets other users in.
    pub fn exposed_mode(&self) -> Option<u32> {
        files::mode_for_others(&self.path)
    }

    /// A sequence number for the next record, greater than any before, also across crashes: it is on disk before
    /// it is returned. Stores all of `network`, like [`Self::save_network`].
    pub fn next_seq(&self, network: &mut JoinedNetwork) -> Result<u64, Problem> {
        network::next_seq(&self.network_file(), network)
    }

    /// The members of `network` as last heard; `None` when nothing is stored of that network.
    pub fn directory(&self, network: &NetworkId) -> Result<Option<Directory>, Problem> {
        cache::load(&self.directory_file(), network)
    }

    /// Stores the members of `network`, atomically.
    pub fn save_directory(
        &self,
        network: &NetworkId,
        directory: &Directory,
    ) -> Result<(), Problem> {
        cache::save(&self.directory_file(), network, directory)
    }

    /// Where members of `network` were last reached; `None` when nothing is stored of that network.
    pub fn endpoints(&self, network: &NetworkId) -> Result<Option<Endpoints>, Problem> {
        cache::load_endpoints(&self.endpoints_file(), network)
    }

    /// Stores where members of `network` were last reached, atomically.
    pub fn save_endpoints(
        &self,
        network: &NetworkId,
        endpoints: &Endpoints,
    ) -> Result<(), Problem> {
        cache::save_endpoints(&self.endpoints_file(), network, endpoints)
    }

    /// Whom links of `network` have let in, as far as was heard; nobody when nothing is stored of that network.
    pub fn links(&self, network: &NetworkId) -> Result<Links, Problem> {
        cache::load_links(&self.links_file(), network)
    }

    /// Stores whom links of `network` have let in, atomically.
    pub fn save_links(&self, network: &NetworkId, links: &Links) -> Result<(), Problem> {
        cache::save_links(&self.links_file(), network, links)
    }

    fn options_file(&self) -> PathBuf {
        self.path.join("options.json")
    }

    fn links_file(&self) -> PathBuf {
        self.path.join("links.json")
    }

    fn endpoints_file(&self) -> PathBuf {
        self.path.join("endpoints.json")
    }

    fn network_file(&self) -> PathBuf {
        self.path.join("network.json")
    }

    fn directory_file(&self) -> PathBuf {
        self.path.join("directory.json")
    }
}

#[cfg(test)]
mod tests;
