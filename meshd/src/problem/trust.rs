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

/// More machines came by a link of ours than it is for.
pub fn link_overused(key: &NodeId, (uses, let_in): (u32, &[String]), out: &[String]) -> Problem {
    let (machines, out) = (machines(uses), some(out));
    let what =
        format!("{out} came by a join link for {machines} that was used before, and was put out");
    Problem::new(0, LINK_OVERUSED, what)
        .detail(format!(
            "the link {} had let in {}; discovery servers that know nothing of each other count for themselves, or one lied, \
             so this machine, which made the link, has counted",
            key.short(),
            some(let_in)
        ))
        .fix("if the link has come into other hands, end it (meshd revoke 'LINK'); if it is the other machine that should not be here, meshd revoke it; a machine that was put out comes back with a new link (meshd invite) and another --state-dir")
}

/// The code of [`put_out`].
pub const PUT_OUT: &str = "put-out";

/// This node is no member any more. If it came by a link for some machines: for how many, and which others came by it.
pub fn put_out(link: Option<(u32, Vec<String>)>) -> Problem {
    let detail = match link {
        Some((uses, others)) => format!(
            "it came by a join link for {}, and so did {}: the machine that made the link has counted the other first, or an admin has revoked this one or the link",
            machines(uses),
            some(&others)
        ),
        None => "an admin has revoked it, or the join link or the admin that let it in".to_owned(),
    };
    Problem::new(
        403,
        PUT_OUT,
        "this node was revoked: it is no member of its network any more",
    )
    .detail(detail)
    .fix("ask an admin of the network; to come back, join with a new link and another --state-dir")
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
