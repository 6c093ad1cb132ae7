//! What must be settled before anything runs? Settings, rights, state, keys, the embedded server, and which network
//! this node is in.

use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};
use mesh_wire::join_link::JoinLink;
use platform::{
    hostname,
    net::routes,
    privilege::{self, Privilege},
};
use sharing::ShareStore;
use tokio::sync::watch;

use crate::{
    cli::UpOptions,
    config::{Remembered, Settings},
    discovery::connection::Ourselves,
    embedded, log,
    membership::{Membership, Origin},
    problem::{self, Problem},
    state::{Identity, JoinedNetwork, StartOptions, StateDir},
    trust::{authority::Offer, invitation::Invitation},
};

/// Everything that the start needs.
pub struct Prepared {
    /// What the user wants.
    pub settings: Settings,
    /// The state directory, ours alone.
    pub state: Arc<StateDir>,
    /// Our keys.
    pub identity: Arc<Identity>,
    /// Which network, and how we get in.
    pub membership: Membership,
    /// The embedded discovery server, bound but not served yet.
    pub embedded: Option<discovery_server::Running>,
    /// The shares.
    pub shares: ShareStore,
    /// Whether this start creates the network.
    pub creates: bool,
    /// The link to show: the network is ours, and nobody else has joined it so far.
    pub new_link: Option<JoinLink>,
    /// From where the embedded server can be reached, in plain words.
    pub notice: String,
    /// Whether the configuration or the command line names the servers.
    pub names_servers: bool,
    /// What later starts need not be told again.
    pub start_options: StartOptions,
    /// The HTTP port of the embedded server.
    embedded_port: Option<u16>,
}

/// Reads and checks everything; binds the embedded server if there is to be one.
pub async fn prepare(mut options: UpOptions) -> Result<Prepared, Problem> {
    let link = options.join.take();
    let Settled {
        settings,
        state,
        joined,
        names_servers,
        start_options,
    } = settle(&options)?;
    let identity = Arc::new(state.identity()?);
    let shares = ShareStore::open(&state.shares_database())
        .await
        .map_err(|error| problem::share_database(&state.shares_database(), &error))?
        .keeping_private(state.path());
    let wanted = choose(joined, &settings, link, state.path())?;
    let needs_embedded = match &wanted {
        Wanted::Resume(network) => network.embedded_server,
        Wanted::Join(_) => false,
        Wanted::Create => settings.servers.is_empty(),
    };
    let embedded = if needs_embedded {
        Some(embedded::start(&state.discovery()?).await?)
    } else {
        None
    };
    let creates = matches!(wanted, Wanted::Create);
    if creates {
        // Before the network exists: its range can still be changed.
        refuse_overlap(settings.network.cidr, &settings.device.name).await?;
    }
    let membership = member(wanted, &settings, (&state, &identity), embedded.as_ref())?;
    let mut public = membership.servers();
    let mut notice = String::new();
    if let (Some(server), Some(first)) = (&embedded, public.first_mut()) {
        let reach = embedded::reach(server, &settings.device.name).await?;
        (*first, notice) = (reach.url, reach.notice);
    }
    let embedded_port = embedded.as_ref().map(|server| server.http_addr.port());
    let network = membership.network();
    let new_link = if is_alone(&state, &network) {
        let invitation = Invitation::new(&network, membership.authority(), None);
        Some(invitation.link_to(public, &Offer::default())?)
    } else {
        None
    };
    Ok(Prepared {
        settings,
        state,
        identity,
        membership,
        embedded,
        shares,
        creates,
        new_link,
        notice,
        names_servers,
        start_options,
        embedded_port,
    })
}

/// The secrets have modes of their own; but who may write to the directory can put others in their place.
fn warn_of_mode(state: &StateDir) {
    if let Some(mode) = state.exposed_mode() {
        let path = state.path().display();
        tracing::warn!(
            "other users may look into the state directory (mode {mode:04o}): chmod 700 {path}"
        );
    }
}

/// What the user and the state directory say.
struct Settled {
    settings: Settings,
    state: Arc<StateDir>,
    joined: Option<JoinedNetwork>,
    /// Whether it is the user who says which servers there are.
    names_servers: bool,
    start_options: StartOptions,
}

/// Settings and the state directory, each checked against the other; from here on there is a log.
fn settle(options: &UpOptions) -> Result<Settled, Problem> {
    let mut raw = options.raw_config()?;
    let host = hostname::host_name();
    // Once before anything is touched, so that a wrong value leaves no trace.
    Settings::parse(&raw, &host)?.require_enabled(&raw)?;
    match privilege::network_administration() {
        Privilege::Held | Privilege::Unknown => {}
        Privilege::Missing => return Err(problem::not_root()),
    }
    let state = Arc::new(StateDir::open(&options.state_dir)?);
    let joined = state.network()?;
    let names_servers = raw.names_servers();
    let start_options = state.start_options()?;
    raw.remember(Remembered {
        options: start_options.clone(),
        ..joined.as_ref().map(remembered).unwrap_or_default()
    });
    let settings = Settings::parse(&raw, &host)?;
    log::init(&settings.log);
    warn_of_mode(&state);
    Ok(Settled {
        settings,
        state,
        joined,
        names_servers,
        start_options: options.overrides.start_options().or(start_options),
    })
}

