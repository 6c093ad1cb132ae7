//! `meshd status` and `meshd peers`: what does a person want to see of the daemon?

use std::time::Duration;

use url::{Host, Url};

use super::{
    Failure,
    client::Client,
    output::{Output, bytes, duration, milliseconds, table},
};
use crate::status::{
    PathKind, PeerStatus, PortMappingState, PortMappingStatus, ServerStatus, Status, Trust,
    path_in_words,
};

/// What stands in a table where nothing is known.
const UNKNOWN: &str = "-";

pub(super) async fn status(
    client: &Client,
    output: &mut Output,
    json: bool,
) -> Result<(), Failure> {
    let status: Status = client.get("/api/v1/status").await?;
    if json {
        output.json(&status)?;
    } else {
        output.line(summary(&status))?;
        output.line(paths(&status.peers))?;
        for problem in &status.health {
            output.line(format_args!("\nproblem: {problem}"))?;
        }
        for note in &status.notes {
            output.line(format_args!("\nnote: {note}"))?;
        }
    }
    Ok(())
}

pub(super) async fn peers(client: &Client, output: &mut Output, json: bool) -> Result<(), Failure> {
    let status: Status = client.get("/api/v1/status").await?;
    if json {
        output.json(&status.peers)?;
    } else {
        output.line(traffic(&status.peers))?;
    }
    Ok(())
}

fn summary(status: &Status) -> String {
    let node = &status.node;
    let addresses: Vec<String> = node.virtual_ips.iter().map(ToString::to_string).collect();
    let trust = match node.trust {
        Trust::Certificates => "certificates (the discovery server is not trusted)",
        Trust::Psk => "psk, weaker (whoever has a join link is a member for good)",
    };
    let further = status
        .servers
        .iter()
        .filter(|other| other.url != status.server.url);
    let further = further.map(|other| format!("           {}", server(other)));
    let (address, udp) = match node.interface.as_str() {
        // There is neither before a discovery server has answered for the first time.
        "" => ("none yet".to_owned(), "no port yet".to_owned()),
        interface => (
            format!("{} on {interface}", addresses.join(", ")),
            format!("port {}, {}", node.listen_port, nat(status)),
        ),
    };
    let mut lines = vec![
        format!(
            "{} in {}, node {}",
            node.name,
            node.network,
            node.node_id.short()
        ),
        format!("  address  {address}"),
        format!("  udp      {udp}"),
        format!("  server   {}", server(&status.server)),
    ];
    lines.extend(further);
    lines.extend([
        format!("  trust    {trust}"),
        format!(
            "  running  {}, version {}",
            duration(Duration::from_secs(node.uptime_s)),
            node.version
        ),
    ]);
    if let Some((reason, _)) = status.counters.iter().max_by_key(|(_, count)| **count) {
        let total: u64 = status.counters.values().sum();
        if total > 0 {
            lines.push(format!("  dropped  {total} packets, most for {reason}"));
        }
    }
    lines.push(String::new());
    lines.join("\n")
}

fn nat(status: &Status) -> String {
    let nat = &status.nat;
    let mapping = mapping(&nat.port_mapping);
    let seen: Vec<String> = nat
        .mapped_addresses
        .iter()
        .map(ToString::to_string)
        .collect();
    let seen = seen.join(", ");
    match nat.behind_nat {
        Some(true) => format!("behind a NAT, seen as {seen}{mapping}"),
        Some(false) => format!("no NAT, seen as {seen}"),
        // A STUN server on this host is not asked: it sees no NAT.
        None if seen.is_empty() && is_on_this_host(&status.server) => {
            "not seen from outside: the server is on this host".to_owned()
        }
        None => format!("no STUN answer yet{mapping}"),
    }
}

/// What a person should know of the router: that it lets peers in, or that what it says is not believed.
fn mapping(mapping: &PortMappingStatus) -> String {
    match (mapping.state, mapping.protocol, mapping.external) {
        (PortMappingState::Mapped, Some(protocol), Some(external)) => {
            format!("; the router maps {external} to it by {protocol}")
        }
        (PortMappingState::Distrusted, ..) => {
            let why = mapping.error.as_deref().unwrap_or_default();
            format!("; not believed: {why}")
        }
        _ => String::new(),
    }
}

