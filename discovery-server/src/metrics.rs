//! What is counted, and how is it told to Prometheus?

pub(crate) mod turn;

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use axum::http::StatusCode;

/// Statuses are 100 to 999 in the `http` crate; ours are below 600.
const STATUSES: usize = 600;

/// Counters since the server started.
#[derive(Debug)]
pub(crate) struct Metrics {
    responses: Box<[AtomicU64]>,
    pub(crate) stun_requests: AtomicU64,
    pub(crate) stun_garbage: AtomicU64,
    pub(crate) signals: AtomicU64,
    snapshot_at: AtomicU64,
    snapshots_failed: AtomicU64,
}

/// What is read at the moment of asking.
#[derive(Debug)]
pub(crate) struct Gauges {
    /// Networks and members, if the database answers.
    pub(crate) stored: Option<(u64, u64)>,
    pub(crate) online: u64,
    pub(crate) connections: u64,
}

impl Metrics {
    /// All zero.
    pub(crate) fn new() -> Self {
        Self {
            responses: (0..STATUSES).map(|_| AtomicU64::new(0)).collect(),
            stun_requests: AtomicU64::new(0),
            stun_garbage: AtomicU64::new(0),
            signals: AtomicU64::new(0),
            snapshot_at: AtomicU64::new(0),
            snapshots_failed: AtomicU64::new(0),
        }
    }

    /// Notes when the newest snapshot was taken, if there is one.
    pub(crate) fn count_snapshot(&self, taken: Option<u64>) {
        self.snapshot_at.store(taken.unwrap_or(0), Relaxed);
    }

    /// Counts a snapshot that was due and not taken.
    pub(crate) fn count_failed_snapshot(&self) {
        self.snapshots_failed.fetch_add(1, Relaxed);
    }

    /// Counts an HTTP answer.
    pub(crate) fn count_response(&self, status: StatusCode) {
        if let Some(counter) = self.responses.get(usize::from(status.as_u16())) {
            counter.fetch_add(1, Relaxed);
        }
    }

    fn of_snapshots(&self) -> [(&str, &str, &str, u64); 2] {
        [
            (
                "snapshot_timestamp_seconds",
                "gauge",
                "When the newest snapshot of the database was taken; 0 if there is none.",
                self.snapshot_at.load(Relaxed),
            ),
            (
                "snapshots_failed_total",
                "counter",
                "Snapshots of the database that were due and not taken.",
                self.snapshots_failed.load(Relaxed),
            ),
        ]
    }

    /// The Prometheus text format, version 0.0.4.
    pub(crate) fn render(&self, gauges: &Gauges) -> String {
        let mut text = String::new();
        let mut metric = |name: &str, kind: &str, help: &str, value: u64| {
            // Writing to a String cannot fail.
            let _ = write!(
                text,
                "# HELP discovery_{name} {help}\n# TYPE discovery_{name} {kind}\ndiscovery_{name} {value}\n"
            );
        };
        metric(
            "database_up",
            "gauge",
            "Whether the database answers.",
            gauges.stored.is_some().into(),
        );
        // What is not known is not said: zero would look like the truth.
        if let Some((networks, peers)) = gauges.stored {
            metric("networks", "gauge", "Networks kept.", networks);
            metric("peers", "gauge", "Members of all networks.", peers);
        }
        metric(
            "peers_online",
            "gauge",
            "Members with a live event connection.",
            gauges.online,
        );
        metric(
            "websocket_connections",
            "gauge",
            "Event connections.",
            gauges.connections,
        );
        let [signals, requests, garbage] = [&self.signals, &self.stun_requests, &self.stun_garbage]
            .map(|counter| counter.load(Relaxed));
        metric(
            "signals_total",
            "counter",
            "Signals forwarded between members.",
            signals,
        );
        metric(
            "stun_requests_total",
            "counter",
            "STUN requests answered.",
            requests,
        );
        metric(
            "stun_garbage_total",
            "counter",
            "Datagrams that were no STUN request.",
            garbage,
        );
        for (name, kind, help, value) in self.of_snapshots() {
            metric(name, kind, help, value);
        }
        self.render_responses(&mut text);
        text
    }

    fn render_responses(&self, text: &mut String) {
        text.push_str(
            "# HELP discovery_http_requests_total HTTP requests by status of the answer.\n\
             # TYPE discovery_http_requests_total counter\n",
        );
        for (status, counter) in self.responses.iter().enumerate() {
            let count = counter.load(Relaxed);
            if count > 0 {
                let _ = writeln!(
                    text,
                    "discovery_http_requests_total{{status=\"{status}\"}} {count}"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_rendered_with_type_and_status() {
        let metrics = Metrics::new();
        metrics.count_response(StatusCode::NOT_FOUND);
        metrics.count_response(StatusCode::NOT_FOUND);
        metrics.stun_garbage.fetch_add(3, Relaxed);
        let text = metrics.render(&Gauges {
            stored: Some((1, 2)),
            online: 1,
            connections: 4,
        });
        assert!(
            text.contains("\ndiscovery_http_requests_total{status=\"404\"} 2\n"),
            "{text}"
        );
        assert!(text.contains(
            "# TYPE discovery_stun_garbage_total counter\ndiscovery_stun_garbage_total 3\n"
        ));
        assert!(text.contains("# TYPE discovery_peers gauge\ndiscovery_peers 2\n"));
    }
}
