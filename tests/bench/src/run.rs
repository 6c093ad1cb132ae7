//! What is measured of one contestant in one round, and in which order?

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::contestant::Contestant;
use crate::cpu::{Snapshot, Usage, resident_mb};
use crate::figures::Run;
use crate::iperf::{TcpReport, UdpReport};
use crate::options::Times;
use crate::scene::{Path, Scene};
use crate::statistics::RoundTrips;
use crate::tools::Tools;
use crate::tunnel::Tunnel;

/// A tunnel that has come up may still be busy with it.
const PAUSE: Duration = Duration::from_secs(1);
/// TCP's slow start, before pings under load count.
const SLOW_START: Duration = Duration::from_millis(500);
/// Between pings under load.
const LOAD_PING_GAP: Duration = Duration::from_millis(10);
const IDLE_PING_GAP: Duration = Duration::from_millis(5);
/// Beyond the time of the test itself; iperf3 says itself when a connection is dead.
const PATIENCE: Duration = Duration::from_secs(30);

const TCP: [(&str, &[&str]); 3] = [("tcp1", &[]), ("tcp4", &["-P", "4"]), ("tcp1r", &["-R"])];
/// 20,000 packets/s of 64 bytes are 10.24 Mbit/s.
const UDP: [(&str, &[&str]); 3] = [
    ("udp64", &["-u", "-b", "0", "-l", "64"]),
    ("udp1200", &["-u", "-b", "0", "-l", "1200"]),
    ("paced", &["-u", "-b", "10240000", "-l", "64"]),
];

/// Builds the path and the tunnel, measures, and takes both down. Returns the MTU as well.
pub(crate) fn take(
    contestant: &Contestant,
    path: &Path,
    round: usize,
    times: &Times,
    tools: &Tools,
) -> Result<(Run, u32)> {
    let scene = Scene::build(&contestant.name, path)?;
    let tunnel = Tunnel::start(contestant, &scene, tools)?;
    let bench = Bench {
        scene: &scene,
        tunnel: &tunnel,
    };
    let mut run = Run::new(round, path.frames, &contestant.name);
    if let Some(took) = tunnel.first_echo {
        run.set("start", "first_echo_ms", took.as_secs_f64() * 1e3);
    }
    std::thread::sleep(PAUSE);
    bench.memory(&mut run, "idle_mb")?;
    bench.idle_pings(&mut run, times)?;
    for (test, args) in TCP {
        let seconds = if test == "tcp1" {
            times.tcp
        } else {
            times.tcp_short
        };
        let (json, usage) = bench.iperf(args, seconds).context(test)?;
        set_tcp(&mut run, test, &TcpReport::parse(&json)?, &usage);
    }
    for (test, args) in UDP {
        let (json, usage) = bench.iperf(args, times.udp).context(test)?;
        set_udp(&mut run, test, &UdpReport::parse(&json)?, &usage);
    }
    bench.pings_under_load(&mut run, times)?;
    bench.memory(&mut run, "loaded_mb")?;
    Ok((run, tunnel.mtu))
}

/// A path with a tunnel over it.
#[derive(Debug)]
pub(crate) struct Bench<'s> {
    pub(crate) scene: &'s Scene,
    pub(crate) tunnel: &'s Tunnel,
}

