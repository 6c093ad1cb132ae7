//! What runs in the daemon, in which order does it start, and what ends it?
//!
//! Start: settings, state, embedded server, local API, membership, data plane, shares. The data plane's end is the
//! daemon's end. Everything that this process put into the system (interface, addresses, routes) goes with it, however
//! it ends.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ipnet::{IpNet, Ipv4Net};
use mesh_core::{NodeConfig, NodeStatus};
use mesh_wire::{NodeId, peer_info::Directory, signal::Signal};
use platform::{limits, signals, tun::TunConfig};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use zeroize::Zeroizing;

use crate::{
    cli::UpOptions,
    config::Cipher,
    dataplane::{self, Commands, DataPlane, DataPlaneConfig},
    discovery::{
        client::{DiscoveryClient, Inlets, Outlets},
        directory::Believed,
        hearsay::{Hearsay, Passed},
        servers::Servers,
        views::Views,
    },
    feed, greeting,
    lan::Surroundings,
    lobby::{self, Meeting},
    news::Switchboard,
    portmap::PortMapper,
    prepare::{Prepared, prepare, refuse_overlap},
    problem::{self, Problem},
    shares,
    trust::{correspondence::Correspondence, links::Links, unix_time},
    whereabouts::Whereabouts,
};

/// How long the parts may take to end before the process ends without them.
const STOP_TIMEOUT: Duration = Duration::from_secs(4);

/// `meshd up`: runs until SIGINT, SIGTERM, `meshd down`, or a failure that the daemon cannot outlive.
pub fn run(options: UpOptions) -> Result<(), Problem> {
    // Fails only if it was done before, which is as good.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(2)
        .build()
        .map_err(|error| problem::operation_failed("start the daemon", &error))?;
    let result = runtime.block_on(up(options));
    runtime.shutdown_timeout(STOP_TIMEOUT);
    result
}

async fn up(options: UpOptions) -> Result<(), Problem> {
    let shutdown = CancellationToken::new();
    let stopped = signals::termination()
        .map_err(|error| problem::operation_failed("listen for signals", &error))?;
    // Before there is a key in it.
    let private = limits::keep_memory_private();
    let prepared = prepare(options).await?;
    if let Err(error) = private {
        tracing::warn!(%error, "if this daemon crashes its keys may be in a core file");
    }
    if let Err(error) = limits::raise_open_files() {
        tracing::warn!(%error, "many connections at once may lock others out: the limit of open files stays low");
    }
    // Its lock says that this daemon still runs: it goes last.
    let _state = Arc::clone(&prepared.state);
    let tasks = TaskTracker::new();
    let ended = tokio::select! {
        ended = live(prepared, &tasks, &shutdown) => ended,
        () = stopped => Ok(()),
    };
    shutdown.cancel();
    tasks.close();
    if timeout(STOP_TIMEOUT, tasks.wait()).await.is_err() {
        tracing::warn!("some parts did not end in time");
    }
    ended
}

/// Everything from the local API to the end.
async fn live(
    mut prepared: Prepared,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) -> Result<(), Problem> {
    if let Some(server) = prepared.embedded.take() {
        let until = shutdown.clone();
        tasks.spawn(async move {
            if let Err(error) = server.run_until(until).await {
                tracing::error!(%error, "the embedded discovery server has ended");
            }
        });
    }
    let mut meeting = lobby::open(&prepared, tasks, shutdown).await?;
    if prepared.membership.network().virtual_ips.is_empty() {
        let established = tokio::select! {
            established = prepared.membership.establish(&meeting.statuses, meeting.servers.watch(), &prepared.settings.device.name) => established?,
            () = lobby::refuse_until_down(&mut meeting.control, (&meeting.servers, &meeting.statuses), shutdown) => return Ok(()),
        };
        let scope = prepared.membership.scope();
        let members = Believed::new(scope, established.members, unix_time())
            .directory()
            .clone();
        meeting.directory.send_replace(Arc::new(members));
        meeting.network.send_replace(Arc::new(established.network));
        meeting.own.send_replace(Some(established.own));
    }
    let plane = start_data_plane(&prepared, tasks, shutdown).await?;
    serve_shares(&prepared, &meeting, tasks, &plane, shutdown).await;
    // Now that they have worked.
    prepared.state.save_start_options(&prepared.start_options)?;
    greeting::print(&prepared, &meeting)?;
    connect(prepared, meeting, plane, tasks, shutdown).await
}

