//! To which discovery servers are we connected, and which of them takes a letter?

use std::{collections::BTreeMap, sync::Arc};

use mesh_wire::{
    NodeId,
    discovery::{Network, ServerMessage, TurnAccess},
    trust::Certificate,
};
use tokio::sync::{mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use url::Url;

use super::{
    connection::{Connection, Errand, News, Ourselves, ServerId},
    exposure,
};
use crate::status::{self, ServerStatus};

/// Messages of all servers that wait to be read; a server that says more waits itself.
const NEWS_QUEUE: usize = 64;
/// Errands that wait for one server. One that does not keep up gets no more letters.
const ERRAND_QUEUE: usize = 256;

/// How servers describe the network, by URL.
pub type Described = Arc<BTreeMap<Url, Network>>;

/// What lets this member use the TURN of discovery servers, by URL of the server.
pub type Relays = Arc<BTreeMap<Url, TurnAccess>>;

/// The servers in use, in order of preference, each with a task.
pub struct Servers {
    ourselves: Ourselves,
    list: Vec<Server>,
    next_id: ServerId,
    sender: mpsc::Sender<(ServerId, News)>,
    news: mpsc::Receiver<(ServerId, News)>,
    statuses: watch::Sender<Vec<ServerStatus>>,
    tasks: TaskTracker,
}

struct Server {
    id: ServerId,
    url: Url,
    errands: mpsc::Sender<Errand>,
    until: CancellationToken,
    /// How it describes the network, while it is connected.
    connected: Option<Network>,
    /// What it last handed us for its TURN, which holds also while it is not connected.
    turn: Option<TurnAccess>,
}

impl Servers {
    /// None yet; `statuses` are kept in step.
    pub fn new(ourselves: Ourselves, statuses: watch::Sender<Vec<ServerStatus>>) -> Self {
        let (sender, news) = mpsc::channel(NEWS_QUEUE);
        Self {
            ourselves,
            list: Vec::new(),
            next_id: 0,
            sender,
            news,
            statuses,
            tasks: TaskTracker::new(),
        }
    }

    /// Uses these servers from now on. A connection to one of them that stands is kept. Returns who is used no more.
    pub fn follow(&mut self, wanted: &[Url], shutdown: &CancellationToken) -> Vec<ServerId> {
        let mut old = std::mem::take(&mut self.list);
        for url in wanted {
            let server = match old.iter().position(|server| server.url == *url) {
                Some(at) => old.remove(at),
                None => self.connect(url, shutdown),
            };
            self.list.push(server);
        }
        status::relist(&self.statuses, wanted);
        for server in &old {
            tracing::info!(server = %server.url, "this discovery server is not used any more");
            server.until.cancel();
        }
        old.iter().map(|server| server.id).collect()
    }

    fn connect(&mut self, url: &Url, shutdown: &CancellationToken) -> Server {
        let embedded = self.ourselves.membership.network().embedded();
        for note in exposure::notes(url, embedded.as_ref()) {
            tracing::warn!("{}: {}; {}", note.title, note.detail, note.fix);
        }
        let (errands, receiver) = mpsc::channel(ERRAND_QUEUE);
        let until = shutdown.child_token();
        self.next_id += 1;
        let connection = Connection {
            id: self.next_id,
            rest: self.ourselves.membership.rest(url.clone()),
            ourselves: self.ourselves.clone(),
            errands: receiver,
            news: self.sender.clone(),
        };
        self.tasks.spawn(connection.run(until.clone()));
        Server {
            id: self.next_id,
            url: url.clone(),
            errands,
            until,
            connected: None,
            turn: None,
        }
    }

    /// The next news of a server that is in use.
    pub async fn next(&mut self) -> (ServerId, News) {
        loop {
            // We hold a sender ourselves, so there is always a next one.
            let Some((id, news)) = self.news.recv().await else {
                return std::future::pending().await;
            };
            if self.note(id, &news) {
                return (id, news);
            }
        }
    }

    /// Notes how a server is doing; whether it is in use.
    fn note(&mut self, id: ServerId, news: &News) -> bool {
        let Some(server) = self.list.iter_mut().find(|server| server.id == id) else {
            return false;
        };
        match news {
            News::Connected(network, _) => {
                server.connected = Some(network.clone());
                status::note(&self.statuses, &server.url, ServerStatus::connected);
            }
            News::Lost(error, pause) => {
                server.connected = None;
                status::note(&self.statuses, &server.url, |status| {
                    status.failed(error, *pause);
                });
            }
            News::Said(ServerMessage::Turn(access)) => server.turn = Some(access.clone()),
            News::Registered(_) | News::Said(_) => {}
        }
        true
    }

    /// How the connected ones describe the network.
    pub fn described(&self) -> Described {
        let connected = self.list.iter();
        let connected =
            connected.filter_map(|server| Some((server.url.clone(), server.connected.clone()?)));
        Arc::new(connected.collect())
    }

    /// What they have handed us for their TURN.
    pub fn relays(&self) -> Relays {
        let servers = self.list.iter();
        let relays = servers.filter_map(|server| Some((server.url.clone(), server.turn.clone()?)));
        Arc::new(relays.collect())
    }

    /// As the first of the connected ones describes it.
    pub fn network(&self) -> Option<&Network> {
        self.list
            .iter()
            .find_map(|server| server.connected.as_ref())
    }

    /// Whether there is one that we are connected to.
    pub fn any_connected(&self) -> bool {
        self.network().is_some()
    }

    /// Whether there is one that others may reach, and we do not.
    pub fn any_missing(&self) -> bool {
        self.list.iter().any(|server| server.connected.is_none())
    }

    /// All of them.
    pub fn ids(&self) -> impl Iterator<Item = ServerId> {
        self.list.iter().map(|server| server.id)
    }

    /// The URL of a server.
    pub fn url(&self, id: ServerId) -> Option<&Url> {
        let server = self.list.iter().find(|server| server.id == id)?;
        Some(&server.url)
    }

    /// Hands a letter for `to` to the first that is said to reach it, else to any, those left out that were tried. Returns
    /// who took it.
    pub fn send(
        &self,
        to: NodeId,
        payload: &str,
        (is_online, tried): (impl Fn(ServerId) -> bool, &[ServerId]),
    ) -> Option<ServerId> {
        let untried = |server: &&Server| server.connected.is_some() && !tried.contains(&server.id);
        let mut servers: Vec<&Server> = self.list.iter().filter(untried).collect();
        // Stable: among equals the preferred one stays first.
        servers.sort_by_key(|server| !is_online(server.id));
        let takes = |server: &&&Server| {
            let letter = Errand::Letter(to, payload.to_owned());
            server.errands.try_send(letter).is_ok()
        };
        servers.iter().find(takes).map(|server| server.id)
    }

    /// Registers with a new certificate, everywhere.
    pub fn register(&self, certificate: &Certificate) {
        self.ask_all(|| Errand::Certificate(certificate.clone()), |_| true);
    }

    /// Asks the connected ones of which `which` holds. What one does not hear now, it is told when it is connected again.
    pub fn ask_all(&self, errand: impl Fn() -> Errand, which: impl Fn(ServerId) -> bool) {
        let connected = self.list.iter();
        let connected = connected.filter(|server| server.connected.is_some() && which(server.id));
        for server in connected {
            if server.errands.try_send(errand()).is_err() {
                tracing::debug!(server = %server.url, "does not keep up with what it is asked");
            }
        }
    }

    /// Whether a connected server other than this one says so.
    pub fn any_other(&self, server: ServerId, says: impl Fn(ServerId) -> bool) -> bool {
        let mut others = self.list.iter().filter(|other| other.id != server);
        others.any(|other| other.connected.is_some() && says(other.id))
    }

    /// Waits until all have said goodbye.
    pub async fn ended(self) {
        self.tasks.close();
        // Who has news to tell shall not wait for us.
        drop(self.news);
        self.tasks.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ed25519_dalek::SigningKey;
    use mesh_wire::psk::NetworkPsk;

    use super::*;
    use crate::{
        discovery::{ServerError, scope::tests::scope},
        membership::Membership,
        state::{Identity, JoinedNetwork, StateDir},
    };

    const BOB: NodeId = NodeId::from_bytes([2; 32]);

    struct Scene {
        servers: Servers,
        errands: Vec<mpsc::Receiver<Errand>>,
        _state: tempfile::TempDir,
    }

    /// Servers 1, 2, ... that are connected, but for those in `missing`.
    fn scene(count: ServerId, missing: &[ServerId]) -> Scene {
        let root = tempfile::tempdir().unwrap();
        let network = JoinedNetwork {
            id: scope().network,
            cidr: scope().cidr,
            server: "http://1/".parse().unwrap(),
            others: Vec::new(),
            embedded_server: false,
            created: false,
            anchor: None,
            psk: NetworkPsk::from_bytes([6; 32]),
            name: "ann".to_owned(),
            virtual_ips: scope().own_ips,
            seq: 0,
        };
        let state = Arc::new(StateDir::open(root.path()).unwrap());
        let identity = Arc::new(Identity::generate().unwrap());
        let membership = Membership::resume(state, identity, network).unwrap();
        let described = membership.provisional();
        let ourselves = Ourselves {
            membership,
            key: SigningKey::from_bytes(&[1; 32]),
            heartbeat: Duration::from_secs(30),
            moved: watch::channel(0).1,
        };
        let mut servers = Servers::new(ourselves, watch::Sender::default());
        let mut errands = Vec::new();
        for id in 1..=count {
            let (sender, receiver) = mpsc::channel(1);
            errands.push(receiver);
            servers.list.push(Server {
                id,
                url: format!("http://{id}/").parse().unwrap(),
                errands: sender,
                until: CancellationToken::new(),
                turn: None,
                connected: (!missing.contains(&id)).then(|| described.clone()),
            });
        }
        Scene {
            servers,
            errands,
            _state: root,
        }
    }

    #[test]
    fn a_letter_goes_to_the_first_server_that_reaches_its_receiver_and_then_to_the_others() {
        let scene = scene(4, &[2]);
        let is_online = |server| server >= 2;
        let sent = |tried: &[ServerId]| scene.servers.send(BOB, "x", (is_online, tried));
        assert_eq!(sent(&[]), Some(3));
        assert_eq!(sent(&[3]), Some(4));
        assert_eq!(sent(&[3, 4]), Some(1));
        assert_eq!(sent(&[3, 4, 1]), None, "2 is not connected");
    }

    #[test]
    fn a_server_that_does_not_keep_up_holds_up_no_letter() {
        let mut scene = scene(2, &[]);
        let sent = |servers: &Servers| servers.send(BOB, "x", (|_| true, &[]));
        assert_eq!(sent(&scene.servers), Some(1));
        assert_eq!(sent(&scene.servers), Some(2), "its queue is full");
        assert_eq!(sent(&scene.servers), None);
        assert!(matches!(
            scene.errands[0].try_recv(),
            Ok(Errand::Letter(BOB, _))
        ));
        assert_eq!(sent(&scene.servers), Some(1));
    }

    #[tokio::test]
    async fn a_new_list_keeps_the_connections_that_stay_and_forgets_the_rest() {
        let mut scene = scene(3, &[]);
        let wanted = ["http://3/", "http://1/"].map(|url| url.parse().unwrap());
        let gone = scene.servers.follow(&wanted, &CancellationToken::new());
        assert_eq!(gone, [2]);
        let ids: Vec<_> = scene.servers.list.iter().map(|server| server.id).collect();
        assert_eq!(ids, [3, 1]);
        assert!(!scene.servers.any_missing());
        // What the one that is gone still had to say is not heard.
        let error = || ServerError::Unreachable("gone".to_owned());
        let lost = |_| News::Lost(error(), Duration::from_secs(1));
        for id in [2, 3] {
            scene.servers.sender.send((id, lost(id))).await.unwrap();
        }
        assert_eq!(scene.servers.next().await.0, 3);
        let shown = scene.servers.statuses.borrow().clone();
        assert_eq!(shown[0].error.as_deref(), Some("gone"));
        assert_eq!((shown[0].retry_in_s, shown.len()), (Some(1), 2));
        assert!(scene.servers.any_missing() && scene.servers.any_connected());
    }
}
