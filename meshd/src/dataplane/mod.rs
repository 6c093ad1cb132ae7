//! The one thread that moves packets. It owns the `Node`, the TUN and the UDP sockets; no lock and no channel stands
//! between reading, sealing and sending.
//!
//! One turn: due timers -> commands -> UDP batches -> TUN reads -> send datagrams -> write packets -> events.
//! Each source has a budget per turn, so that none starves the others.

mod tun_io;
mod udp_io;

use std::{
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use mesh_core::{Command, Event, Node, NodeConfig, NodeStatus, PacketQueue, TransmitQueue};
use platform::tun::{Tun, TunConfig, TunError};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use self::{tun_io::TunIo, udp_io::UdpIo};
use crate::{
    problem::{self, Problem},
    publish::Link,
};

/// Commands carried out per turn; a directory of thousands is one command.
const COMMANDS_PER_TURN: usize = 64;
/// Room for commands and events on their way between the threads.
const CHANNEL: usize = 1024;
/// How often at most a status is published.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

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
    pub commands: mpsc::Sender<Command>,
    /// News come out here.
    pub events: mpsc::Receiver<Event>,
    /// The latest snapshot.
    pub status: watch::Receiver<Arc<NodeStatus>>,
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

/// Starts the thread and waits until interface and sockets stand, or says why they do not.
pub async fn start(
    config: DataPlaneConfig,
    shutdown: CancellationToken,
) -> Result<DataPlane, Problem> {
    let (commands, command_receiver) = mpsc::channel(CHANNEL);
    let (event_sender, events) = mpsc::channel(CHANNEL);
    let (started, start) = oneshot::channel();
    let (finish, finished) = oneshot::channel();
    let crossing = Crossing {
        commands: command_receiver,
        events: event_sender,
    };
    std::thread::Builder::new()
        .name("dataplane".to_owned())
        .spawn(move || {
            // Nobody waits for the end any more when the daemon is already on its way out.
            let _unheard = finish.send(run(config, crossing, started, &shutdown));
        })
        .map_err(|error| problem::operation_failed("start the data-plane thread", &error))?;
    match start.await {
        Ok(standing) => Ok(DataPlane {
            commands,
            events,
            status: standing.status,
            interface: standing.interface,
            port: standing.port,
            finished,
        }),
        Err(_) => match finished.await {
            Ok(Err(problem)) => Err(problem),
            Ok(Ok(())) | Err(_) => Err(problem::operation_failed(
                "start the data plane",
                &"it ended at once",
            )),
        },
    }
}

struct Crossing {
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Event>,
}

struct Standing {
    status: watch::Receiver<Arc<NodeStatus>>,
    interface: String,
    port: u16,
}

fn run(
    config: DataPlaneConfig,
    crossing: Crossing,
    started: oneshot::Sender<Standing>,
    shutdown: &CancellationToken,
) -> Result<(), Problem> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // The loop below is ready again at once under load; the sockets must be looked at all the same.
        .event_interval(1)
        .build()
        .map_err(|error| problem::operation_failed("start the data plane", &error))?;
    runtime.block_on(async {
        let mut turn = Turn::prepare(config, crossing, started).await?;
        tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            ended = turn.run() => ended,
        }
    })
}

/// Everything that a turn touches.
struct Turn {
    node: Node,
    tun: TunIo,
    udp: UdpIo,
    transmit: TransmitQueue,
    packets: PacketQueue,
    crossing: Crossing,
    status: watch::Sender<Arc<NodeStatus>>,
    next_status: Instant,
    /// Whether anything happened since the last status.
    dirty: bool,
}

