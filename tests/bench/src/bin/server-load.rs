//! What does a discovery server need for a network of ten thousand live members?
//!
//! Members join with certificates, connect from addresses of their own, follow some others, and send a heartbeat every
//! 30 s. Measured are the server's memory and processor at rest, and how soon a join is seen by those who follow the newcomer.

#[path = "server-load/crowd.rs"]
mod crowd;
#[path = "server-load/member.rs"]
mod member;
#[path = "server-load/server.rs"]
mod server;

use std::{
    io::{Write as _, stdout},
    time::Duration,
};

use anyhow::{Result, ensure};
use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;

use crowd::{Crowd, Size};
use server::Server;

#[derive(Debug, Parser)]
#[command(about = "Measures a discovery server with one large network on this machine.")]
struct Options {
    /// Live members.
    #[arg(long, default_value_t = 10_000)]
    members: usize,
    /// Others that each follows.
    #[arg(long, default_value_t = 20)]
    follows: usize,
    /// Newcomers, one after the other.
    #[arg(long, default_value_t = 200)]
    joins: usize,
    /// How long nothing but heartbeats happens, in seconds.
    #[arg(long, default_value_t = 60)]
    rest: u64,
    /// The server's database [default: SQLite in a temporary directory].
    #[arg(long)]
    database: Option<String>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    ensure!(
        !cfg!(debug_assertions),
        "the figures of a debug build say nothing. Fix: cargo run --release --package bench --bin server-load"
    );
    // Each member is an open file here, and one of the server.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    let server = Server::start(options.database.as_deref())?;
    let empty = server.usage()?;
    let size = Size {
        members: options.members,
        follows: options.follows,
        joins: options.joins,
    };
    let mut crowd = Crowd::new(&server, size)?;
    let registering = crowd.register().await?;
    say(&format!("{} members are registered", size.members))?;
    let connecting = crowd.connect().await?;
    say(&format!("{} members are connected", size.members))?;

    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = server.usage()?;
    tokio::time::sleep(Duration::from_secs(options.rest)).await;
    let rest = server.usage()?;
    let seen = crowd.join_one_by_one().await?;
    let joined = server.usage()?;
    let grown = rest.rss_kb.saturating_sub(empty.rss_kb);
    let figures = json!({
        "members": size.members,
        "follows": size.follows,
        "registered_per_s": registering,
        "connected_per_s": connecting,
        "at_rest": {
            "seconds": options.rest,
            "cpu_percent_of_a_core": rest.cpu_since(&before) * 100.0,
            "rss_mb": rest.rss_kb as f64 / 1024.0,
            "rss_kb_per_member": grown as f64 / size.members as f64,
        },
        "a_join_is_seen": {
            "times": seen.count(),
            "ms_p50": seen.percentile(0.50),
            "ms_p99": seen.percentile(0.99),
            "ms_max": seen.percentile(1.0),
            "bytes_per_follower": seen.bytes_each(),
            "cpu_percent_of_a_core": joined.cpu_since(&rest) * 100.0,
        },
    });
    say(&serde_json::to_string_pretty(&figures)?)
}

fn say(text: &str) -> Result<()> {
    writeln!(stdout(), "{text}")?;
    Ok(())
}
