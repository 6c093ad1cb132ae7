//! `GET /metrics`: what does a Prometheus server see? (text exposition format 0.0.4)

use std::fmt::{self, Write};

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};

use super::{Api, error::ApiError};
use crate::status::{PeerStatus, Status};

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) async fn metrics(State(api): State<Api>) -> Result<Response, ApiError> {
    let status = api.context.status.borrow().clone();
    let text = render(&status).expect("writing to a String never fails");
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response())
}

fn render(status: &Status) -> Result<String, fmt::Error> {
    let mut out = Exposition::default();
    let version = [("version", status.node.version.as_str())];
    out.family("meshd_build_info", "gauge", "The running version.")?;
    out.sample(&version, 1)?;
    out.family("meshd_uptime_seconds", "gauge", "Time since the start.")?;
    out.sample(&[], status.node.uptime_s)?;
    out.family(
        "meshd_server_connected",
        "gauge",
        "Whether the discovery server's event connection is up.",
    )?;
    out.sample(&[], u8::from(status.server.connected))?;
    out.family("meshd_health_problems", "gauge", "Problems at the moment.")?;
    out.sample(&[], status.health.len())?;
    peers(&mut out, &status.peers)?;
    out.family(
        "meshd_dropped_packets_total",
        "counter",
        "Packets that went nowhere, by reason.",
    )?;
    for (reason, count) in &status.counters {
        out.sample(&[("reason", reason)], count)?;
    }
    Ok(out.text)
}

fn peers(out: &mut Exposition, peers: &[PeerStatus]) -> fmt::Result {
    out.family(
        "meshd_peer_bytes_total",
        "counter",
        "Bytes exchanged with a peer, encryption included.",
    )?;
    for peer in peers {
        out.sample(
            &[("peer", &peer.name), ("direction", "tx")],
            peer.traffic.tx_bytes,
        )?;
        out.sample(
            &[("peer", &peer.name), ("direction", "rx")],
            peer.traffic.rx_bytes,
        )?;
    }
    out.family(
        "meshd_peer_path",
        "gauge",
        "1 for the way that packets to a peer take.",
    )?;
    for peer in peers {
        let path = peer.path.to_string();
        out.sample(&[("peer", &peer.name), ("path", &path)], 1)?;
    }
    out.family(
        "meshd_peer_rtt_seconds",
        "gauge",
        "Smoothed round trip time to a peer.",
    )?;
    for peer in peers {
        if let Some(rtt_ms) = peer.rtt_ms {
            out.sample(&[("peer", &peer.name)], rtt_ms / 1000.0)?;
        }
    }
    Ok(())
}

/// Text in the making, and the family that samples belong to.
#[derive(Default)]
struct Exposition {
    text: String,
    family: &'static str,
}

impl Exposition {
    fn family(&mut self, name: &'static str, kind: &str, help: &str) -> fmt::Result {
        self.family = name;
        writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}")
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: impl fmt::Display) -> fmt::Result {
        self.text.push_str(self.family);
        for (at, (name, value)) in labels.iter().enumerate() {
            let open = if at == 0 { '{' } else { ',' };
            write!(self.text, "{open}{name}=\"{}\"", escape(value))?;
        }
        let close = if labels.is_empty() { "" } else { "}" };
        writeln!(self.text, "{close} {value}")
    }
}

/// Peers choose their names: a quote or line break in one must not become a sample of its own.
fn escape(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}
