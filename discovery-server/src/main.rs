//! The `discovery-server` program: arguments, log, signals, exit code.

use std::{
    io::{self, IsTerminal as _, Write as _},
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use discovery_server::{
    AdminTokenSource, DEFAULT_HTTP_PORT, DEFAULT_STUN_PORT, Database, DatabaseUrlError,
    ServeConfig, TurnConfig, any_address, start,
};
use ipnet::IpNet;
use mesh_wire::problem::Problem;
use platform::signals;
use tokio_util::sync::CancellationToken;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

/// Registry of mesh networks and peers, signalling between peers, STUN and TURN.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server in the foreground; prints one line `ready ...` when it serves.
    Serve(Serve),
}

#[derive(Debug, Parser)]
struct Serve {
    /// Where to serve HTTP [default: port 7080 of all addresses, IPv6 and IPv4].
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// Where to store everything: sqlite://PATH [default: discovery.sqlite in the data directory], or
    /// postgres://USER:PASSWORD@HOST/NAME, which any number of servers may share.
    #[arg(
        long,
        value_name = "URL",
        env = "DISCOVERY_SERVER_DATABASE",
        hide_env_values = true
    )]
    database: Option<String>,
    /// Where to serve STUN and TURN over UDP and TCP [default: port 3478 of all addresses, IPv6 and IPv4].
    #[arg(long, value_name = "ADDR:PORT")]
    stun_listen: Option<SocketAddr>,
    /// The address that clients reach STUN at and are relayed from, if it is not the host's own or not the one they
    /// reach HTTP at.
    #[arg(long, value_name = "IP")]
    public_ip: Option<IpAddr>,
    /// A reverse proxy in front of this server, or a range of them: limits per address then hold for the clients that it
    /// names in X-Forwarded-For. May be said several times.
    #[arg(long, value_name = "CIDR", value_parser = proxies)]
    trusted_proxy: Vec<IpNet>,
    /// The administrator's token [default: the file admin-token in the data directory, made on the first start].
    #[arg(long, value_name = "FILE")]
    admin_token_file: Option<PathBuf>,
    /// Serve no TURN: members without a direct path are not relayed.
    #[arg(long)]
    no_turn: bool,
    /// Let members have TURN send into private networks, this host's among them. For laboratories.
    #[arg(long, conflicts_with = "no_turn")]
    allow_private_peers: bool,
    /// For how long a member may be relayed by one credential; it gets the next one when half of that is over.
    #[arg(long, value_name = "SECONDS", default_value_t = 3_600, conflicts_with = "no_turn",
        value_parser = clap::value_parser!(u64).range(10..=86_400))]
    turn_lifetime: u64,
    /// Where to keep the database and the admin token.
    #[arg(
        long,
        value_name = "DIR",
        env = "DISCOVERY_SERVER_DATA_DIR",
        default_value = "/var/lib/discovery-server"
    )]
    data_dir: PathBuf,
}

fn main() -> ExitCode {
    let Command::Serve(serve) = Arguments::parse().command;
    init_log();
    match run(serve) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With a closed standard error there is nobody to tell.
            let _ = writeln!(io::stderr(), "error: {error:#}");
            match error.downcast_ref::<Problem>() {
                Some(problem) if problem.code == "usage" => ExitCode::from(2),
                Some(_) | None => ExitCode::FAILURE,
            }
        }
    }
}

#[tokio::main]
async fn run(serve: Serve) -> anyhow::Result<()> {
    if let Err(error) = platform::limits::raise_open_files() {
        tracing::warn!(%error, "could not raise the limit of open files: fewer clients can be connected");
    }
    let running = start(config(serve)?).await.map_err(|error| {
        Problem::new(0, "not-started", "the discovery server did not start")
            .detail(error.to_string())
            .fix(error.fix())
    })?;
    let stopped = signals::termination().context("listen for signals")?;
    let mut out = io::stdout().lock();
    if running.admin_token_made {
        let path = running.admin_token_file.display();
        writeln!(out, "made the admin token in {path}").context("write to standard output")?;
    }
    let stun = running
        .stun_addr
        .map_or_else(|| "none".to_owned(), |addr| addr.to_string());
    writeln!(out, "ready http={} stun={stun}", running.http_addr)
        .and_then(|()| out.flush())
        .context("write to standard output")?;
    drop(out);
    let shutdown = CancellationToken::new();
    let cancelled = shutdown.clone();
    tokio::spawn(async move {
        stopped.await;
        cancelled.cancel();
    });
    running.run_until(shutdown).await?;
    Ok(())
}

fn config(serve: Serve) -> Result<ServeConfig, Problem> {
    let database = match serve.database {
        Some(url) => url
            .parse()
            .map_err(|error| refused_database(&url, &error))?,
        None => Database::Sqlite(serve.data_dir.join("discovery.sqlite")),
    };
    Ok(ServeConfig {
        listen: serve.listen.unwrap_or(any_address(DEFAULT_HTTP_PORT)),
        database,
        stun_listen: Some(serve.stun_listen.unwrap_or(any_address(DEFAULT_STUN_PORT))),
        turn: (!serve.no_turn).then_some(TurnConfig {
            allow_private_peers: serve.allow_private_peers,
            lifetime: Duration::from_secs(serve.turn_lifetime),
        }),
        public_ip: serve.public_ip,
        trusted_proxies: serve.trusted_proxy,
        admin_token: match serve.admin_token_file {
            Some(file) => AdminTokenSource::File(file),
            None => AdminTokenSource::MadeIn(serve.data_dir),
        },
    })
}

/// One address is the range of itself.
fn proxies(text: &str) -> Result<IpNet, String> {
    let alone = || text.parse::<IpAddr>().ok().map(IpNet::from);
    let range = text.parse().ok().or_else(alone);
    range.ok_or_else(|| "write it as 192.0.2.7 or 192.0.2.0/24".to_owned())
}

/// The URL itself is not shown: it may hold a password.
fn refused_database(url: &str, error: &DatabaseUrlError) -> Problem {
    let scheme = url
        .split_once("://")
        .map_or("no scheme", |(scheme, _)| scheme);
    Problem::new(0, "usage", format!("--database: {error}"))
        .detail(format!("the URL begins with: {scheme}"))
        .fix("use --database sqlite://PATH or postgres://USER:PASSWORD@HOST/NAME, or leave it out")
}

/// Logs to standard error, by default what an operator should read; `RUST_LOG`, levels by target such as
/// `info,discovery_server=debug`, changes it.
fn init_log() {
    let wanted = std::env::var("RUST_LOG").unwrap_or_default();
    let parsed = wanted
        .parse::<Targets>()
        .ok()
        .filter(|_| !wanted.is_empty());
    let filter = parsed.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    // These would log message contents, which hold ICE passwords, or requests with their tokens.
    let quiet =
        ["tungstenite", "tokio_tungstenite", "hyper"].map(|target| (target, LevelFilter::INFO));
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr);
    tracing_subscriber::registry()
        .with(filter.with_targets(quiet))
        .with(lines)
        .init();
}
