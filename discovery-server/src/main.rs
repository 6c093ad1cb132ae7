//! The `discovery-server` program: arguments, log, signals, exit code.

mod log;

use std::{
    io::{self, Write as _},
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use discovery_server::{
    AdminTokenSource, DEFAULT_HTTP_PORT, DEFAULT_STUN_PORT, DEFAULT_TURN_RATE, Database,
    DatabaseUrlError, ServeConfig, TurnConfig, any_address, start,
};
use ipnet::IpNet;
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
    /// Copies the SQLite database to a new file, also while a server uses it.
    Backup(Backup),
    /// Puts a copy of the SQLite database in its place while no server uses it; what was there is kept beside.
    Restore(Restore),
}

/// Which database, in the same words for each command.
#[derive(Debug, Parser)]
struct Place {
    /// Where everything is stored: sqlite://PATH, whose directory is made if it is missing [default: discovery.sqlite in the data directory], or
    /// postgres://USER:PASSWORD@HOST/NAME, which any number of servers may share.
    #[arg(
        long,
        value_name = "URL",
        env = "DISCOVERY_SERVER_DATABASE",
        hide_env_values = true
    )]
    database: Option<String>,
    /// Where the database and the admin token are kept.
    #[arg(
        long,
        value_name = "DIR",
        env = "DISCOVERY_SERVER_DATA_DIR",
        default_value = "/var/lib/discovery-server"
    )]
    data_dir: PathBuf,
}

