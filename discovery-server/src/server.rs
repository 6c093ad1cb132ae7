//! How does the server start, what runs in it, and how does it end?

mod error;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

pub use error::ServeError;
use ipnet::IpNet;
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;

use crate::{
    DEFAULT_TURN_RATE,
    app::App,
    auth::{AdminTokenSource, AdminTokens},
    database::Database,
    http, listen,
    membership::Networks,
    proxies::Proxies,
    replica, snapshots,
    store::{Listener, Snapshots, Store, StoreError},
    turn::{
        self, Turn,
        credential::{Issuer, LIFETIME},
        limits::Limits,
    },
};

/// Requests and event connections that are under way when the server shall end get this long.
const GRACE: Duration = Duration::from_secs(2);

/// When members were last seen is written down this often; a crash loses no more than that.
const SAVE_INTERVAL: Duration = Duration::from_secs(60);

/// What a server needs to start.
#[derive(Debug, Clone)]
pub struct ServeConfig {
    /// Where HTTP is served. `[::]` means all addresses, IPv4 included; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where everything is stored.
    pub database: Database,
    /// How often a snapshot is taken of a SQLite database, if at all.
    pub snapshot_interval: Option<Duration>,
    /// Where STUN and TURN are served over UDP and TCP, if at all.
    pub stun_listen: Option<SocketAddr>,
    /// How TURN is served beside STUN, if at all.
    pub turn: Option<TurnConfig>,
    /// The address that clients are told to reach STUN at and to be relayed from, when it is not the host of the server's URL.
    pub public_ip: Option<IpAddr>,
    /// Reverse proxies, which say in X-Forwarded-For for whom they ask; nobody else is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Where the administrator's token is.
    pub admin_token: AdminTokenSource,
}

/// What the relay may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TurnConfig {
    /// Whether members may have it send into private networks, those that the server is in among them.
    pub allow_private_peers: bool,
    /// How long a credential holds. Members get the next one when half of it is over.
    pub lifetime: Duration,
    /// What one member may have relayed, both ways together; see [`crate::DEFAULT_TURN_RATE`].
    pub bytes_per_second: u64,
}

impl Default for TurnConfig {
    fn default() -> Self {
        Self {
            allow_private_peers: false,
            lifetime: LIFETIME,
            bytes_per_second: DEFAULT_TURN_RATE,
        }
    }
}

/// A server whose sockets are bound; [`Self::run_until`] serves them.
#[derive(Debug)]
pub struct Running {
    /// Where HTTP is served.
    pub http_addr: SocketAddr,
    /// Where STUN is served.
    pub stun_addr: Option<SocketAddr>,
    /// Where the admin token is.
    pub admin_token_file: PathBuf,
    /// Whether this start made the admin token.
    pub admin_token_made: bool,
    app: Arc<App>,
    http: TcpListener,
    stun: Option<(Arc<UdpSocket>, TcpListener)>,
    other: Option<UdpSocket>,
    limits: Limits,
    /// Hears the other servers of a shared database, from this news on.
    others: Option<(Listener, u64)>,
    snapshots: Option<(Snapshots, Duration)>,
}

/// Binds the sockets, reads or makes the admin token and opens the database. Nothing is served yet, but connections
/// wait from now on.
pub async fn start(config: ServeConfig) -> Result<Running, ServeError> {
    let failed = |service, address| {
        move |source| ServeError::Listen {
            service,
            address,
            source,
        }
    };
    let http = listen::bind_tcp(config.listen).map_err(failed("HTTP", config.listen))?;
    let http_addr = http.local_addr().map_err(failed("HTTP", config.listen))?;
    let (mut stun, mut stun_addr) = (None, None);
    if let Some(address) = config.stun_listen {
        let (udp, tcp) = listen::bind_both(address).map_err(failed("STUN", address))?;
        stun_addr = Some(udp.local_addr().map_err(failed("STUN", address))?);
        stun = Some((Arc::new(udp), tcp));
    }
    let other = stun_addr.and_then(bind_other);
    let unusable = |source| ServeError::Database {
        database: config.database.clone(),
        source,
    };
    let store = open(&config.database).await?;
    let listener = store.listener().await.map_err(unusable)?;
    let admin = AdminTokens::load(&config.admin_token)?;
    let stun_port = stun_addr.map(|address| address.port());
    let limits = Limits::new(platform::limits::open_files());
    let issuer = Arc::new(issuer(config.turn.unwrap_or_default().lifetime)?);
    let relay = match (config.turn, stun_addr) {
        (Some(turn), Some(address)) => {
            let issuer = Arc::clone(&issuer);
            let turn = Turn::new(issuer, turn, address, config.public_ip, limits).await;
            Some(Arc::new(turn.map_err(ServeError::Turn)?))
        }
        (None, _) | (_, None) => None,
    };
    let networks = Networks::new(store, issuer);
    let seq = networks.begin_among_servers().await.map_err(unusable)?;
    let snapshots = snapshots(&config);
    Ok(Running {
        http_addr,
        stun_addr,
        admin_token_file: admin.path.clone(),
        admin_token_made: admin.made,
        app: Arc::new(App::new(
            networks,
            admin,
            Proxies::new(config.trusted_proxies),
            (stun_port, config.public_ip),
            relay,
        )),
        http,
        stun,
        other,
        limits,
        others: listener.map(|listener| (listener, seq)),
        snapshots,
    })
}

