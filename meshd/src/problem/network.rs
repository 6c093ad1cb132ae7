//! What goes wrong between this node, its network and the discovery server?

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::Path,
};

use mesh_core::{Transport, Trouble};
use mesh_wire::{DecodeError, NetworkId, trust::ListView};

use super::{Problem, trust};

/// A join link is cut short, mistyped or not one of ours.
pub fn join_link_invalid(error: &DecodeError) -> Problem {
    Problem::new(400, "join-link-invalid", "this join link cannot be used")
        .detail(format!("the link {}", error.why))
        .fix("copy the whole link again, in quotes: meshd up --join 'LINK'; whoever made the network, or an admin of it, prints a new one with meshd invite")
}

/// The state directory belongs to `current`, the command asks for `wanted`.
pub fn already_joined(current: &NetworkId, wanted: &NetworkId, state_dir: &Path) -> Problem {
    Problem::new(
        409,
        "already-joined",
        format!("this node is a member of {current}, not of {wanted}"),
    )
    .detail(format!(
        "{} holds the keys of {current}",
        state_dir.display()
    ))
    .fix(format!(
        "to stay in {current}, start without --join and --network, and without another network_id in the \
         configuration; to be in {wanted} as well, give it a directory of its own: --state-dir DIR"
    ))
}

/// The network is on the server inside this daemon, the command names another one.
pub fn server_embedded(network: &NetworkId, wanted: &url::Url, state_dir: &Path) -> Problem {
    Problem::new(
        409,
        "server-embedded",
        format!("the network {network} is on the discovery server inside this daemon, not on {wanted}"),
    )
    .detail(format!(
        "{} holds that server's data, and the join links of {network} name this machine; a network does not move",
        state_dir.display()
    ))
    .fix("to stay, start without --server and mesh.discovery.server; to create a network there, give it a directory of its own: --state-dir DIR")
}

/// The list of servers is to lose the one inside this daemon.
pub fn server_embedded_first(server: &url::Url) -> Problem {
    Problem::new(
        409,
        "server-embedded",
        format!("the discovery server inside this daemon, {server}, stays the first of the list"),
    )
    .detail("the join links of this network name it, and members look for each other there")
    .fix(format!(
        "put others behind it: meshd servers set {server} URL..."
    ))
}

/// The server does not answer. The daemon goes on trying; this stands in its health until it succeeds.
pub fn server_unreachable(server: &url::Url, error: &dyn fmt::Display) -> Problem {
    Problem::new(
        503,
        "server-unreachable",
        format!("the discovery server {server} does not answer; meshd keeps trying"),
    )
    .detail(error.to_string())
    .fix(format!(
        "check that it runs and can be reached from here: curl {}healthz",
        server.as_str()
    ))
}

/// The server's certificate does not prove that it is the one that was named. Nothing was sent to it.
pub fn server_untrusted(server: &str, why: &dyn fmt::Display) -> Problem {
    Problem::new(
        502,
        "server-untrusted",
        format!("the discovery server {server} does not prove that it is the one; nothing was sent to it"),
    )
    .detail(why.to_string())
    .fix("use the name that its certificate is for, or renew that one; an authority of your own is trusted if it is among this system's (update-ca-certificates), or in the file that the environment variable SSL_CERT_FILE names; see that this machine's clock is right")
}

/// No STUN server tells us how our NAT maps us; this stands in the daemon's health until one does.
pub fn no_stun(servers: &[SocketAddr]) -> Problem {
    let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
    let what = format!("no STUN server answers: {}", servers.join(", "));
    Problem::new(502, "stun-silent", what)
        .detail("peers behind NATs do not learn where this node is, and are reached through a relay, or later than they could be")
        .fix("check that they run and that this host reaches them, or name another one in mesh.stun.servers")
}

