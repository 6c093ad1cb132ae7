//! What can be asked for on the command line?

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Args, Parser, ValueEnum};

use crate::contestant::{Contestant, Kind, Variant};
use crate::figures::Frames;
use crate::scene::Path;

/// Compares meshd with other userspace tunnels, and with the bare path, between two network
/// namespaces that a third one routes between. Needs root.
///
/// Every figure is made with everything on this machine: iperf3 on both sides, both daemons and
/// the kernel's work for three namespaces. Gbit/s is therefore a figure of efficiency; CPU
/// seconds per GB (10^9 bytes of payload received) is the steadier one. Compare within a round.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Options {
    /// How often every contestant is measured, interleaved; 0 for --idle-peers and --syscalls alone.
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) rounds: usize,
    /// Who takes part.
    #[arg(long, value_delimiter = ',', default_values = Kind::NAMES, value_parser = Kind::NAMES)]
    peers: Vec<String>,
    /// One more meshd as contestant NAME, whose configuration file has these values, as in
    /// aes:mesh.connection.cipher=auto. The key `build` names the directory of other programs:
    /// old:build=/src/old/target/release, and path=turn relays everything. May be repeated.
    #[arg(long = "variant", value_name = "NAME:KEY=VALUE,...", value_parser = Variant::parse)]
    variants: Vec<Variant>,
    #[command(flatten)]
    path: PathOptions,
    /// Seconds of the TCP test with one stream; the other TCP tests take half of it. [default: 8]
    #[arg(long, value_name = "S")]
    seconds: Option<u64>,
    /// One short round of everything, to see that it works; its figures mean little.
    #[arg(long)]
    quick: bool,
    /// One meshd and N silent peers linked with it: its CPU time over 60 s, and its memory.
    #[arg(long, value_name = "N")]
    pub(crate) idle_peers: Option<usize>,
    /// System calls of each daemon per GB, counted by strace in a TCP test of its own.
    #[arg(long)]
    pub(crate) syscalls: bool,
    /// Where the raw figures go. [default: target/bench/COMMIT-TIME.json]
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Hold a lock on this file during each run, and let others of the machine take it between runs.
    #[arg(long, value_name = "FILE")]
    pub(crate) lock: Option<PathBuf>,
}

/// What lies between A and B.
#[derive(Debug, Args)]
struct PathOptions {
    /// How the frames between the namespaces look: super-packets as veth pairs carry them, or
    /// real ones of at most 1500 bytes (TSO, GSO and USO off, GRO on at all veth ends).
    #[arg(long, value_enum, default_value = "offload")]
    frames: FramesChoice,
    /// The router loses this percentage of the frames, each for itself, in both directions.
    /// Frames are real ones then, whatever --frames says, and the router does not join them.
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0)]
    loss: f64,
    /// One-way delay in milliseconds on the cable between the router and B. This program is that
    /// cable, and carries about 1 Gbit/s: for tests of loss at a distance, not of speed.
    #[arg(long, value_name = "MS", default_value_t = 0.0)]
    delay: f64,
    /// The congestion control of TCP on A and B, such as cubic. [default: as the system has it]
    #[arg(long, value_name = "NAME")]
    congestion: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FramesChoice {
    Offload,
    Mtu,
    Both,
}

/// How long the tests take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// TCP with one stream.
    pub(crate) tcp: u64,
    /// The other TCP tests.
    pub(crate) tcp_short: u64,
    /// Each UDP test.
    pub(crate) udp: u64,
    /// TCP during which pings are sent.
    pub(crate) load: u64,
    /// Pings without load, 5 ms apart.
    pub(crate) pings: u32,
    /// Observation of a daemon with silent peers.
    pub(crate) idle: Duration,
}

impl Options {
    /// How many rounds there are.
    pub(crate) fn rounds(&self) -> usize {
        if self.quick {
            self.rounds.min(1)
        } else {
            self.rounds
        }
    }

    pub(crate) fn times(&self) -> Times {
        if self.quick {
            let tcp = self.seconds.unwrap_or(2);
            return Times {
                tcp,
                tcp_short: 1,
                udp: 1,
                load: 2,
                pings: 50,
                idle: Duration::from_secs(10),
            };
        }
        let tcp = self.seconds.unwrap_or(8);
        Times {
            tcp,
            tcp_short: (tcp / 2).max(1),
            udp: 3,
            load: 5,
            pings: 200,
            idle: Duration::from_secs(60),
        }
    }