fn snapshots(config: &ServeConfig) -> Option<(Snapshots, Duration)> {
    match &config.database {
        Database::Sqlite(path) => Some((Snapshots::of(path), config.snapshot_interval?)),
        Database::Postgres(_) => None,
    }
}

/// Opens the database; a damaged one is given up together with the way back.
async fn open(database: &Database) -> Result<Store, ServeError> {
    let source = match (Store::open(database).await, database) {
        (Ok(store), _) => return Ok(store),
        (Err(source), Database::Sqlite(path)) if source.is_damaged() => {
            return Err(ServeError::Damaged {
                database: path.clone(),
                source,
                snapshot: Snapshots::of(path).newest_whole().await,
            });
        }
        (Err(source), _) => source,
    };
    Err(ServeError::Database {
        database: database.clone(),
        source,
    })
}

/// The port behind STUN's, from which clients are answered that ask what their NAT lets in (RFC 5780). It is not needed
/// for anything else.
fn bind_other(stun: SocketAddr) -> Option<UdpSocket> {
    let address = SocketAddr::new(stun.ip(), stun.port().checked_add(1)?);
    let bound = listen::bind_udp(address);
    bound
        .inspect_err(
            |error| tracing::info!(%address, %error, "NAT filtering is not shown to clients"),
        )
        .ok()
}

fn issuer(lifetime: Duration) -> Result<Issuer, ServeError> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|error| ServeError::Turn(io::Error::other(error)))?;
    Ok(Issuer::new(secret, lifetime))
}

impl Running {
    /// Serves until `shutdown` is cancelled. Then event connections are closed with "going away", requests get 2 s
    /// to finish, and the database is closed. An error means that something was not written at the end.
    pub async fn run_until(self, shutdown: CancellationToken) -> Result<(), StoreError> {
        let Self {
            app,
            http,
            stun,
            other,
            limits,
            others,
            snapshots,
            ..
        } = self;
        // Cancelled too when this future is dropped, so that nothing is left running.
        let ended = app.shutdown.clone();
        let _end_with_us = ended.clone().drop_guard();
        let background = async {
            let others = async {
                match others {
                    Some((listener, seq)) => replica::run(&app.networks, listener, seq).await,
                    None => std::future::pending().await,
                }
            };
            let snapshots = async {
                match &snapshots {
                    Some((snapshots, every)) => {
                        snapshots::run(snapshots, *every, &app.metrics).await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = snapshots => {}
                () = serve_stun(stun, other, &app, limits) => {}
                () = others => {}
                () = save_last_seen(&app) => {}
                () = shutdown.cancelled() => {}
            }
            ended.cancel();
        };
        let open_files = platform::limits::open_files().saturating_sub(limits.files());
        let router = http::router(Arc::clone(&app));
        let serving = listen::serve_http(http, (&app, router), GRACE, open_files);
        tokio::join!(background, serving);
        app.tasks.close();
        if tokio::time::timeout(GRACE, app.tasks.wait()).await.is_err() {
            tracing::warn!("some event connections did not end in time");
        }
        let saved = app.networks.save_last_seen(true).await;
        let resigned = app.networks.store.resign().await;
        app.networks.store.close().await;
        saved.and(resigned)
    }
}

/// Serves STUN and TURN for ever, if they have sockets. When it is given up, all relaying ends.
async fn serve_stun(
    sockets: Option<(Arc<UdpSocket>, TcpListener)>,
    other: Option<UdpSocket>,
    app: &Arc<App>,
    limits: Limits,
) {
    let Some((udp, tcp)) = sockets else {
        return std::future::pending().await;
    };
    let sweep = async {
        match &app.turn {
            Some(turn) => {
                let _end_with_us = EndAll(turn);
                turn.sweep().await;
            }
            None => std::future::pending().await,
        }
    };
    let beside = async {
        match &other {
            Some(other) => turn::udp::serve_other(other, &udp, app).await,
            None => std::future::pending().await,
        }
    };
    tokio::join!(
        turn::udp::serve(&udp, other.as_ref(), app),
        beside,
        turn::tcp::serve(tcp, Arc::clone(app), limits.connections),
        sweep,
    );
}

/// Ends all allocations when it is dropped.
struct EndAll<'a>(&'a Turn);

impl Drop for EndAll<'_> {
    fn drop(&mut self) {
        self.0.end_all();
    }
}

/// Writes down for ever when members were last seen.
async fn save_last_seen(app: &App) {
    loop {
        tokio::time::sleep(SAVE_INTERVAL).await;
        if let Err(error) = app.networks.save_last_seen(false).await {
            tracing::error!(%error, "will try again");
        }
    }
}
