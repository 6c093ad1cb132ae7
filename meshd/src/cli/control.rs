//! `meshd down` and `meshd invite`: what else can the daemon be asked to do?

use std::{path::Path, time::Duration};

use clap::Args;
use hyper::Method;
use mesh_wire::{
    problem::Problem,
    trust::{MAX_LIFE, Role},
};
use tokio::time::{Instant, sleep};

use super::{
    Failure,
    client::{Client, NOTHING},
    output::Output,
};
use crate::{
    api::{InviteAnswer, InviteRequest, RevokeAnswer, RevokeRequest},
    state::StateDir,
};

/// How long the daemon may take to put everything back: it gives each of its parts a few seconds.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
/// How often to look whether it is gone.
const LOOK_EVERY: Duration = Duration::from_millis(50);

#[derive(Debug, Args)]
pub(super) struct InviteArguments {
    /// For how long the link can be used, such as 30m, 12h or 7d [default: 7d]
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    expires: Option<u64>,
    /// How many machines can join with it [default: any number]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    uses: Option<u32>,
    /// What they may do beside carrying for others: exit, bridge, dhcp or admin. May be repeated
    #[arg(long, value_name = "ROLE", value_parser = role)]
    role: Vec<Role>,
}

fn role(text: &str) -> Result<Role, String> {
    text.parse()
        .map_err(|_| "none of relay, exit, bridge, dhcp and admin".to_owned())
}

fn seconds(text: &str) -> Result<u64, String> {
    let form = || "not a time such as 30m, 12h or 7d".to_owned();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => return Err(form()),
    };
    let number: u64 = number.parse().map_err(|_| form())?;
    number
        .checked_mul(unit)
        .filter(|seconds| (1..=MAX_LIFE).contains(seconds))
        .ok_or_else(|| format!("a link can hold from 1s to {}d", MAX_LIFE / (24 * 3600)))
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
    let request = InviteRequest {
        expires_s: arguments.expires,
        uses: arguments.uses,
        roles: arguments
            .role
            .iter()
            .map(|role| role.name().to_owned())
            .collect(),
    };
    let answer: InviteAnswer = client
        .send(Method::POST, "/api/v1/invite", Some(&request))
        .await?;
    Ok(output.line(answer.link)?)
}

pub(super) async fn revoke(
    client: &Client,
    output: &mut Output,
    peer: &str,
) -> Result<(), Failure> {
    let request = RevokeRequest {
        peer: peer.to_owned(),
    };
    let answer: RevokeAnswer = client
        .send(Method::POST, "/api/v1/revoke", Some(&request))
        .await?;
    let (name, node) = (answer.name, answer.node_id.short());
    output.line(format!("{name} ({node}) is out"))?;
    if !peer.starts_with("http") {
        output.line("a join link that it still has lets it in as somebody new: end that too, with meshd revoke 'LINK'")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_number_and_a_unit() {
        assert_eq!(seconds("7d"), Ok(604_800));
        assert_eq!(seconds("90s"), Ok(90));
        for bad in [
            "",
            "7",
            "d",
            "-1d",
            "0s",
            "1w",
            "99999999999999999999d",
            "401d",
        ] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