async fn start_data_plane(
    prepared: &Prepared,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) -> Result<DataPlane, Problem> {
    let network = prepared.membership.network();
    let device = &prepared.settings.device;
    refuse_overlap(network.cidr, &device.name).await?;
    let connection = prepared.settings.connection;
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)
        .map_err(|error| problem::operation_failed("get random bytes", &error))?;
    let config = DataPlaneConfig {
        node: NodeConfig {
            node_id: prepared.identity.node_id(),
            virtual_ips: network.virtual_ips.clone(),
            cidr: IpNet::V4(network.cidr),
            connect_timeout: connection.connect_timeout,
            keepalive: connection.keepalive_interval,
            mtu: usize::from(device.mtu),
            allow_gcm: connection.cipher == Cipher::Auto && platform::cpu::has_aes_gcm(),
            // Known once there is an interface.
            open_checksums: false,
            // A thread knows its own peers only, and could carry for no others.
            routing: connection.routing.filter(|_| device.threads == 1),
            hop_limits: platform::udp::HOP_LIMITS,
            birthday: connection.birthday_probing && platform::readiness::ADDITIONAL_SOCKETS,
            // A clock before 1970 is as wrong as one at 1970.
            unix_time: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
        },
        private: Zeroizing::new(*prepared.identity.wireguard_secret()),
        seed,
        tun: TunConfig {
            name: device.name.clone(),
            mtu: device.mtu,
            addresses: interface_addresses(network.cidr, &network.virtual_ips),
            offload: device.offload,
            super_packet_segments: super_packet_segments(device.mtu),
            multi_queue: device.threads > 1,
        },
        listen_port: prepared.settings.listen_port,
        threads: device.threads,
        realtime: device.realtime,
    };
    dataplane::start(config, tasks, shutdown.clone()).await
}

/// Our addresses with the network's prefix length, so that the system makes the route.
fn interface_addresses(cidr: Ipv4Net, addresses: &[std::net::IpAddr]) -> Vec<IpNet> {
    addresses
        .iter()
        .filter_map(|address| IpNet::new(*address, cidr.prefix_len()).ok())
        .collect()
}

/// As many segments as fit one train of datagrams, so that the system's super-packets need one each.
fn super_packet_segments(mtu: u16) -> Option<u16> {
    let datagram = usize::from(mtu) + mesh_core::wireguard::keypair::OVERHEAD;
    u16::try_from((mesh_core::queue::transmit::MAX_TRAIN / datagram).max(1)).ok()
}

async fn serve_shares(
    prepared: &Prepared,
    meeting: &Meeting,
    tasks: &TaskTracker,
    plane: &DataPlane,
    shutdown: &CancellationToken,
) {
    let configured = shares::Configured {
        shares: prepared.settings.shares.clone(),
        store: prepared.shares.clone(),
        directory: meeting.directory.subscribe(),
    };
    let mut problems = configured.add().await;
    tasks.spawn(configured.grant(shutdown.clone()));
    let mut listeners = Vec::new();
    for address in &prepared.membership.network().virtual_ips {
        let (found, trouble) = shares::listen(*address, &plane.interface);
        listeners.extend(found);
        problems.extend(trouble);
    }
    for problem in &problems {
        tracing::warn!(%problem, "shares");
    }
    meeting.health.begin_with(problems);
    let server = sharing::ShareServer::new(prepared.shares.clone(), meeting.directory.subscribe());
    tasks.spawn(server.serve(listeners, shutdown.clone()));
}

