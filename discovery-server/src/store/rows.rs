//! How is a network or a member written into a row, and read back?

use std::net::Ipv4Addr;

use mesh_wire::{NetworkId, NodeId, peer_info::PeerRecord};
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};

use super::NetworkRow;
use crate::{auth::TokenHash, registry::Member};

pub(super) async fn network(
    connection: &mut SqliteConnection,
    id: &NetworkId,
) -> Result<Option<NetworkRow>, sqlx::Error> {
    let query =
        "SELECT id, cidr, network_key, admission_hash, created_at FROM networks WHERE id = ?";
    let row = sqlx::query(query)
        .bind(id.as_str())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(read_network).transpose()
}

pub(super) async fn networks(
    connection: &mut SqliteConnection,
) -> Result<Vec<(NetworkRow, u64)>, sqlx::Error> {
    let query = "SELECT id, cidr, network_key, admission_hash, created_at, \
                 (SELECT count(*) FROM peers WHERE network = networks.id) AS peers \
                 FROM networks ORDER BY id";
    let rows = sqlx::query(query).fetch_all(connection).await?;
    rows.iter()
        .map(|row| Ok((read_network(row)?, unsigned(row.try_get("peers")?))))
        .collect()
}

pub(super) async fn count_networks(connection: &mut SqliteConnection) -> Result<u64, sqlx::Error> {
    let query = sqlx::query_scalar("SELECT count(*) FROM networks");
    query.fetch_one(connection).await.map(unsigned)
}

pub(super) async fn insert_network(
    connection: &mut SqliteConnection,
    row: &NetworkRow,
) -> Result<(), sqlx::Error> {
    let query = "INSERT INTO networks (id, cidr, network_key, admission_hash, created_at) \
                 VALUES (?, ?, ?, ?, ?)";
    sqlx::query(query)
        .bind(row.id.as_str())
        .bind(row.cidr.to_string())
        .bind(
            row.network_key
                .map(|key| key.to_string())
                .unwrap_or_default(),
        )
        .bind(row.admission.as_bytes().to_vec())
        .bind(signed(row.created_at))
        .execute(connection)
        .await
        .map(drop)
}

pub(super) async fn members(
    connection: &mut SqliteConnection,
    network: &NetworkId,
) -> Result<Vec<Member>, sqlx::Error> {
    let query =
        "SELECT record, name, virtual_ip, last_seen FROM peers WHERE network = ? ORDER BY name";
    let rows = sqlx::query(query)
        .bind(network.as_str())
        .fetch_all(connection)
        .await?;
    rows.iter().map(read_member).collect()
}

pub(super) async fn member(
    connection: &mut SqliteConnection,
    network: &NetworkId,
    node: &NodeId,
) -> Result<Option<Member>, sqlx::Error> {
    let query =
        "SELECT record, name, virtual_ip, last_seen FROM peers WHERE network = ? AND node_id = ?";
    let row = sqlx::query(query)
        .bind(network.as_str())
        .bind(node.to_string())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(read_member).transpose()
}

pub(super) async fn put_member(
    connection: &mut SqliteConnection,
    network: &NetworkId,
    member: &Member,
) -> Result<(), sqlx::Error> {
    let query = "INSERT INTO peers (network, node_id, record, name, virtual_ip, last_seen) \
                 VALUES (?, ?, ?, ?, ?, ?) \
                 ON CONFLICT (network, node_id) DO UPDATE SET record = excluded.record, \
                 name = excluded.name, virtual_ip = excluded.virtual_ip, last_seen = excluded.last_seen";
    let record = serde_json::to_string(&member.record)
        .map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
    sqlx::query(query)
        .bind(network.as_str())
        .bind(member.record.node_id.to_string())
        .bind(record)
        .bind(&member.name)
        .bind(i64::from(u32::from(member.virtual_ip)))
        .bind(signed(member.last_seen))
        .execute(connection)
        .await
        .map(drop)
}

pub(super) async fn remove_member(
    connection: &mut SqliteConnection,
    network: &NetworkId,
    node: &NodeId,
) -> Result<bool, sqlx::Error> {
    sqlx::query("DELETE FROM peers WHERE network = ? AND node_id = ?")
        .bind(network.as_str())
        .bind(node.to_string())
        .execute(connection)
        .await
        .map(|result| result.rows_affected() > 0)
}

/// SQLite has signed integers only. Our counts and times since 1970 stay far below 2^63.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The inverse of [`signed`].
pub(super) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

fn read_network(row: &SqliteRow) -> Result<NetworkRow, sqlx::Error> {
    let hash: Vec<u8> = row.try_get("admission_hash")?;
    let hash: [u8; 32] = hash
        .try_into()
        .map_err(|_| damaged("admission_hash", "it is not 32 bytes long"))?;
    Ok(NetworkRow {
        id: parse(row, "id")?,
        cidr: parse(row, "cidr")?,
        network_key: match row.try_get::<&str, _>("network_key")? {
            "" => None,
            _ => Some(parse(row, "network_key")?),
        },
        admission: TokenHash::from_bytes(hash),
        created_at: unsigned(row.try_get("created_at")?),
    })
}

fn read_member(row: &SqliteRow) -> Result<Member, sqlx::Error> {
    let record: &str = row.try_get("record")?;
    let record: PeerRecord =
        serde_json::from_str(record).map_err(|error| damaged("record", error))?;
    let address = u32::try_from(row.try_get::<i64, _>("virtual_ip")?)
        .map_err(|error| damaged("virtual_ip", error))?;
    Ok(Member {
        record,
        name: row.try_get("name")?,
        virtual_ip: Ipv4Addr::from(address),
        last_seen: unsigned(row.try_get("last_seen")?),
    })
}

fn parse<T>(row: &SqliteRow, column: &'static str) -> Result<T, sqlx::Error>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text: &str = row.try_get(column)?;
    text.parse().map_err(|error: T::Err| damaged(column, error))
}

fn damaged(column: &str, why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> sqlx::Error {
    sqlx::Error::ColumnDecode {
        index: column.to_owned(),
        source: why.into(),
    }
}
