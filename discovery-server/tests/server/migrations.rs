//! Does a database of another version of the program keep what is in it?

use std::{
    path::Path,
    process::{Command, Output},
};

use mesh_wire::trust::Revocation;
use reqwest::StatusCode;
use sqlx::{Connection as _, PgConnection, SqliteConnection, migrate::Migrator};

use crate::{
    authority::{binding, now},
    harness::{Net, Node, Server, database, problem},
    snapshots::{snapshots, sqlite},
    starting::{FREE, assert_explains, failed_start},
    trust::Realm,
};

static SQLITE: Migrator = sqlx::migrate!("./migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("./migrations/postgres");

/// What a server keeps; who is connected where, and the news of that, is for the moment.
const TABLES: [&str; 4] = ["invite_uses", "networks", "peers", "revocations"];

/// Which the suite runs on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sqlite,
    Postgres,
}

fn kind() -> Kind {
    match std::env::var("MESHD_TEST_POSTGRES") {
        Ok(_) => Kind::Postgres,
        Err(_) => Kind::Sqlite,
    }
}

fn schema(kind: Kind) -> &'static Migrator {
    match kind {
        Kind::Sqlite => &SQLITE,
        Kind::Postgres => &POSTGRES,
    }
}

fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn psql(data: &Path, statements: &str) -> String {
    let output = Command::new("psql")
        .arg(&database(data)[1])
        .args(["-qAt", "-v", "ON_ERROR_STOP=1", "-c", statements])
        .output();
    succeeded(&output.unwrap()).trim().to_owned()
}

fn write_sqlite(data: &Path, statements: &str) {
    let output = Command::new("sqlite3")
        .arg(data.join("discovery.sqlite"))
        .arg(statements)
        .output();
    succeeded(&output.unwrap());
}

/// The columns of a table that `data` has; none where there is no such table.
fn columns(kind: Kind, data: &Path, table: &str) -> String {
    match kind {
        Kind::Sqlite => {
            let query = format!("SELECT group_concat(name) FROM pragma_table_info('{table}')");
            sqlite(&data.join("discovery.sqlite"), &query)
        }
        Kind::Postgres => {
            let query = format!(
                "SELECT string_agg(column_name, ',' ORDER BY ordinal_position) \
                 FROM information_schema.columns WHERE table_name = '{table}'"
            );
            psql(data, &query)
        }
    }
}

/// These columns of all rows, as text.
fn rows(kind: Kind, data: &Path, (table, columns): (&str, &str)) -> String {
    let order = "ORDER BY 1, 2";
    match kind {
        Kind::Sqlite => {
            // Some are bytes.
            let quoted: Vec<String> = columns
                .split(',')
                .map(|it| format!("quote({it})"))
                .collect();
            let query = format!("SELECT {} FROM {table} {order}", quoted.join(","));
            sqlite(&data.join("discovery.sqlite"), &query)
        }
        Kind::Postgres => psql(data, &format!("SELECT {columns} FROM {table} {order}")),
    }
}

/// Makes an empty database as the program of that schema did.
async fn make(kind: Kind, version: i64, data: &Path) {
    let schema = schema(kind);
    match kind {
        Kind::Sqlite => {
            let url = format!(
                "sqlite://{}?mode=rwc",
                data.join("discovery.sqlite").display()
            );
            let mut connection = SqliteConnection::connect(&url).await.unwrap();
            schema.run_to(version, &mut connection).await.unwrap();
            connection.close().await.unwrap();
        }
        Kind::Postgres => {
            let mut connection = PgConnection::connect(&database(data)[1]).await.unwrap();
            schema.run_to(version, &mut connection).await.unwrap();
            connection.close().await.unwrap();
        }
    }
}

/// Fills it with what fits of the rows of a later one.
fn fill(kind: Kind, data: &Path, later: &Path) {
    // In this order, for the sake of the keys between tables.
    for table in ["networks", "peers", "invite_uses", "revocations"] {
        let columns = columns(kind, data, table);
        if columns.is_empty() {
            continue;
        }
        match kind {
            Kind::Sqlite => {
                let later = later.join("discovery.sqlite");
                let later = later.display();
                write_sqlite(
                    data,
                    &format!(
                        "ATTACH '{later}' AS later; \
                         INSERT INTO main.{table} ({columns}) SELECT {columns} FROM later.{table};"
                    ),
                );
            }
            Kind::Postgres => {
                let (from, to) = (&database(later)[1], &database(data)[1]);
                let line = format!(
                    "psql {from} -qc 'COPY (SELECT {columns} FROM {table}) TO STDOUT' | \
                     psql {to} -qc 'COPY {table} ({columns}) FROM STDIN'"
                );
                let output = Command::new("bash").args(["-ec", &line]).output();
                succeeded(&output.unwrap());
            }
        }
    }
}

/// Networks of both kinds, with members, a link that is used up and a key that is out.
struct Filled {
    realm: Realm,
    psk: Net,
    members: Vec<Node>,
}