#[derive(Debug, Parser)]
struct Backup {
    #[command(flatten)]
    place: Place,
    /// The file to make.
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

#[derive(Debug, Parser)]
struct Restore {
    #[command(flatten)]
    place: Place,
    /// A snapshot, or what the command backup has made.
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
}

#[derive(Debug, Parser)]
struct Serve {
    /// Where to serve HTTP [default: port 7080 of all addresses, IPv6 and IPv4].
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    #[command(flatten)]
    place: Place,
    /// How often to take a snapshot of a SQLite database, such as 12h or 30m, or `never`. Seven are kept, in a directory
    /// beside it.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = snapshot_interval)]
    snapshot_interval: SnapshotInterval,
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
    /// Mbit/s that one member may have relayed, both ways together; all members from one address may 5 times that, all of
    /// an IPv6 /48 8 times, and everybody 10 times.
    #[arg(long, value_name = "MBITS", default_value_t = DEFAULT_TURN_RATE * 8 / 1_000_000, conflicts_with = "no_turn",
        value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    turn_rate: u64,
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
    let command = Arguments::parse().command;
    let format = match &command {
        Command::Serve(serve) => serve.log_format,
        Command::Backup(_) | Command::Restore(_) => LogFormat::Text,
    };
    log::init(format);
    match run(command) {
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
async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Serve(arguments) => serve(arguments).await,
        Command::Backup(arguments) => backup(arguments).await,
        Command::Restore(arguments) => restore(arguments).await,
    }
}

async fn serve(serve: Serve) -> anyhow::Result<()> {
    if let Err(error) = platform::limits::keep_memory_private() {
        tracing::warn!(%error, "if this server crashes its secrets may be in a core file");
    }
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

async fn backup(Backup { place, to }: Backup) -> anyhow::Result<()> {
    let database = sqlite_file(&place, "pg_dump --format=custom --file=FILE URL")?;
    if is_missing(&database) {
        let title = format!("there is no database {}", database.display());
        return Err(Problem::new(0, "no-backup", title)
            .detail("no server has begun one there")
            .fix(ELSEWHERE)
            .into());
    }
    discovery_server::backup(&database, &to)
        .await
        .map_err(|error| {
            let fix = match error.is_half_restored() {
                true => "start the server, which finishes that, or restore again".to_owned(),
                false => format!(
                    "name a file that is not there yet, in a directory with room ({} is not changed); run it as the server's user",
                    to.display()
                ),
            };
            Problem::new(0, "no-backup", format!("{} is not copied", database.display()))
                .detail(error.to_string())
                .fix(fix)
        })?;
    Ok(())
}

async fn restore(Restore { place, from }: Restore) -> anyhow::Result<()> {
    let database = sqlite_file(&place, "pg_restore --clean --if-exists --dbname=URL FILE")?;
    let directory = database.parent().filter(|directory| is_missing(directory));
    if let Some(directory) = directory {
        let title = format!("there is no directory {}", directory.display());
        return Err(Problem::new(0, "not-restored", title)
            .detail(format!("the database would be {}", database.display()))
            .fix(format!(
                "{ELSEWHERE}; for a new server make the directory, as the server's user"
            ))
            .into());
    }
    if is_missing(&from) {
        let title = format!("there is no file {}", from.display());
        return Err(Problem::new(0, "not-restored", title)
            .detail("nothing was changed")
            .fix(format!(
                "name a copy; the snapshots are in {}.snapshots",
                database.display()
            ))
            .into());
    }
    let aside = discovery_server::restore(&database, &from)
        .await
        .map_err(|error| {
            Problem::new(
                0,
                "not-restored",
                format!("{} is not restored", database.display()),
            )
            .detail(error.to_string())
            .fix(error.fix_of_restore())
        })?;
    let kept = match aside {
        Some(aside) => format!("what was there is {}", aside.display()),
        None => "nothing was there".to_owned(),
    };
    writeln!(io::stdout(), "restored {}; {kept}", database.display())
        .context("write to standard output")
}

/// What helps whose database is not where the command looks.
const ELSEWHERE: &str =
    "name the place that the server has: --data-dir DIR or --database sqlite://PATH";

/// Certainly not there; what cannot be asked is found out by whoever opens it. A path of one word is in a directory that is.
fn is_missing(path: &Path) -> bool {
    !path.as_os_str().is_empty() && matches!(path.try_exists(), Ok(false))
}

/// The file of a SQLite database; for another, `instead` does what is asked.
fn sqlite_file(place: &Place, instead: &str) -> Result<PathBuf, Problem> {
    match database(place)? {
        Database::Sqlite(path) => Ok(path),
        Database::Postgres(_) => {
            let title = "a PostgreSQL database has programs of its own for that";
            Err(Problem::new(0, "usage", title)
                .detail("this command copies files of SQLite only")
                .fix(instead))
        }
    }
}

fn config(serve: Serve) -> Result<ServeConfig, Problem> {
    Ok(ServeConfig {
        listen: serve.listen.unwrap_or(any_address(DEFAULT_HTTP_PORT)),
        database: database(&serve.place)?,
        snapshot_interval: serve.snapshot_interval.0,
        stun_listen: Some(serve.stun_listen.unwrap_or(any_address(DEFAULT_STUN_PORT))),
        turn: (!serve.no_turn).then_some(TurnConfig {
            allow_private_peers: serve.allow_private_peers,
            lifetime: Duration::from_secs(serve.turn_lifetime),
            bytes_per_second: serve.turn_rate * 1_000_000 / 8,
        }),
        public_ip: serve.public_ip,
        trusted_proxies: serve.trusted_proxy,
        admin_token: match serve.admin_token_file {
            Some(file) => AdminTokenSource::File(file),
            None => AdminTokenSource::MadeIn(serve.place.data_dir),
        },
    })
}

fn database(place: &Place) -> Result<Database, Problem> {
    match &place.database {
        Some(url) => url.parse().map_err(|error| refused_database(url, &error)),
        None => Ok(Database::Sqlite(place.data_dir.join("discovery.sqlite"))),
    }
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

/// How often, if at all.
#[derive(Debug, Clone, Copy)]
struct SnapshotInterval(Option<Duration>);

fn snapshot_interval(text: &str) -> Result<SnapshotInterval, String> {
    if text == "never" {
        return Ok(SnapshotInterval(None));
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = match unit {
        "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3_600),
        _ => None,
    };
    let seconds = number.parse::<u32>().ok().zip(unit);
    let seconds = seconds.map(|(number, unit)| u64::from(number) * unit);
    match seconds {
        Some(seconds @ 1..) => Ok(SnapshotInterval(Some(Duration::from_secs(seconds)))),
        Some(0) | None => Err("must be a time such as 30m or 24h, or never".to_owned()),
    }
}