impl Bench<'_> {
    /// Runs an iperf3 client on A to its end; returns its report and what it cost.
    pub(crate) fn iperf(&self, args: &[&str], seconds: u64) -> Result<(String, Usage)> {
        let before = Snapshot::take()?;
        let limit = Duration::from_secs(seconds) + PATIENCE;
        let command = self.client(args, seconds);
        let output = self.scene.a.run_command(command, limit)?;
        let after = Snapshot::take()?;
        self.tunnel.check_alive()?;
        let mut pids = self.tunnel.pids();
        let relay = self.tunnel.relay.as_ref();
        pids.extend(relay.map(|relay| relay.server.pid()));
        let mut usage = before.until(&after, std::process::id(), &pids);
        usage.relay = relay.and_then(|_| usage.daemons.pop());
        Ok((output.stdout, usage))
    }

    fn client(&self, args: &[&str], seconds: u64) -> Command {
        let mut command = self.scene.a.command("iperf3");
        command
            .args(["-J", "-c", &self.tunnel.target.to_string()])
            .args(["-t", &seconds.to_string()])
            .args(args);
        command
    }

    fn memory(&self, run: &mut Run, unit: &str) -> Result<()> {
        let mut greatest: Option<f64> = None;
        for pid in self.tunnel.pids() {
            let mb = resident_mb(pid)?;
            greatest = Some(greatest.map_or(mb, |it| it.max(mb)));
        }
        if let Some(mb) = greatest {
            run.set("memory", unit, mb);
        }
        Ok(())
    }

    fn idle_pings(&self, run: &mut Run, times: &Times) -> Result<()> {
        self.pings(run, "idle", IDLE_PING_GAP, times.pings)
    }

    /// Pings from half a second after the start of a TCP stream until half a second before its end.
    fn pings_under_load(&self, run: &mut Run, times: &Times) -> Result<()> {
        let client = self.scene.a.spawn_command(self.client(&[], times.load))?;
        std::thread::sleep(SLOW_START);
        let span = Duration::from_secs(times.load) - 2 * SLOW_START;
        let count = (span.as_millis() / LOAD_PING_GAP.as_millis()) as u32;
        self.pings(run, "load", LOAD_PING_GAP, count)?;
        client.wait(Duration::from_secs(times.load) + PATIENCE)?;
        self.tunnel.check_alive()?;
        let load = TcpReport::parse(&client.log())?;
        run.set("load", "gbps", load.bits_per_second / 1e9);
        Ok(())
    }

    fn pings(&self, run: &mut Run, test: &str, gap: Duration, count: u32) -> Result<()> {
        let report = self.scene.a.ping_each(gap, self.tunnel.target, count)?;
        let milliseconds: Vec<f64> = report
            .replies
            .iter()
            .map(|(_, time)| time.as_secs_f64() * 1e3)
            .collect();
        let trips = RoundTrips::of(&milliseconds);
        let trips = trips.with_context(|| format!("{test}: no ping was answered"))?;
        run.set(test, "lost_percent", report.loss() * 100.0);
        set_trips(run, test, &trips);
        Ok(())
    }
}

/// The payload that crossed in a TCP test, for other figures per GB.
///
/// # Errors
/// Where nothing was received.
pub(crate) fn received_gb(json: &str) -> Result<f64> {
    let gb = TcpReport::parse(json)?.received_bytes / 1e9;
    ensure!(gb > 0.0, "iperf3 received nothing");
    Ok(gb)
}

fn set_tcp(run: &mut Run, test: &str, report: &TcpReport, usage: &Usage) {
    let gb = report.received_bytes / 1e9;
    run.set(test, "gbps", report.bits_per_second / 1e9);
    run.set(test, "received_gb", gb);
    run.set(test, "retransmits", report.retransmits);
    run.set(test, "busy_s_per_gb", usage.busy / gb);
    if !usage.daemons.is_empty() {
        run.set(
            test,
            "daemons_s_per_gb",
            usage.daemons.iter().sum::<f64>() / gb,
        );
    }
    if let Some(used) = usage.relay {
        run.set(test, "relay_s_per_gb", used / gb);
    }
    set_usage(run, test, usage);
}

fn set_udp(run: &mut Run, test: &str, report: &UdpReport, usage: &Usage) {
    run.set(test, "kpps", report.delivered / report.seconds / 1e3);
    run.set(test, "lost_percent", report.lost_percent);
    if !usage.daemons.is_empty() {
        let used: f64 = usage.daemons.iter().sum();
        run.set(test, "daemons_us_per_packet", used * 1e6 / report.delivered);
    }
    set_usage(run, test, usage);
}

