//! All members together: they join, connect, and watch newcomers.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use ed25519_dalek::SigningKey;
use mesh_wire::{NodeId, discovery::CreateNetwork, psk::NetworkPsk};
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use tokio::{sync::mpsc, task::JoinSet, time::timeout};

use crate::{
    member::{Member, Realm, Seen},
    server::Server,
};

/// A connection that is being made costs the server signatures and the driver a task; more at once would only wait.
const AT_ONCE: usize = 48;

/// Followers that see each newcomer.
const AUDIENCE: usize = 20;

/// What no machine should take for one step.
const PATIENCE: Duration = Duration::from_secs(300);

/// How many there are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) members: usize,
    /// Others that each follows.
    pub(crate) follows: usize,
    /// Newcomers.
    pub(crate) joins: usize,
}

pub(crate) struct Crowd {
    http: Client,
    base: String,
    admin_token: String,
    server: std::net::SocketAddr,
    realm: Arc<Realm>,
    size: Size,
    seen: (mpsc::Sender<Seen>, mpsc::Receiver<Seen>),
    live: JoinSet<Result<()>>,
}

/// How long it took until each join was seen.
pub(crate) struct Delays {
    milliseconds: Vec<f64>,
    bytes: usize,
}

impl Delays {
    /// The delay that this share of all do not exceed.
    pub(crate) fn percentile(&self, share: f64) -> f64 {
        let last = self.milliseconds.len().saturating_sub(1);
        let index = (last as f64 * share).round() as usize;
        self.milliseconds.get(index).copied().unwrap_or(f64::NAN)
    }

    pub(crate) fn count(&self) -> usize {
        self.milliseconds.len()
    }

    pub(crate) fn bytes_each(&self) -> usize {
        self.bytes / self.milliseconds.len().max(1)
    }
}

impl Crowd {
    pub(crate) fn new(server: &Server, size: Size) -> Result<Self> {
        rustls::crypto::ring::default_provider()
            .install_default()
            .map_err(|_| anyhow::anyhow!("the TLS library is set up once"))?;
        let realm = Realm {
            id: "load".parse()?,
            key: SigningKey::from_bytes(&[77; 32]),
            token: NetworkPsk::from_bytes([5; 32]).admission_token(),
        };
        Ok(Self {
            http: Client::builder().no_proxy().build()?,
            base: format!("http://{}/api/v1/mesh/networks", server.http),
            admin_token: server.admin_token.clone(),
            server: server.http,
            realm: Arc::new(realm),
            size,
            seen: mpsc::channel(100_000),
            live: JoinSet::new(),
        })
    }

    /// Makes the network and registers all members; how many in a second.
    pub(crate) async fn register(&self) -> Result<f64> {
        let create = CreateNetwork {
            id: self.realm.id.clone(),
            cidr: "10.0.0.0/8".parse()?,
            network_key: Some(NodeId::of(&self.realm.key)),
            admission_token: self.realm.token.clone(),
        };
        let answer = self.post("").json(&create).send().await?;
        ensure!(
            answer.status() == StatusCode::CREATED,
            "{}",
            answer.text().await?
        );
        let start = Instant::now();
        let mut under_way = JoinSet::new();
        for number in 0..self.number(self.size.members)? {
            if under_way.len() >= AT_ONCE {
                under_way
                    .join_next()
                    .await
                    .context("one is under way")???;
            }
            under_way.spawn(accepted(self.registration(number)?));
        }
        while let Some(done) = under_way.join_next().await {
            done??;
        }
        Ok(self.size.members as f64 / start.elapsed().as_secs_f64())
    }

    /// Connects all members; how many in a second.
    pub(crate) async fn connect(&mut self) -> Result<f64> {
        let (connected, mut ready) = mpsc::channel(AT_ONCE);
        let start = Instant::now();
        for number in 0..self.size.members {
            if number >= AT_ONCE {
                self.one_more(&mut ready).await?;
            }
            let member = Member::new(self.number(number)?);
            let follows = self.followed_by(number)?;
            let (server, realm) = (self.server, Arc::clone(&self.realm));
            let tell = (connected.clone(), self.seen.0.clone());
            self.live
                .spawn(async move { member.live((server, &realm), follows, tell).await });
        }
        for _ in 0..self.size.members.min(AT_ONCE) {
            self.one_more(&mut ready).await?;
        }
        Ok(self.size.members as f64 / start.elapsed().as_secs_f64())
    }

    async fn one_more(&mut self, ready: &mut mpsc::Receiver<()>) -> Result<()> {
        tokio::select! {
            biased;
            one = timeout(PATIENCE, ready.recv()) => one?.context("all have ended"),
            Some(ended) = self.live.join_next() => ended?.context("a member was cut off"),
        }
    }

    /// Registers newcomers, each when the one before was seen by all who follow it.
    pub(crate) async fn join_one_by_one(&mut self) -> Result<Delays> {
        let mut delays = Delays {
            milliseconds: Vec::new(),
            bytes: 0,
        };
        for index in 0..self.size.joins {
            let number = self.number(self.size.members + index)?;
            let newcomer = Member::new(number).id();
            let start = Instant::now();
            accepted(self.registration(number)?).await?;
            for _ in 0..AUDIENCE.min(self.size.members) {
                let seen = tokio::select! {
                    seen = timeout(PATIENCE, self.seen.1.recv()) => seen?.context("nobody is left")?,
                    Some(ended) = self.live.join_next() => {
                        ended?.context("a member was cut off")?;
                        continue;
                    }
                };
                ensure!(seen.node == newcomer, "a join was seen late or twice");
                delays
                    .milliseconds
                    .push((seen.at - start).as_secs_f64() * 1000.0);
                delays.bytes += seen.bytes;
            }
        }
        delays.milliseconds.sort_by(f64::total_cmp);
        Ok(delays)
    }

    /// Its neighbours in a ring, and the newcomers that it will be shown.
    fn followed_by(&self, number: usize) -> Result<Vec<NodeId>> {
        let neighbours =
            (1..=self.size.follows).map(|step| (number + step * 37) % self.size.members);
        let newcomers = (0..self.size.joins).filter(|newcomer| {
            // Each newcomer's audience is a stretch of the ring.
            let first = newcomer * 97 % self.size.members;
            (number + self.size.members - first) % self.size.members < AUDIENCE
        });
        neighbours
            .chain(newcomers.map(|newcomer| self.size.members + newcomer))
            .map(|number| Ok(Member::new(self.number(number)?).id()))
            .collect()
    }

    fn number(&self, number: usize) -> Result<u32> {
        u32::try_from(number).context("so many members have no addresses")
    }

    fn registration(&self, number: u32) -> Result<RequestBuilder> {
        let record = Member::new(number).register(&self.realm)?;
        let path = format!("/{}/peers", self.realm.id);
        Ok(self.post(&path).json(&record))
    }

    fn post(&self, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.base);
        self.http
            .request(Method::POST, url)
            .bearer_auth(&self.admin_token)
    }
}

async fn accepted(request: RequestBuilder) -> Result<()> {
    let answer = request.send().await?;
    let status = answer.status();
    ensure!(status.is_success(), "{status}: {}", answer.text().await?);
    Ok(())
}