    /// The passes of each round.
    pub(crate) fn frames(&self) -> Vec<Frames> {
        if self.path.loss > 0.0 || self.path.delay > 0.0 {
            return vec![Frames::Mtu];
        }
        match self.path.frames {
            FramesChoice::Offload => vec![Frames::Offload],
            FramesChoice::Mtu => vec![Frames::Mtu],
            FramesChoice::Both => vec![Frames::Offload, Frames::Mtu],
        }
    }

    /// The path of a pass.
    pub(crate) fn path(&self, frames: Frames) -> Path {
        Path {
            frames,
            loss: self.path.loss,
            delay: Duration::from_secs_f64(self.path.delay / 1000.0),
            congestion: self.path.congestion.clone(),
        }
    }

    /// What a reader of the tables has to know of the path.
    pub(crate) fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if self.quick {
            remarks.push("a quick run: its figures mean little".to_owned());
        }
        if self.path.loss > 0.0 {
            remarks.push(format!(
                "the router loses {} % of the frames",
                self.path.loss
            ));
        }
        if let Some(name) = &self.path.congestion {
            remarks.push(format!("TCP's congestion control is {name}"));
        }
        if self.path.delay > 0.0 {
            remarks.push(format!(
                "{} ms one-way delay on B's cable, which this program carries",
                self.path.delay
            ));
        }
        remarks
    }

    /// Everyone who takes part, in the order of the tables.
    ///
    /// # Errors
    /// Two of one name, nobody at all, or figures out of range.
    pub(crate) fn contestants(&self) -> Result<Vec<Contestant>> {
        ensure!(
            (0.0..100.0).contains(&self.path.loss),
            "--loss is a percentage below 100"
        );
        ensure!(
            (0.0..=10_000.0).contains(&self.path.delay),
            "--delay is 0 to 10000 milliseconds"
        );
        ensure!(self.seconds != Some(0), "--seconds is at least 1");
        // More hosts do not fit into the laboratory's public network.
        ensure!(
            self.idle_peers.is_none_or(|n| (1..=200).contains(&n)),
            "--idle-peers is 1 to 200"
        );
        let named = self.peers.iter().filter_map(|name| Kind::named(name));
        let variants = self.variants.iter().cloned().map(Kind::Meshd);
        let contestants: Vec<Contestant> = named.chain(variants).map(Contestant::new).collect();
        ensure!(!contestants.is_empty(), "--peers leaves nobody");
        for (index, contestant) in contestants.iter().enumerate() {
            ensure!(
                contestants[..index]
                    .iter()
                    .all(|it| it.name != contestant.name),
                "there are two contestants {:?}: give each --variant a name of its own",
                contestant.name
            );
        }
        Ok(contestants)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(args: &str) -> Options {
        let words = std::iter::once("bench").chain(args.split_whitespace());
        Options::try_parse_from(words).unwrap()
    }

    fn names(args: &str) -> Vec<String> {
        let contestants = options(args).contestants().unwrap();
        contestants.into_iter().map(|it| it.name).collect()
    }

    #[test]
    fn everyone_takes_part_unless_asked_otherwise() {
        assert_eq!(names(""), Kind::NAMES);
        assert_eq!(names("--peers bare,meshd"), ["bare", "meshd"]);
        assert!(Options::try_parse_from(["bench", "--peers", "openvpn"]).is_err());
    }

    #[test]
    fn variants_are_contestants_with_names_of_their_own() {
        let args = "--peers meshd --variant aes:mesh.connection.cipher=auto";
        assert_eq!(names(args), ["meshd", "aes"]);
        let twice = "--variant meshd:mesh.device.mtu=1300";
        assert!(options(twice).contestants().is_err());
    }

    #[test]
    fn a_quick_run_is_one_round_and_short() {
        let quick = options("--quick --rounds 5 --frames both");
        assert_eq!((quick.rounds(), quick.times().tcp), (1, 2));
        assert_eq!(options("--quick --rounds 0").rounds(), 0);
        assert_eq!(options("--seconds 6").times().tcp_short, 3);
    }

    #[test]
    fn loss_and_delay_need_real_frames() {
        assert_eq!(options("").frames(), [Frames::Offload]);
        assert_eq!(options("--loss 0.1").frames(), [Frames::Mtu]);
        assert_eq!(options("--delay 10 --frames both").frames(), [Frames::Mtu]);
        assert!(options("--loss 100").contestants().is_err());
    }
}
