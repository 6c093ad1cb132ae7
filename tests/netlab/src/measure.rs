//! What did a ping or a device's counters say?

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

/// What a device has carried since it was made. With segmentation offload one packet may be
/// larger than the MTU, so compare bytes with bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    pub rx_packets: u64,
    pub rx_bytes: u64,
    pub tx_packets: u64,
    pub tx_bytes: u64,
}

impl Counters {
    /// Reads the answer of `ip -j -s link show dev DEVICE`.
    pub(crate) fn parse(json: &str) -> Result<Self> {
        let links: Value = serde_json::from_str(json).context("`ip -j` printed no JSON")?;
        let number = |direction: &str, unit: &str| {
            links[0]["stats64"][direction][unit]
                .as_u64()
                .with_context(|| format!("`ip -j -s link` printed no {direction} {unit}: {json}"))
        };
        Ok(Self {
            rx_packets: number("rx", "packets")?,
            rx_bytes: number("rx", "bytes")?,
            tx_packets: number("tx", "packets")?,
            tx_bytes: number("tx", "bytes")?,
        })
    }
}

/// What `ping` saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PingReport {
    pub sent: usize,
    /// Sequence number (from 1) and round trip of each reply, in the order of their arrival;
    /// duplicates are left out.
    pub replies: Vec<(u32, Duration)>,
}

impl PingReport {
    pub fn received(&self) -> usize {
        self.replies.len()
    }

    /// Fraction of requests without a reply, 0 to 1.
    pub fn loss(&self) -> f64 {
        1.0 - self.received() as f64 / self.sent.max(1) as f64
    }

    pub fn min(&self) -> Option<Duration> {
        self.replies.iter().map(|reply| reply.1).min()
    }

    pub fn max(&self) -> Option<Duration> {
        self.replies.iter().map(|reply| reply.1).max()
    }

    pub fn median(&self) -> Option<Duration> {
        let mut times: Vec<_> = self.replies.iter().map(|reply| reply.1).collect();
        times.sort_unstable();
        times.get(times.len() / 2).copied()
    }

    /// Replies that arrived after the reply to a later request.
    pub fn overtaken(&self) -> usize {
        let mut newest = 0;
        self.replies
            .iter()
            .filter(|reply| {
                let late = reply.0 < newest;
                newest = newest.max(reply.0);
                late
            })
            .count()
    }

    /// Reads the output of iputils `ping -n`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut replies = Vec::new();
        for line in text.lines().filter(|line| !line.contains("DUP!")) {
            if let Some(reply) = parse_reply(line) {
                replies.push(reply);
            }
        }
        let sent = text
            .lines()
            .find_map(|line| line.split_once(" packets transmitted"))
            .and_then(|(number, _)| number.trim().parse().ok())
            .with_context(|| format!("`ping` printed no summary:\n{text}"))?;
        Ok(Self { sent, replies })
    }
}

/// `64 bytes from 10.0.0.1: icmp_seq=3 ttl=64 time=0.045 ms`
fn parse_reply(line: &str) -> Option<(u32, Duration)> {
    if !line.contains(" bytes from ") {
        return None;
    }
    let word = |key: &str| {
        line.split_whitespace()
            .find_map(|word| word.strip_prefix(key))
    };
    let milliseconds: f64 = word("time=")?.parse().ok()?;
    Some((
        word("icmp_seq=")?.parse().ok()?,
        Duration::from_secs_f64(milliseconds / 1000.0),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: &str = "PING 198.51.100.2 (198.51.100.2) 56(84) bytes of data.
64 bytes from 198.51.100.2: icmp_seq=1 ttl=63 time=0.040 ms
64 bytes from 198.51.100.2: icmp_seq=3 ttl=63 time=20.5 ms
64 bytes from 198.51.100.2: icmp_seq=2 ttl=63 time=1000 ms
64 bytes from 198.51.100.2: icmp_seq=2 ttl=63 time=1001 ms (DUP!)
From 198.51.100.1 icmp_seq=4 Destination Host Unreachable

--- 198.51.100.2 ping statistics ---
4 packets transmitted, 3 received, +1 duplicates, +1 errors, 25% packet loss, time 60ms
rtt min/avg/max/mdev = 0.040/340.180/1000.000/1.0 ms
";

    #[test]
    fn a_ping_report_keeps_arrival_order_and_leaves_duplicates_and_errors_out() {
        let report = PingReport::parse(PING).unwrap();
        assert_eq!(report.sent, 4);
        assert_eq!(
            report.replies.iter().map(|r| r.0).collect::<Vec<_>>(),
            [1, 3, 2]
        );
        assert_eq!(report.min(), Some(Duration::from_micros(40)));
        assert_eq!(report.median(), Some(Duration::from_micros(20_500)));
        assert_eq!(report.max(), Some(Duration::from_secs(1)));
        assert_eq!(report.overtaken(), 1);
        assert!((report.loss() - 0.25).abs() < 1e-9);
    }

    #[test]
    fn a_ping_without_a_summary_is_an_error() {
        assert!(PingReport::parse("ping: unknown host").is_err());
    }

    #[test]
    fn counters_come_from_the_64_bit_statistics() {
        let json = r#"[{"ifname":"eth0","stats64":{"rx":{"bytes":10,"packets":1},
            "tx":{"bytes":8589934592,"packets":7}}}]"#;
        let counters = Counters::parse(json).unwrap();
        assert_eq!(counters.tx_bytes, 8_589_934_592);
        assert_eq!(
            (counters.rx_packets, counters.rx_bytes, counters.tx_packets),
            (1, 10, 7)
        );
        assert!(Counters::parse("[{}]").is_err());
    }
}
