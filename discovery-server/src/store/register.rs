//! Which address and name does an applicant get, and may it have them? All of it inside one transaction.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use mesh_wire::{
    peer_info::PeerRecord,
    place::{free_address, free_name},
    trust::Certificate,
};
use sqlx::SqliteConnection;

use super::{NetworkRow, Registered, rows, trust};
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
    tx: &mut SqliteConnection,
    network: &NetworkRow,
    applicant: &Applicant<'_>,
    now: u64,
) -> Result<Registered, sqlx::Error> {
    let record = applicant.record;
    // Another network of the same name has another key, which nothing here was verified against.
    if rows::network(tx, &network.id).await?.as_ref() != Some(network) {
        return Ok(Registered::NetworkGone);
    }
    let members = rows::members(tx, &network.id).await?;
    let (own, others): (Vec<_>, Vec<_>) = members
        .into_iter()
        .partition(|member| member.record.node_id == record.node_id);
    let own = own.into_iter().next();
    if let Some(refused) = objection(record, own.as_ref(), &others) {
        return Ok(refused);
    }
    let place = match applicant.certificate {
        Some(certificate) => match certified(tx, network, (certificate, &others), now).await? {
            Ok(place) => place,
            Err(refused) => return Ok(refused),
        },
        None => match free(network, applicant, (own.as_ref(), &others)) {
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
fn objection(record: &PeerRecord, own: Option<&Member>, others: &[Member]) -> Option<Registered> {
    if let Some(own) = own
        && registry::freshness(&own.record, record) == Freshness::Stale
    {
        return Some(Registered::Stale(own.record.seq));
    }
    // Whoever has the key already keeps it: databases of earlier versions may hold one key twice.
    let keeps_key = own.is_some_and(|own| own.record.wireguard_key == record.wireguard_key);
    let mut keys = others.iter().map(|member| member.record.wireguard_key);
    if !keeps_key && keys.any(|key| key == record.wireguard_key) {
        return Some(Registered::KeyTaken);
    }
    (own.is_none() && others.len() >= MAX_MEMBERS).then_some(Registered::NetworkFull)
}

/// The place that a certificate names, if it is free and the certificate lets its node in.
async fn certified(
    tx: &mut SqliteConnection,
    network: &NetworkRow,
    (certificate, others): (&Certificate, &[Member]),
    now: u64,
) -> Result<Result<(String, Ipv4Addr), Registered>, sqlx::Error> {
    let address = certificate.member_address();
    let name = &certificate.binding.name;
    if others.iter().any(|other| other.virtual_ip == address) {
        return Ok(Err(Registered::AddressTaken));
    }
    if others.iter().any(|other| other.name == *name) {
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
fn free(
    network: &NetworkRow,
    applicant: &Applicant<'_>,
    (own, others): (Option<&Member>, &[Member]),
) -> Option<(String, Ipv4Addr)> {
    let hostname = &applicant.record.hostname;
    let name = match own {
        Some(own) if own.record.hostname == *hostname => own.name.clone(),
        Some(_) | None => free_name(hostname, |name| {
            others.iter().any(|other| other.name == name)
        }),
    };
    let wish = match applicant.wish {
        Some(IpAddr::V4(wish)) => Some(wish),
        Some(IpAddr::V6(_)) | None => None,
    };
    let address = match own {
        Some(own) => own.virtual_ip,
        None => {
            let taken: BTreeSet<Ipv4Addr> = others.iter().map(|m| m.virtual_ip).collect();
            free_address(network.cidr, (wish, 0), |address| taken.contains(&address))?
        }
    };
    Some((name, address))
}
