//! What in a report keeps peers apart, why, and what mends it?

use super::report::{Behavior, Report};
use crate::{problem::Problem, status::PortMappingState};

/// What is wrong, worst first.
pub(super) fn of(report: &Report) -> Vec<Problem> {
    [unheard(report), hard_nat(report), distrusted(report)]
        .into_iter()
        .flatten()
        .collect()
}

/// No server answers.
fn unheard(report: &Report) -> Option<Problem> {
    if report.udp {
        return None;
    }
    if report.servers.is_empty() {
        return Some(
            Problem::new(
                0,
                "no-server-to-ask",
                "no STUN server is known outside this host",
            )
            .detail(
                "the only discovery server is this machine's own, or no name of a server resolves",
            )
            .fix(
                "name one in the configuration: mesh.stun.servers; and see that names resolve here",
            ),
        );
    }
    let asked: Vec<_> = report
        .servers
        .iter()
        .map(|server| server.name.as_str())
        .collect();
    let asked = asked.join(", ");
    if report.servers.iter().any(|server| server.tcp == Some(true)) {
        let mut servers = report.servers.iter();
        let fix = match servers.any(|server| server.turn_tcp_rtt_ms.is_some()) {
            true => {
                "nothing must be done: peers are reached through TURN over TCP; they are faster if the firewall allows outgoing UDP"
            }
            false => {
                "allow outgoing UDP in the firewall, or name a TURN server over TCP or TLS that is reached from here (mesh.turn.servers)"
            }
        };
        return Some(
            Problem::new(0, "udp-blocked", "UDP does not get out of this network")
                .detail(format!("{asked}: no answer over UDP, but TCP connects"))
                .fix(fix),
        );
    }
    Some(
        Problem::new(0, "no-answer", "no server answers")
            .detail(format!("{asked}: no answer over UDP, and no connection over TCP"))
            .fix("see that this host has a network, that the servers run, and that a firewall lets UDP port 3478 out"),
    )
}

fn hard_nat(report: &Report) -> Option<Problem> {
    let what = match report.nat.mapping {
        Behavior::AddressDependent
        | Behavior::AddressAndPortDependent
        | Behavior::DestinationDependent => report.nat.mapping,
        Behavior::EndpointIndependent | Behavior::Unknown => return None,
    };
    if report.port_mapping.state == PortMappingState::Mapped {
        return None;
    }
    Some(
        Problem::new(0, "hard-nat", "the router gives each destination another port")
            .detail(format!("{what} Mapping: peers behind routers that filter by port cannot come in"))
            .fix("switch on PCP, NAT-PMP or UPnP in the router, or forward the mesh's UDP port (7081) to this host"),
    )
}

fn distrusted(report: &Report) -> Option<Problem> {
    let mapping = &report.port_mapping;
    if mapping.state != PortMappingState::Distrusted {
        return None;
    }
    Some(
        Problem::new(0, "port-mapping-distrusted", "the router's port mapping is of no use")
            .detail(mapping.error.clone().unwrap_or_default())
            .fix("make the outer router map the port too, or put the inner one into bridge mode; a carrier's NAT cannot be changed, but a public address can be ordered"),
    )
}
