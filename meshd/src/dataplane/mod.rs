//! The thread that moves packets. It owns the `Node`, the TUN and the UDP sockets; no lock and no channel stands
//! between reading, sealing and sending.

mod commands;
mod tun_io;
mod turn;
mod udp_io;

use std::{net::IpAddr, sync::Arc, time::Instant};

use mesh_core::{Event, Node, NodeConfig, NodeStatus, PacketQueue, TransmitQueue};
use platform::{
    readiness::Watch,
    tun::{Tun, TunConfig, TunError},
};
use tokio::sync::{mpsc, oneshot, watch as watched};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

pub use self::commands::{Commands, Ended};
use self::{
    tun_io::TunIo,
    turn::{Crossing, Publisher, Turn},
    udp_io::UdpIo,
};
use crate::{
    problem::{self, Problem},
    publish::Link,
};

/// Room for events on their way out of the thread.
const EVENTS: usize = 1024;

/// What the thread needs to begin.
pub struct DataPlaneConfig {
    /// Who we are.
    pub node: NodeConfig,
    /// Our Curve25519 private key.
    pub private: Zeroizing<[u8; 32]>,
    /// Feeds the node's random choices.
    pub seed: [u8; 32],
    /// The interface to make.
    pub tun: TunConfig,
    /// UDP port, 0 for any.
    pub listen_port: u16,
}

/// The running thread, as the rest of the daemon sees it.
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
    /// The UDP port that was bound.
    pub port: u16,
    /// Ends when the thread ends, with the reason if it was not asked to.
    pub finished: oneshot::Receiver<Result<(), Problem>>,
}

impl DataPlane {
    /// What the status shows of it.
    pub fn link(&self, virtual_ips: Vec<IpAddr>) -> Link {
        Link {
            interface: self.interface.clone(),
            port: self.port,
            virtual_ips,
            node: self.status.clone(),
        }
    }
}

/// Makes interface and sockets, or says why they cannot be, and starts the thread.
pub async fn start(
    config: DataPlaneConfig,
    shutdown: CancellationToken,
) -> Result<DataPlane, Problem> {
    let failed = |error| problem::operation_failed("start the data plane", &error);
    let udp = UdpIo::bind(config.listen_port)?;
    let tun = Tun::create(&config.tun)
        .await
        .map_err(|error| tun_problem(&config.tun.name, error))?;
    let (watch, bell) = Watch::new().map_err(failed)?;
    let (commands, told) = Commands::channel(bell.clone());
    let (event_sender, events) = mpsc::channel(EVENTS);
    let (finish, finished) = oneshot::channel();
    let now = Instant::now();
    let node = Node::new(config.node, *config.private, config.seed, now);
    let (publish, status) = watched::channel(Arc::new(node.status(now)));
    let (interface, port) = (tun.name().to_owned(), udp.port());
    let mut turn = Turn {
        node,
        tun: TunIo::new(tun),
        udp,
        watch,
        transmit: TransmitQueue::new(),
        packets: PacketQueue::new(),
        crossing: Crossing {
            commands: told,
            events: event_sender,
            shutdown: shutdown.clone(),
        },
        publisher: Publisher::new(publish, now),
    };
    tokio::spawn(async move {
        shutdown.cancelled().await;
        bell.ring();
    });
    std::thread::Builder::new()
        .name("dataplane".to_owned())
        .spawn(move || {
            // Nobody waits for the end any more when the daemon is already on its way out.
            let _unheard = finish.send(turn.run());
        })
        .map_err(failed)?;
    Ok(DataPlane {
        commands,
        events,
        status,
        interface,
        port,
        finished,
    })
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
