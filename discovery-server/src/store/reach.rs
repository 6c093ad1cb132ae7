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

    /// Something may have been missed, here or by the others.
    fn doubt(&self) {
        self.in_doubt.store(true, Relaxed);
    }

    /// Whether something may have been missed since this was asked last.
    fn takes_doubt(&self) -> bool {
        self.in_doubt.swap(false, Relaxed)
    }

    /// What waits is given up, and what comes is refused.
    fn cut_off(&self) {
        self.is_there.send_replace(false);
    }

    /// Serves again, after all was begun anew: what failed until now is known to everybody. That includes connections that were
    /// cut off and have ended only just now.
    fn resume(&self) {
        self.takes_doubt();
        self.is_there.send_replace(true);
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
            done = work => done.map_err(|error| {
                // Of one server with one file, which other writers or another program keep busy.
                let is_busy = matches!(error, sqlx::Error::PoolTimedOut) && !self.is_shared();
                doing(operation)(if is_busy { Cause::Busy } else { error.into() })
            }),
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
        self.reach.cut_off();
    }

    /// Tries to be one of the servers again, over new connections. What is refused goes on being so until [`Self::resume`].
    pub(crate) async fn come_back(&self) -> Result<(Listener, Beginning), StoreError> {
        const OPERATION: &str = "come back to the database";
        let Sharing::Shared(url) = &self.sharing else {
            return Err(doing(OPERATION)(Cause::CutOff));
        };
        self.reach.renew(open::postgres_pools(url)?);
        let back = async {
            let listener = Listener::begin(url).await?;
            Ok((listener, self.enlist_now().await?))
        };
        let back = timeout(ANSWER, back).await;
        back.unwrap_or_else(|_| Err(sqlx::Error::PoolTimedOut))
            .map_err(doing(OPERATION))
    }

    /// Serves again. Who could not be told of meanwhile is not connected any more.
    pub(crate) fn resume(&self) {
        self.reach.resume();
    }

    /// Something may have been missed, here or by the others.
    pub(crate) fn must_begin_anew(&self) {
        self.reach.doubt();
    }

    /// Whether something may have been missed since this was asked last.
    pub(crate) fn takes_begin_anew(&self) -> bool {
        self.reach.takes_doubt()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::Database;

    fn reach() -> Reach {
        open::install_drivers();
        let Ok(Database::Postgres(url)) = "postgres://nobody@127.0.0.1:1/none".parse() else {
            unreachable!("it is one of PostgreSQL");
        };
        Reach::new(open::postgres_pools(&url).unwrap())
    }

    #[tokio::test]
    async fn what_fails_while_a_server_is_cut_off_does_not_make_it_begin_anew_again() {
        let reach = reach();
        reach.cut_off();
        reach.doubt();
        reach.renew(reach.pools());
        // A connection that ends while the server enlists.
        reach.doubt();
        reach.resume();
        assert!(*reach.is_there.borrow());
        assert!(!reach.takes_doubt());
        // What fails behind that does.
        reach.doubt();
        assert!(reach.takes_doubt());
        assert!(!reach.takes_doubt());
    }
}
