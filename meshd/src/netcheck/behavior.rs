//! Which mapping and which filtering does the NAT have, and does it turn packets round? (RFC 5780 section 4)

use std::{net::SocketAddr, time::Duration};

use mesh_core::path::stun_question::{self, Change};
use platform::net::addresses;
use tokio::time::Instant;

use super::{
    report::{Behavior, Nat},
    talk::Talk,
};

/// How long a packet may take from one of our sockets through the router to another.
const HAIRPIN: Duration = Duration::from_millis(500);
/// How often it is sent in that time.
const HAIRPIN_SHOTS: u32 = 3;

/// Judges by servers that answer, all of one version of IP.
pub(super) async fn judge(servers: &[SocketAddr]) -> Nat {
    let Some(first) = servers.first() else {
        return Nat::default();
    };
    let (seen, filtering) = tokio::join!(look(servers), filtering(servers));
    let present = seen.first().map(|(_, mapped)| !is_ours(*mapped, *first));
    let hairpin = match present {
        Some(true) => hairpin(*first).await,
        Some(false) | None => None,
    };
    Nat {
        present,
        mapping: mapping(&seen),
        filtering,
        hairpin,
    }
}

fn is_ours(mapped: SocketAddr, server: SocketAddr) -> bool {
    addresses::source_towards(server.ip()).is_ok_and(|local| local == mapped.ip())
}

/// How one socket looks to all servers, and to their other addresses and ports: where it was asked, and what was seen.
async fn look(servers: &[SocketAddr]) -> Vec<(SocketAddr, SocketAddr)> {
    let (mut seen, mut others) = (Vec::new(), Vec::new());
    let Some(first) = servers.first() else {
        return seen;
    };
    let Ok(talk) = Talk::open(*first).await else {
        return seen;
    };
    for server in servers {
        let Some(answer) = talk.ask_fully(*server).await else {
            continue;
        };
        seen.push((*server, answer.mapped));
        if let Some(other) = other_of(*server, answer.other)
            && other.is_ipv4() == server.is_ipv4()
        {
            // RFC 5780 section 4.3: the other address at the same port, then at the other.
            others.extend([SocketAddr::new(other.ip(), server.port()), other]);
        }
    }
    for address in others {
        let known = seen.iter().any(|(asked, _)| *asked == address);
        if !known && let Some(answer) = talk.ask(address).await {
            seen.push((address, answer.mapped));
        }
    }
    seen
}

/// A server's other address and port. A server of ours may have one address alone, and calls it unspecified.
fn other_of(server: SocketAddr, other: Option<SocketAddr>) -> Option<SocketAddr> {
    let other = other?;
    Some(if other.ip().is_unspecified() {
        SocketAddr::new(server.ip(), other.port())
    } else {
        other
    })
}

/// What the mapping of one socket depends on (RFC 4787 section 4.1): where it was asked, and what was seen from there. Both
/// versions of IP may be among them.
pub fn mapping(seen: &[(SocketAddr, SocketAddr)]) -> Behavior {
    let pairs = || {
        let each = seen.iter().enumerate();
        let all = each.flat_map(|(at, one)| seen[at + 1..].iter().map(move |two| (one, two)));
        all.filter(|(one, two)| one.0.is_ipv4() == two.0.is_ipv4())
    };
    let same_ip = |(one, two): &(&(SocketAddr, SocketAddr), &(SocketAddr, SocketAddr))| {
        one.0.ip() == two.0.ip()
    };
    let differ =
        |(one, two): (&(SocketAddr, SocketAddr), &(SocketAddr, SocketAddr))| one.1 != two.1;
    let by_port = pairs().filter(same_ip).map(differ).reduce(|a, b| a | b);
    let by_address = pairs().filter(|pair| !same_ip(pair)).map(differ);
    let by_address = by_address.reduce(|a, b| a | b);
    match (by_address, by_port) {
        (_, Some(true)) => Behavior::AddressAndPortDependent,
        (Some(true), Some(false)) => Behavior::AddressDependent,
        (Some(true), None) => Behavior::DestinationDependent,
        (Some(false), _) => Behavior::EndpointIndependent,
        (None, Some(false) | None) => Behavior::Unknown,
    }
}

/// What may come in, by a server that can answer from elsewhere. Its socket has spoken with nobody else, or what it asks
/// would be let in for that.
async fn filtering(servers: &[SocketAddr]) -> Behavior {
    for server in servers {
        let Ok(talk) = Talk::open(*server).await else {
            continue;
        };
        let Some(answer) = talk.ask_fully(*server).await else {
            continue;
        };
        let Some(other) = other_of(*server, answer.other) else {
            continue;
        };
        if other.ip() != server.ip() {
            match talk
                .ask_changed(*server, Some(Change::ADDRESS_AND_PORT))
                .await
            {
                Ok(Some(_)) => return Behavior::EndpointIndependent,
                Ok(None) => {}
                Err(_) => continue,
            }
        }
        match talk.ask_changed(*server, Some(Change::PORT)).await {
            Ok(Some(_)) if other.ip() == server.ip() => continue,
            Ok(Some(_)) => return Behavior::AddressDependent,
            Ok(None) => return Behavior::AddressAndPortDependent,
            Err(_) => {}
        }
    }
    Behavior::Unknown
}

/// Whether one of our sockets hears another one at its mapped address. Both send, so that a filter lets them in.
async fn hairpin(server: SocketAddr) -> Option<bool> {
    let (one, two) = (
        Talk::open(server).await.ok()?,
        Talk::open(server).await.ok()?,
    );
    let first = one.ask(server).await?.mapped;
    let second = two.ask(server).await?.mapped;
    let mut id = [0; 16];
    getrandom::fill(&mut id[4..]).ok()?;
    let shot = stun_question::binding(u128::from_be_bytes(id), None)?;
    for _ in 0..HAIRPIN_SHOTS {
        one.send(second, &shot).await;
        two.send(first, &shot).await;
        let until = Instant::now() + HAIRPIN / HAIRPIN_SHOTS;
        let (at_one, at_two) = tokio::join!(one.hears(&shot, until), two.hears(&shot, until));
        if at_one || at_two {
            return Some(true);
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(pairs: &[(&str, &str)]) -> Vec<(SocketAddr, SocketAddr)> {
        let parse = |text: &str| text.parse().unwrap();
        pairs
            .iter()
            .map(|(at, as_)| (parse(at), parse(as_)))
            .collect()
    }

    #[test]
    fn a_mapping_is_judged_by_what_different_places_see() {
        let (a, b, other_port) = (
            "198.51.100.2:3478",
            "198.51.100.3:3478",
            "198.51.100.2:3479",
        );
        let (same, moved) = ("203.0.113.9:7081", "203.0.113.9:40000");
        for (pairs, expected) in [
            (vec![], Behavior::Unknown),
            (vec![(a, same)], Behavior::Unknown),
            (vec![(a, same), (other_port, same)], Behavior::Unknown),
            (vec![(a, same), (b, same)], Behavior::EndpointIndependent),
            (
                vec![(a, same), ("[2001:db8::1]:3478", "[2001:db8::2]:7081")],
                Behavior::Unknown,
            ),
            (vec![(a, same), (b, moved)], Behavior::DestinationDependent),
            (
                vec![(a, same), (other_port, moved)],
                Behavior::AddressAndPortDependent,
            ),
            (
                vec![(a, same), (other_port, same), (b, moved)],
                Behavior::AddressDependent,
            ),
        ] {
            assert_eq!(mapping(&seen(&pairs)), expected, "{pairs:?}");
        }
    }
}
