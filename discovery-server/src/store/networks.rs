//! How does a network come and go, and what is remembered of one that was deleted?

use mesh_wire::{NetworkId, NodeId};
use sqlx::{Any, AnyConnection, any::AnyArguments, query::Query};

use super::{Created, NetworkRow, Store, StoreError, rows};
use crate::registry::{MAX_DELETED, MAX_NETWORKS};

impl Store {
    /// Creates a network unless its name is taken; one that was deleted here only if it `is_wanted_back`.
    pub(crate) async fn create_network(
        &self,
        new: &NetworkRow,
        is_wanted_back: bool,
    ) -> Result<Created, StoreError> {
        let create = async {
            let mut tx = self.begin().await?;
            let created = create(&mut tx, new, is_wanted_back).await?;
            self.commit(tx).await?;
            Ok(created)
        };
        self.run("create a network", create).await
    }

    /// Deletes a network with its members, and remembers that if `remembered_at` says when; else forgets what was deleted
    /// under its name before. Who its members were, if there was anything to delete or to forget.
    pub(crate) async fn delete_network(
        &self,
        id: &NetworkId,
        remembered_at: Option<u64>,
    ) -> Result<Option<Vec<NodeId>>, StoreError> {
        let delete = async {
            let mut tx = self.begin().await?;
            let deleted = self.delete_in(&mut tx, id, remembered_at).await?;
            self.commit(tx).await?;
            Ok(deleted)
        };
        self.run("delete a network", delete).await
    }

    async fn delete_in(
        &self,
        tx: &mut AnyConnection,
        id: &NetworkId,
        remembered_at: Option<u64>,
    ) -> Result<Option<Vec<NodeId>>, sqlx::Error> {
        let was_forgotten = match remembered_at {
            Some(_) => false,
            None => forget(tx, id).await?,
        };
        let Some(network) = rows::network(tx, id).await? else {
            return Ok(was_forgotten.then(Vec::new));
        };
        if let Some(now) = remembered_at {
            remember(tx, &network, now).await?;
        }
        let members = rows::nodes(tx, id).await?;
        self.tell_deleted_in(tx, id).await?;
        sqlx::query("DELETE FROM networks WHERE id = $1")
            .bind(id.as_str())
            .execute(&mut *tx)
            .await?;
        Ok(Some(members))
    }
}

async fn create(
    tx: &mut AnyConnection,
    new: &NetworkRow,
    is_wanted_back: bool,
) -> Result<Created, sqlx::Error> {
    if !is_wanted_back && is_deleted(tx, new).await? {
        return Ok(Created::Deleted);
    }
    if let Some(row) = rows::network(tx, &new.id).await? {
        let same = (row.cidr, row.network_key, row.admission)
            == (new.cidr, new.network_key, new.admission);
        return Ok(match same {
            true => Created::Same(row),
            false => Created::Taken,
        });
    }
    if rows::count_networks(tx).await? >= MAX_NETWORKS {
        return Ok(Created::TooMany);
    }
    if is_wanted_back {
        let statement = "DELETE FROM deleted_networks \
                     WHERE id = $1 AND network_key = $2 AND (network_key <> '' OR admission_hash = $3)";
        bound(sqlx::query(statement), new).execute(&mut *tx).await?;
    }
    rows::insert_network(tx, new).await?;
    Ok(Created::New)
}

/// Beyond [`MAX_DELETED`] those are forgotten that were deleted first.
async fn remember(
    tx: &mut AnyConnection,
    network: &NetworkRow,
    now: u64,
) -> Result<(), sqlx::Error> {
    let statement = "INSERT INTO deleted_networks (id, network_key, admission_hash, deleted_at) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (id, network_key, admission_hash) DO UPDATE SET deleted_at = excluded.deleted_at";
    bound(sqlx::query(statement), network)
        .bind(rows::signed(now))
        .execute(&mut *tx)
        .await?;
    let statement = "DELETE FROM deleted_networks WHERE deleted_at < \
                 (SELECT deleted_at FROM deleted_networks ORDER BY deleted_at DESC LIMIT 1 OFFSET $1)";
    let last = rows::signed(MAX_DELETED.saturating_sub(1));
    sqlx::query(statement)
        .bind(last)
        .execute(tx)
        .await
        .map(drop)
}

/// Whether one of its name was deleted that has the same key, or where there is none the same token: a stranger's network
/// that had the name and was deleted is another one.
async fn is_deleted(
    connection: &mut AnyConnection,
    network: &NetworkRow,
) -> Result<bool, sqlx::Error> {
    let statement = "SELECT id FROM deleted_networks \
                 WHERE id = $1 AND network_key = $2 AND (network_key <> '' OR admission_hash = $3) LIMIT 1";
    let found = bound(sqlx::query(statement), network).fetch_optional(connection);
    Ok(found.await?.is_some())
}

/// Whether one of this name was remembered.
async fn forget(tx: &mut AnyConnection, id: &NetworkId) -> Result<bool, sqlx::Error> {
    let query = sqlx::query("DELETE FROM deleted_networks WHERE id = $1");
    let result = query.bind(id.as_str()).execute(tx).await?;
    Ok(result.rows_affected() > 0)
}

/// With what tells a network from others.
fn bound<'q>(
    query: Query<'q, Any, AnyArguments>,
    network: &NetworkRow,
) -> Query<'q, Any, AnyArguments> {
    query
        .bind(network.id.as_str().to_owned())
        .bind(rows::key_text(network))
        .bind(network.admission.as_bytes().to_vec())
}
