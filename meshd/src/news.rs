//! What happens with the data plane's news? Signals go to the discovery client, pongs to whoever asked, the rest into
//! the log. Requests of the local API are answered here too.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use mesh_core::{Command, Event};
use mesh_wire::{NodeId, peer_info::Directory, signal::Signal};
use platform::clock;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    control::{Control, PING_TIMEOUT, PingFailure, Pong},
    dataplane::Commands,
    discovery::hearsay::Hearsay,
    problem::{Problem, operation_failed},
    server_list::LiveList,
    status::PathKind,
    trust::invitation::Invitation,
};

/// How a message came.
fn path_of(endpoint: Option<SocketAddr>, relayed: bool) -> PathKind {
    match (endpoint, relayed) {
        (None, _) => PathKind::Relay,
        (Some(_), true) => PathKind::Turn,
        (Some(_), false) => PathKind::Direct,
    }
}

type PingReply = oneshot::Sender<Result<Pong, PingFailure>>;

/// The daemon's switchboard.
pub struct Switchboard {
    /// To the data plane.
    pub commands: Commands,
    /// To the discovery client.
    pub signals: mpsc::Sender<(NodeId, Signal)>,
    /// What the discovery client should know.
    pub hearsay: mpsc::Sender<Hearsay>,
    /// The members.
    pub directory: watch::Receiver<Arc<Directory>>,
    /// The discovery servers.
    pub servers: LiveList,
    /// Makes the link that `meshd invite` prints.
    pub invite: Invitation,
    /// Rises when connections from this host are probably dead.
    pub moved: watch::Sender<u64>,
    /// Ends the daemon.
    pub shutdown: CancellationToken,
}

impl Switchboard {
    /// Runs until shutdown or until the data plane has ended.
    pub async fn run(
        self,
        mut events: mpsc::Receiver<Event>,
        mut control: mpsc::Receiver<Control>,
    ) {
        let mut pings = Pings::default();
        let mut sleeps = Sleeps::default();
        loop {
            let overdue = pings.next_deadline();
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.on_event(event, &mut pings, &mut sleeps),
                    None => return,
                },
                Some(request) = control.recv() => self.on_control(request, &mut pings).await,
                () = sleep_until(overdue.unwrap_or_else(Instant::now)), if overdue.is_some() => pings.expire(Instant::now()),
                () = self.shutdown.cancelled() => return,
            }
        }
    }

    fn on_event(&self, event: Event, pings: &mut Pings, sleeps: &mut Sleeps) {
        match event {
            Event::Signal { to, signal } => {
                if self.signals.try_send((to, signal)).is_err() {
                    tracing::debug!(peer = %to.short(), "a signal was dropped; the node repeats it");
                }
            }
            Event::Connected {
                node,
                endpoint,
                relayed,
            } => {
                let way = match path_of(endpoint, relayed) {
                    PathKind::Turn => "through a TURN server",
                    PathKind::Relay => "through other members",
                    PathKind::Direct | PathKind::None => "directly",
                };
                tracing::info!(peer = %self.name(&node), "connected {way}");
                if let Some(endpoint) = endpoint {
                    tracing::debug!(peer = %self.name(&node), %endpoint, "path");
                }
                self.pass_on(Hearsay::Met(node));
            }
            Event::Disconnected { node } => {
                tracing::info!(peer = %self.name(&node), "disconnected")
            }
            Event::Awoke { since } if sleeps.is_known(since, clock::now()) => {}
            Event::Awoke { .. } => {
                tracing::info!("this machine was asleep: servers and peers are asked anew");
                self.moved.send_modify(|times| *times += 1);
            }
            Event::Pong {
                node,
                id,
                rtt,
                endpoint,
                relayed,
            } => {
                let pong = Pong {
                    rtt,
                    path: path_of(endpoint, relayed),
                    endpoint,
                };
                pings.answer((node, id), pong);
            }
            Event::Sought { address } => self.pass_on(Hearsay::Sought(address)),
            Event::Gossip { from, message } => self.pass_on(Hearsay::Told { from, message }),
        }
    }

    async fn on_control(&self, request: Control, pings: &mut Pings) {
        match request {
            Control::Ping { node, reply } => {
                let Some(online) = self
                    .directory
                    .borrow()
                    .by_node(&node)
                    .map(|peer| peer.online)
                else {
                    return answer(reply, Err(PingFailure::NoSuchPeer));
                };
                let id = pings.add(node, reply, online);
                if self
                    .commands
                    .send(Command::Ping { node, id })
                    .await
                    .is_err()
                {
                    self.shutdown.cancel();
                }
            }
            Control::Down { reply } => {
                // Whoever asked may have hung up; it is done all the same.
                let _unheard = reply.send(());
                self.shutdown.cancel();
            }
            Control::Revoke { node, reply } => {
                let _unheard = reply.send(self.revoke(&node));
            }
            Control::Invite { offer, reply } => {
                let link = self.invite.link(self.servers.servers(), &offer).await;
                let _unheard = reply.send(link);
            }
            Control::Servers { servers, reply } => {
                let _unheard = reply.send(self.servers.change(servers));
            }
        }
    }

    fn pass_on(&self, hearsay: Hearsay) {
        if self.hearsay.try_send(hearsay).is_err() {
            tracing::debug!("gossip was dropped: there was too much of it");
        }
    }

    fn revoke(&self, node: &NodeId) -> Result<(), Problem> {
        let revocation = self.invite.authority("revoke a member")?.revoke(node)?;
        self.hearsay
            .try_send(Hearsay::Signed(revocation))
            .map_err(|_| operation_failed("revoke a member", &"the daemon is too busy; try again"))
    }

    fn name(&self, node: &NodeId) -> String {
        let directory = self.directory.borrow();
        directory
            .by_node(node)
            .map_or_else(|| node.short(), |peer| peer.name.clone())
    }
}