/// A TURN server was needed and does not relay; this stands in the daemon's health until it does.
pub fn no_relay(server: SocketAddr, transport: &Transport, trouble: Trouble) -> Problem {
    let (code, fix) = match trouble {
        Trouble::Silent => (
            "turn-silent",
            "check that it runs and that this host reaches it; peers without a direct path are not reached without a relay",
        ),
        Trouble::Unreachable | Trouble::Closed if matches!(transport, Transport::WebSocket(_)) => (
            "turn-silent",
            "check that the server runs, and that every proxy on the way lets WebSockets through to its path /api/v1/turn",
        ),
        Trouble::Unreachable | Trouble::Closed => (
            "turn-silent",
            "check that it runs, that it serves TURN on this port over TCP, and that no firewall is in between",
        ),
        Trouble::Untrusted => (
            "turn-untrusted",
            "name the server as its certificate does in mesh.turn.servers, or have this system trust whoever signed it; who else answers for it gets no credentials",
        ),
        Trouble::Refused(401 | 441) => (
            "turn-refused",
            "correct username and password in mesh.turn.servers; a discovery server hands out new ones by itself",
        ),
        Trouble::Refused(486) => (
            "turn-refused",
            "give this machine a user of its own in mesh.turn.servers, have the server allow this one more, or name another server beside it, which then relays; it is asked again every few minutes",
        ),
        Trouble::Refused(_) | Trouble::Nonsense => (
            "turn-refused",
            "ask who runs it, or name another one in mesh.turn.servers; it is asked again every few minutes",
        ),
    };
    let (server, over) = match transport {
        Transport::Udp => (server.to_string(), "UDP"),
        Transport::Tcp => (server.to_string(), "TCP"),
        Transport::Tls(_) => (server.to_string(), "TLS"),
        Transport::WebSocket(url) => (url.to_string(), "WebSocket"),
    };
    let what = format!("the TURN server {server} does not relay for this node over {over}");
    Problem::new(503, code, what)
        .detail(trouble.to_string())
        .fix(fix)
}

/// The server understood and refused: its own words, with the server named.
pub fn server_refused(server: &url::Url, refusal: &Problem) -> Problem {
    let mut problem = refusal.clone();
    problem.title = format!("the discovery server {server} refuses: {}", refusal.title);
    problem
}

/// The code of [`network_deleted`], which servers send too.
pub const NETWORK_DELETED: &str = "network-deleted";

/// The network was deleted on this server on purpose; this stands in the daemon's health while the server is in the list.
pub fn network_deleted(network: &NetworkId, server: &str) -> Problem {
    Problem::new(
        410,
        NETWORK_DELETED,
        format!("the network {network} was deleted on the discovery server {server}"),
    )
    .detail("its administrator deleted it on purpose, so no member makes it again there; sessions that stand go on")
    .fix(format!(
        "take it out of the list (meshd servers rm {server}) and use another (meshd servers add URL); or let its administrator \
         allow it again: DELETE {server}api/v1/mesh/networks/{network}?remember=false with the admin token, which is noticed within \
         ten minutes or at a restart"
    ))
}

/// The code of [`network_exists`], which servers send too.
pub const NETWORK_EXISTS: &str = "network-exists";

/// `meshd up --server` would create a network that is there already.
pub fn network_exists(network: &NetworkId, server: &url::Url) -> Problem {
    Problem::new(
        409,
        NETWORK_EXISTS,
        format!("{server} already has a network named {network}"),
    )
    .detail("somebody else created it, or this node did before its state directory was removed")
    .fix("join it with a link from one of its members (meshd up --join LINK), or choose another name (--network NAME)")
}

/// The code of [`network_key_differs`] and [`network_replaced`].
pub const NETWORK_KEY_DIFFERS: &str = "network-key-differs";