fn set_usage(run: &mut Run, test: &str, usage: &Usage) {
    run.set(test, "elapsed_s", usage.elapsed);
    run.set(test, "busy_s", usage.busy);
    run.set(test, "steal_s", usage.steal);
    run.set(test, "foreign_s", usage.foreign);
    for (unit, used) in ["daemon_a_s", "daemon_b_s"].iter().zip(&usage.daemons) {
        run.set(test, unit, *used);
    }
}

fn set_trips(run: &mut Run, test: &str, trips: &RoundTrips) {
    run.set(test, "min_ms", trips.min);
    run.set(test, "mean_ms", trips.mean);
    run.set(test, "deviation_ms", trips.deviation);
    run.set(test, "p50_ms", trips.p50);
    run.set(test, "p99_ms", trips.p99);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Frames;
    use crate::tables;

    fn usage() -> Usage {
        Usage {
            elapsed: 8.0,
            busy: 10.0,
            steal: 0.0,
            daemons: vec![3.0, 1.0],
            foreign: 0.5,
            relay: Some(2.0),
        }
    }

    fn tcp() -> TcpReport {
        TcpReport {
            received_bytes: 2e9,
            bits_per_second: 2e9,
            retransmits: 3.0,
        }
    }

    fn udp() -> UdpReport {
        UdpReport {
            delivered: 60_000.0,
            lost_percent: 1.0,
            seconds: 3.0,
        }
    }

    fn run() -> Run {
        Run::new(1, Frames::Offload, "x")
    }

    #[test]
    fn costs_are_per_gb_received_and_per_packet_delivered() {
        let mut run = run();
        set_tcp(&mut run, "tcp1", &tcp(), &usage());
        assert_eq!(run.get("tcp1.gbps"), Some(2.0));
        assert_eq!(run.get("tcp1.busy_s_per_gb"), Some(5.0));
        assert_eq!(run.get("tcp1.daemons_s_per_gb"), Some(2.0));
        assert_eq!(run.get("tcp1.daemon_b_s"), Some(1.0));
        assert_eq!(run.get("tcp1.relay_s_per_gb"), Some(1.0));
        set_udp(&mut run, "udp64", &udp(), &usage());
        assert_eq!(run.get("udp64.kpps"), Some(20.0));
        let us = run.get("udp64.daemons_us_per_packet").unwrap();
        assert!((us - 66.667).abs() < 0.001);
    }

    #[test]
    fn the_bare_path_has_no_figure_of_daemons() {
        let mut run = run();
        let usage = Usage {
            daemons: Vec::new(),
            relay: None,
            ..usage()
        };
        set_tcp(&mut run, "tcp1", &tcp(), &usage);
        set_udp(&mut run, "udp64", &udp(), &usage);
        assert_eq!(run.get("tcp1.daemons_s_per_gb"), None);
        assert_eq!(run.get("tcp1.relay_s_per_gb"), None);
        assert_eq!(run.get("udp64.daemons_us_per_packet"), None);
    }

    #[test]
    fn every_column_of_the_tables_is_measured() {
        let mut run = run();
        for (test, _) in TCP {
            set_tcp(&mut run, test, &tcp(), &usage());
        }
        for (test, _) in UDP {
            set_udp(&mut run, test, &udp(), &usage());
        }
        let trips = RoundTrips::of(&[1.0]).unwrap();
        for test in ["idle", "load"] {
            set_trips(&mut run, test, &trips);
        }
        // What the tunnel and the processes themselves are asked for.
        let others = [
            "load.lost_percent",
            "memory.idle_mb",
            "memory.loaded_mb",
            "start.first_echo_ms",
        ];
        for key in tables::keys() {
            assert!(run.get(key).is_some() || others.contains(&key), "{key}");
        }
    }

    #[test]
    fn paced_packets_are_twenty_thousand_a_second() {
        let (_, args) = UDP[2];
        let bits: f64 = args[2].parse().unwrap();
        let bytes: f64 = args[4].parse().unwrap();
        assert_eq!(bits / 8.0 / bytes, 20_000.0);
    }
}
