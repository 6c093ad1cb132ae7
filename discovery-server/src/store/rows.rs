//! How is a network or a member written into a row, and read back?

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use mesh_wire::{NetworkId, NodeId, WireGuardKey, id::check_dns_label, peer_info::PeerRecord};
use sqlx::{AnyConnection, Row as _, any::AnyRow};

use super::NetworkRow;
use crate::{auth::TokenHash, news::News, registry::Member};

pub(super) async fn network(
    connection: &mut AnyConnection,
    id: &NetworkId,
) -> Result<Option<NetworkRow>, sqlx::Error> {
    let query =
        "SELECT id, cidr, network_key, admission_hash, created_at FROM networks WHERE id = $1";
    let row = sqlx::query(query)
        .bind(id.as_str())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(read_network).transpose()
}

pub(super) async fn networks(
    connection: &mut AnyConnection,
) -> Result<Vec<(NetworkRow, u64)>, sqlx::Error> {
    let query = "SELECT id, cidr, network_key, admission_hash, created_at, \
                 (SELECT count(*) FROM peers WHERE network = networks.id) AS peers \
                 FROM networks ORDER BY id";
    let rows = sqlx::query(query).fetch_all(connection).await?;
    rows.iter()
        .map(|row| Ok((read_network(row)?, unsigned(row.try_get("peers")?))))
        .collect()
}

pub(super) async fn count_networks(connection: &mut AnyConnection) -> Result<u64, sqlx::Error> {
    let query = sqlx::query_scalar("SELECT count(*) FROM networks");
    query.fetch_one(connection).await.map(unsigned)
}

pub(super) async fn insert_network(
    connection: &mut AnyConnection,
    row: &NetworkRow,
) -> Result<(), sqlx::Error> {
    let query = "INSERT INTO networks (id, cidr, network_key, admission_hash, created_at) \
                 VALUES ($1, $2, $3, $4, $5)";
    sqlx::query(query)
        .bind(row.id.as_str())
        .bind(row.cidr.to_string())
        .bind(key_text(row))
        .bind(row.admission.as_bytes().to_vec())
        .bind(signed(row.created_at))
        .execute(connection)
        .await
        .map(drop)
}

/// A network's key as a column has it: empty where there is none.
pub(super) fn key_text(row: &NetworkRow) -> String {
    row.network_key
        .map(|key| key.to_string())
        .unwrap_or_default()
}

pub(super) async fn members(
    connection: &mut AnyConnection,
    network: &NetworkId,
    (after, most): (&str, usize),
) -> Result<Vec<Member>, sqlx::Error> {
    let query = "SELECT record, name, virtual_ip, last_seen FROM peers \
                 WHERE network = $1 AND name > $2 ORDER BY name LIMIT $3";
    let rows = sqlx::query(query)
        .bind(network.as_str())
        .bind(after)
        .bind(i64::try_from(most).unwrap_or(i64::MAX))
        .fetch_all(connection)
        .await?;
    rows.iter().map(read_member).collect()
}

pub(super) async fn member(
    connection: &mut AnyConnection,
    network: &NetworkId,
    node: &NodeId,
) -> Result<Option<Member>, sqlx::Error> {
    let query =
        "SELECT record, name, virtual_ip, last_seen FROM peers WHERE network = $1 AND node_id = $2";
    let row = sqlx::query(query)
        .bind(network.as_str())
        .bind(node.to_string())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(read_member).transpose()
}

/// Whom a client asks for: by node, address or name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) nodes: &'a [NodeId],
    pub(crate) addresses: &'a [IpAddr],
    pub(crate) names: &'a [String],
}

pub(super) async fn find_members(
    connection: &mut AnyConnection,
    network: &NetworkId,
    wanted: Wanted<'_>,
) -> Result<Vec<Member>, sqlx::Error> {
    let mut found = Vec::new();
    for node in wanted.nodes {
        found.extend(member(connection, network, node).await?);
    }
    let by_address = "SELECT record, name, virtual_ip, last_seen FROM peers WHERE network = $1 AND virtual_ip = $2";
    for address in wanted.addresses {
        let IpAddr::V4(address) = address else {
            continue;
        };
        let query = sqlx::query(by_address)
            .bind(network.as_str())
            .bind(i64::from(u32::from(*address)));
        let row = query.fetch_optional(&mut *connection).await?;
        found.extend(row.as_ref().map(read_member).transpose()?);
    }
    let by_name =
        "SELECT record, name, virtual_ip, last_seen FROM peers WHERE network = $1 AND name = $2";
    // What is no name is nobody's.
    for name in wanted
        .names
        .iter()
        .filter(|name| check_dns_label("name", name).is_ok())
    {
        let query = sqlx::query(by_name).bind(network.as_str()).bind(name);
        let row = query.fetch_optional(&mut *connection).await?;
        found.extend(row.as_ref().map(read_member).transpose()?);
    }
    Ok(found)
}

pub(super) async fn put_member(
    connection: &mut AnyConnection,
    network: &NetworkId,
    member: &Member,
) -> Result<(), sqlx::Error> {
    let query = "INSERT INTO peers (network, node_id, record, name, virtual_ip, last_seen, wireguard_key) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7) \
                 ON CONFLICT (network, node_id) DO UPDATE SET record = excluded.record, name = excluded.name, \
                 virtual_ip = excluded.virtual_ip, last_seen = excluded.last_seen, \
                 wireguard_key = excluded.wireguard_key";
    let record = serde_json::to_string(&member.record)
        .map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
    sqlx::query(query)
        .bind(network.as_str())
        .bind(member.record.node_id.to_string())
        .bind(record)
        .bind(&member.name)
        .bind(i64::from(u32::from(member.virtual_ip)))
        .bind(signed(member.last_seen))
        .bind(member.record.wireguard_key.to_string())
        .execute(connection)
        .await
        .map(drop)
}

