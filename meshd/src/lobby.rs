//! What runs before this node is a member? The local API and the status, so that whoever waits can see what for; and
//! the channels on which the parts of the daemon meet.

use std::sync::Arc;

use mesh_wire::{
    discovery::Network,
    peer_info::{Directory, PeerInfo},
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    api::{self, ApiContext, ApiListeners},
    control::{CONTROL_QUEUE, Control, PingFailure},
    dataplane::Commands,
    discovery::{
        client::Outlets,
        directory::Believed,
        servers::{Described, Relays},
    },
    health::Health,
    prepare::Prepared,
    problem::{self, Problem},
    publish::{Link, OwnIdentity, Sources},
    server_list::LiveList,
    status::{self, ServerStatus, Trust},
    trust::unix_time,
};

/// Where the parts of the daemon meet.
pub struct Meeting {
    /// The members.
    pub directory: watch::Sender<Arc<Directory>>,
    /// The network.
    pub network: watch::Sender<Arc<Network>>,
    /// How the network's servers describe it.
    pub described: watch::Sender<Described>,
    /// What lets us use their TURN.
    pub relays: watch::Sender<Relays>,
    /// How the discovery servers are doing.
    pub statuses: watch::Sender<Vec<ServerStatus>>,
    /// Which servers there shall be.
    pub servers: LiveList,
    /// Ourselves, as the server registered us.
    pub own: watch::Sender<Option<PeerInfo>>,
    /// The interface, once it stands.
    pub link: watch::Sender<Option<Link>>,
    /// What is wrong beside that.
    pub health: Health,
    /// Requests of the local API.
    pub control: mpsc::Receiver<Control>,
}

impl Meeting {
    /// Hands the channels on: to the discovery client, and to whoever answers the local API.
    pub fn part(self, commands: Commands) -> (Outlets, mpsc::Receiver<Control>) {
        let outlets = Outlets {
            directory: self.directory,
            network: self.network,
            described: self.described,
            relays: self.relays,
            own: self.own,
            health: self.health,
            commands,
        };
        (outlets, self.control)
    }
}

/// Binds the local API and starts to publish the status, before anything that may take long.
pub async fn open(
    prepared: &Prepared,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) -> Result<Meeting, Problem> {
    let state = &prepared.state;
    let listeners = ApiListeners::bind(&state.socket(), prepared.settings.api_listen).await?;
    let cached = match state.directory(&prepared.membership.network().id) {
        Ok(cached) => cached.unwrap_or_default(),
        Err(problem) => {
            // Only a cache: the discovery server tells it all again.
            tracing::warn!(%problem, "the list of members of the last run cannot be used");
            Directory::default()
        }
    };
    let scope = prepared.membership.scope();
    let cached = Believed::new(scope, cached, unix_time())
        .directory()
        .clone();
    let own = own_record(prepared, &cached);
    let (control_sender, control) = mpsc::channel(CONTROL_QUEUE);
    let servers = LiveList::new(prepared.membership.clone(), prepared.names_servers);
    let statuses = servers
        .servers()
        .iter()
        .map(ServerStatus::unasked)
        .collect();
    let meeting = Meeting {
        directory: watch::Sender::new(Arc::new(cached)),
        network: watch::Sender::new(Arc::new(prepared.membership.provisional())),
        described: watch::Sender::default(),
        relays: watch::Sender::default(),
        statuses: watch::Sender::new(statuses),
        servers,
        own: watch::Sender::new(own),
        link: watch::Sender::new(None),
        health: Health::default(),
        control,
    };
    let sources = sources(prepared, &meeting);
    let status = watch::Sender::new(Arc::new(sources.status()));
    let context = ApiContext {
        status: status.subscribe(),
        directory: meeting.directory.subscribe(),
        network: meeting.network.subscribe(),
        shares: prepared.shares.clone(),
        control: control_sender,
        token: state.api_token()?,
    };
    tasks.spawn(sources.run(status, shutdown.clone()));
    let until = shutdown.clone();
    tasks.spawn(async move {
        if let Err(error) = api::serve(context, listeners, until).await {
            tracing::error!(%error, "the local API has ended");
        }
    });
    Ok(meeting)
}

/// What we were called, if it was under the same wish: with another one we may be called something else this time.
fn own_record(prepared: &Prepared, cached: &Directory) -> Option<PeerInfo> {
    let own = cached.by_node(&prepared.identity.node_id());
    let own = own.filter(|own| own.record.hostname == prepared.settings.name);
    own.cloned()
}

fn sources(prepared: &Prepared, meeting: &Meeting) -> Sources {
    Sources {
        identity: OwnIdentity {
            node_id: prepared.identity.node_id(),
            hostname: prepared.settings.name.clone(),
            started: Instant::now(),
            embedded: prepared.membership.network().embedded(),
            trust: match prepared.membership.network().anchor {
                Some(_) => Trust::Certificates,
                None => Trust::Psk,
            },
        },
        link: meeting.link.subscribe(),
        own: meeting.own.subscribe(),
        directory: meeting.directory.subscribe(),
        network: meeting.network.subscribe(),
        servers: meeting.statuses.subscribe(),
        health: meeting.health.watch(),
    }
}

/// Until we are a member there is nothing to ask for but to stop, or to try other servers.
pub async fn refuse_until_down(
    control: &mut mpsc::Receiver<Control>,
    (list, statuses): (&LiveList, &watch::Sender<Vec<ServerStatus>>),
    shutdown: &CancellationToken,
) {
    while let Some(request) = control.recv().await {
        // Callers that hung up need no answer.
        match request {
            Control::Down { reply } => {
                let _unheard = reply.send(());
                return shutdown.cancel();
            }
            Control::Ping { reply, .. } => {
                let _unheard = reply.send(Err(PingFailure::NoSuchPeer));
            }
            Control::Revoke { reply, .. } => {
                let _unheard = reply.send(Err(problem::not_joined()));
            }
            Control::Invite { reply, .. } => {
                let _unheard = reply.send(Err(problem::not_joined()));
            }
            Control::Servers { servers, reply } => {
                let changed = list.change(servers);
                status::relist(statuses, &list.servers());
                let _unheard = reply.send(changed);
            }
        }
    }
}
