//! Where do shares listen, and how do shares of the configuration file get into the store?

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use mesh_wire::peer_info::Directory;
use platform::listen::{ListenError, listen_on_device};
use sharing::{FileShare, Grantee, Origin, ShareStore, StoreError};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use crate::{
    config::ShareSettings,
    problem::{self, Listener, Problem},
};

/// Served when it is free: URLs without a port, and Windows network paths, need it.
const HTTP_PORT: u16 = 80;
/// Always served, whatever else runs on this host.
const SHARE_PORT: u16 = 7083;
/// The device on which this host's own programs arrive.
const LOOPBACK: &str = "lo";

/// Listeners on `address` that only the mesh interface and this host's own programs can reach, and what did not work.
///
/// A bind to the address alone would not do: Linux takes packets for it on any interface, with any source.
pub fn listen(address: IpAddr, interface: &str) -> (Vec<(TcpListener, Origin)>, Vec<Problem>) {
    let mut listeners = Vec::new();
    let mut problems = Vec::new();
    for port in [HTTP_PORT, SHARE_PORT] {
        for (device, origin) in [(interface, Origin::Mesh), (LOOPBACK, Origin::Local)] {
            let at = SocketAddr::new(address, port);
            match listen_on_device(at, device) {
                Ok(listener) => listeners.push((listener, origin)),
                Err(error) => problems.push(listen_problem(at, &error)),
            }
        }
    }
    problems.dedup();
    (listeners, problems)
}

fn listen_problem(at: SocketAddr, error: &ListenError) -> Problem {
    match error {
        ListenError::PortInUse { .. } => problem::port_in_use(Listener::Shares, at),
        ListenError::AddressNotAvailable { .. }
        | ListenError::PermissionDenied { .. }
        | ListenError::NoDevice { .. }
        | ListenError::System { .. }
        | ListenError::Unsupported { .. } => {
            problem::operation_failed(format!("listen for shares on {at}"), error)
        }
    }
}

/// Brings the shares of the configuration file into the store, and grants them to members as their names become known.
pub struct Configured {
    /// What the file says.
    pub shares: Vec<ShareSettings>,
    /// Where they go.
    pub store: ShareStore,
    /// Who is a member.
    pub directory: watch::Receiver<Arc<Directory>>,
}

impl Configured {
    /// Takes back what the file does not say any more, and adds what is missing; a share of the same name elsewhere is a
    /// problem, never overwritten.
    pub async fn add(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let shares: Vec<_> = self.shares.iter().map(file_share).collect();
        if let Err(error) = self.store.retract_from_file(&shares).await {
            problems.push(problem::operation_failed(
                "take back the shares that are gone from the configuration file",
                &error,
            ));
        }
        for share in &shares {
            match self.store.add_from_file(share).await {
                Ok(()) => {}
                Err(StoreError::NameTaken(_)) => {
                    problems.push(problem::share_exists(share.name.as_str()));
                }
                Err(StoreError::NoSuchDirectory { path, reason }) => {
                    problems.push(problem::share_path_unreadable(&path, &reason));
                }
                Err(StoreError::Private { path, private }) => {
                    problems.push(problem::share_path_private(&path, &private));
                }
                Err(error) => problems.push(problem::operation_failed(
                    format!("share {}", share.name.as_str()),
                    &error,
                )),
            }
        }
        problems
    }

    /// Grants until every name of the file is known, or `shutdown`.
    pub async fn grant(mut self, shutdown: CancellationToken) {
        let shares: Vec<_> = self.shares.iter().map(file_share).collect();
        let mut open: Vec<(&FileShare, &String)> = shares
            .iter()
            .flat_map(|share| share.to.iter().map(move |to| (share, to)))
            .collect();
        while !open.is_empty() {
            let directory = Arc::clone(&self.directory.borrow_and_update());
            let mut still_open = Vec::new();
            for (share, to) in open {
                let peer = match to.as_str() {
                    "all" => Some(Grantee::All),
                    name => directory
                        .find(name)
                        .map(|peer| Grantee::Peer(peer.record.node_id)),
                };
                match peer {
                    Some(peer) => self.grant_one(share, to, peer).await,
                    None => still_open.push((share, to)),
                }
            }
            open = still_open;
            self.store.note_waiting(open.iter().copied());
            tokio::select! {
                changed = self.directory.changed(), if !open.is_empty() => if changed.is_err() { return },
                () = shutdown.cancelled() => return,
                else => return,
            }
        }
    }

    async fn grant_one(&self, share: &FileShare, to: &str, peer: Grantee) {
        if let Err(error) = self.store.grant_from_file(share, to, peer).await {
            tracing::error!(share = share.name.as_str(), %error, "a share of the configuration file could not be granted");
        }
    }
}

fn file_share(share: &ShareSettings) -> FileShare {
    FileShare {
        name: share.name.clone(),
        path: share.path.clone(),
        to: share.to.clone(),
    }
}
