//! How do several servers share a PostgreSQL database: who is at work, whose clients are connected where, and what do they
//! tell each other? With SQLite there is one server, and all of this does nothing.

use mesh_wire::{NetworkId, NodeId};
use sqlx::{AnyConnection, postgres::PgListener};

use super::{
    Store, StoreError,
    error::doing,
    open::Sharing,
    rows::{self, signed, unsigned},
};
use crate::{
    database::PostgresUrl,
    news::{Change, News},
};

/// Servers listen for this.
const CHANNEL: &str = "discovery_news";

/// Tells all who listen, when the change is committed.
const NOTIFY: &str = "NOTIFY discovery_news";

/// A server that has not been heard of for so long is dead; it renews three times as often.
const LEASE: &str = "15 seconds";

/// News are kept this long. A server that heard nothing for half of it begins anew.
const KEPT: &str = "10 minutes";

/// News that are read at once.
const BATCH: i64 = 1_000;

/// What a server knows when it begins: what it has not missed, and who is connected elsewhere.
#[derive(Debug, Default)]
pub(crate) struct Beginning {
    pub(crate) seq: u64,
    pub(crate) present: Vec<(NetworkId, NodeId, u64)>,
}

/// Hears when others tell something.
#[derive(Debug)]
pub(crate) struct Listener(PgListener);

impl Listener {
    pub(super) async fn begin(url: &PostgresUrl) -> Result<Self, sqlx::Error> {
        let mut listener = PgListener::connect(url.expose()).await?;
        listener.listen(CHANNEL).await?;
        Ok(Self(listener))
    }

    /// Waits until something was told, or may have been.
    pub(crate) async fn heard(&mut self) -> Result<(), StoreError> {
        let heard = self.0.try_recv().await;
        heard
            .map(drop)
            .map_err(doing("listen to the other servers"))
    }
}

impl Store {
    /// Whether other servers may be at work on this database.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self.sharing, Sharing::Shared(_))
    }

    /// Listens for news, if there may be any.
    pub(crate) async fn listener(&self) -> Result<Option<Listener>, StoreError> {
        let Sharing::Shared(url) = &self.sharing else {
            return Ok(None);
        };
        let listen = async { Listener::begin(url).await.map(Some) };
        self.run("listen to the other servers", listen).await
    }

    /// Begins to be one of the servers of a shared database.
    pub(crate) async fn enlist(&self) -> Result<Beginning, StoreError> {
        if !self.is_shared() {
            return Ok(Beginning::default());
        }
        self.run("begin among the servers", self.enlist_now()).await
    }

    pub(super) async fn enlist_now(&self) -> Result<Beginning, sqlx::Error> {
        let mut tx = self.begin().await?;
        let beginning = enlist(&mut tx, self.epoch).await?;
        self.commit(tx).await?;
        Ok(beginning)
    }

    /// Shows that this server is alive, and tells everybody who is offline because another one is not. `false`: this one
    /// was taken for dead.
    pub(crate) async fn renew_lease(&self) -> Result<bool, StoreError> {
        let renew = async {
            let mut tx = self.begin().await?;
            let alive = renew_lease(&mut tx, self.epoch).await?;
            tx.commit().await?;
            Ok(alive)
        };
        self.run("renew the lease", renew).await
    }

    /// Leaves the servers of a shared database: whose clients are offline is known at once.
    pub(crate) async fn resign(&self) -> Result<(), StoreError> {
        if !self.is_shared() {
            return Ok(());
        }
        let resign = async {
            let mut tx = self.begin().await?;
            bury(&mut tx, self.epoch).await?;
            tx.commit().await
        };
        self.run("leave the other servers", resign).await
    }

    /// What others told after `seq`, at most a batch.
    pub(crate) async fn news(&self, seq: u64) -> Result<Vec<News>, StoreError> {
        let query =
            "SELECT seq, replica, network, change FROM news WHERE seq > $1 ORDER BY seq LIMIT $2";
        let read = async {
            let rows = sqlx::query(query)
                .bind(signed(seq))
                .bind(BATCH)
                .fetch_all(&mut *self.reader().await?)
                .await?;
            rows.iter().map(rows::read_news).collect()
        };
        self.run("read news", read).await
    }

    /// Tells the other servers something that is not about what is stored.
    pub(crate) async fn tell(
        &self,
        network: &NetworkId,
        change: &Change,
    ) -> Result<(), StoreError> {
        if !self.is_shared() {
            return Ok(());
        }
        let tell = async {
            let mut tx = self.begin().await?;
            self.tell_in(&mut tx, network, change).await?;
            tx.commit().await
        };
        self.run("tell the other servers", tell).await
    }

    /// Tells the other servers a change that is made in `tx`.
    pub(super) async fn tell_in(
        &self,
        tx: &mut AnyConnection,
        network: &NetworkId,
        change: &Change,
    ) -> Result<(), sqlx::Error> {
        if !self.is_shared() {
            return Ok(());
        }
        note_presence(tx, network, (change, self.epoch)).await?;
        tell(tx, network, (change, self.epoch)).await
    }

    /// Tells the other servers that a network is deleted in `tx`, and so that all its members have left. However many they
    /// are, the lock is not held for long; their presence goes with the network.
    pub(super) async fn tell_deleted_in(
        &self,
        tx: &mut AnyConnection,
        network: &NetworkId,
    ) -> Result<(), sqlx::Error> {
        if !self.is_shared() {
            return Ok(());
        }
        let told = (&Change::Deleted, self.epoch);
        tell(tx, network, told).await?;
        sqlx::query(
            "INSERT INTO news (replica, network, change) SELECT $1, network, \
             CAST(json_build_object('change', 'left', 'node', node_id) AS text) FROM peers WHERE network = $2",
        )
        .bind(signed(self.epoch))
        .bind(network.as_str())
        .execute(tx)
        .await
        .map(drop)
    }
}