/// Starts what keeps us connected, and waits for the end.
async fn connect(
    mut prepared: Prepared,
    meeting: Meeting,
    plane: DataPlane,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) -> Result<(), Problem> {
    let virtual_ips = prepared.membership.network().virtual_ips;
    let (moving, moved) = watch::channel(0);
    let mapped = PortMapper::start(&prepared, &plane, moved.clone(), (tasks, shutdown));
    let link = plane.link(virtual_ips, mapped);
    let reached = link.node.clone();
    meeting.link.send_replace(Some(link));
    let DataPlane {
        commands,
        events,
        interface,
        port,
        finished,
        ..
    } = plane;
    let roster = feed_data_plane(&prepared, &meeting, &commands, tasks, shutdown).await;
    let noting = Whereabouts::of(&prepared, &meeting, (reached.clone(), commands.clone()));
    tasks.spawn(noting.run(shutdown.clone()));
    let hosts = feed::HostFeed {
        interface: interface.clone(),
        port,
        commands: commands.clone(),
        moved: moving.clone(),
    };
    tasks.spawn(hosts.run(shutdown.clone()));
    let (signals, hearsay, inlets) = Inlets::open();
    let around = Surroundings {
        interface,
        node: reached.clone(),
        moved: moved.clone(),
        hearsay: hearsay.clone(),
        commands: commands.clone(),
    };
    around.watch(&mut prepared, &meeting, tasks, shutdown)?;
    let told = (signals, hearsay, commands.clone());
    let switchboard = switchboard(&prepared, &meeting, told, (moving, shutdown));
    let cached = Directory::clone(&meeting.directory.borrow());
    let network = prepared.membership.network().id;
    let links = prepared.state.links(&network)?;
    let wanted = meeting.servers.watch();
    let servers = Servers::new(prepared.ourselves(moved), meeting.statuses.clone());
    let (outlets, control) = meeting.part(commands);
    tasks.spawn(switchboard.run(events, control));
    let parts = (roster, servers, wanted);
    let client = discovery_client(prepared, (cached, links), reached, parts, outlets);
    tasks.spawn(client.run(inlets, shutdown.clone()));
    until_the_end(finished, shutdown).await
}

/// Waits until the data plane fails or all shall end.
async fn until_the_end(
    mut finished: mpsc::Receiver<Result<(), Problem>>,
    shutdown: &CancellationToken,
) -> Result<(), Problem> {
    tokio::select! {
        ended = finished.recv() => ended.unwrap_or_else(|| {
            Err(problem::operation_failed("run the data plane", &"its threads are gone"))
        }),
        () = shutdown.cancelled() => Ok(()),
    }
}

fn discovery_client(
    prepared: Prepared,
    (cached, links): (Directory, Links),
    reached: watch::Receiver<Arc<NodeStatus>>,
    (roster, servers, wanted): (feed::Roster, Servers, watch::Receiver<Vec<url::Url>>),
    outlets: Outlets,
) -> DiscoveryClient {
    DiscoveryClient {
        servers,
        wanted,
        believed: Believed::counting(prepared.membership.scope(), cached, links, unix_time()),
        correspondence: correspondence(&prepared),
        renewed: BTreeMap::new(),
        reached,
        passed: Passed::default(),
        views: Views::new(prepared.settings.connection.heartbeat_interval),
        under_way: Vec::new(),
        membership: prepared.membership,
        roster,
        outlets,
    }
}

fn switchboard(
    prepared: &Prepared,
    meeting: &Meeting,
    (signals, hearsay, commands): (
        mpsc::Sender<(NodeId, Signal)>,
        mpsc::Sender<Hearsay>,
        Commands,
    ),
    (moved, shutdown): (watch::Sender<u64>, &CancellationToken),
) -> Switchboard {
    Switchboard {
        commands,
        signals,
        hearsay,
        directory: meeting.directory.subscribe(),
        servers: meeting.servers.clone(),
        invite: prepared.invitation(),
        moved,
        shutdown: shutdown.clone(),
    }
}

fn correspondence(prepared: &Prepared) -> Correspondence {
    let network = prepared.membership.network();
    Correspondence::new(
        network.id,
        prepared.identity.node_id(),
        prepared.identity.wireguard_secret(),
        network.psk,
    )
}

/// What is known already goes into the data plane, and what will be known finds its way there.
async fn feed_data_plane(
    prepared: &Prepared,
    meeting: &Meeting,
    commands: &Commands,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) -> feed::Roster {
    let network = prepared.membership.network();
    let roster = feed::Roster {
        node_id: prepared.identity.node_id(),
        wireguard_key: prepared.identity.wireguard_key(),
        psk: network.psk.clone(),
    };
    let known = roster.command(&meeting.directory.borrow());
    if commands.send(known).await.is_err() {
        tracing::debug!("the data plane ended before it was told of its peers");
    }
    tasks.spawn(feed::cache(
        Arc::clone(&prepared.state),
        network.id.clone(),
        meeting.directory.subscribe(),
        shutdown.clone(),
    ));
    let stun = feed::StunFeed {
        configured: prepared.settings.stun_servers.clone(),
        embedded: network.embedded(),
        described: meeting.described.subscribe(),
        commands: commands.clone(),
    };
    tasks.spawn(stun.run(shutdown.clone()));
    if let Some(turn) = feed::TurnFeed::of(prepared, meeting, commands) {
        tasks.spawn(turn.run(shutdown.clone()));
    }
    roster
}
