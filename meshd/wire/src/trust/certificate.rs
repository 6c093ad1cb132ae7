//! What is bound to a node, and may whoever bound it do so?

use std::net::{IpAddr, Ipv4Addr};

use ed25519_dalek::SigningKey;
use ipnet::IpNet;

use super::{
    Invite, Role, Roles, Root, SIGNATURE, Span, from_text,
    reader::{Reader, put_address},
    to_text,
};
use crate::{DecodeError, NodeId, WireGuardKey, id::check_dns_label};

const KIND: &str = "certificate";
const VERSION: u8 = 1;
/// The longest certificate, in bytes: three of them inside each other, each with a long name and all its ranges.
pub const MAX_CERTIFICATE: usize = 2048;
/// How many certificates stand inside each other: a member's, the admin's that signed it, the admin's that signed that.
pub(super) const MAX_DEPTH: usize = 3;
/// A member has one IPv4 address and may have one IPv6 address.
const MAX_ADDRESSES: usize = 2;
/// Ranges behind one member.
const MAX_SUBNETS: usize = 16;
/// The longest time that a certificate holds: a year and some days, so that one that is renewed at half of it outlasts a
/// summer in which no admin's device is switched on.
pub const MAX_LIFE: u64 = 400 * 24 * 3600;

/// What a certificate says of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The node.
    pub node_id: NodeId,
    /// The key of its sessions.
    pub wireguard_key: WireGuardKey,
    /// Its name in this network.
    pub name: String,
    /// Its addresses on the virtual LAN. The first is its IPv4 address, which is also its number in routing and relay
    /// frames.
    pub virtual_ips: Vec<IpAddr>,
    /// Its Ethernet address where the virtual LAN has such.
    pub mac: [u8; 6],
    /// What it may do.
    pub roles: Roles,
    /// The ranges behind it.
    pub subnets: Vec<IpNet>,
    /// When it holds.
    pub span: Span,
    /// Tells two certificates of a node apart.
    pub serial: u64,
}

/// Who signed a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Issuer {
    /// The network key.
    Network,
    /// Whoever holds the secret of this invite: the member itself, when it joined.
    Invite(Box<Invite>),
    /// The member of this certificate, which has [`Role::Admin`].
    Admin(Box<Certificate>),
}

/// A binding with its issuer and signature, read but not necessarily verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// What it says.
    pub binding: Binding,
    /// Who says so.
    pub issuer: Issuer,
    bytes: Vec<u8>,
}

impl Certificate {
    /// Signs `binding` with `key`, which is the issuer's.
    ///
    /// # Errors
    /// If no reader would take it: a bad name, no address, too much of something.
    pub fn sign(
        root: &Root,
        key: &SigningKey,
        issuer: &Issuer,
        binding: &Binding,
    ) -> Result<Self, DecodeError> {
        let statement = encode(binding, issuer);
        Self::read(&root.sign(key, KIND, statement))
    }

    /// Reads the bytes of [`Self::as_bytes`].
    ///
    /// # Errors
    /// If they have another form, or say what no certificate may say.
    pub fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MAX_CERTIFICATE {
            return Err(DecodeError::new(KIND, "is too long"));
        }
        let mut reader = Reader::new(KIND, bytes);
        let certificate = Self::read_from(&mut reader, MAX_DEPTH)?;
        reader.end()?;
        Ok(certificate)
    }

    /// Reads one with at most `depth` certificates in all, itself included.
    pub(super) fn read_from(reader: &mut Reader<'_>, depth: usize) -> Result<Self, DecodeError> {
        let begin = reader.rest();
        let depth = depth
            .checked_sub(1)
            .ok_or_else(|| reader.error("has too many others inside it"))?;
        let binding = read_binding(reader)?;
        let issuer = match reader.byte()? {
            0 => Issuer::Network,
            1 => Issuer::Invite(Box::new(Invite::read_from(reader, depth)?)),
            2 => Issuer::Admin(Box::new(Self::read_from(reader, depth)?)),
            _ => {
                return Err(reader.error("has an issuer of a kind that this version does not know"));
            }
        };
        reader.bytes(SIGNATURE)?;
        Ok(Self {
            binding,
            issuer,
            bytes: reader.since(begin).to_vec(),
        })
    }

    /// All of it, signature included.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Base64 of [`Self::as_bytes`].
    pub fn to_text(&self) -> String {
        to_text(&self.bytes)
    }

    /// The inverse of [`Self::to_text`].
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn from_text(text: &str) -> Result<Self, DecodeError> {
        Self::read(&from_text(KIND, text, MAX_CERTIFICATE)?)
    }

    /// Checks that the whole chain is signed, and that each issuer might say what it said. Not whether the span contains
    /// today, nor whether a key of the chain is revoked: see [`Self::keys`].
    ///
    /// # Errors
    /// With the first rule that is broken.
    pub fn verify(&self, root: &Root) -> Result<(), DecodeError> {
        let wrong = |why| Err(DecodeError::new(KIND, why));
        let Binding {
            roles,
            span,
            subnets,
            ..
        } = &self.binding;
        if span.until < span.from || span.until - span.from > MAX_LIFE {
            return wrong("holds for too long");
        }
        match &self.issuer {
            Issuer::Network => root.verify(&root.key, KIND, &self.bytes),
            Issuer::Invite(invite) => {
                invite.verify(root)?;
                if !roles.is_within(invite.terms.roles) || !subnets.is_empty() {
                    return wrong("gives more than its invite allows");
                }
                if !invite.terms.span.contains(span.from) {
                    return wrong("was made before or after its invite held");
                }
                root.verify(&invite.terms.key, KIND, &self.bytes)
            }
            Issuer::Admin(admin) => {
                admin.may_issue(root, *roles, span.from)?;
                root.verify(&admin.binding.node_id, KIND, &self.bytes)
            }
        }
    }

    /// Checks that its member is an admin who might give these roles at that second.
    pub(super) fn may_issue(&self, root: &Root, roles: Roles, at: u64) -> Result<(), DecodeError> {
        let wrong = |why| Err(DecodeError::new(KIND, why));
        self.verify(root)?;
        if !self.binding.roles.has(Role::Admin) {
            return wrong("is of a member who may not vouch for others");
        }
        if !roles.is_within(self.binding.roles) {
            return wrong("is of an admin who may do less than what was given on");
        }
        if !self.binding.span.contains(at) {
            return wrong("did not hold when its admin signed");
        }
        Ok(())
    }

    /// The keys that it rests on, the network key aside: if one of them is revoked, it is worth nothing.
    pub fn keys(&self) -> Vec<NodeId> {
        let mut keys = vec![self.binding.node_id];
        match &self.issuer {
            Issuer::Network => {}
            Issuer::Invite(invite) => keys.extend(invite.keys()),
            Issuer::Admin(admin) => keys.extend(admin.keys()),
        }
        keys
    }

    /// The member's IPv4 address.
    pub fn member_address(&self) -> Ipv4Addr {
        match self.binding.virtual_ips.first() {
            Some(IpAddr::V4(address)) => *address,
            Some(IpAddr::V6(_)) | None => Ipv4Addr::UNSPECIFIED,
        }
    }
}