async fn filled() -> Filled {
    let realm = Realm::new().await;
    let server = &realm.server;
    let psk = Net::on(server, "office", "10.101.0.0/24").await;
    let members: Vec<Node> = (1..=20).map(|it| Node::new(it, "node")).collect();
    for member in &members {
        member.join(server, &psk, 1).await;
    }
    let invite = realm.week([50; 32], Some(1));
    let alice = Node::new(101, "alice");
    let certified = invite.certify(&realm.root(), &binding(&alice, 2)).unwrap();
    assert_eq!(realm.post(&alice, 1, Some(&certified)).await.status(), 201);
    let (bob, mallory) = (Node::new(102, "bob"), Node::new(103, "mallory"));
    for (node, address) in [(&bob, 3), (&mallory, 4)] {
        let certificate = realm.by_network(&binding(node, address));
        let answer = realm.post(node, 1, Some(&certificate)).await;
        assert_eq!(answer.status(), 201);
    }
    let out = Revocation::sign(&realm.root(), &realm.key, None, (&mallory.id(), now()));
    assert_eq!(realm.revoke(&out.unwrap()).await.status(), 204);
    Filled {
        realm,
        psk,
        members,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_each_earlier_version_keeps_its_rows_and_serves_them() {
    let kind = kind();
    let mut filled = filled().await;
    let certified = filled.realm.net.directory(&filled.realm.server).await;
    let office = filled.psk.directory(&filled.realm.server).await;
    assert_eq!((certified.peers.len(), office.peers.len()), (2, 20));
    filled.realm.server.stop();
    let versions: Vec<i64> = schema(kind).iter().map(|it| it.version).collect();
    assert!(!versions.is_empty());
    for version in versions {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        std::fs::create_dir_all(&data).unwrap();
        make(kind, version, &data).await;
        fill(kind, &data, &filled.realm.server.data);
        let shape = TABLES.map(|table| (table, columns(kind, &data, table)));
        let shape: Vec<_> = shape.iter().filter(|(_, it)| !it.is_empty()).collect();
        let as_it_was = |data: &Path| {
            let all = shape.iter();
            all.map(|(table, columns)| rows(kind, data, (table, columns)))
                .collect::<Vec<_>>()
        };
        let before = as_it_was(&data);
        assert!(before.iter().all(|rows| !rows.is_empty()), "{before:?}");

        let server = Server::start_in(directory, database, &[]);
        assert_eq!(as_it_was(&data), before, "from version {version}");
        judge(&server, &filled, (&certified.peers, &office.peers)).await;
        if kind == Kind::Sqlite && version < 3 {
            let kept = snapshots(&data);
            let query = "SELECT max(version) FROM _sqlx_migrations";
            assert_eq!(sqlite(&kept[0], query), version.to_string());
        }
        if shape.iter().any(|(table, _)| *table == "revocations") {
            let now = filled.realm.net.directory(&server).await;
            assert_eq!(now.revocations, certified.revocations);
        }
    }
}

/// All members are there, may come again, and nobody gets what is theirs.
async fn judge(
    server: &Server,
    filled: &Filled,
    (certified, office): (
        &[mesh_wire::peer_info::PeerInfo],
        &[mesh_wire::peer_info::PeerInfo],
    ),
) {
    let net = &filled.realm.net;
    assert_eq!(net.directory(server).await.peers, certified);
    assert_eq!(filled.psk.directory(server).await.peers, office);
    // With the WireGuard key of the first.
    let mut thief = Node::new(500, "thief").register(&filled.psk, 1);
    thief.record = mesh_wire::peer_info::PeerRecord::sign(
        &Node::new(500, "thief").key,
        &filled.psk.id,
        filled.members[0].record(&filled.psk, 1).wireguard_key,
        "thief",
        (1, 101),
    )
    .unwrap();
    let refused = filled.psk.post(server, &thief).await;
    assert_eq!(problem(refused).await.status, 409);
    for member in &filled.members {
        let register = member.register(&filled.psk, 2);
        let answer = filled.psk.post(server, &register).await;
        assert_eq!(answer.status(), StatusCode::OK);
    }
    Node::new(501, "new").join(server, &filled.psk, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_a_newer_version_is_refused_and_left_alone() {
    let kind = kind();
    let mut filled = filled().await;
    let server = &mut filled.realm.server;
    server.stop();
    let insert =
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) ";
    match kind {
        Kind::Sqlite => {
            write_sqlite(
                &server.data,
                &format!("{insert} VALUES (99, 'later', 1, x'00', 0)"),
            );
        }
        Kind::Postgres => {
            psql(
                &server.data,
                &format!("{insert} VALUES (99, 'later', true, '\\x00', 0)"),
            );
        }
    }
    let all =
        |data: &Path| TABLES.map(|table| rows(kind, data, (table, &columns(kind, data, table))));
    let before = all(&server.data);
    let url = match kind {
        Kind::Sqlite => format!("sqlite://{}/discovery.sqlite", server.data.display()),
        Kind::Postgres => database(&server.data)[1].clone(),
    };
    let (code, error) = failed_start(&[&FREE[..], &["--database", &url]].concat());
    assert_eq!(code, 1);
    assert_explains(&error, &["newer version", "number 99", "restore"]);
    assert_eq!(all(&server.data), before);
}
