//! What does the relay count?

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// The codes that TURN requests are refused with.
const CODES: [u16; 12] = [400, 401, 403, 420, 437, 438, 440, 441, 442, 443, 486, 508];

/// Why a packet was not relayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dropped {
    /// Its client has no allocation.
    NoAllocation,
    /// The peer has no permission, or the channel is not bound.
    NoPermission,
    /// The peer is one that nothing is relayed to.
    Forbidden,
    /// The member has more relayed than it may.
    Rate,
    /// The packet is longer than what is relayed.
    TooLong,
    /// The client or the network does not take it in time.
    Congested,
    /// The system does not send it: no route, mostly.
    Unsendable,
}

impl Dropped {
    const ALL: [(Self, &'static str); 7] = [
        (Self::NoAllocation, "no_allocation"),
        (Self::NoPermission, "no_permission"),
        (Self::Forbidden, "forbidden_peer"),
        (Self::Rate, "rate"),
        (Self::TooLong, "too_long"),
        (Self::Congested, "congested"),
        (Self::Unsendable, "unsendable"),
    ];
}

/// Counters since the server started.
#[derive(Debug, Default)]
pub(crate) struct TurnMetrics {
    /// Bytes of data relayed to peers.
    pub(crate) to_peers: AtomicU64,
    /// Bytes of data relayed to clients.
    pub(crate) to_clients: AtomicU64,
    refused: [AtomicU64; CODES.len()],
    dropped: [AtomicU64; Dropped::ALL.len()],
}

impl TurnMetrics {
    /// Counts a request refused with this code.
    pub(crate) fn refused(&self, code: u16) {
        let at = CODES.iter().position(|known| *known == code);
        if let Some(counter) = at.and_then(|at| self.refused.get(at)) {
            counter.fetch_add(1, Relaxed);
        }
    }

    /// Counts a packet that was not relayed.
    pub(crate) fn dropped(&self, reason: Dropped) {
        let at = Dropped::ALL.iter().position(|(known, _)| *known == reason);
        if let Some(counter) = at.and_then(|at| self.dropped.get(at)) {
            counter.fetch_add(1, Relaxed);
        }
    }

    /// The Prometheus text format. `live` is the number of allocations now.
    pub(crate) fn render(&self, text: &mut String, live: usize) {
        let mut head = |name: &str, kind: &str, help: &str, values: &[(String, u64)]| {
            // Writing to a String cannot fail.
            let _ = write!(
                text,
                "# HELP discovery_turn_{name} {help}\n# TYPE discovery_turn_{name} {kind}\n"
            );
            for (labels, value) in values {
                let _ = writeln!(text, "discovery_turn_{name}{labels} {value}");
            }
        };
        let live = [(String::new(), live as u64)];
        head("allocations", "gauge", "Allocations that are live.", &live);
        let bytes = [("peers", &self.to_peers), ("clients", &self.to_clients)]
            .map(|(to, counter)| (format!("{{to=\"{to}\"}}"), counter.load(Relaxed)));
        head("bytes_total", "counter", "Bytes of data relayed.", &bytes);
        let refused: Vec<_> = CODES
            .iter()
            .zip(&self.refused)
            .map(|(code, counter)| (format!("{{code=\"{code}\"}}"), counter.load(Relaxed)))
            .collect();
        head("refused_total", "counter", "Requests refused.", &refused);
        let dropped: Vec<_> = Dropped::ALL
            .iter()
            .zip(&self.dropped)
            .map(|((_, name), counter)| (format!("{{reason=\"{name}\"}}"), counter.load(Relaxed)))
            .collect();
        head("dropped_total", "counter", "Packets not relayed.", &dropped);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_shown_by_its_reason() {
        let metrics = TurnMetrics::default();
        for code in CODES {
            metrics.refused(code);
        }
        metrics.refused(403);
        for (reason, _) in Dropped::ALL {
            metrics.dropped(reason);
        }
        metrics.to_peers.fetch_add(7, Relaxed);
        let mut text = String::new();
        metrics.render(&mut text, 3);
        for line in [
            "discovery_turn_allocations 3",
            "discovery_turn_bytes_total{to=\"peers\"} 7",
            "discovery_turn_bytes_total{to=\"clients\"} 0",
            "discovery_turn_refused_total{code=\"403\"} 2",
            "discovery_turn_refused_total{code=\"486\"} 1",
            "discovery_turn_dropped_total{reason=\"rate\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }
}
