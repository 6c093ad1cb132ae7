//! `meshd down` and `meshd invite`: what else can the daemon be asked to do?

use std::{path::Path, time::Duration};

use clap::Args;
use hyper::Method;
use mesh_wire::problem::Problem;
use tokio::time::{Instant, sleep};

use super::{
    Failure,
    client::{Client, NOTHING},
    not_built_yet,
    output::Output,
};
use crate::{api::InviteAnswer, state::StateDir};

/// How long the daemon may take to put everything back: it gives each of its parts a few seconds.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
/// How often to look whether it is gone.
const LOOK_EVERY: Duration = Duration::from_millis(50);

#[derive(Debug, Args)]
pub(super) struct InviteArguments {
    /// When the link ends
    #[arg(long, hide = true)]
    expires: Option<String>,
    /// How often the link can be used
    #[arg(long, hide = true)]
    uses: Option<String>,
    /// What the new member may do
    #[arg(long, hide = true)]
    role: Vec<String>,
}

/// Returns when the daemon has put everything back, not before.
pub(super) async fn down(client: &Client, output: &mut Output) -> Result<(), Failure> {
    let () = client.send(Method::POST, "/api/v1/down", NOTHING).await?;
    let asked = Instant::now();
    while is_in_use(client.state_dir())? {
        if asked.elapsed() > STOP_TIMEOUT {
            return Err(Problem::new(504, "daemon-lingers", "the daemon still runs")
                .detail(format!(
                    "it agreed to stop, but holds its state directory after {} s",
                    STOP_TIMEOUT.as_secs()
                ))
                .fix("look at its log; `kill -9` ends it, and the next start cleans up behind it")
                .into());
        }
        sleep(LOOK_EVERY).await;
    }
    Ok(output.line("stopped")?)
}

/// Whether a daemon holds the state directory. It gives it back last of all.
fn is_in_use(state_dir: &Path) -> Result<bool, Problem> {
    match StateDir::open(state_dir) {
        Ok(_free_again) => Ok(false),
        Err(problem) if problem.code == "state-locked" => Ok(true),
        Err(problem) => Err(problem),
    }
}

pub(super) async fn invite(
    client: &Client,
    output: &mut Output,
    arguments: &InviteArguments,
) -> Result<(), Failure> {
    for (option, given) in [
        ("--expires", arguments.expires.is_some()),
        ("--uses", arguments.uses.is_some()),
        ("--role", !arguments.role.is_empty()),
    ] {
        if given {
            return Err(not_built_yet(
                option,
                "in this version a join link holds the network's secret, which knows no limits",
                "leave the option out, and give the link only to whom you would give the network",
            )
            .into());
        }
    }
    let answer: InviteAnswer = client.send(Method::POST, "/api/v1/invite", NOTHING).await?;
    Ok(output.line(answer.link)?)
}
