//! Which address and name does an applicant get, and may it have them? All of it inside one transaction.

use std::net::{IpAddr, Ipv4Addr};

use mesh_wire::{
    peer_info::PeerRecord,
    place::{free_address, free_name},
    trust::Certificate,
};
use sqlx::AnyConnection;

use super::{
    NetworkRow, Registered,
    rows::{self, Unique},
    trust,
};
use crate::registry::{self, Freshness, MAX_MEMBERS, Member};

/// A node that would be a member, or is one and says something new.
#[derive(Debug)]
pub(crate) struct Applicant<'a> {
    /// What it signed.
    pub(crate) record: &'a PeerRecord,
    /// What makes it a member, verified; present exactly in networks with a key.
    pub(crate) certificate: Option<&'a Certificate>,
    /// The address that it would like, where no certificate names one.
    pub(crate) wish: Option<IpAddr>,
}

pub(super) async fn register(
    tx: &mut AnyConnection,
    network: &NetworkRow,
    applicant: &Applicant<'_>,
    now: u64,
) -> Result<Registered, sqlx::Error> {
    let record = applicant.record;
    // Another network of the same name has another key, which nothing here was verified against.
    if rows::network(tx, &network.id).await?.as_ref() != Some(network) {
        return Ok(Registered::NetworkGone);
    }
    let own = rows::member(tx, &network.id, &record.node_id).await?;
    if let Some(refused) = objection(tx, network, (record, own.as_ref())).await? {
        return Ok(refused);
    }
    let place = match applicant.certificate {
        Some(certificate) => match certified(tx, network, certificate, now).await? {
            Ok(place) => place,
            Err(refused) => return Ok(refused),
        },
        None => match free(tx, network, (applicant, own.as_ref())).await? {
            Some(place) => place,
            None => return Ok(Registered::NoAddressLeft),
        },
    };
    let member = Member {
        record: record.clone(),
        name: place.0,
        virtual_ip: place.1,
        last_seen: now,
    };
    if let Some(own) = own {
        let unchanged = own.record == member.record
            && (&own.name, own.virtual_ip) == (&member.name, member.virtual_ip);
        if unchanged {
            return Ok(Registered::Unchanged(own));
        }
        rows::put_member(tx, &network.id, &member).await?;
        return Ok(Registered::Updated(member));
    }
    rows::put_member(tx, &network.id, &member).await?;
    Ok(Registered::New(member))
}

/// Why the record cannot be taken, whatever place it asks for.
async fn objection(
    tx: &mut AnyConnection,
    network: &NetworkRow,
    (record, own): (&PeerRecord, Option<&Member>),
) -> Result<Option<Registered>, sqlx::Error> {
    if let Some(own) = own
        && registry::freshness(&own.record, record) == Freshness::Stale
    {
        return Ok(Some(Registered::Stale(own.record.seq)));
    }
    // Whoever has the key already keeps it: databases of earlier versions may hold one key twice.
    let keeps_key = own.is_some_and(|own| own.record.wireguard_key == record.wireguard_key);
    let key = Unique::WireGuardKey(&record.wireguard_key);
    if !keeps_key && rows::is_taken(tx, (&network.id, &record.node_id), key).await? {
        return Ok(Some(Registered::KeyTaken));
    }
    let is_full =
        own.is_none() && rows::count_members(tx, &network.id).await? >= MAX_MEMBERS as u64;
    Ok(is_full.then_some(Registered::NetworkFull))
}

/// The place that a certificate names, if it is free and the certificate lets its node in.
async fn certified(
    tx: &mut AnyConnection,
    network: &NetworkRow,
    certificate: &Certificate,
    now: u64,
) -> Result<Result<(String, Ipv4Addr), Registered>, sqlx::Error> {
    let (address, name) = (certificate.member_address(), &certificate.binding.name);
    let who = (&network.id, &certificate.binding.node_id);
    if rows::is_taken(tx, who, Unique::Address(address)).await? {
        return Ok(Err(Registered::AddressTaken));
    }
    if rows::is_taken(tx, who, Unique::Name(name)).await? {
        return Ok(Err(Registered::NameTaken));
    }
    // Last, because it counts a use.
    let rejection = trust::admit(tx, &network.id, certificate, now).await?;
    Ok(match rejection {
        Some(rejection) => Err(Registered::Rejected(rejection)),
        None => Ok((name.clone(), address)),
    })
}

/// The place that a member has, or a free one; `None` if all addresses are taken.
async fn free(
    tx: &mut AnyConnection,
    network: &NetworkRow,
    (applicant, own): (&Applicant<'_>, Option<&Member>),
) -> Result<Option<(String, Ipv4Addr)>, sqlx::Error> {
    let hostname = &applicant.record.hostname;
    if let Some(own) = own
        && own.record.hostname == *hostname
    {
        return Ok(Some((own.name.clone(), own.virtual_ip)));
    }
    let (mut names, addresses) = rows::places(tx, &network.id).await?;
    if let Some(own) = own {
        names.remove(&own.name);
    }
    let name = free_name(hostname, |name| names.contains(name));
    let wish = match applicant.wish {
        Some(IpAddr::V4(wish)) => Some(wish),
        Some(IpAddr::V6(_)) | None => None,
    };
    let address = match own {
        Some(own) => Some(own.virtual_ip),
        None => free_address(network.cidr, (wish, 0), |address| {
            addresses.contains(&address)
        }),
    };
    Ok(address.map(|address| (name, address)))
}
