//! What can be typed, and what happens then?
//!
//! One file per command. `up` is the daemon; every other command asks the running daemon over the Unix socket in
//! the state directory, or needs none. Exit codes: 0 done, 1 failed, 2 wrong usage.

mod client;
mod config;
mod control;
mod netcheck;
mod output;
mod ping;
mod routes;
mod servers;
mod share;
mod status;
mod unbuilt;
mod up;
mod usage;

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{CommandFactory, Parser, Subcommand};

use self::{client::Client, output::Output};
use crate::problem::{Problem, operation_failed, report};

pub use up::UpOptions;

/// The codes that only commands fail with, beside those of [`crate::problem::CODES`], each with the situation it
/// stands for.
pub const CODES: &[(&str, &str)] = &[
    (
        "daemon-answer",
        "the daemon's answer broke off or cannot be read",
    ),
    ("daemon-lingers", "the daemon agreed to stop and still runs"),
    (
        "no-direct-path",
        "meshd ping --until-direct saw only relayed answers",
    ),
    (
        "hard-nat",
        "meshd netcheck: the NAT maps each destination to another port",
    ),
    (
        "no-answer",
        "meshd netcheck: no server answers, by UDP or TCP",
    ),
    (
        "no-server-to-ask",
        "meshd netcheck knows no server outside this host",
    ),
    (
        "port-mapping-distrusted",
        "meshd netcheck: the router names an external address that nobody reaches",
    ),
    (
        "udp-blocked",
        "meshd netcheck: no server answers by UDP, but TCP connects",
    ),
    ("no-pong", "no ping of meshd ping was answered"),
    (
        "server-not-used",
        "meshd servers rm was given a server that is not in the list",
    ),
    (
        "option-not-built",
        "an option or a command that this version lacks",
    ),
];

/// Mesh VPN and file sharing between your own machines
#[derive(Debug, Parser)]
#[command(name = "meshd", version)]
struct Arguments {
    /// Where keys and state are kept; names the daemon that a command means
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "MESHD_STATE_DIR",
        default_value = "/var/lib/meshd"
    )]
    state_dir: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon: create a network, join one, or return to it
    Up(up::UpArguments),
    /// Check or show configuration files
    #[command(subcommand)]
    Config(config::ConfigCommand),
    #[command(flatten)]
    Ask(AskCommand),
    #[command(flatten)]
    Unbuilt(unbuilt::UnbuiltCommand),
}

/// What a running daemon is asked.
#[derive(Debug, Subcommand)]
enum AskCommand {
    /// Stop the daemon
    Down,
    /// Show this node, its server and the ways to its peers
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what was exchanged with each peer
    Peers {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show over whom members without a path of their own are reached
    Routes {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Ask a peer for an answer; shows the way it takes
    Ping(ping::PingArguments),
    /// Find out what this network lets through: UDP, NAT, router, servers; fails if no server answers over UDP
    Netcheck(netcheck::NetcheckArguments),
    /// Share directories with other members
    #[command(subcommand)]
    Share(share::ShareCommand),
    /// Show or change the discovery servers, while the daemon runs
    Servers(servers::ServersArguments),
    /// Print a join link for another machine; keep it secret
    Invite(control::InviteArguments),
    /// Put a member out for good, or end a join link; only the creator of the network and its admins can
    Revoke {
        /// Its name, virtual address, node id or the beginning of it; or the link
        peer: String,
    },
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
enum Failure {
    /// It could not.
    Problem(Box<Problem>),
    /// Nobody takes its output.
    Output(io::Error),
}

/// Runs one command line. `up` is the daemon, which runs until it is told to stop.
pub fn run<I, T>(arguments: I, up: impl FnOnce(UpOptions) -> Result<(), Problem>) -> ExitCode
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let words: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
    let arguments = match Arguments::try_parse_from(&words) {
        Ok(arguments) => arguments,
        Err(error) => return usage::report(&Arguments::command(), &words, error),
    };
    match dispatch(arguments, up) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Problem(problem)) => report(&problem),
        // `meshd peers | head` got what it wanted.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(Failure::Output(error)) => report(
            &operation_failed("write the answer", &error)
                .fix("make room where standard output leads, or send it elsewhere"),
        ),
    }
}

fn dispatch(
    arguments: Arguments,
    up: impl FnOnce(UpOptions) -> Result<(), Problem>,
) -> Result<(), Failure> {
    let Arguments { state_dir, command } = arguments;
    let mut output = Output::new();
    match command {
        Command::Up(arguments) => Ok(up(arguments.into_options(state_dir)?)?),
        Command::Config(command) => config::run(&mut output, &command),
        Command::Unbuilt(command) => Err(unbuilt::refuse(&command).into()),
        Command::Ask(command) => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| operation_failed("start a command", &error))?;
            let done = runtime.block_on(ask(&state_dir, &mut output, command));
            // A name that is still looked up holds nobody up.
            runtime.shutdown_background();
            done
        }
    }
}

async fn ask(state_dir: &Path, output: &mut Output, command: AskCommand) -> Result<(), Failure> {
    let client = Client::new(state_dir);
    match command {
        AskCommand::Down => control::down(&client, output).await,
        AskCommand::Status { json } => status::status(&client, output, json).await,
        AskCommand::Peers { json } => status::peers(&client, output, json).await,
        AskCommand::Routes { json } => routes::routes(&client, output, json).await,
        AskCommand::Ping(arguments) => ping::run(&client, output, &arguments).await,
        AskCommand::Netcheck(arguments) => netcheck::run(&client, output, &arguments).await,
        AskCommand::Share(command) => share::run(&client, output, command).await,
        AskCommand::Servers(arguments) => servers::run(&client, output, arguments).await,
        AskCommand::Revoke { peer } => control::revoke(&client, output, &peer).await,
        AskCommand::Invite(arguments) => control::invite(&client, output, &arguments).await,
    }
}

/// An option that is part of the interface but not of this version.
fn not_built_yet(option: &str, why: &str, fix: &str) -> Problem {
    Problem::new(
        501,
        "option-not-built",
        format!("{option} is not built yet"),
    )
    .detail(why)
    .fix(fix)
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Problem(Box::new(problem))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}
