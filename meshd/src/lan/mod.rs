//! How do members on one LAN find each other with no server at all? By multicast DNS: each says where it is, sealed for members
//! ([`mesh_wire::lan`]). While no server is there, those who were heard are knocked at.
//!
//! Nothing is ever sent to one host but knocks, so nobody can have us flood another: answers go to the group.

mod links;
mod neighbours;
mod surroundings;
mod voice;

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use ipnet::{IpNet, Ipv4Net};
use mesh_core::{Command, NodeStatus};
use mesh_wire::{
    NodeId,
    lan::{LanKey, dns},
    peer_info::{Directory, PeerInfo},
};
use platform::net::addresses::{self, LocalAddress};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tokio_util::sync::CancellationToken;

use self::{
    links::{Links, Packet},
    neighbours::{Here, Neighbours},
};
pub use self::{surroundings::Surroundings, voice::Voice};
use crate::{
    dataplane::{Commands, Ended},
    discovery::hearsay::Hearsay,
    health::Health,
    problem::{LAN_DISCOVERY_OFF, Problem, lan_discovery_off},
    status::ServerStatus,
};

const TICK: Duration = Duration::from_secs(1);
/// How often the host's addresses are looked at when nothing reports a change, in ticks.
const LOOK_EVERY: u32 = 30;
/// We say by ourselves where we are in so many ticks after there is news (RFC 6762, 8.3: at least twice, a second apart).
const SAY_TIMES: u32 = 2;
/// While no server is there it is asked who is there in these ticks...
const ASK_AT: [u32; 4] = [1, 3, 8, 30];
/// ...and every so many.
const ASK_EVERY: u32 = 120;
/// Whoever was heard in so many ticks need not answer.
const RECENT: u32 = 60;
/// After our addresses have changed, in so many ticks those who seem to be reached are knocked at too: the data plane knows which
/// of them were reached from an address that is gone.
const MOVING: u32 = 10;
/// An answer that all may have waits a moment, so that not all speak at once (RFC 6762, 6)...
const ANSWER_WAIT: (u64, u64) = (20, 100);
/// ...and the same is not said twice within a second.
const ANSWER_PAUSE: Duration = Duration::from_secs(1);
/// Seals that are tried in one tick: a few microseconds each. A segment with more members says it again.
const MAX_OPENED: u32 = 500;
/// Members unheard of that are told to the discovery client in one tick: each takes it some signatures to judge.
const MAX_TOLD: u32 = 20;

/// What the LAN needs to know of the rest of the daemon.
pub struct Lan {
    /// The mesh's own interface, where nothing is said.
    pub interface: String,
    /// The mesh's own range.
    pub cidr: Ipv4Net,
    /// What we say.
    pub voice: Voice,
    /// Opens what others say.
    pub key: LanKey,
    /// Rises when the host's addresses change.
    pub moved: watch::Receiver<u64>,
    /// Ourselves, as the server registered us.
    pub own: watch::Receiver<Option<PeerInfo>>,
    /// Who is a member, who is reached, and whether a server is there.
    pub sight: Sight,
    /// To the discovery client: members that are unheard of.
    pub hearsay: mpsc::Sender<Hearsay>,
    /// To the data plane: where to knock.
    pub commands: Commands,
    /// What is wrong.
    pub health: Health,
}

/// What the LAN sees of the network.
pub struct Sight {
    /// Who is a member.
    pub directory: watch::Receiver<Arc<Directory>>,
    /// Who is reached.
    pub node: watch::Receiver<Arc<NodeStatus>>,
    /// Whether a server is there.
    pub servers: watch::Receiver<Vec<ServerStatus>>,
}

impl Sight {
    /// Whether a server is there.
    fn is_connected(&self) -> bool {
        self.servers.borrow().iter().any(|server| server.connected)
    }
}

/// What the loop remembers.
struct Running {
    lan: Lan,
    links: Links,
    neighbours: Neighbours,
    addresses: Vec<LocalAddress>,
    /// Ticks without a server.
    alone: u32,
    since_look: u32,
    since_move: u32,
    /// Ticks in which we still speak unasked.
    to_say: u32,
    answer_at: Option<Instant>,
    said_at: Option<Instant>,
    opened: u32,
    told: u32,
}

impl Lan {
    /// Runs until `shutdown`, and says goodbye then.
    pub async fn run(self, shutdown: CancellationToken) {
        let (links, mut packets) = Links::new();
        let here = Here {
            node_id: self.voice.node_id(),
            cidr: IpNet::V4(self.cidr),
        };
        let mut running = Running {
            lan: self,
            links,
            neighbours: Neighbours::new(here),
            addresses: Vec::new(),
            alone: 0,
            since_look: LOOK_EVERY,
            since_move: MOVING,
            to_say: 0,
            answer_at: None,
            said_at: None,
            opened: 0,
            told: 0,
        };
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let answer_at = running.answer_at;
            tokio::select! {
                _ = tick.tick() => if running.on_tick().await.is_err() { return },
                Some(packet) = packets.recv() => running.on_packet(&packet),
                Ok(()) = running.lan.moved.changed() => running.look().await,
                () = sleep_until(answer_at.unwrap_or_else(Instant::now)), if answer_at.is_some() => running.say().await,
                () = shutdown.cancelled() => return running.say_goodbye().await,
            }
        }
    }
}

