//! The loop of the thread that moves packets.
//!
//! One turn: wait -> commands, and packets that other threads read for us -> due timers -> datagrams in, packets written
//! -> packets read, trains sent as they fill -> the rest sent -> news told -> after bulk, a rest. Each source has a budget
//! per turn, so that none starves the others.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use mesh_core::{
    Command, DropReason, Event, Node, NodeStatus, PacketQueue, SocketRequest, TransmitQueue,
};
use platform::{
    clock,
    priority::run_before_others,
    readiness::{Ready, Watch},
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{
    moderation::{Look, Moderation},
    shards::Strays,
    streams::{News, Streams, each_message},
    tun_io::TunIo,
    udp_io::UdpIo,
};
use crate::problem::{self, Problem};

/// Commands carried out per turn; a directory of thousands is one command.
const COMMANDS_PER_TURN: usize = 64;
/// Pieces of TURN servers' streams taken per turn; each is at most 128 KiB.
const PIECES_PER_TURN: usize = 8;
/// How often at most a status is published.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// Everything that a turn touches.
pub(super) struct Turn {
    pub(super) node: Node,
    pub(super) tun: TunIo,
    pub(super) udp: UdpIo,
    pub(super) streams: Streams,
    pub(super) watch: Watch,
    pub(super) transmit: TransmitQueue,
    pub(super) packets: PacketQueue,
    /// Where there are other threads.
    pub(super) strays: Option<Strays>,
    pub(super) crossing: Crossing,
    pub(super) publisher: Publisher,
    pub(super) conduct: Conduct,
}

/// Where the thread meets the rest of the daemon.
pub(super) struct Crossing {
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) shutdown: CancellationToken,
}

impl Turn {
    /// Runs until the daemon ends, or until the interface is lost.
    pub(super) fn run(&mut self) -> Result<(), Problem> {
        loop {
            let ready = self.wait()?;
            let now = clock::now();
            let moved = self.node.moved();
            if ready.bell {
                if self.crossing.shutdown.is_cancelled() {
                    self.node.close(now, &mut self.transmit);
                    self.send(now);
                    return Ok(());
                }
                self.take_commands(now)?;
                self.take_strays(now);
                self.take_streams(now)?;
            }
            self.node.handle_timeout(now, &mut self.transmit);
            let mut look = self.receive(ready, now)?;
            if ready.tun {
                look += self.read(now)?;
            }
            self.tell_hosts()?;
            self.send(now);
            self.tell(now);
            look.packets = self.node.moved() - moved;
            self.conduct.after(look, now);
        }
    }

    /// Sleeps until a source has something or a timer is due.
    fn wait(&mut self) -> Result<Ready, Problem> {
        let (node, _reason) = self.node.poll_timeout();
        let due = self.publisher.due().map_or(node, |at| at.min(node));
        let timeout = Some(due.saturating_duration_since(clock::now()));
        let ready = self
            .watch
            .wait(self.tun.device(), self.udp.sockets(), timeout)
            .map_err(|error| problem::operation_failed("wait for packets", &error))?;
        self.publisher.dirty |= ready != Ready::default();
        Ok(ready)
    }

    fn take_commands(&mut self, now: Instant) -> Result<(), Problem> {
        for _ in 0..COMMANDS_PER_TURN {
            match self.crossing.commands.try_recv() {
                Ok(command) => self.node.handle_command(command, now, &mut self.transmit),
                Err(mpsc::error::TryRecvError::Empty) => return Ok(()),
                Err(mpsc::error::TryRecvError::Disconnected) => return Err(daemon_gone()),
            }
        }
        self.watch.bell().ring();
        Ok(())
    }

    fn take_strays(&mut self, now: Instant) {
        let Some(strays) = &mut self.strays else {
            return;
        };
        strays.refresh();
        while let Some(mut frame) = strays.next() {
            self.node.handle_tun(&mut frame, now, &mut self.transmit);
        }
    }

    /// What came from TURN servers over connections.
    fn take_streams(&mut self, now: Instant) -> Result<(), Problem> {
        let Self {
            node,
            tun,
            streams,
            transmit,
            packets,
            ..
        } = self;
        for _ in 0..PIECES_PER_TURN {
            match streams.next() {
                None => return Ok(()),
                Some(News::Ended(stream, trouble)) => {
                    node.handle_stream_end(stream, trouble, now, transmit);
                }
                Some(News::Arrived(arrival, mut piece)) => {
                    let mut written = Ok(());
                    each_message(&mut piece, |message| {
                        let stride = message.len();
                        node.handle_train(arrival, (&mut *message, stride), now, transmit, packets);
                        if written.is_ok() {
                            written = tun.put(packets.iter(message));
                        }
                        packets.clear();
                    });
                    written?;
                    tun.flush()?;
                }
            }
        }
        self.watch.bell().ring();
        Ok(())
    }