fn is_on_this_host(server: &ServerStatus) -> bool {
    let url = Url::parse(&server.url).ok();
    match url.as_ref().and_then(Url::host) {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

fn server(server: &ServerStatus) -> String {
    if server.connected {
        return format!("{} (connected)", server.url);
    }
    let retry = server.retry_in_s.map_or_else(String::new, |seconds| {
        format!(", next attempt in {seconds} s")
    });
    let why = server.error.as_deref().unwrap_or("no answer so far");
    let why = format!(": {why}");
    format!("{} (not connected{why}{retry})", server.url)
}

fn paths(peers: &[PeerStatus]) -> String {
    if peers.is_empty() {
        return "no other members yet: `meshd invite` prints a join link".to_owned();
    }
    let row = |peer: &PeerStatus| {
        let endpoint = peer.endpoint.map(|endpoint| endpoint.to_string());
        let way = match (peer.relays.via.is_empty(), endpoint) {
            (true, Some(endpoint)) => endpoint,
            (true, None) => UNKNOWN.to_owned(),
            (false, _) => format!("via {}", peer.relays.via.join(", ")),
        };
        [
            peer.name.clone(),
            address(peer),
            path(peer),
            rtt(peer),
            mtu(peer),
            way,
        ]
    };
    let rows: Vec<_> = peers.iter().map(row).collect();
    table(["NAME", "ADDRESS", "PATH", "RTT", "MTU", "ENDPOINT"], &rows)
}

fn traffic(peers: &[PeerStatus]) -> String {
    let row = |peer: &PeerStatus| {
        let handshake = peer.traffic.last_handshake_s.map_or_else(
            || UNKNOWN.to_owned(),
            |seconds| format!("{} ago", duration(Duration::from_secs(seconds))),
        );
        [
            peer.name.clone(),
            address(peer),
            path(peer),
            rtt(peer),
            bytes(peer.traffic.rx_bytes),
            bytes(peer.traffic.tx_bytes),
            handshake,
        ]
    };
    let rows: Vec<_> = peers.iter().map(row).collect();
    table(
        [
            "NAME",
            "ADDRESS",
            "PATH",
            "RTT",
            "RECEIVED",
            "SENT",
            "HANDSHAKE",
        ],
        &rows,
    )
}

fn address(peer: &PeerStatus) -> String {
    let first = peer.virtual_ips.first();
    first.map_or_else(|| UNKNOWN.to_owned(), ToString::to_string)
}

fn rtt(peer: &PeerStatus) -> String {
    peer.rtt_ms.map_or_else(|| UNKNOWN.to_owned(), milliseconds)
}

fn mtu(peer: &PeerStatus) -> String {
    peer.mtu
        .map_or_else(|| UNKNOWN.to_owned(), |mtu| mtu.to_string())
}

/// The path, or why there is none: members without traffic have no session, which is as it should be.
fn path(peer: &PeerStatus) -> String {
    match peer.path {
        PathKind::Direct | PathKind::Turn | PathKind::Relay => {
            let mut words = path_in_words(peer.path, peer.relays.transport);
            if peer.relays.direct_avoided {
                words.push_str(" (direct loses)");
            }
            words
        }
        PathKind::None if peer.online => "idle".to_owned(),
        PathKind::None => "offline".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use mesh_wire::NodeId;

    use super::*;
    use crate::status::{NatStatus, NodeStatus, Relays, Traffic};

    fn peer(name: &str, path: PathKind, via: &[&str]) -> PeerStatus {
        PeerStatus {
            name: name.to_owned(),
            node_id: NodeId::from_bytes([2; 32]),
            virtual_ips: vec!["10.100.0.2".parse().unwrap()],
            online: path != PathKind::None,
            path,
            relays: Relays {
                transport: None,
                via: via.iter().map(|&hop| hop.to_owned()).collect(),
                direct_avoided: false,
            },
            endpoint: Some("198.51.100.7:7081".parse().unwrap()),
            rtt_ms: Some(12.34),
            traffic: Traffic {
                tx_bytes: 123_456_789,
                rx_bytes: 12,
                last_handshake_s: Some(75),
                last_heard_s: Some(2),
            },
            mtu: Some(1400),
        }
    }

    fn status() -> Status {
        Status {
            node: NodeStatus {
                version: "0.1.0".into(),
                node_id: NodeId::from_bytes([1; 32]),
                name: "alice".into(),
                network: "my-network".parse().unwrap(),
                interface: "mesh0".into(),
                virtual_ips: vec!["10.100.0.1".parse().unwrap()],
                trust: Trust::Psk,
                listen_port: 7081,
                uptime_s: 3700,
            },
            server: ServerStatus {
                url: "http://198.51.100.2:7080/".into(),
                connected: false,
                error: Some("connection refused".into()),
                code: None,
                untrusted: false,
                retry_in_s: Some(8),
            },
            servers: vec![ServerStatus {
                url: "http://198.51.100.3:7080/".into(),
                connected: true,
                error: None,
                code: None,
                untrusted: false,
                retry_in_s: None,
            }],
            nat: NatStatus {
                mapped_addresses: vec!["203.0.113.5:40001".parse().unwrap()],
                behind_nat: Some(true),
                ..NatStatus::default()
            },
            peers: vec![
                peer("laptop-of-bob", PathKind::Direct, &[]),
                peer("carol", PathKind::Relay, &["dave"]),
            ],
            health: Vec::new(),
            notes: Vec::new(),
            routes: Vec::new(),
            counters: BTreeMap::from([("replay".to_owned(), 3), ("malformed".to_owned(), 1)]),
        }
    }

    #[test]
    fn the_summary_says_where_one_is_and_what_is_wrong() {
        let text = summary(&status());
        for part in [
            "alice in my-network",
            "10.100.0.1 on mesh0",
            "port 7081, behind a NAT, seen as 203.0.113.5:40001",
            "(not connected: connection refused, next attempt in 8 s)",
            "\n           http://198.51.100.3:7080/ (connected)\n",
            "1 h 1 min, version 0.1.0",
            "4 packets, most for replay",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    #[test]
    fn nobody_waits_for_an_answer_of_a_server_that_is_not_asked() {
        let mut status = status();
        status.nat = NatStatus {
            mapped_addresses: Vec::new(),
            ..NatStatus::default()
        };
        assert!(summary(&status).contains("no STUN answer yet"));
        status.server.url = "http://127.0.0.1:7080/".into();
        let text = summary(&status);
        assert!(!text.contains("yet"), "{text}");
        assert!(text.contains("not seen from outside"), "{text}");
    }

    #[test]
    fn the_tables_fit_in_eighty_columns() {
        let peers = status().peers;
        let text = format!("{}\n{}", paths(&peers), traffic(&peers));
        assert!(text.contains("via dave"), "{text}");
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }

    #[test]
    fn a_member_without_a_path_is_idle_or_offline() {
        let mut away = peer("eve", PathKind::None, &[]);
        assert_eq!(path(&away), "offline");
        away.online = true;
        assert_eq!(path(&away), "idle");
    }
}
