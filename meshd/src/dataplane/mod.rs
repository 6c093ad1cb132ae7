//! The threads that move packets: one, unless the configuration asks for more. Each owns a `Node`, a queue of the TUN
//! and UDP sockets; no lock and no channel stands between reading, sealing and sending.

mod additional;
mod commands;
mod moderation;
mod shards;
mod streams;
mod tun_io;
mod turn;
mod udp_io;

use std::{
    io,
    net::IpAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

use mesh_core::{Event, Node, NodeConfig, NodeStatus, PacketQueue, TransmitQueue};
use platform::{
    clock,
    readiness::{Bell, Watch},
    tun::{Tun, TunConfig, TunError},
};
use tokio::sync::{mpsc, watch as watched};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};
use zeroize::Zeroizing;

pub use self::commands::{Commands, Ended};
use self::{
    additional::Leave,
    commands::Inbox,
    shards::Strays,
    streams::Streams,
    tun_io::TunIo,
    turn::{Conduct, Crossing, Publisher, Turn},
    udp_io::UdpIo,
};
use crate::{
    problem::{self, Problem},
    publish::Link,
    status::PortMappingStatus,
};

/// Room for events on their way out of the threads.
const EVENTS: usize = 1024;

/// What the threads need to begin.
pub struct DataPlaneConfig {
    /// Who we are.
    pub node: NodeConfig,
    /// Our Curve25519 private key.
    pub private: Zeroizing<[u8; 32]>,
    /// Feeds the node's random choices.
    pub seed: [u8; 32],
    /// The interface to make.
    pub tun: TunConfig,
    /// UDP port of the first thread, 0 for any.
    pub listen_port: u16,
    /// How many threads move packets, each with its own peers.
    pub threads: usize,
    /// Whether they run before ordinary processes while they are busy.
    pub realtime: bool,
}

/// The running threads, as the rest of the daemon sees them.
#[derive(Debug)]
pub struct DataPlane {
    /// Intent goes in here.
    pub commands: Commands,
    /// News come out here.
    pub events: mpsc::Receiver<Event>,
    /// The latest snapshot.
    pub status: watched::Receiver<Arc<NodeStatus>>,
    /// The interface's name as the system knows it.
    pub interface: String,
    /// The UDP port that the first thread has.
    pub port: u16,
    /// How a thread ended.
    pub finished: mpsc::Receiver<Result<(), Problem>>,
}

impl DataPlane {
    /// What the status shows of it.
    pub fn link(
        &self,
        virtual_ips: Vec<IpAddr>,
        port_mapping: watched::Receiver<PortMappingStatus>,
    ) -> Link {
        Link {
            interface: self.interface.clone(),
            port: self.port,
            virtual_ips,
            node: self.status.clone(),
            port_mapping,
        }
    }
}

/// Makes interface and sockets, or says why they cannot be, and starts the threads, which count among the tasks: interface
/// and ports are free again when these have ended.
pub async fn start(
    mut config: DataPlaneConfig,
    tasks: &TaskTracker,
    shutdown: CancellationToken,
) -> Result<DataPlane, Problem> {
    let sockets = bind(config.listen_port, config.threads)?;
    let queues = queues(&config).await?;
    config.node.open_checksums = queues[0].completes_checksums();
    let watches: io::Result<Vec<_>> = (0..config.threads).map(|_| Watch::new()).collect();
    let watches = watches.map_err(failed)?;
    let bells: Vec<Bell> = watches.iter().map(|(_, bell)| bell.clone()).collect();
    let owners = watched::Sender::default();
    let strays = Strays::between(&bells, &owners);
    let (events, event_receiver) = mpsc::channel(EVENTS);
    let (finish, finished) = mpsc::channel(config.threads);
    let (interface, port) = (queues[0].name().to_owned(), sockets[0].port());
    let (mut inboxes, mut statuses) = (Vec::new(), Vec::new());
    let io = queues.into_iter().zip(sockets).zip(watches).zip(strays);
    for (number, (((tun, udp), (watch, bell)), strays)) in io.enumerate() {
        let streams = Streams::new((bell.clone(), udp.port()), tasks, &shutdown);
        let (inbox, commands) = Inbox::new(bell, udp.port());
        let now = clock::now();
        let node = config.node(number, now);
        let (publish, status) = watched::channel(Arc::new(node.status(now)));
        inboxes.push(inbox);
        statuses.push(status);
        let turn = Turn {
            node,
            tun: TunIo::new(tun),
            udp,
            streams,
            watch,
            transmit: TransmitQueue::new(),
            packets: PacketQueue::new(),
            strays: (config.threads > 1).then_some(strays),
            crossing: Crossing {
                commands,
                events: events.clone(),
                shutdown: shutdown.clone(),
            },
            publisher: Publisher::new(publish, now),
            conduct: Conduct::new(config.realtime, now),
        };
        launch(number, turn, (finish.clone(), tasks.token()))?;
    }
    tokio::spawn(async move {
        shutdown.cancelled().await;
        bells.iter().for_each(Bell::ring);
    });
    Ok(DataPlane {
        commands: Commands::new(inboxes, owners),
        events: event_receiver,
        status: one_status(statuses),
        interface,
        port,
        finished,
    })
}