    /// Sends what is to be sent, and opens and closes sockets and connections for that.
    fn send(&mut self, now: Instant) {
        while let Some(request) = self.node.poll_socket() {
            let additional = &mut self.udp.additional;
            match request {
                SocketRequest::Begin(count) => {
                    let ports = additional.begin(count);
                    self.node.handle_sockets(ports, now, &mut self.transmit);
                }
                SocketRequest::End(keep) => additional.end(keep),
                SocketRequest::Close(port) => additional.close(port),
            }
        }
        while let Some(request) = self.node.poll_stream() {
            self.streams.carry_out(request);
        }
        let ways = (&self.watch, &mut self.streams);
        self.udp.send_all(&mut self.transmit, ways);
        self.streams.end_closed();
    }

    fn receive(&mut self, ready: Ready, now: Instant) -> Result<Look, Problem> {
        let Self {
            node,
            tun,
            udp,
            transmit,
            packets,
            watch,
            ..
        } = self;
        let mut look = Look::default();
        let own = (0..ready.sockets.len()).filter(|socket| ready.sockets[*socket]);
        let own = own.map(|socket| (socket, ready.errors[socket]));
        let additional = watch.additional().iter();
        let additional =
            additional.map(|found| (UdpIo::place_of_additional(found.socket), found.error));
        for (socket, error) in own.chain(additional) {
            if error {
                udp.take_errors(socket, |news| node.handle_too_long(news, now));
            }
            let mut written = Ok(());
            let more = udp.receive(socket, |arrival, (train, stride)| {
                node.handle_train(arrival, (&mut *train, stride), now, transmit, packets);
                if written.is_ok() {
                    written = tun.put(packets.iter(train));
                }
                look.arrivals += 1;
                packets.clear();
            });
            look.more |= more;
            written?;
            tun.flush()?;
        }
        Ok(look)
    }

    fn read(&mut self, now: Instant) -> Result<Look, Problem> {
        let Self {
            node,
            tun,
            udp,
            streams,
            watch,
            transmit,
            strays,
            ..
        } = self;
        tun.read(|frame| {
            if strays
                .as_mut()
                .is_some_and(|strays| strays.hand_over(frame))
            {
                return;
            }
            node.handle_tun(frame, now, transmit);
            udp.send_closed(transmit, (watch, streams));
        })
    }

    /// Writes what senders on our side are to be told.
    fn tell_hosts(&mut self) -> Result<(), Problem> {
        while let Some(message) = self.node.poll_message() {
            self.tun.put([&message[..]].into_iter())?;
            self.tun.flush()?;
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
        let lost = self.strays.as_ref().map_or(0, Strays::lost);
        let lost = lost + self.streams.lost();
        self.publisher.publish((&self.node, lost), now);
    }
}

/// How the thread behaves among the others of the machine.
pub(super) struct Conduct {
    moderation: Moderation,
    /// Whether it runs before others at the moment.
    first: bool,
    /// Whether it may.
    allowed: bool,
}

impl Conduct {
    pub(super) fn new(allowed: bool, now: Instant) -> Self {
        Self {
            moderation: Moderation::new(now),
            first: false,
            allowed: allowed && platform::priority::AVAILABLE,
        }
    }

    /// Takes the pace that fits what a turn found. A thread that waits its turn among processes needs no rest besides.
    fn after(&mut self, look: Look, now: Instant) {
        let pace = self.moderation.pace(look, now);
        if self.allowed && pace.busy != self.first {
            self.go(pace.busy);
        }
        if let Some(rest) = pace.rest.filter(|_| self.first) {
            std::thread::sleep(rest);
        }
    }

    fn go(&mut self, first: bool) {
        match run_before_others(first) {
            Ok(()) => self.first = first,
            Err(error) if first => {
                tracing::info!(%error, "packets wait their turn among processes: to go first, their thread needs CAP_SYS_NICE and no policy from outside");
                self.allowed = false;
            }
            // Asked again after the next turn.
            Err(error) => tracing::debug!(%error, "packets go before processes still"),
        }
    }
}

/// Publishes the node's status.
pub(super) struct Publisher {
    status: watch::Sender<Arc<NodeStatus>>,
    next: Instant,
    /// Whether anything happened since the last one.
    dirty: bool,
}

impl Publisher {
    pub(super) fn new(status: watch::Sender<Arc<NodeStatus>>, now: Instant) -> Self {
        Self {
            status,
            next: now,
            dirty: true,
        }
    }

    fn due(&self) -> Option<Instant> {
        self.dirty.then_some(self.next)
    }

    /// `lost` packets waited for another thread, or for a connection, when there were too many already.
    fn publish(&mut self, (node, lost): (&Node, u64), now: Instant) {
        if self.dirty && self.next <= now {
            self.dirty = false;
            self.next = now + STATUS_INTERVAL;
            let mut status = node.status(now);
            status.counters.count(DropReason::Unreachable, lost);
            self.status.send_replace(Arc::new(status));
        }
    }
}

fn daemon_gone() -> Problem {
    problem::operation_failed("run the data plane", &"the rest of the daemon has ended")
}