/// Somebody has made another network of our name on this server; this stands in the daemon's health while it is so.
pub fn network_replaced(network: &NetworkId, server: &str) -> Problem {
    Problem::new(
        409,
        NETWORK_KEY_DIFFERS,
        format!("the discovery server {server} has another network named {network}"),
    )
    .detail("it has another key, range or secret than ours, so it was made by somebody else, before ours or while the server had lost ours; nobody of it is a member here, and sessions that stand go on")
    .fix(format!(
        "use another server (meshd servers add URL); or let its administrator delete that network without remembering it (DELETE {server}api/v1/mesh/networks/{network}?remember=false \
         with the admin token): the members make theirs again within ten minutes or at a restart"
    ))
}

/// The server's network of that name is not the one that was joined or created.
pub fn network_key_differs(network: &NetworkId, server: &url::Url) -> Problem {
    Problem::new(
        409,
        NETWORK_KEY_DIFFERS,
        format!("{server} has another network named {network}"),
    )
    .detail(
        "its key is not the one that is known here: the server was set up anew, or is not honest",
    )
    .fix("ask the network's creator for a new join link")
}

/// The server says what no honest server of this network would.
pub fn server_implausible(server: &url::Url, why: &str) -> Problem {
    Problem::new(
        409,
        "server-implausible",
        format!("what the discovery server {server} says of the network cannot be true"),
    )
    .detail(why)
    .fix("check that the server is the right one and well; over http anybody on the way can answer in its place")
}

/// The network's range was settled when it was created.
pub fn cidr_fixed(network: &NetworkId, current: ipnet::Ipv4Net, wanted: ipnet::Ipv4Net) -> Problem {
    Problem::new(
        409,
        "cidr-fixed",
        format!("the virtual range of {network} is {current}, not {wanted}"),
    )
    .detail("a network's range is settled when it is created")
    .fix(format!(
        "start without --cidr, and without mesh.network_cidr or with {current} in the configuration; or create another network with --network NAME and a --state-dir of its own"
    ))
}

/// The server gave this node another address than the one that the interface has.
pub fn address_changed(old: &[IpAddr], new: &[IpAddr]) -> Problem {
    let list = |addresses: &[IpAddr]| {
        addresses
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    };
    Problem::new(
        409,
        "address-changed",
        format!(
            "the network now knows this node as {}, but its interface has {}",
            list(new),
            list(old)
        ),
    )
    .detail("the discovery server lost its records, and another node has taken the old address")
    .fix("restart the daemon: meshd down, then meshd up")
}

/// Something was asked for that takes membership, before the first registration.
pub fn not_joined() -> Problem {
    Problem::new(
        409,
        "not-joined",
        "this node is not a member of a network yet",
    )
    .detail("the discovery server has not answered so far")
    .fix("see `meshd status`")
}

/// The code of [`lan_discovery_off`].
pub const LAN_DISCOVERY_OFF: &str = "lan-discovery-off";

/// No interface could be used for multicast DNS. The mesh works; this stands in its health until it can.
pub fn lan_discovery_off(error: &dyn fmt::Display) -> Problem {
    Problem::new(
        0,
        LAN_DISCOVERY_OFF,
        "members on the same LAN are not found without a discovery server",
    )
    .detail(format!("udp port 5353 (multicast DNS) cannot be used: {error}"))
    .fix(
        "ss -Hlnpu 'sport = :5353' shows a program that has the port for itself: let it share the port, or stop it; or do          without: mesh.discovery.lan: false",
    )
}

/// The code of [`lists_differ`].
pub const LISTS_DIFFER: &str = "lists-differ";

/// How many members are named before the rest is counted.
const NAMED: usize = 3;

