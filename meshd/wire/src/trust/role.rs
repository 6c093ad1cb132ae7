//! What may a member do for or to the others?

use std::{fmt, str::FromStr};

use crate::DecodeError;

/// One right of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Carries frames for others.
    Relay,
    /// Leads to other networks.
    Exit,
    /// Joins other Ethernet segments to the virtual LAN.
    Bridge,
    /// Hands out addresses by DHCP and router advertisements.
    Dhcp,
    /// Invites, renews and revokes members.
    Admin,
}

impl Role {
    /// All, in the order of their bits.
    pub const ALL: [Self; 5] = [
        Self::Relay,
        Self::Exit,
        Self::Bridge,
        Self::Dhcp,
        Self::Admin,
    ];

    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Exit => "exit",
            Self::Bridge => "bridge",
            Self::Dhcp => "dhcp",
            Self::Admin => "admin",
        }
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

impl FromStr for Role {
    type Err = DecodeError;

    fn from_str(text: &str) -> Result<Self, DecodeError> {
        Self::ALL
            .into_iter()
            .find(|role| role.name() == text)
            .ok_or(DecodeError::new(
                "role",
                "is none of relay, exit, bridge, dhcp and admin",
            ))
    }
}

/// A set of roles; bits of roles that this version does not know are kept.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Roles(u16);

impl Roles {
    /// All that this version knows: what the creator of a network may do.
    pub fn all() -> Self {
        Role::ALL.into_iter().collect()
    }

    /// Whether the role is in it.
    pub const fn has(self, role: Role) -> bool {
        self.0 & role.bit() != 0
    }

    /// Whether everything in it is also in `other`.
    pub const fn is_within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// From its bits.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// Its bits.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// The known roles in it.
    pub fn iter(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |role| self.has(*role))
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<I: IntoIterator<Item = Role>>(roles: I) -> Self {
        Self(roles.into_iter().fold(0, |bits, role| bits | role.bit()))
    }
}

impl fmt::Debug for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_has_a_word_and_a_bit_of_its_own() {
        let mut bits = 0;
        for role in Role::ALL {
            assert_eq!(role.name().parse(), Ok(role));
            assert_eq!(bits & role.bit(), 0);
            bits |= role.bit();
        }
        assert_eq!(Roles::all().bits(), bits);
        assert!("root".parse::<Role>().is_err());
    }

    #[test]
    fn a_role_of_a_later_version_is_not_within_what_is_known() {
        assert!(!Roles::from_bits(1 << 15).is_within(Roles::all()));
        assert!(Roles::default().is_within(Roles::default()));
        assert!(!Roles::all().is_within([Role::Relay].into_iter().collect()));
    }
}
