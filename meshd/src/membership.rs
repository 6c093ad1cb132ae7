//! How does this node come to be a member? From its state, from a join link, or by creating a network; and how does it
//! sign what it registers?

mod establish;
mod register;

use std::sync::Arc;

use ed25519_dalek::SigningKey;
use mesh_wire::{
    NodeId,
    discovery::{CreateNetwork, Network},
    join_link::JoinLink,
    peer_info::{Directory, PeerInfo},
    psk::NetworkPsk,
};
use url::Url;

use crate::{
    config::{Settings, Trust},
    discovery::{
        ServerError,
        rest::{Conversation, Rest},
        scope::Scope,
    },
    problem::{self, Problem},
    state::{Identity, JoinedNetwork, StateDir},
    trust::{self, anchor::Anchor, authority::Authority},
};

/// This node as a member, or on its way to be one.
pub struct Membership {
    state: Arc<StateDir>,
    identity: Arc<Identity>,
    network: JoinedNetwork,
    /// Random per start: tells the others that our sessions are gone.
    instance: u64,
    /// Whether the state directory was without a network when we started.
    fresh: bool,
}

/// What the server said when it first took us in.
pub struct Established {
    /// The network.
    pub network: Network,
    /// Ourselves.
    pub own: PeerInfo,
    /// Everybody, not yet checked.
    pub members: Directory,
}

/// How a node without a network gets one.
#[derive(Debug, Clone)]
pub enum Origin {
    /// By an invitation.
    Join(Box<JoinLink>),
    /// By creating one on this server.
    Create {
        /// The server as this daemon reaches it.
        server: Url,
        /// Whether it is our own embedded one.
        embedded: bool,
    },
}

impl Membership {
    /// Goes on with the network of an earlier start.
    pub fn resume(
        state: Arc<StateDir>,
        identity: Arc<Identity>,
        network: JoinedNetwork,
    ) -> Result<Self, Problem> {
        Ok(Self {
            state,
            identity,
            network,
            instance: random_u64()?,
            fresh: false,
        })
    }

    /// Begins anew. Keys of a network to be created are on disk before the server hears of it, so that a crash in
    /// between loses nothing.
    pub fn begin(
        state: Arc<StateDir>,
        identity: Arc<Identity>,
        settings: &Settings,
        origin: Origin,
    ) -> Result<Self, Problem> {
        let (id, server, embedded_server, anchor, psk) = match origin {
            Origin::Join(link) => {
                let anchor = link.admission.map(|admission| Anchor {
                    network_key: admission.network_key,
                    creator_key: None,
                    capability: Some(admission.capability),
                    certificate: None,
                });
                (link.network, link.server, None, anchor, link.psk)
            }
            Origin::Create { server, embedded } => {
                let anchor = match settings.network.trust {
                    Trust::Certificates => Some(new_anchor()?),
                    Trust::Psk => None,
                };
                let psk = NetworkPsk::from_bytes(random_bytes()?);
                (
                    settings.network.id.clone(),
                    server,
                    Some(embedded),
                    anchor,
                    psk,
                )
            }
        };
        let network = JoinedNetwork {
            id,
            cidr: settings.network.cidr,
            server,
            embedded_server: embedded_server == Some(true),
            created: embedded_server.is_some(),
            anchor,
            psk,
            name: settings.name.clone(),
            virtual_ips: Vec::new(),
            seq: 0,
        };
        state.save_network(&network)?;
        Ok(Self {
            state,
            identity,
            network,
            instance: random_u64()?,
            fresh: true,
        })
    }

    /// What is stored of the network.
    pub fn network(&self) -> &JoinedNetwork {
        &self.network
    }

    /// What we know of the network before the server said anything.
    pub fn provisional(&self) -> Network {
        Network {
            id: self.network.id.clone(),
            cidr: self.network.cidr,
            network_key: self.network_key(),
            created_at: 0,
            peer_count: 0,
            stun_port: None,
            public_ip: None,
        }
    }

    /// A client for the network's server.
    pub fn rest(&self) -> Rest {
        Rest::new(
            self.network.server.clone(),
            self.network.psk.admission_token(),
        )
    }

    /// What the server may decide.
    pub fn scope(&self) -> Scope {
        Scope {
            network: self.network.id.clone(),
            cidr: self.network.cidr,
            node_id: self.identity.node_id(),
            own_ips: self.network.virtual_ips.clone(),
            root: self
                .network
                .anchor
                .as_ref()
                .map(|anchor| anchor.root(&self.network.id)),
        }
    }

    /// Whether we made the network, and could make it again on a server that lost it.
    pub fn is_creator(&self) -> bool {
        self.network.created
    }

    /// The network on the server, made there if it is ours and missing.
    pub async fn find_or_create(
        &self,
        conversation: &mut Conversation<'_>,
    ) -> Result<Network, ServerError> {
        if !self.network.created {
            return conversation.network(&self.network.id).await;
        }
        let create = CreateNetwork {
            id: self.network.id.clone(),
            cidr: self.network.cidr,
            network_key: self.network_key(),
            admission_token: self.network.psk.admission_token(),
        };
        match conversation.create(&create).await {
            Ok(network) => Ok(network),
            // An earlier start may have created it and died before it could note that.
            Err(exists @ ServerError::Refused(_)) => conversation
                .network(&self.network.id)
                .await
                .map_err(|_| exists),
            Err(error) => Err(error),
        }
    }

    fn network_key(&self) -> Option<NodeId> {
        self.network
            .anchor
            .as_ref()
            .map(|anchor| anchor.network_key)
    }

    /// What this node may sign for others.
    pub fn authority(&self) -> Option<Authority> {
        let anchor = self.network.anchor.as_ref()?;
        anchor.authority(&self.network.id, self.identity.signing_key())
    }

    /// Remembers the address that we were given.
    pub fn registered(&mut self, own: &PeerInfo) -> Result<(), Problem> {
        if self.network.virtual_ips != own.virtual_ips {
            self.network.virtual_ips.clone_from(&own.virtual_ips);
            self.state.save_network(&self.network)?;
        }
        Ok(())
    }
}

fn new_anchor() -> Result<Anchor, Problem> {
    let key = SigningKey::from_bytes(&random_bytes()?);
    Ok(Anchor {
        network_key: NodeId::of(&key),
        creator_key: Some(key),
        capability: None,
        certificate: None,
    })
}

fn random_bytes() -> Result<[u8; 32], Problem> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| problem::operation_failed("get random bytes", &error))?;
    Ok(bytes)
}

fn random_u64() -> Result<u64, Problem> {
    trust::random_u64().map_err(|error| problem::operation_failed("get random bytes", &error))
}