impl Turn {
    async fn prepare(
        config: DataPlaneConfig,
        crossing: Crossing,
        started: oneshot::Sender<Standing>,
    ) -> Result<Self, Problem> {
        let udp = UdpIo::bind(config.listen_port)?;
        let tun = Tun::create(&config.tun)
            .await
            .map_err(|error| tun_problem(&config.tun.name, error))?;
        let now = Instant::now();
        let node = Node::new(config.node, *config.private, config.seed, now);
        let (status, status_receiver) = watch::channel(Arc::new(node.status(now)));
        let standing = Standing {
            status: status_receiver,
            interface: tun.name().to_owned(),
            port: udp.port(),
        };
        // The daemon may have given up meanwhile; then the first turn ends.
        let _gone = started.send(standing);
        Ok(Self {
            node,
            tun: TunIo::new(tun),
            udp,
            transmit: TransmitQueue::new(),
            packets: PacketQueue::new(),
            crossing,
            status,
            next_status: now,
            dirty: true,
        })
    }

    async fn run(&mut self) -> Result<(), Problem> {
        let mut sleep = Box::pin(sleep_until(Instant::now().into()));
        loop {
            self.wait(&mut sleep).await?;
            let now = Instant::now();
            self.node.handle_timeout(now, &mut self.transmit);
            self.take_commands(now)?;
            let queues = (&mut self.transmit, &mut self.packets);
            self.udp
                .receive(&mut self.node, now, queues, &mut self.tun)?;
            self.tun.read(&mut self.node, now, &mut self.transmit)?;
            self.udp.send(&mut self.transmit).await;
            self.tell(now);
            tokio::task::yield_now().await;
        }
    }

    /// Sleeps until a source has something or a timer is due.
    async fn wait(&mut self, sleep: &mut Pin<Box<Sleep>>) -> Result<(), Problem> {
        let wake = self.wake_at();
        if let Some(at) = wake
            && sleep.deadline() != at.into()
        {
            sleep.as_mut().reset(at.into());
        }
        let timed = wake.is_some();
        tokio::select! {
            biased;
            () = sleep.as_mut(), if timed => Ok(()),
            command = self.crossing.commands.recv() => match command {
                Some(command) => {
                    self.node.handle_command(command, Instant::now(), &mut self.transmit);
                    self.dirty = true;
                    Ok(())
                }
                None => Err(daemon_gone()),
            },
            () = self.udp.readable() => { self.dirty = true; Ok(()) }
            () = self.tun.readable() => { self.dirty = true; Ok(()) }
        }
    }

    fn wake_at(&self) -> Option<Instant> {
        let node = self.node.poll_timeout().map(|(at, _reason)| at);
        let status = self.dirty.then_some(self.next_status);
        [node, status].into_iter().flatten().min()
    }

    fn take_commands(&mut self, now: Instant) -> Result<(), Problem> {
        for _ in 0..COMMANDS_PER_TURN {
            match self.crossing.commands.try_recv() {
                Ok(command) => self.node.handle_command(command, now, &mut self.transmit),
                Err(mpsc::error::TryRecvError::Empty) => return Ok(()),
                Err(mpsc::error::TryRecvError::Disconnected) => return Err(daemon_gone()),
            }
        }
        Ok(())
    }

    /// Passes on events and, once a second, the status.
    fn tell(&mut self, now: Instant) {
        while let Some(event) = self.node.poll_event() {
            if self.crossing.events.try_send(event).is_err() {
                // The daemon does not keep up, or is ending. Signals are repeated by the node itself.
                tracing::debug!("an event of the data plane was dropped");
            }
        }
        if self.dirty && self.next_status <= now {
            self.dirty = false;
            self.next_status = now + STATUS_INTERVAL;
            self.status.send_replace(Arc::new(self.node.status(now)));
        }
    }
}

fn daemon_gone() -> Problem {
    problem::operation_failed("run the data plane", &"the rest of the daemon has ended")
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

/// Where the mesh socket is bound: all addresses of one IP version.
fn any(port: u16, v6: bool) -> SocketAddr {
    if v6 {
        SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, port))
    } else {
        SocketAddr::from((std::net::Ipv4Addr::UNSPECIFIED, port))
    }
}
