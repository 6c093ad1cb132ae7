//! How is a join link made?

use mesh_wire::{
    NetworkId,
    join_link::{Admission, JoinLink},
    psk::NetworkPsk,
    trust::Roles,
};
use url::Url;

use super::authority::{Authority, Offer};
use crate::{
    embedded,
    problem::{self, Problem},
    state::JoinedNetwork,
};

/// Makes join links.
#[derive(Debug, Clone)]
pub struct Invitation {
    network: NetworkId,
    psk: NetworkPsk,
    vouching: Vouching,
    /// Port of our embedded server, and the interface that does not lead to it.
    embedded: Option<(u16, String)>,
}

/// What makes a link let somebody in.
#[derive(Debug, Clone)]
enum Vouching {
    /// The network has no key: its secret alone.
    Secret,
    /// The network has one, and this node may vouch.
    Authority(Box<Authority>),
    /// The network has one, and others vouch.
    Others,
}

impl Invitation {
    /// That of a member which may sign what `authority` may.
    pub fn new(
        network: &JoinedNetwork,
        authority: Option<Authority>,
        embedded: Option<(u16, String)>,
    ) -> Self {
        let vouching = match (&network.anchor, authority) {
            (None, _) => Vouching::Secret,
            (Some(_), Some(authority)) => Vouching::Authority(Box::new(authority)),
            (Some(_), None) => Vouching::Others,
        };
        Self {
            network: network.id.clone(),
            psk: network.psk.clone(),
            vouching,
            embedded,
        }
    }

    /// A new link to these servers, as this daemon reaches them. This host's address may have changed since the start, so it
    /// is looked up again.
    pub async fn link(&self, servers: Vec<Url>, offer: &Offer) -> Result<JoinLink, Problem> {
        let mut link = self.link_to(servers, offer)?;
        if let Some((port, interface)) = &self.embedded {
            link.server = embedded::current_url(*port, interface).await?;
        }
        Ok(link)
    }

    /// What this node may sign, which is needed to do `what`.
    pub fn authority(&self, what: &str) -> Result<&Authority, Problem> {
        match &self.vouching {
            Vouching::Authority(authority) => Ok(authority),
            Vouching::Secret => Err(problem::network_without_key(what)),
            Vouching::Others => Err(problem::not_admin(what)),
        }
    }

    /// A new link to those servers.
    pub fn link_to(&self, servers: Vec<Url>, offer: &Offer) -> Result<JoinLink, Problem> {
        let mut servers = servers.into_iter();
        let server = servers.next();
        let server = server.ok_or_else(|| problem::operation_failed("invite", &"no server"))?;
        let admission = match &self.vouching {
            Vouching::Secret if *offer == Offer::default() => None,
            Vouching::Secret => return Err(problem::network_without_key("limit a join link")),
            Vouching::Others | Vouching::Authority(_) => {
                let authority = self.authority("invite others")?;
                refuse_more(offer.roles, authority.roles())?;
                Some(Admission {
                    network_key: authority.network_key(),
                    capability: authority.invite(offer)?,
                })
            }
        };
        Ok(JoinLink {
            server,
            others: servers.collect(),
            network: self.network.clone(),
            admission,
            psk: self.psk.clone(),
        })
    }
}

fn refuse_more(wanted: Roles, own: Roles) -> Result<(), Problem> {
    let missing: Vec<&str> = wanted
        .iter()
        .filter(|role| !own.has(*role))
        .map(mesh_wire::trust::Role::name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(problem::role_not_held(&missing))
}
