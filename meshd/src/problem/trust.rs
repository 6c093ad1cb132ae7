//! What goes wrong with certificates, invites and who may make them?

use mesh_wire::NodeId;

use super::Problem;

/// This node's certificate must be made anew, and it has nothing to sign it with.
pub fn cannot_certify() -> Problem {
    Problem::new(
        409,
        "cannot-certify",
        "this node has no certificate of the network, and cannot make one",
    )
    .detail("the join link that let it in does not hold any more")
    .fix("ask an admin of the network for a new link (meshd invite), and start once with it: meshd up --join 'LINK'")
}

/// Every address of the network's range is taken.
pub fn no_address_left(cidr: ipnet::Ipv4Net) -> Problem {
    Problem::new(
        409,
        "no-address-left",
        format!("all addresses of {cidr} are taken"),
    )
    .detail("each member has one, also those that are offline")
    .fix("remove members that are gone, or make a network with a larger range")
}

/// Something was asked of a member that only an admin can do.
pub fn not_admin(what: &str) -> Problem {
    Problem::new(403, "not-admin", format!("this node cannot {what}"))
        .detail("only the node that created the network, and those that it made admins, can vouch for others")
        .fix("do it there; an admin is made with: meshd invite --role admin")
}

/// Something was asked that takes a network key.
pub fn network_without_key(what: &str) -> Problem {
    Problem::new(
        409,
        "network-without-key",
        format!("this network cannot {what}"),
    )
    .detail("it was created with mesh.trust: psk, so whoever has its secret is a member")
    .fix("make a network without that setting, and let those join it who shall stay")
}

/// An admin would give on what it has not.
pub fn role_not_held(roles: &[&str]) -> Problem {
    Problem::new(
        403,
        "role-not-held",
        format!("this node cannot give the role {}", roles.join(", ")),
    )
    .detail("an admin gives what it has itself")
    .fix("ask the network's creator")
}

/// The code of [`link_overused`].
pub const LINK_OVERUSED: &str = "link-overused";

/// More machines came by a link of ours than it is for; whether the link is ended by now. Who came later, each with its name, is
/// put out with it, or refused until those that were let in rest on it no more.
pub fn link_overused(
    (key, is_ended): (&NodeId, bool),
    (uses, let_in): (u32, &[String]),
    out: &[(String, NodeId)],
) -> Problem {
    let (machines, let_in) = (machines(uses), some(let_in));
    let (became, fix) = match is_ended {
        true => (
            "was put out",
            "the link is ended, so nobody else comes by it".to_owned(),
        ),
        false => (
            "is no member to this machine",
            format!(
                "the link is ended once {let_in} was online together with this machine; sooner: {}",
                commands(out)
            ),
        ),
    };
    let out = named(out);
    let what =
        format!("{out} came by a join link for {machines} that was used before, and {became}");
    Problem::new(0, LINK_OVERUSED, what)
        .detail(format!(
            "the link {} had let in {let_in}; discovery servers that know nothing of each other count for themselves, or one lied, \
             so this machine, which made the link, has counted",
            key.short(),
        ))
        .fix(format!("{fix}; if it is {let_in} that should not be here: meshd revoke it; a machine that was put out comes back with a new link (meshd invite, there meshd up --join 'LINK')"))
}

/// The code of [`link_contested`].
pub const LINK_CONTESTED: &str = "link-contested";

/// More machines came by a link of ours than it is for, and which was first is not known; each with its name.
pub fn link_contested(key: &NodeId, uses: u32, rivals: &[(String, NodeId)]) -> Problem {
    let (named, commands, machines) = (named(rivals), commands(rivals), machines(uses));
    let what = format!(
        "{named} came by a join link for {machines}, and this machine cannot know who was first"
    );
    Problem::new(0, LINK_CONTESTED, what)
        .detail("it was off, or one of its discovery servers was away, when they came, so it vouches for none of them; each member keeps whom it heard of first")
        .fix(format!("put out whichever should not be here, and the other stays (meshd status on a machine shows its node id): {commands}; or end the link, with all who came by it and were not vouched for, and make a new one: meshd revoke {key}"))
}

/// The machines, with the short forms of their ids.
fn named(machines: &[(String, NodeId)]) -> String {
    let named = machines
        .iter()
        .map(|(name, node)| format!("{name} ({})", node.short()));
    some(&named.collect::<Vec<_>>())
}

/// The commands that put out one of these; of the first ones. Names are nothing to go by: two may have the same.
fn commands(machines: &[(String, NodeId)]) -> String {
    const SHOWN: usize = 4;
    let commands = machines
        .iter()
        .map(|(name, node)| format!("meshd revoke {node} ({name})"));
    commands.take(SHOWN).collect::<Vec<_>>().join(", ")
}

/// The code of [`put_out`].
pub const PUT_OUT: &str = "put-out";

/// This node is no member any more, by its own key or by what it rests on. If it came by a link for some machines: for how many,
/// and which others came by it.
pub fn put_out(link: Option<(u32, Vec<String>)>, by_own_key: bool) -> Problem {
    let detail = match link {
        Some((uses, others)) => format!(
            "it came by a join link for {}, and so did {}: the machine that made the link has counted the other first, or an admin has revoked this one or the link",
            machines(uses),
            some(&others)
        ),
        None => "an admin has revoked it, or the join link or the admin that let it in".to_owned(),
    };
    let back = match by_own_key {
        true => "with a new link and another --state-dir",
        false => "with a new link (meshd up --join 'LINK')",
    };
    Problem::new(
        403,
        PUT_OUT,
        "this node was revoked: it is no member of its network any more",
    )
    .detail(detail)
    .fix(format!(
        "ask an admin of the network; to come back, join {back}"
    ))
}

/// A discovery server takes this node for none of the network, and the node has not heard from a member why.
pub fn put_out_says(server: &str) -> Problem {
    let title = format!("the discovery server {server} says that this node was revoked");
    Problem::new(403, PUT_OUT, title)
        .detail("its key, or the key of who let it in, is out for good; sessions that stand go on until the others hear of it")
        .fix(
            "ask an admin of the network; to come back, join with a new link (meshd up --join 'LINK'), and with another --state-dir too where that is refused",
        )
}

/// `1 machine`, `2 machines`.
pub(super) fn machines(uses: u32) -> String {
    match uses {
        1 => "1 machine".to_owned(),
        uses => format!("{uses} machines"),
    }
}

/// The first three names, and how many more there are.
pub(super) fn some(names: &[String]) -> String {
    const SHOWN: usize = 3;
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>();
    let shown = shown.join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
