//! The `discovery-server` program: arguments, log, signals, exit code.

mod log;

use std::{
    io::{self, Write as _},
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use discovery_server::{
    AdminTokenSource, DEFAULT_HTTP_PORT, DEFAULT_STUN_PORT, Database, DatabaseUrlError,
    ServeConfig, TurnConfig, any_address, start,
};
use log::LogFormat;
use mesh_wire::problem::Problem;
use platform::signals;
use tokio_util::sync::CancellationToken;

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
    /// The administrator's token [default: the file admin-token in the data directory, made on the first start].
    #[arg(long, value_name = "FILE")]
    admin_token_file: Option<PathBuf>,
    /// Serve no TURN: members without a direct path are not relayed.
    #[arg(long)]
    no_turn: bool,
    /// Let members have TURN send into private networks, this host's among them. For laboratories.
    #[arg(long, conflicts_with = "no_turn")]
    allow_private_peers: bool,
    /// Where to keep the database and the admin token.
    #[arg(
        long,
        value_name = "DIR",
        env = "DISCOVERY_SERVER_DATA_DIR",
        default_value = "/var/lib/discovery-server"
    )]
    data_dir: PathBuf,
    /// How to write the log, which goes to standard error.
    #[arg(
        long,
        value_name = "FORMAT",
        env = "DISCOVERY_SERVER_LOG_FORMAT",
        default_value = "text"
    )]
    log_format: LogFormat,
}

fn main() -> ExitCode {
    let Command::Serve(serve) = Arguments::parse().command;
    let format = serve.log_format;
    log::init(format);
    match run(serve) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::last_words(format, &error);
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
        }),
        public_ip: serve.public_ip,
        admin_token: match serve.admin_token_file {
            Some(file) => AdminTokenSource::File(file),
            None => AdminTokenSource::MadeIn(serve.data_dir),
        },
    })
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