impl DataPlaneConfig {
    /// The node of one thread. All are the same member, but no two draw the same random numbers.
    fn node(&self, number: usize, now: Instant) -> Node {
        let seed = blake3::keyed_hash(&self.seed, &number.to_le_bytes());
        Node::new(self.node.clone(), *self.private, *seed.as_bytes(), now)
    }
}

/// The sockets of each thread: the first on `port`, the others on those that follow it, or on any that are free.
fn bind(port: u16, threads: usize) -> Result<Vec<UdpIo>, Problem> {
    let leave = Leave::default();
    let mut sockets = vec![UdpIo::bind(port, &leave)?];
    for number in 1..threads {
        let next = u16::try_from(number).ok();
        let next = next
            .filter(|_| port != 0)
            .and_then(|next| port.checked_add(next));
        let bound = UdpIo::bind(next.unwrap_or(0), &leave).or_else(|problem| {
            tracing::info!(%problem, "a data thread takes any free port");
            UdpIo::bind(0, &leave)
        });
        sockets.push(bound?);
    }
    Ok(sockets)
}

/// The interface, with a queue for each thread.
async fn queues(config: &DataPlaneConfig) -> Result<Vec<Tun>, Problem> {
    let tun = Tun::create(&config.tun)
        .await
        .map_err(|error| tun_problem(&config.tun.name, error))?;
    let mut queues = vec![tun];
    for _ in 1..config.threads {
        queues.push(queues[0].another_queue().map_err(failed)?);
    }
    Ok(queues)
}

fn launch(
    number: usize,
    mut turn: Turn,
    (finish, task): (mpsc::Sender<Result<(), Problem>>, TaskTrackerToken),
) -> Result<(), Problem> {
    let name = match number {
        0 => "dataplane".to_owned(),
        number => format!("dataplane-{number}"),
    };
    let body = move || {
        // The others would go on, and half of the peers be gone without a word.
        let ended = catch_unwind(AssertUnwindSafe(|| turn.run()));
        let ended = ended.unwrap_or_else(|_| Err(panicked()));
        // Nobody waits for the end any more when the daemon is already on its way out.
        let _unheard = finish.try_send(ended);
        drop(turn);
        drop(task);
    };
    let launched = std::thread::Builder::new().name(name).spawn(body);
    launched.map(drop).map_err(failed)
}

fn one_status(
    mut statuses: Vec<watched::Receiver<Arc<NodeStatus>>>,
) -> watched::Receiver<Arc<NodeStatus>> {
    if statuses.len() == 1 {
        return statuses.remove(0);
    }
    let first = Arc::clone(&statuses[0].borrow());
    let (whole, merged) = watched::channel(first);
    tokio::spawn(shards::merge(statuses, whole));
    merged
}

fn panicked() -> Problem {
    problem::operation_failed("run the data plane", &"it panicked; please report this")
}

fn failed(error: io::Error) -> Problem {
    problem::operation_failed("start the data plane", &error)
}

fn tun_problem(name: &str, error: TunError) -> Problem {
    match error {
        TunError::NoDevice { .. } => problem::no_tun_device(&error),
        TunError::NameTaken { .. } => problem::interface_name_taken(name),
        TunError::PermissionDenied { .. } => problem::not_root(),
        other @ (TunError::InvalidName { .. }
        | TunError::AddressRefused { .. }
        | TunError::MtuRefused { .. }
        | TunError::System { .. }
        | TunError::Unsupported { .. }) => {
            problem::operation_failed(format!("create the interface {name}"), &other)
        }
    }
}
