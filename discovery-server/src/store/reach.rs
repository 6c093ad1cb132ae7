//! Does the database answer? Where it does not for long, nothing waits for it: other servers may still have theirs.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use sqlx::{Any, AnyConnection, Connection as _, pool::PoolConnection};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{
    Beginning, Listener, Store, StoreError,
    error::{Cause, doing},
    open::{self, Pools, Sharing},
};

/// It is asked this often.
const PULSE: Duration = Duration::from_secs(1);

/// An answer to a question of one word takes milliseconds. Busy machines get this long.
const ANSWER: Duration = Duration::from_secs(3);

/// Without any answer for so long a server is cut off. A restart of PostgreSQL is shorter, and the lease twice as long: clients
/// that have another server are there before this one is taken for dead.
const SILENCE: Duration = Duration::from_secs(6);

/// An operation that takes longer hangs: PostgreSQL itself ends each of its statements before.
const LONGEST: Duration = Duration::from_secs(30);

/// The way to the database.
#[derive(Debug)]
pub(super) struct Reach {
    pools: Mutex<Pools>,
    is_there: watch::Sender<bool>,
    /// Whether something may have been missed, here or by the others.
    in_doubt: AtomicBool,
}

impl Reach {
    /// Of a database that has just answered.
    pub(super) fn new(pools: Pools) -> Self {
        Self {
            pools: Mutex::new(pools),
            is_there: watch::Sender::new(true),
            in_doubt: AtomicBool::new(false),
        }
    }

    pub(super) fn pools(&self) -> Pools {
        let pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.clone()
    }

    /// What hangs on the old connections may hang until the kernel gives them up.
    fn renew(&self, pools: Pools) {
        *self.pools.lock().unwrap_or_else(PoisonError::into_inner) = pools;
    }
}

impl Store {
    /// Carries an operation out, unless or until the server is cut off from its database.
    pub(super) async fn run<T>(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, StoreError> {
        let mut reach = self.reach.is_there.subscribe();
        tokio::select! {
            biased;
            _ = reach.wait_for(|is_there| !is_there) => Err(doing(operation)(Cause::CutOff)),
            done = work => done.map_err(doing(operation)),
            () = sleep(LONGEST), if self.is_shared() => {
                // What it was about to change may have been changed.
                self.must_begin_anew();
                Err(doing(operation)(Cause::CutOff))
            }
        }
    }

    pub(super) async fn reader(&self) -> Result<PoolConnection<Any>, sqlx::Error> {
        self.reach.pools().readers.acquire().await
    }

    /// Returns when the database has not answered for too long. It is asked over a connection of its own, on which no question
    /// waits for others.
    pub(crate) async fn silence(&self) {
        let (mut answered, mut own) = (Instant::now(), None);
        while answered.elapsed() < SILENCE {
            sleep(PULSE).await;
            let asked = Instant::now();
            match timeout(ANSWER, self.pulse(&mut own)).await {
                Ok(Ok(())) => answered = asked,
                Ok(Err(error)) => tracing::warn!(%error, "the database does not answer"),
                Err(_) => tracing::warn!("the database does not answer in time"),
            }
        }
    }

    /// What fails on the connection ends it.
    async fn pulse(&self, own: &mut Option<AnyConnection>) -> Result<(), StoreError> {
        const OPERATION: &str = "ask whether it is there";
        let mut connection = match own.take() {
            Some(connection) => connection,
            None => open::connect(&self.sharing).await?,
        };
        connection.ping().await.map_err(doing(OPERATION))?;
        *own = Some(connection);
        Ok(())
    }

    /// Gives up everything that waits for the database, and refuses what would.
    pub(crate) fn cut_off(&self) {
        self.reach.is_there.send_replace(false);
    }

    /// Tries to be one of the servers again, over new connections. What is refused goes on being so until [`Self::resume`].
    pub(crate) async fn come_back(&self) -> Result<(Listener, Beginning), StoreError> {
        const OPERATION: &str = "come back to the database";
        let Sharing::Shared(url) = &self.sharing else {
            return Err(doing(OPERATION)(Cause::CutOff));
        };
        self.reach.renew(open::postgres_pools(url)?);
        // Who could not be told of meanwhile is not connected any more.
        self.reach.in_doubt.store(false, Relaxed);
        let back = async {
            let listener = Listener::begin(url).await?;
            Ok((listener, self.enlist_now().await?))
        };
        let back = timeout(ANSWER, back).await;
        back.unwrap_or_else(|_| Err(sqlx::Error::PoolTimedOut))
            .map_err(doing(OPERATION))
    }

    /// Serves again.
    pub(crate) fn resume(&self) {
        self.reach.is_there.send_replace(true);
    }

    /// Something may have been missed, here or by the others.
    pub(crate) fn must_begin_anew(&self) {
        self.reach.in_doubt.store(true, Relaxed);
    }

    /// Whether something may have been missed since this was asked last.
    pub(crate) fn takes_begin_anew(&self) -> bool {
        self.reach.in_doubt.swap(false, Relaxed)
    }

    /// Finishes what is under way and closes the database.
    pub(crate) async fn close(&self) {
        let Pools { writer, readers } = self.reach.pools();
        let closed = async {
            readers.close().await;
            writer.close().await;
        };
        // A connection that hangs would be waited for until the kernel gives it up.
        if timeout(ANSWER, closed).await.is_err() {
            tracing::warn!("the database was not closed in time");
        }
    }
}
