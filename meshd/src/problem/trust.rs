//! What goes wrong with certificates, invites and who may make them?

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