/// The Ethernet address of a node that asks for no other: locally administered, the rest from its identity.
pub fn default_mac(node: &NodeId) -> [u8; 6] {
    let [_, b, c, d, e, f, ..] =
        blake3::derive_key("meshd 2026-11 ethernet address v1", node.as_bytes());
    [0x02, b, c, d, e, f]
}

fn encode(binding: &Binding, issuer: &Issuer) -> Vec<u8> {
    let count = |len: usize| u8::try_from(len).unwrap_or(u8::MAX);
    let mut bytes = vec![VERSION];
    bytes.extend_from_slice(binding.node_id.as_bytes());
    bytes.extend_from_slice(binding.wireguard_key.as_bytes());
    bytes.push(count(binding.name.len()));
    bytes.extend_from_slice(binding.name.as_bytes());
    bytes.push(count(binding.virtual_ips.len()));
    for address in &binding.virtual_ips {
        put_address(&mut bytes, *address);
    }
    bytes.extend_from_slice(&binding.mac);
    bytes.extend_from_slice(&binding.roles.bits().to_be_bytes());
    bytes.push(count(binding.subnets.len()));
    for range in &binding.subnets {
        put_address(&mut bytes, range.addr());
        bytes.push(range.prefix_len());
    }
    for number in [binding.span.from, binding.span.until, binding.serial] {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    match issuer {
        Issuer::Network => bytes.push(0),
        Issuer::Invite(invite) => {
            bytes.push(1);
            bytes.extend_from_slice(invite.as_bytes());
        }
        Issuer::Admin(admin) => {
            bytes.push(2);
            bytes.extend_from_slice(admin.as_bytes());
        }
    }
    bytes
}

fn read_binding(reader: &mut Reader<'_>) -> Result<Binding, DecodeError> {
    if reader.byte()? != VERSION {
        return Err(reader.error("is of a version that this one does not know"));
    }
    let node_id = NodeId::from_bytes(reader.array()?);
    let wireguard_key = WireGuardKey::from_bytes(reader.array()?);
    let name = reader.text()?.to_owned();
    check_dns_label(KIND, &name)?;
    if name.parse::<NodeId>().is_ok() {
        return Err(reader.error("has a name of the form of a node id"));
    }
    let addresses = usize::from(reader.byte()?);
    if !(1..=MAX_ADDRESSES).contains(&addresses) {
        return Err(reader.error("has no address, or too many"));
    }
    let virtual_ips = (0..addresses)
        .map(|_| reader.address())
        .collect::<Result<Vec<_>, _>>()?;
    if !matches!(
        virtual_ips.as_slice(),
        [IpAddr::V4(_)] | [IpAddr::V4(_), IpAddr::V6(_)]
    ) {
        return Err(reader.error("has other addresses than one of IPv4 and perhaps one of IPv6"));
    }
    let mac: [u8; 6] = reader.array()?;
    // The group bit (IEEE 802-2014, section 8.2.2).
    if mac.first().is_some_and(|first| first & 1 != 0) {
        return Err(reader.error("has an Ethernet address of a group"));
    }
    let roles = Roles::from_bits(reader.array().map(u16::from_be_bytes)?);
    let subnets = usize::from(reader.byte()?);
    if subnets > MAX_SUBNETS {
        return Err(reader.error("has too many ranges"));
    }
    let subnets = (0..subnets)
        .map(|_| reader.range())
        .collect::<Result<Vec<_>, _>>()?;
    let (from, until, serial) = (reader.u64()?, reader.u64()?, reader.u64()?);
    Ok(Binding {
        node_id,
        wireguard_key,
        name,
        virtual_ips,
        mac,
        roles,
        subnets,
        span: Span { from, until },
        serial,
    })
}

#[cfg(test)]
mod tests;