/// These members have been hearing of other members than we do, if there are any.
pub fn lists_differ(ours: ListView, others: &[(String, ListView)]) -> Option<Problem> {
    let said = |view: &ListView| match view {
        ListView::Whole { members, .. } => format!("{members} members"),
        ListView::Part => "only those that it follows".to_owned(),
        ListView::Unknown => "nobody".to_owned(),
    };
    let named: Vec<&str> = others
        .iter()
        .take(NAMED)
        .map(|(name, _)| name.as_str())
        .collect();
    let mut names = named.join(", ");
    if others.len() > NAMED {
        names.push_str(&format!(" and {} more", others.len() - NAMED));
    }
    let (_, first) = others.first()?;
    let verb = if others.len() == 1 { "hears" } else { "hear" };
    let what = format!("{names} {verb} of other members than this machine");
    let detail = format!(
        "{} is told of {}, this machine of {}",
        named.first()?,
        said(first),
        said(&ours)
    );
    Some(Problem::new(0, LISTS_DIFFER, what)
        .detail(format!("{detail}; if both are the same number, of different ones. A discovery server should tell all the same"))
        .fix("compare `meshd peers` and the servers in `meshd status` on both machines; with the same servers, one of these tells members different things or is cut off from its database (use another: meshd servers), or the other machine says what is not so"))
}

/// The code of [`member_refused`] and [`members_unsigned`].
pub const MEMBER_REFUSED: &str = "member-refused";

/// A server lists somebody under this name who has the address or session key of `of`, a member that servers still list or
/// none does any more.
pub fn member_refused(name: &str, (of, is_listed): (&str, bool)) -> Problem {
    let what = format!("{name} is listed by a discovery server, and is no member to this machine");
    let problem = Problem::new(0, MEMBER_REFUSED, what);
    match is_listed {
        true => problem
            .detail(format!("it has the address or the session key of {of}, which was known first"))
            .fix(format!("a discovery server that lists both is not honest: use another (meshd servers); or put one of them out: meshd revoke {of}")),
        false => problem
            .detail(format!("it has the address or the session key of {of}, which no server lists any more, and joined by a link, which gives nobody what was another's"))
            .fix(format!("if {of} is gone for good: meshd revoke {of}, on the creator's machine or an admin's; else begin anew on the other one, with another --state-dir; or wait: {of} is forgotten a day after it was listed last")),
    }
}

/// A server lists somebody under this name who came by a link for some machines that others were heard of first to have used.
pub fn member_too_many(name: &str, (uses, by): (u32, &[String])) -> Problem {
    let what = format!("{name} is listed by a discovery server, and is no member to this machine");
    let (machines, by) = (trust::machines(uses), trust::some(by));
    Problem::new(0, MEMBER_REFUSED, what)
        .detail(format!("it came by a join link for {machines}, which {by} used before, as far as this machine has heard"))
        .fix("the machine that made the link decides, within seconds of being online (meshd up), or asks there (link-contested); if it is the other one that should not be here: meshd revoke it there, and make a new link")
}

/// A server lists records under these names that nobody has signed who may.
pub fn members_unsigned(names: &[String]) -> Problem {
    const SHOWN: usize = 3;
    let mut shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>();
    if names.len() > SHOWN {
        shown.push("others".to_owned());
    }
    let what = "a discovery server lists members that are none to this machine";
    Problem::new(0, MEMBER_REFUSED, what)
        .detail(format!(
            "nobody who may has signed for what it says of {}",
            shown.join(", ")
        ))
        .fix("that server is not honest, or has been tampered with: use another (meshd servers)")
}

/// A command found no daemon on the state directory's socket.
pub fn daemon_not_running(state_dir: &Path) -> Problem {
    Problem::new(503, "daemon-not-running", "no meshd runs here")
        .detail(format!("nobody listens on {}/meshd.sock", state_dir.display()))
        .fix("start it (sudo meshd up), or name its state directory (--state-dir DIR, or MESHD_STATE_DIR)")
}

/// No member fits what was typed.
pub fn peer_not_found(peer: &str) -> Problem {
    Problem::new(
        404,
        "peer-not-found",
        format!(
            "no member of this network is called {}",
            peer.escape_debug()
        ),
    )
    .detail(
        "a member is named by its name, its virtual address or the first 8 characters of its id",
    )
    .fix("meshd peers lists them")
}
