//! Whom did this node know when it last heard from the server, and where were they? So that it finds its peers while the
//! server is down.

use std::path::Path;

use mesh_wire::{NetworkId, peer_info::Directory};
use serde::{Deserialize, Serialize};

use super::stored;
use crate::{problem::Problem, trust::links::Links, whereabouts::Endpoints};

/// `directory.json`
#[derive(Serialize, Deserialize)]
struct DirectoryFile<D> {
    /// A list of another network's members would only mislead.
    network: NetworkId,
    directory: D,
}

/// The list of `network`; `None` when there is none, or only another network's.
///
/// A damaged file is a problem to be shown; the list itself comes back with the server's next answer.
pub(super) fn load(path: &Path, network: &NetworkId) -> Result<Option<Directory>, Problem> {
    let file = stored::read_public::<DirectoryFile<Directory>>(path)?;
    Ok(file
        .filter(|file| file.network == *network)
        .map(|file| file.directory))
}

/// Replaces the list.
pub(super) fn save(path: &Path, network: &NetworkId, directory: &Directory) -> Result<(), Problem> {
    let network = network.clone();
    stored::replace(path, &DirectoryFile { network, directory })
}

/// `endpoints.json`
#[derive(Serialize, Deserialize)]
struct EndpointsFile {
    network: NetworkId,
    endpoints: Endpoints,
}

/// Where members of `network` were last reached, as [`load`].
pub(super) fn load_endpoints(
    path: &Path,
    network: &NetworkId,
) -> Result<Option<Endpoints>, Problem> {
    let file = stored::read_public::<EndpointsFile>(path)?;
    Ok(file
        .filter(|file| file.network == *network)
        .map(|file| file.endpoints))
}

/// Replaces them.
pub(super) fn save_endpoints(
    path: &Path,
    network: &NetworkId,
    endpoints: &Endpoints,
) -> Result<(), Problem> {
    let (network, endpoints) = (network.clone(), endpoints.clone());
    stored::replace(path, &EndpointsFile { network, endpoints })
}

/// `links.json`
#[derive(Serialize, Deserialize)]
struct LinksFile {
    network: NetworkId,
    links: Links,
}

/// Whom links of `network` have let in. No cache: who made a link forgets with it whom it was used by.
pub(super) fn load_links(path: &Path, network: &NetworkId) -> Result<Links, Problem> {
    let file = stored::read_public::<LinksFile>(path)?;
    let file = file.filter(|file| file.network == *network);
    Ok(file.map_or_else(Links::default, |file| file.links))
}

/// Replaces that.
pub(super) fn save_links(path: &Path, network: &NetworkId, links: &Links) -> Result<(), Problem> {
    let (network, links) = (network.clone(), links.clone());
    stored::replace(path, &LinksFile { network, links })
}