fn member(
    wanted: Wanted,
    settings: &Settings,
    (state, identity): (&Arc<StateDir>, &Arc<Identity>),
    embedded: Option<&discovery_server::Running>,
) -> Result<Membership, Problem> {
    let (state, identity) = (Arc::clone(state), Arc::clone(identity));
    let origin = match wanted {
        Wanted::Resume(network) => return Membership::resume(state, identity, *network),
        Wanted::Join(link) => Origin::Join(link),
        Wanted::Create => match embedded {
            Some(server) => Origin::Create {
                servers: vec![embedded::local_url(server)?],
                embedded: true,
            },
            None => Origin::Create {
                servers: settings.servers.clone(),
                embedded: false,
            },
        },
    };
    Membership::begin(state, identity, settings, origin)
}

/// The problem of a virtual range that a route of this host leads into, unless it is the route of `interface`.
pub async fn refuse_overlap(cidr: Ipv4Net, interface: &str) -> Result<(), Problem> {
    let overlap = routes::overlapping(IpNet::V4(cidr), interface)
        .await
        .map_err(|error| problem::operation_failed("read the routes of this host", &error))?;
    match overlap {
        Some((IpNet::V4(route), through)) => Err(problem::cidr_overlap(cidr, route, &through)),
        Some((IpNet::V6(_), _)) | None => Ok(()),
    }
}

/// Whether we created the network and know of no other member. An earlier start may have failed before it could show
/// the link, so the first member decides and not the first start.
fn is_alone(state: &StateDir, network: &JoinedNetwork) -> bool {
    // Only a cache: one that cannot be read counts as empty.
    let known = state.directory(&network.id).ok().flatten();
    network.created && known.is_none_or(|known| known.peers.len() <= 1)
}

impl Prepared {
    /// What connections to discovery servers need of us; `moved` tells them when the host's addresses change.
    pub fn ourselves(&self, moved: watch::Receiver<u64>) -> Ourselves {
        Ourselves {
            membership: self.membership.clone(),
            key: self.identity.signing_key().clone(),
            heartbeat: self.settings.connection.heartbeat_interval,
            moved,
        }
    }

    /// What `meshd invite` makes its link from.
    pub fn invitation(&self) -> Invitation {
        let embedded = self
            .embedded_port
            .map(|port| (port, self.settings.device.name.clone()));
        let network = self.membership.network();
        Invitation::new(&network, self.membership.authority(), embedded)
    }
}

/// What this start is to do about a network.
enum Wanted {
    Resume(Box<JoinedNetwork>),
    Join(Box<JoinLink>),
    Create,
}

fn choose(
    joined: Option<JoinedNetwork>,
    settings: &Settings,
    link: Option<JoinLink>,
    state_dir: &std::path::Path,
) -> Result<Wanted, Problem> {
    let joined = joined.filter(|network| {
        !network.virtual_ips.is_empty() || is_still_wanted(network, settings, link.as_ref())
    });
    let Some(network) = joined else {
        return Ok(link.map_or(Wanted::Create, |link| Wanted::Join(Box::new(link))));
    };
    if let Some(link) = &link
        && !leads_to(link, &network)
    {
        let current = &network.id;
        return Err(problem::already_joined(current, &link.network, state_dir));
    }
    if network.id != settings.network.id {
        let wanted = &settings.network.id;
        return Err(problem::already_joined(&network.id, wanted, state_dir));
    }
    if !network.virtual_ips.is_empty() && network.cidr != settings.network.cidr {
        return Err(problem::cidr_fixed(
            &network.id,
            network.cidr,
            settings.network.cidr,
        ));
    }
    let network = JoinedNetwork {
        name: settings.name.clone(),
        ..network
    };
    if network.embedded_server {
        return match settings.servers.first() {
            Some(server) => Err(problem::server_embedded(&network.id, server, state_dir)),
            None => Ok(Wanted::Resume(Box::new(network))),
        };
    }
    Ok(Wanted::Resume(Box::new(resumed(network, link, settings))))
}

/// With another link of the same network, or another URL: perhaps the server has moved, or a certificate is to be made anew.
fn resumed(
    mut network: JoinedNetwork,
    link: Option<JoinLink>,
    settings: &Settings,
) -> JoinedNetwork {
    let Some(link) = link else {
        network.set_servers(settings.servers.clone());
        return network;
    };
    network.server = link.server;
    network.others = link.others;
    if let (Some(anchor), Some(admission)) = (&mut network.anchor, link.admission) {
        anchor.capability = Some(admission.capability);
    }
    network
}

/// Whether the link is one of this network.
fn leads_to(link: &JoinLink, network: &JoinedNetwork) -> bool {
    let of_link = link
        .admission
        .as_ref()
        .map(|admission| admission.network_key);
    let ours = network.anchor.as_ref().map(|anchor| anchor.network_key);
    of_link == ours && (ours.is_some() || link.psk == network.psk)
}

/// Whether a network that no server has let us into yet is what the user asks for now. If not, nothing is lost with
/// it; if it is, the keys that were made for it may be known to the server already.
fn is_still_wanted(network: &JoinedNetwork, settings: &Settings, link: Option<&JoinLink>) -> bool {
    match link {
        Some(link) => link.network == network.id && leads_to(link, network),
        None => {
            let is_ours = network.created;
            let same_choices = network.cidr == settings.network.cidr
                && network.embedded_server == settings.servers.is_empty();
            network.id == settings.network.id && (!is_ours || same_choices)
        }
    }
}

fn remembered(network: &JoinedNetwork) -> Remembered {
    Remembered {
        network: Some(network.id.to_string()),
        cidr: Some(network.cidr.to_string()),
        servers: match network.embedded_server {
            true => Vec::new(),
            false => network.servers().iter().map(url::Url::to_string).collect(),
        },
        name: Some(network.name.clone()),
        options: StartOptions::default(),
    }
}