async fn tell(
    tx: &mut AnyConnection,
    network: &NetworkId,
    (change, replica): (&Change, u64),
) -> Result<(), sqlx::Error> {
    let text =
        serde_json::to_string(change).map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
    sqlx::query("INSERT INTO news (replica, network, change) VALUES ($1, $2, $3)")
        .bind(signed(replica))
        .bind(network.as_str())
        .bind(text)
        .execute(&mut *tx)
        .await?;
    sqlx::query(NOTIFY).execute(tx).await.map(drop)
}

async fn note_presence(
    tx: &mut AnyConnection,
    network: &NetworkId,
    (change, replica): (&Change, u64),
) -> Result<(), sqlx::Error> {
    let (query, node) = match change {
        // A network or a member that is gone meanwhile, or a lease that was lost, leaves nothing to note.
        Change::Online { node } => (
            "INSERT INTO presence (network, node_id, replica) \
             SELECT peers.network, peers.node_id, replicas.id FROM peers, replicas \
             WHERE peers.network = $1 AND peers.node_id = $2 AND replicas.id = $3 \
             ON CONFLICT (network, node_id, replica) DO UPDATE SET came = DEFAULT",
            node,
        ),
        Change::Left { node } => {
            // Wherever it is connected.
            let query = "DELETE FROM presence WHERE network = $1 AND node_id = $2";
            let query = sqlx::query(query).bind(network.as_str());
            return query.bind(node.to_string()).execute(tx).await.map(drop);
        }
        Change::Offline { node, .. } => (
            "DELETE FROM presence WHERE network = $1 AND node_id = $2 AND replica = $3",
            node,
        ),
        Change::Joined { .. }
        | Change::Updated { .. }
        | Change::Revoked { .. }
        | Change::Deleted
        | Change::Signal { .. }
        | Change::Undeliverable { .. } => return Ok(()),
    };
    sqlx::query(query)
        .bind(network.as_str())
        .bind(node.to_string())
        .bind(signed(replica))
        .execute(tx)
        .await
        .map(drop)
}

async fn enlist(tx: &mut AnyConnection, replica: u64) -> Result<Beginning, sqlx::Error> {
    bury(tx, replica).await?;
    let query = "INSERT INTO replicas (id, alive_until) VALUES ($1, clock_timestamp() + CAST($2 AS interval))";
    sqlx::query(query)
        .bind(signed(replica))
        .bind(LEASE)
        .execute(&mut *tx)
        .await?;
    let seq = sqlx::query_scalar("SELECT coalesce(max(seq), 0) FROM news")
        .fetch_one(&mut *tx)
        .await?;
    let query = sqlx::query("SELECT network, node_id, replica FROM presence ORDER BY came");
    let rows = query.fetch_all(tx).await?;
    let present: Result<Vec<_>, sqlx::Error> = rows.iter().map(rows::read_presence).collect();
    Ok(Beginning {
        seq: unsigned(seq),
        present: present?,
    })
}

async fn renew_lease(tx: &mut AnyConnection, replica: u64) -> Result<bool, sqlx::Error> {
    // The time of the statement: now() is when the transaction began, before it waited for the lock.
    let query =
        "UPDATE replicas SET alive_until = clock_timestamp() + CAST($2 AS interval) WHERE id = $1";
    let renewed = sqlx::query(query)
        .bind(signed(replica))
        .bind(LEASE)
        .execute(&mut *tx)
        .await?;
    let dead = sqlx::query_scalar("SELECT id FROM replicas WHERE alive_until < clock_timestamp()");
    let dead: Vec<i64> = dead.fetch_all(&mut *tx).await?;
    for replica in dead {
        bury(tx, unsigned(replica)).await?;
    }
    sqlx::query("DELETE FROM news WHERE told_at < now() - CAST($1 AS interval)")
        .bind(KEPT)
        .execute(tx)
        .await?;
    Ok(renewed.rows_affected() > 0)
}

/// Removes a server, and tells everybody that its clients are not connected to it any more.
async fn bury(tx: &mut AnyConnection, replica: u64) -> Result<(), sqlx::Error> {
    let told = sqlx::query(
        "WITH gone AS (DELETE FROM presence WHERE replica = $1 RETURNING network, node_id, replica) \
         INSERT INTO news (replica, network, change) SELECT 0, network, \
         CAST(json_build_object('change', 'offline', 'node', node_id, 'replica', replica) AS text) FROM gone",
    )
    .bind(signed(replica))
    .execute(&mut *tx)
    .await?;
    if told.rows_affected() > 0 {
        sqlx::query(NOTIFY).execute(&mut *tx).await?;
    }
    sqlx::query("DELETE FROM replicas WHERE id = $1")
        .bind(signed(replica))
        .execute(tx)
        .await
        .map(drop)
}
