//! The share server: accepts connections on the listeners it is given and answers them from the shares.

mod admission;
mod body;
mod client;
mod connection;
mod download;
mod host;
mod lease;
mod limits;
mod listing;
mod multipart;
mod phase;
mod query;
mod range;
mod reply;
mod router;
mod site;
mod target;
mod text;
mod timed;
mod validators;

use std::{io, sync::Arc, time::Duration};

use mesh_wire::peer_info::Directory;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use self::{admission::Admission, client::Client, limits::SHUTDOWN_TIME, site::Site};
use crate::store::ShareStore;

/// Where a listener's connections come from, and so who they speak for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// From the mesh interface only: the source address is the login.
    Mesh,
    /// From this machine only: any of its users, who sees what all members see.
    Local,
}

/// Serves the shares of a store over HTTP. See the crate's documentation for what it answers.
#[derive(Debug)]
pub struct ShareServer {
    site: Site,
}

impl ShareServer {
    /// A server of `store` that identifies peers by their addresses in `directory`.
    pub fn new(store: ShareStore, directory: watch::Receiver<Arc<Directory>>) -> Self {
        Self {
            site: Site::new(store, directory),
        }
    }

    /// Serves until `shutdown` is cancelled; then responses under way have 3 s to finish.
    ///
    /// The caller vouches for each listener's [`Origin`]: a mesh listener must be bound to the mesh interface, not only
    /// to its address.
    pub async fn serve(self, listeners: Vec<(TcpListener, Origin)>, shutdown: CancellationToken) {
        let admission = Admission::default();
        let mut accepting = JoinSet::new();
        for (listener, origin) in listeners {
            let door = Door {
                listener,
                origin,
                site: self.site.clone(),
                admission: admission.clone(),
            };
            accepting.spawn(door.accept(shutdown.clone()));
        }
        while accepting.join_next().await.is_some() {}
    }
}

/// One listener at work.
struct Door {
    listener: TcpListener,
    origin: Origin,
    site: Site,
    admission: Admission,
}

impl Door {
    async fn accept(self, shutdown: CancellationToken) {
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                Some(_) = connections.join_next() => continue,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => self.begin(stream, &mut connections, &shutdown),
                Err(error) => recover(&error).await,
            }
        }
        drop(self.listener);
        let finish = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(SHUTDOWN_TIME, finish).await.is_err() {
            tracing::debug!("breaking transfers that outlast the shutdown");
        }
    }

    /// Serves the connection, or drops it where its visitor has too many.
    fn begin(
        &self,
        stream: TcpStream,
        connections: &mut JoinSet<()>,
        shutdown: &CancellationToken,
    ) {
        let (Ok(remote), Ok(local)) = (stream.peer_addr(), stream.local_addr()) else {
            // Reset between handshake and accept.
            return;
        };
        let client = Client::new(self.origin, remote.ip(), local.ip(), &self.site);
        let Some(place) = self.admission.admit(client.visitor) else {
            tracing::debug!("refusing a connection: too many from this visitor or in all");
            return;
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!("TCP_NODELAY: {error}");
        }
        let serving = connection::serve(stream, self.site.clone(), client, shutdown.clone());
        connections.spawn(async move {
            serving.await;
            drop(place);
        });
    }
}

/// An accept fails for one connection's sake or because the process is out of descriptors; then waiting helps.
async fn recover(error: &io::Error) {
    let of_one_connection = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    );
    if !of_one_connection {
        tracing::warn!("share server cannot accept connections: {error}; trying again");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
