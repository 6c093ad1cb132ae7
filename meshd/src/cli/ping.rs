//! `meshd ping PEER`: does it answer, which way, and how fast?

use std::time::Duration;

use clap::Args;
use hyper::Method;
use mesh_wire::problem::Problem;
use tokio::time::{Instant, sleep_until};

use super::{
    Failure,
    client::Client,
    output::{Output, milliseconds},
};
use crate::{
    api::{PingAnswer, PingRequest},
    status::{PathKind, path_in_words},
};

/// The time between two pings, as `ping` has it.
const INTERVAL: Duration = Duration::from_secs(1);
/// Pings without `-c`: enough to see the path move from relay to direct.
const DEFAULT_COUNT: u32 = 4;
/// Pings without `-c` when a direct path is waited for.
const DEFAULT_COUNT_UNTIL_DIRECT: u32 = 10;

#[derive(Debug, Args)]
pub(super) struct PingArguments {
    /// A member's name, virtual address or node id
    peer: String,
    /// How many pings to send [default: 4; with --until-direct: 10]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    count: Option<u32>,
    /// Stop at the first pong over a direct path; fail if there is none
    #[arg(long)]
    until_direct: bool,
}

pub(super) async fn run(
    client: &Client,
    output: &mut Output,
    arguments: &PingArguments,
) -> Result<(), Failure> {
    let count = arguments.count.unwrap_or(if arguments.until_direct {
        DEFAULT_COUNT_UNTIL_DIRECT
    } else {
        DEFAULT_COUNT
    });
    let request = PingRequest {
        peer: arguments.peer.clone(),
    };
    let mut tally = Tally::default();
    for at in 0..count {
        let started = Instant::now();
        let answer = client
            .send::<PingAnswer>(Method::POST, "/api/v1/ping", Some(&request))
            .await;
        tally.sent += 1;
        match answer {
            Ok(pong) => {
                output.line(describe(&pong))?;
                tally.add(&pong);
            }
            Err(problem) if is_silence(&problem) => output.line(problem.title)?,
            Err(problem) => return Err(problem.into()),
        }
        if arguments.until_direct && tally.direct || at + 1 == count {
            break;
        }
        sleep_until(started + INTERVAL).await;
    }
    output.line(tally.summary())?;
    tally.verdict(arguments)
}

/// The peer may answer the next one.
fn is_silence(problem: &Problem) -> bool {
    matches!(problem.code.as_str(), "ping-timeout" | "peer-offline")
}

fn describe(pong: &PingAnswer) -> String {
    let address = pong
        .address
        .map_or_else(String::new, |address| format!(" ({address})"));
    let mut way = path_in_words(pong.path, pong.transport);
    for hop in &pong.via {
        way = format!("{way} {hop}");
    }
    if let Some(endpoint) = pong.endpoint {
        way = format!("{way} {endpoint}");
    }
    let time = milliseconds(pong.rtt_ms);
    format!("pong from {}{address} via {way} in {time}", pong.name)
}

#[derive(Default)]
struct Tally {
    sent: u32,
    round_trips: Vec<f64>,
    direct: bool,
}

impl Tally {
    fn add(&mut self, pong: &PingAnswer) {
        self.round_trips.push(pong.rtt_ms);
        self.direct |= match pong.path {
            PathKind::Direct => true,
            PathKind::Turn | PathKind::Relay | PathKind::None => false,
        };
    }

    fn summary(&self) -> String {
        let pongs = self.round_trips.len();
        let counts = format!("{} sent, {pongs} answered", self.sent);
        let Ok(divisor) = u32::try_from(pongs).map(f64::from) else {
            return counts;
        };
        if pongs == 0 {
            return counts;
        }
        let all = || self.round_trips.iter().copied();
        let least = all().fold(f64::INFINITY, f64::min);
        let greatest = all().fold(0.0, f64::max);
        let mean = all().sum::<f64>() / divisor;
        format!("{counts}, round trip min/avg/max {least:.1}/{mean:.1}/{greatest:.1} ms")
    }

    fn verdict(&self, arguments: &PingArguments) -> Result<(), Failure> {
        let peer = &arguments.peer;
        if self.round_trips.is_empty() {
            return Err(
                Problem::new(504, "no-pong", format!("{peer} did not answer"))
                    .detail(format!("{} pings, no pong", self.sent))
                    .fix("look at `meshd status` here and there; a firewall that blocks UDP is the usual cause")
                    .into(),
            );
        }
        if arguments.until_direct && !self.direct {
            return Err(Problem::new(
                504,
                "no-direct-path",
                format!("no direct path to {peer} was found"),
            )
            .detail("it answers, but every answer came through another machine")
            .fix("wait and try again; behind two symmetric NATs, forward the mesh's UDP port on one router")
            .into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pong(path: PathKind, via: &[&str], rtt_ms: f64) -> PingAnswer {
        PingAnswer {
            name: "bob".into(),
            node_id: mesh_wire::NodeId::from_bytes([1; 32]),
            address: Some("10.100.0.2".parse().unwrap()),
            rtt_ms,
            path,
            transport: None,
            via: via.iter().map(|&hop| hop.to_owned()).collect(),
            endpoint: Some("198.51.100.7:7081".parse().unwrap()),
        }
    }

    #[test]
    fn a_pong_says_who_how_and_how_fast() {
        assert_eq!(
            describe(&pong(PathKind::Direct, &[], 12.34)),
            "pong from bob (10.100.0.2) via direct 198.51.100.7:7081 in 12.3 ms"
        );
        assert_eq!(
            describe(&pong(PathKind::Relay, &["carol"], 40.0)),
            "pong from bob (10.100.0.2) via relay carol 198.51.100.7:7081 in 40.0 ms"
        );
    }

    #[test]
    fn the_summary_counts_and_measures() {
        let mut tally = Tally {
            sent: 3,
            ..Tally::default()
        };
        assert_eq!(tally.summary(), "3 sent, 0 answered");
        tally.add(&pong(PathKind::Relay, &[], 1.0));
        tally.add(&pong(PathKind::Relay, &[], 3.0));
        assert_eq!(
            tally.summary(),
            "3 sent, 2 answered, round trip min/avg/max 1.0/2.0/3.0 ms"
        );
    }

    #[test]
    fn silence_and_detours_are_failures_only_when_asked_about() {
        let arguments = |until_direct| PingArguments {
            peer: "bob".into(),
            count: None,
            until_direct,
        };
        let mut tally = Tally::default();
        assert!(tally.verdict(&arguments(false)).is_err());
        tally.add(&pong(PathKind::Relay, &[], 1.0));
        assert!(tally.verdict(&arguments(false)).is_ok());
        assert!(tally.verdict(&arguments(true)).is_err());
        tally.add(&pong(PathKind::Direct, &[], 1.0));
        assert!(tally.verdict(&arguments(true)).is_ok());
    }
}
