//! What do all requests and connections share?

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use mesh_wire::problem::Problem;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    auth::AdminTokens,
    membership::Networks,
    metrics::Metrics,
    proxies::Proxies,
    rate::{Rate, Sources},
    turn::Turn,
};

/// People create networks by hand, a few at a time; a whole office may share one address.
const CREATE_RATE: Rate = Rate {
    burst: 20,
    refill: Duration::from_secs(60),
};

/// A home of 50 that starts all at once, twice over; a daemon registers again only when something about it changed.
const REGISTER_RATE: Rate = Rate {
    burst: 100,
    refill: Duration::from_secs(1),
};

/// The state of a running server.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) networks: Arc<Networks>,
    pub(crate) admin: AdminTokens,
    pub(crate) stun_port: Option<u16>,
    pub(crate) public_ip: Option<IpAddr>,
    /// Who may say for whom it asks.
    pub(crate) proxies: Proxies,
    pub(crate) metrics: Metrics,
    /// Unless the operator wants none.
    pub(crate) turn: Option<Arc<Turn>>,
    /// Cancelled when the server shall end.
    pub(crate) shutdown: CancellationToken,
    /// Event connections and changes under way: the database stays open until they are done.
    pub(crate) tasks: TaskTracker,
    created: Mutex<Sources>,
    registered: Mutex<Sources>,
}

impl App {
    /// The state at the start.
    pub(crate) fn new(
        networks: Networks,
        admin: AdminTokens,
        proxies: Proxies,
        (stun_port, public_ip): (Option<u16>, Option<IpAddr>),
        turn: Option<Arc<Turn>>,
    ) -> Self {
        Self {
            networks: Arc::new(networks),
            admin,
            stun_port,
            public_ip,
            proxies,
            metrics: Metrics::new(),
            turn,
            shutdown: CancellationToken::new(),
            tasks: TaskTracker::new(),
            created: Mutex::new(Sources::new(CREATE_RATE)),
            registered: Mutex::new(Sources::new(REGISTER_RATE)),
        }
    }

    /// Whether this source may create one more network.
    pub(crate) fn may_create(&self, source: IpAddr, now: Instant) -> bool {
        let mut created = self.created.lock().unwrap_or_else(PoisonError::into_inner);
        created.take(source, now)
    }

    /// Whether this source may register one more record.
    pub(crate) fn may_register(&self, source: IpAddr, now: Instant) -> bool {
        let mut registered = self
            .registered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        registered.take(source, now)
    }

    /// Runs a change to its end even if the client that asked for it hangs up: what is stored is also told.
    pub(crate) async fn to_completion<F>(&self, change: F) -> Result<F::Output, Problem>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        self.tasks.spawn(change).await.map_err(|error| {
            tracing::error!(%error, "a change was not completed");
            Problem::new(500, "internal", "the server could not complete the request")
                .fix("report it with the server's log")
        })
    }
}