/// Of the sleeps of this machine, each of which every data thread tells of: connections are made anew once.
#[derive(Default)]
struct Sleeps {
    /// When the last one was over.
    told: Option<std::time::Instant>,
}

impl Sleeps {
    /// Whether one that began at `since` was told of before: a thread that had not run since then slept with the others.
    fn is_known(&mut self, since: std::time::Instant, now: std::time::Instant) -> bool {
        let known = self.told.is_some_and(|told| since < told);
        if !known {
            self.told = Some(now);
        }
        known
    }
}

/// Pings that wait for their pong.
#[derive(Default)]
struct Pings {
    next_id: u64,
    waiting: BTreeMap<u64, Waiting>,
}

struct Waiting {
    /// Only its own pong counts.
    node: NodeId,
    reply: PingReply,
    deadline: Instant,
    online: bool,
}

impl Pings {
    fn add(&mut self, node: NodeId, reply: PingReply, online: bool) -> u64 {
        self.next_id += 1;
        let deadline = Instant::now() + PING_TIMEOUT;
        self.waiting.insert(
            self.next_id,
            Waiting {
                node,
                reply,
                deadline,
                online,
            },
        );
        self.next_id
    }

    fn answer(&mut self, (node, id): (NodeId, u64), pong: Pong) {
        if self
            .waiting
            .get(&id)
            .is_some_and(|waiting| waiting.node != node)
        {
            return;
        }
        if let Some(waiting) = self.waiting.remove(&id) {
            answer(waiting.reply, Ok(pong));
        }
    }

    /// Ids rise with time, so the smallest is the oldest.
    fn next_deadline(&self) -> Option<Instant> {
        self.waiting
            .first_key_value()
            .map(|(_, waiting)| waiting.deadline)
    }

    fn expire(&mut self, now: Instant) {
        while let Some(entry) = self.waiting.first_entry()
            && entry.get().deadline <= now
        {
            let waiting = entry.remove();
            let why = if waiting.online {
                PingFailure::Timeout
            } else {
                PingFailure::Offline
            };
            answer(waiting.reply, Err(why));
        }
    }
}

fn answer(reply: PingReply, result: Result<Pong, PingFailure>) {
    // A caller that hung up needs no answer.
    let _unheard = reply.send(result);
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn several_threads_tell_of_one_sleep_and_each_sleep_counts() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut sleeps = Sleeps::default();
        let woken = start + 600 * second;
        assert!(!sleeps.is_known(start, woken));
        // One noticed at once, another one with its next packet.
        assert!(sleeps.is_known(start - 3 * second, woken));
        assert!(sleeps.is_known(start - 19 * second, woken + 20 * second));
        let again = woken + 30 * second;
        assert!(!sleeps.is_known(again, again + 600 * second));
    }
}
