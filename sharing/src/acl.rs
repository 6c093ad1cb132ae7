//! Who may read or write a share? Nobody, unless a grant says so.

use std::{fmt, str::FromStr};

use mesh_wire::{DecodeError, NodeId};
use serde::{Deserialize, Serialize};

/// Who a connection speaks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Visitor {
    /// A program of this machine, whichever user runs it: gets what all members get. The files' owner has them anyway,
    /// and the other users shall not borrow the daemon's rights.
    ThisHost,
    /// A member of the network, known by its virtual address.
    Peer(NodeId),
    /// An address that belongs to no member.
    Unknown,
}

/// Whom a grant names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Grantee {
    /// Every member of the network, those that join later too. Written `all`.
    All,
    /// One member.
    Peer(NodeId),
}

/// One line of a share's rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Who gets the right.
    pub peer: Grantee,
    /// Whether writing is included; reading always is.
    pub rw: bool,
}

/// What a visitor may do with one share, least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// The share does not exist for this visitor.
    None,
    /// List and download.
    Read,
    /// And change.
    ReadWrite,
}

/// What `grants` allow `visitor`: the most that any line gives it.
pub fn access(visitor: Visitor, grants: &[Grant]) -> Access {
    let node = match visitor {
        Visitor::Unknown => return Access::None,
        Visitor::ThisHost => None,
        Visitor::Peer(node) => Some(node),
    };
    grants
        .iter()
        .filter(|grant| match grant.peer {
            Grantee::All => true,
            Grantee::Peer(granted) => Some(granted) == node,
        })
        .map(|grant| {
            if grant.rw {
                Access::ReadWrite
            } else {
                Access::Read
            }
        })
        .max()
        .unwrap_or(Access::None)
}

impl fmt::Display for Grantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Peer(node) => node.fmt(f),
        }
    }
}

impl FromStr for Grantee {
    type Err = DecodeError;

    fn from_str(text: &str) -> Result<Self, DecodeError> {
        if text == "all" {
            return Ok(Self::All);
        }
        text.parse().map(Self::Peer)
    }
}

impl TryFrom<String> for Grantee {
    type Error = DecodeError;

    fn try_from(text: String) -> Result<Self, DecodeError> {
        text.parse()
    }
}

impl From<Grantee> for String {
    fn from(grantee: Grantee) -> Self {
        grantee.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOB: NodeId = NodeId::from_bytes([1; 32]);
    const EVE: NodeId = NodeId::from_bytes([2; 32]);

    fn grant(peer: Grantee, rw: bool) -> Grant {
        Grant { peer, rw }
    }

    #[test]
    fn without_a_grant_nobody_sees_anything() {
        assert_eq!(access(Visitor::Peer(BOB), &[]), Access::None);
        assert_eq!(access(Visitor::Unknown, &[]), Access::None);
        assert_eq!(access(Visitor::ThisHost, &[]), Access::None);
    }

    #[test]
    fn a_grant_reaches_only_whom_it_names() {
        let grants = [grant(Grantee::Peer(BOB), false)];
        assert_eq!(access(Visitor::Peer(BOB), &grants), Access::Read);
        assert_eq!(access(Visitor::Peer(EVE), &grants), Access::None);
        assert_eq!(access(Visitor::ThisHost, &grants), Access::None);
    }

    #[test]
    fn a_user_of_this_machine_gets_what_all_get() {
        let grants = [grant(Grantee::Peer(BOB), true), grant(Grantee::All, false)];
        assert_eq!(access(Visitor::ThisHost, &grants), Access::Read);
    }

    #[test]
    fn all_means_members_and_never_strangers() {
        let grants = [grant(Grantee::All, true)];
        assert_eq!(access(Visitor::Peer(EVE), &grants), Access::ReadWrite);
        assert_eq!(access(Visitor::Unknown, &grants), Access::None);
    }

    #[test]
    fn the_widest_of_several_grants_counts() {
        let grants = [grant(Grantee::Peer(BOB), true), grant(Grantee::All, false)];
        assert_eq!(access(Visitor::Peer(BOB), &grants), Access::ReadWrite);
        assert_eq!(access(Visitor::Peer(EVE), &grants), Access::Read);
    }

    #[test]
    fn a_grant_is_written_as_the_interface_documents_it() {
        let json = serde_json::to_string(&grant(Grantee::All, true)).unwrap();
        assert_eq!(json, r#"{"peer":"all","rw":true}"#);
        let json = serde_json::to_string(&grant(Grantee::Peer(BOB), false)).unwrap();
        let back: Grant = serde_json::from_str(&json).unwrap();
        assert_eq!(back, grant(Grantee::Peer(BOB), false));
        assert!("al".parse::<Grantee>().is_err());
    }
}
