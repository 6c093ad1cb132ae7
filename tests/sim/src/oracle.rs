//! Which kinds of place are there for a host, and must two of them reach each other directly?

use crate::nat::{
    Behaviour,
    Dependence::{self, AddressAndPortDependent, AddressDependent, EndpointIndependent},
};

/// Where a host stands, in the words that people use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// On the Internet itself.
    Open,
    /// EIM, EIF: the external address belongs to the host alone.
    OneToOne,
    /// EIM, EIF.
    FullCone,
    /// EIM, ADF.
    AddressRestricted,
    /// EIM, APDF.
    PortRestricted,
    /// EIM, APDF, until somebody comes unasked: see [`Behaviour::leaky`].
    Leaky,
    /// APDM, APDF.
    Symmetric,
    /// A port-restricted NAT behind another one.
    Cgnat,
    /// A port-restricted NAT behind a symmetric one.
    CgnatSymmetric,
    /// A firewall that lets no UDP through.
    UdpBlocked,
}

impl Place {
    /// All kinds.
    pub const ALL: [Self; 10] = [
        Self::Open,
        Self::OneToOne,
        Self::FullCone,
        Self::AddressRestricted,
        Self::PortRestricted,
        Self::Leaky,
        Self::Symmetric,
        Self::Cgnat,
        Self::CgnatSymmetric,
        Self::UdpBlocked,
    ];

    /// The NATs between host and Internet, from the host outwards.
    pub fn nats(self) -> Vec<Behaviour> {
        let port_restricted = Behaviour::new(EndpointIndependent, AddressAndPortDependent);
        let symmetric = Behaviour::new(AddressAndPortDependent, AddressAndPortDependent);
        match self {
            Self::Open | Self::UdpBlocked => Vec::new(),
            Self::OneToOne | Self::FullCone => {
                vec![Behaviour::new(EndpointIndependent, EndpointIndependent)]
            }
            Self::AddressRestricted => vec![Behaviour::new(EndpointIndependent, AddressDependent)],
            Self::PortRestricted => vec![port_restricted],
            Self::Leaky => vec![port_restricted.leaky()],
            Self::Symmetric => vec![symmetric],
            Self::Cgnat => vec![port_restricted, port_restricted],
            Self::CgnatSymmetric => vec![port_restricted, symmetric],
        }
    }

    fn depends(self, of: impl Fn(&Behaviour) -> Dependence, on: Dependence) -> bool {
        self.nats().iter().any(|nat| of(nat) == on)
    }

    /// Whether what a STUN server sees of it tells a third party where to send.
    fn maps_per_endpoint(self) -> bool {
        self.depends(|nat| nat.mapping, AddressAndPortDependent)
            || self.depends(|nat| nat.mapping, AddressDependent)
    }

    fn filters_by_port(self) -> bool {
        self.depends(|nat| nat.filtering, AddressAndPortDependent)
    }
}

/// Whether two hosts must find a direct path: unless one side's mapping depends on the endpoint, so that its port is
/// unknown beforehand, and the other lets in known ports only; or UDP is blocked. Of a leaky NAT the mapping depends on
/// nothing as long as nobody comes unasked, and the peers see to that. All others meet by way of a TURN server, which whoever
/// has no UDP reaches over TCP.
///
/// The laboratory of real kernels asks this function too.
pub fn must_be_direct(a: Place, b: Place) -> bool {
    if a == Place::UdpBlocked || b == Place::UdpBlocked {
        return false;
    }
    let unknown_and_strict = |a: Place, b: Place| a.maps_per_endpoint() && b.filters_by_port();
    !unknown_and_strict(a, b) && !unknown_and_strict(b, a)
}

/// Whether two hosts that both have relays must find a direct path by birthday probing, where both allow that: the ports of
/// one are unknown, and the other, whose port is known, filters by port.
///
/// The laboratory of real kernels asks this function too.
pub fn must_meet_by_birthday(a: Place, b: Place) -> bool {
    let one_is_unknown = a.maps_per_endpoint() != b.maps_per_endpoint();
    let blocked = [a, b].contains(&Place::UdpBlocked);
    one_is_unknown && !blocked && !must_be_direct(a, b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closed_form_gives_the_measured_table() {
        // Rows and columns in the order of `Place::ALL`; D is direct, R needs a relay, B needs one until probing has led to
        // a direct path.
        let table = [
            "DDDDDDDDDR",
            "DDDDDDDDDR",
            "DDDDDDDDDR",
            "DDDDDDDDDR",
            "DDDDDDBDBR",
            "DDDDDDBDBR",
            "DDDDBBRBRR",
            "DDDDDDBDBR",
            "DDDDBBRBRR",
            "RRRRRRRRRR",
        ];
        for (a, row) in Place::ALL.into_iter().zip(table) {
            for (b, cell) in Place::ALL.into_iter().zip(row.chars()) {
                assert_eq!(must_be_direct(a, b), cell == 'D', "{a:?} with {b:?}");
                assert_eq!(must_meet_by_birthday(a, b), cell == 'B', "{a:?} with {b:?}");
            }
        }
    }
}
