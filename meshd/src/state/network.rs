//! Which network did this node join or create, with what keys, and which record does it sign next?

use std::{net::IpAddr, path::Path};

use data_encoding::BASE64;
use ed25519_dalek::SigningKey;
use ipnet::Ipv4Net;
use mesh_wire::{
    NetworkId, NodeId,
    id::check_dns_label,
    psk::NetworkPsk,
    trust::{Capability, Certificate},
};
use serde::{Deserialize, Serialize};
use url::Url;

use super::{
    identity::decode_key,
    stored::{self, SecretString},
};
use crate::{
    problem::Problem,
    server_list,
    trust::{anchor::Anchor, unix_time},
};

const FORMAT: u32 = 2;

/// The joined network, as `network.json` keeps it. `Debug` prints no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedNetwork {
    /// Its name on the server.
    pub id: NetworkId,
    /// Where virtual addresses come from.
    pub cidr: Ipv4Net,
    /// The discovery server, our own embedded one included.
    pub server: Url,
    /// Further servers, in order of preference.
    pub others: Vec<Url>,
    /// Whether `server` is the one embedded in this daemon.
    pub embedded_server: bool,
    /// Whether this node created it.
    pub created: bool,
    /// In a network with a key: that key, as pinned by the join link, and what we have of it.
    pub anchor: Option<Anchor>,
    /// The network's shared secret.
    pub psk: NetworkPsk,
    /// The host name that this node asked for.
    pub name: String,
    /// The addresses that the server gave; empty before the first registration.
    pub virtual_ips: Vec<IpAddr>,
    /// The sequence number of the newest record that may have been signed; see [`super::StateDir::next_seq`].
    pub seq: u64,
}

impl JoinedNetwork {
    /// All servers, in order of preference.
    pub fn servers(&self) -> Vec<Url> {
        let all = std::iter::once(&self.server).chain(&self.others);
        all.cloned().collect()
    }

    /// The first server, if it is inside this daemon.
    pub fn embedded(&self) -> Option<Url> {
        self.embedded_server.then(|| self.server.clone())
    }

    /// Replaces the servers; an empty list changes nothing.
    pub fn set_servers(&mut self, servers: Vec<Url>) {
        let mut servers = servers.into_iter();
        if let Some(first) = servers.next() {
            self.server = first;
            self.others = servers.collect();
        }
    }
}

/// `network.json`
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NetworkFile {
    format: u32,
    id: NetworkId,
    cidr: Ipv4Net,
    server: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    further_servers: Vec<String>,
    embedded_server: bool,
    created: bool,
    psk: SecretString,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trust: Option<AnchorFile>,
    name: String,
    virtual_ips: Vec<IpAddr>,
    seq: u64,
}

/// The keys and certificates among it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AnchorFile {
    network_key: NodeId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    creator_key: Option<SecretString>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    invite: Option<SecretString>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificate: Option<String>,
}

/// The network in `path`; `None` before the first join.
pub(super) fn load(path: &Path) -> Result<Option<JoinedNetwork>, Problem> {
    let Some(file) = stored::read_secret::<NetworkFile>(path)? else {
        return Ok(None);
    };
    file.into_network()
        .map(Some)
        .map_err(|why| stored::damaged(path, why))
}

/// Replaces `path`, atomically and 0600.
pub(super) fn save(path: &Path, network: &JoinedNetwork) -> Result<(), Problem> {
    stored::replace(path, &NetworkFile::of(network))
}

/// The next sequence number: on disk before anybody sees it, so that a crash can waste a number and never use
/// one twice.
///
/// It also follows the clock: a node whose `network.json` was lost joins again above everything it signed before.
pub(super) fn next_seq(path: &Path, network: &mut JoinedNetwork) -> Result<u64, Problem> {
    let seq = seq_after(network.seq, unix_time());
    let mut next = network.clone();
    next.seq = seq;
    save(path, &next)?;
    network.seq = seq;
    Ok(seq)
}

const fn seq_after(seq: u64, now: u64) -> u64 {
    let next = seq.saturating_add(1);
    if now > next { now } else { next }
}

impl NetworkFile {
    fn of(network: &JoinedNetwork) -> Self {
        Self {
            format: FORMAT,
            id: network.id.clone(),
            cidr: network.cidr,
            server: network.server.to_string(),
            further_servers: network.others.iter().map(Url::to_string).collect(),
            embedded_server: network.embedded_server,
            created: network.created,
            psk: SecretString(network.psk.to_text()),
            trust: network.anchor.as_ref().map(AnchorFile::of),
            name: network.name.clone(),
            virtual_ips: network.virtual_ips.clone(),
            seq: network.seq,
        }
    }

    /// The error is what is wrong, without the value.
    fn into_network(self) -> Result<JoinedNetwork, &'static str> {
        if self.format != FORMAT {
            return Err("another version of meshd wrote it");
        }
        check_dns_label("host name", &self.name).map_err(|_| "its name is no host name")?;
        let named: Vec<String> = std::iter::once(self.server)
            .chain(self.further_servers)
            .collect();
        let mut servers = server_list::parse(&named)
            .map_err(|_| "its servers are no list of http or https URLs")?;
        let others = servers.split_off(1);
        let server = servers.pop().ok_or("it names no server")?;
        let psk = NetworkPsk::from_text(&self.psk.0)
            .map_err(|_| "its psk is cut short or altered (checksum differs)")?;
        let anchor = self.trust.map(AnchorFile::into_anchor).transpose()?;
        Ok(JoinedNetwork {
            id: self.id,
            cidr: self.cidr,
            server,
            others,
            embedded_server: self.embedded_server,
            created: self.created,
            anchor,
            psk,
            name: self.name,
            virtual_ips: self.virtual_ips,
            seq: self.seq,
        })
    }
}

impl AnchorFile {
    fn of(anchor: &Anchor) -> Self {
        let creator_key = anchor.creator_key.as_ref();
        let capability = anchor.capability.as_ref();
        Self {
            network_key: anchor.network_key,
            creator_key: creator_key.map(|key| SecretString(BASE64.encode(key.as_bytes()))),
            invite: capability.map(|capability| SecretString(capability.to_text())),
            certificate: anchor.certificate.as_ref().map(Certificate::to_text),
        }
    }

    fn into_anchor(self) -> Result<Anchor, &'static str> {
        let creator_key = match &self.creator_key {
            None => None,
            Some(text) => {
                let bytes = decode_key(&text.0).ok_or("its creator_key is not 32 bytes")?;
                Some(SigningKey::from_bytes(&bytes))
            }
        };
        if creator_key
            .as_ref()
            .is_some_and(|key| NodeId::of(key) != self.network_key)
        {
            return Err("its creator_key does not belong to its network_key");
        }
        let capability = self.invite.map(|text| Capability::from_text(&text.0));
        let certificate = self.certificate.map(|text| Certificate::from_text(&text));
        Ok(Anchor {
            network_key: self.network_key,
            creator_key,
            capability: capability
                .transpose()
                .map_err(|_| "its invite is cut short or altered")?,
            certificate: certificate
                .transpose()
                .map_err(|_| "its certificate is cut short or altered")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_number_rises_also_when_the_clock_goes_back() {
        assert_eq!(seq_after(0, 1_700_000_000), 1_700_000_000);
        assert_eq!(seq_after(1_700_000_000, 1_700_000_000), 1_700_000_001);
        assert_eq!(seq_after(1_700_000_000, 5), 1_700_000_001);
        assert_eq!(seq_after(7, 0), 8);
    }
}