/// The nodes that are members of a network.
pub(super) async fn nodes(
    connection: &mut AnyConnection,
    network: &NetworkId,
) -> Result<Vec<NodeId>, sqlx::Error> {
    let query = sqlx::query("SELECT node_id FROM peers WHERE network = $1");
    let rows = query.bind(network.as_str()).fetch_all(connection).await?;
    rows.iter().map(|row| parse(row, "node_id")).collect()
}

/// How many members a network has.
pub(super) async fn count_members(
    connection: &mut AnyConnection,
    network: &NetworkId,
) -> Result<u64, sqlx::Error> {
    let query = sqlx::query_scalar("SELECT count(*) FROM peers WHERE network = $1");
    let count = query.bind(network.as_str()).fetch_one(connection).await;
    count.map(unsigned)
}

/// Something that no two members of a network have.
#[derive(Debug, Clone, Copy)]
pub(super) enum Unique<'a> {
    Address(Ipv4Addr),
    Name(&'a str),
    WireGuardKey(&'a WireGuardKey),
}

/// Whether a member other than `node` has it.
pub(super) async fn is_taken(
    connection: &mut AnyConnection,
    (network, node): (&NetworkId, &NodeId),
    what: Unique<'_>,
) -> Result<bool, sqlx::Error> {
    let query = match what {
        Unique::Address(address) => sqlx::query_scalar(
            "SELECT count(*) FROM peers WHERE network = $1 AND node_id <> $2 AND virtual_ip = $3",
        )
        .bind(network.as_str())
        .bind(node.to_string())
        .bind(i64::from(u32::from(address))),
        Unique::Name(name) => sqlx::query_scalar(
            "SELECT count(*) FROM peers WHERE network = $1 AND node_id <> $2 AND name = $3",
        )
        .bind(network.as_str())
        .bind(node.to_string())
        .bind(name),
        Unique::WireGuardKey(key) => sqlx::query_scalar(
            "SELECT count(*) FROM peers WHERE network = $1 AND node_id <> $2 AND wireguard_key = $3",
        )
        .bind(network.as_str())
        .bind(node.to_string())
        .bind(key.to_string()),
    };
    let count: i64 = query.fetch_one(connection).await?;
    Ok(count > 0)
}

/// The names and addresses that the members have.
pub(super) async fn places(
    connection: &mut AnyConnection,
    network: &NetworkId,
) -> Result<(BTreeSet<String>, BTreeSet<Ipv4Addr>), sqlx::Error> {
    let query = sqlx::query("SELECT name, virtual_ip FROM peers WHERE network = $1");
    let rows = query.bind(network.as_str()).fetch_all(connection).await?;
    let (mut names, mut addresses) = (BTreeSet::new(), BTreeSet::new());
    for row in &rows {
        names.insert(row.try_get("name")?);
        addresses.insert(read_address(row)?);
    }
    Ok((names, addresses))
}

pub(super) async fn remove_member(
    connection: &mut AnyConnection,
    network: &NetworkId,
    node: &NodeId,
) -> Result<bool, sqlx::Error> {
    sqlx::query("DELETE FROM peers WHERE network = $1 AND node_id = $2")
        .bind(network.as_str())
        .bind(node.to_string())
        .execute(connection)
        .await
        .map(|result| result.rows_affected() > 0)
}

/// Databases have signed integers only. Our counts and times since 1970 stay far below 2^63.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The inverse of [`signed`].
pub(super) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

fn read_network(row: &AnyRow) -> Result<NetworkRow, sqlx::Error> {
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

fn read_member(row: &AnyRow) -> Result<Member, sqlx::Error> {
    let record: &str = row.try_get("record")?;
    let record: PeerRecord =
        serde_json::from_str(record).map_err(|error| damaged("record", error))?;
    Ok(Member {
        record,
        name: row.try_get("name")?,
        virtual_ip: read_address(row)?,
        last_seen: unsigned(row.try_get("last_seen")?),
    })
}

/// Network, node and server of a row with these columns.
pub(super) fn read_presence(row: &AnyRow) -> Result<(NetworkId, NodeId, u64), sqlx::Error> {
    let replica = unsigned(row.try_get("replica")?);
    Ok((parse(row, "network")?, parse(row, "node_id")?, replica))
}

pub(super) fn read_news(row: &AnyRow) -> Result<News, sqlx::Error> {
    let change: &str = row.try_get("change")?;
    Ok(News {
        seq: unsigned(row.try_get("seq")?),
        replica: unsigned(row.try_get("replica")?),
        network: parse(row, "network")?,
        change: serde_json::from_str(change).map_err(|error| damaged("change", error))?,
    })
}

fn read_address(row: &AnyRow) -> Result<Ipv4Addr, sqlx::Error> {
    u32::try_from(row.try_get::<i64, _>("virtual_ip")?)
        .map(Ipv4Addr::from)
        .map_err(|error| damaged("virtual_ip", error))
}

fn parse<T>(row: &AnyRow, column: &'static str) -> Result<T, sqlx::Error>
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