impl Running {
    async fn on_tick(&mut self) -> Result<(), Ended> {
        (self.opened, self.told) = (0, 0);
        self.neighbours.tick();
        self.since_look += 1;
        self.since_move = self.since_move.saturating_add(1);
        if self.since_look >= LOOK_EVERY {
            self.look().await;
        }
        self.renew_voice().await;
        let is_connected = self.lan.sight.is_connected();
        self.alone = match is_connected {
            true => 0,
            false => self.alone.saturating_add(1),
        };
        if self.alone == 1 {
            self.neighbours.be_eager();
        }
        if self.to_say > 0 {
            self.to_say -= 1;
            self.say().await;
        }
        if ASK_AT.contains(&self.alone) || self.alone > 0 && self.alone.is_multiple_of(ASK_EVERY) {
            self.ask().await;
        }
        match is_connected {
            true => Ok(()),
            false => self.knock().await,
        }
    }

    /// Looks at the host's addresses.
    async fn look(&mut self) {
        self.since_look = 0;
        let found = match addresses::local_addresses(&self.lan.interface).await {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!(%error, "the host's addresses could not be read");
                return;
            }
        };
        let off = self.links.refresh(&found).err();
        if let Some(error) = &off {
            tracing::warn!(%error, "members on the LAN are not found without a server");
        }
        self.show(off.map(|error| lan_discovery_off(&error)));
        if found == self.addresses {
            return;
        }
        self.addresses = found;
        self.neighbours.forget();
        self.since_move = 0;
        self.say_news().await;
        // Whoever is here may be all that we can reach.
        self.ask().await;
    }

    /// Says what is new of us: another record, another name because the day is over.
    async fn renew_voice(&mut self) {
        let is_new = match self.lan.own.has_changed() {
            Ok(true) => {
                let own = self.lan.own.borrow_and_update().clone();
                own.is_some_and(|own| self.lan.voice.learn(&own.record))
            }
            // Nobody will tell us any more: the daemon is about to end.
            Ok(false) | Err(_) => false,
        };
        let has_other_name = self.lan.voice.is_of_yesterday();
        if has_other_name {
            self.say_goodbye().await;
        }
        if is_new || has_other_name {
            self.say_news().await;
        }
    }

    async fn say_news(&mut self) {
        let addresses = self.addresses.iter().map(|found| found.address);
        if let Err(error) = self.lan.voice.compose(addresses.collect()) {
            tracing::warn!(%error, "nothing can be announced on the LAN");
        }
        self.say().await;
        self.to_say = SAY_TIMES - 1;
    }

    async fn say(&mut self) {
        self.answer_at = None;
        self.said_at = Some(Instant::now());
        if let Some(voice) = self.lan.voice.said() {
            self.links.say(|own| voice.on(own).answer()).await;
        }
    }

    async fn say_goodbye(&self) {
        if let Some(voice) = self.lan.voice.said() {
            self.links.say(|own| voice.on(own).goodbye()).await;
        }
    }

    async fn ask(&self) {
        let question = dns::question(&self.neighbours.instances(RECENT));
        self.links.say(|_| question.clone()).await;
    }

    /// Keeps the daemon's health in step: one problem of this kind, or none.
    fn show(&self, problem: Option<Problem>) {
        self.lan.health.set(LAN_DISCOVERY_OFF, problem);
    }

    fn on_packet(&mut self, packet: &Packet) {
        if !self.links.is_from_here(packet) {
            return;
        }
        let instance = self.lan.voice.instance();
        match dns::read(&packet.bytes, instance) {
            dns::Heard::Question => self.on_question(),
            dns::Heard::Answer(found) => {
                let others = found.iter().filter(|(name, _)| name != instance);
                let others: Vec<_> = others.cloned().collect();
                for (name, sealed) in others {
                    self.on_announcement(&packet.interface, &name, &sealed);
                }
            }
            dns::Heard::Other => {}
        }
    }

    fn on_question(&mut self) {
        let now = Instant::now();
        let soon = now + voice::random_wait(ANSWER_WAIT);
        let allowed = self.said_at.map_or(now, |said| said + ANSWER_PAUSE);
        self.answer_at.get_or_insert_with(|| soon.max(allowed));
    }

    fn on_announcement(&mut self, interface: &str, name: &str, sealed: &[u8]) {
        if self.opened >= MAX_OPENED {
            return;
        }
        self.opened += 1;
        // Most who are not opened are members of other networks.
        let Ok(said) = self.lan.key.open(name, sealed) else {
            return;
        };
        let directory = Arc::clone(&self.lan.sight.directory.borrow());
        let record = &said.record;
        let net = self.links.nets(interface);
        let is_member = |node: &NodeId| directory.by_node(node).is_some();
        if self.neighbours.hear((name, &said), net, is_member) {
            tracing::debug!(peer = %record.node_id.short(), %interface, "heard on the LAN");
        }
        let known = directory.by_node(&record.node_id);
        let is_unheard_of = known.is_none_or(|known| {
            known.record.wireguard_key != record.wireguard_key && known.record.seq < record.seq
        });
        if is_unheard_of && record.node_id != self.lan.voice.node_id() && self.told < MAX_TOLD {
            self.told += 1;
            let seen = Hearsay::Seen(Box::new(said.record));
            if self.lan.hearsay.try_send(seen).is_err() {
                tracing::debug!("somebody on the LAN was not looked at: there is too much else");
            }
        }
    }

    async fn knock(&mut self) -> Result<(), Ended> {
        let is_moving = self.since_move < MOVING;
        let due: Vec<(NodeId, SocketAddr)> = {
            let directory = self.lan.sight.directory.borrow();
            let node = self.lan.sight.node.borrow();
            let reached: BTreeSet<NodeId> = node
                .peers
                .iter()
                .filter(|peer| peer.endpoint.is_some())
                .map(|peer| peer.node_id)
                .collect();
            self.neighbours.due(
                |node| directory.by_node(node).is_some(),
                |node| !is_moving && reached.contains(node),
            )
        };
        for (node, at) in due {
            self.lan.commands.send(Command::Knock { node, at }).await?;
        }
        Ok(())
    }
}
