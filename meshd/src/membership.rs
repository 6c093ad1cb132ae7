//! How does this node come to be a member? From its state, from a join link, or by creating a network; and how does it
//! sign what it registers?

mod establish;
mod register;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ed25519_dalek::SigningKey;
use mesh_wire::{
    NodeId,
    discovery::{CreateNetwork, Network},
    join_link::JoinLink,
    peer_info::{Directory, PeerInfo, PeerRecord},
    psk::NetworkPsk,
    trust::Revocation,
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
    trust::{self, anchor::Anchor, authority::Authority, links::Links},
};

/// This node as a member, or on its way to be one. Clones are handles of the same: each server has a task that registers.
#[derive(Clone)]
pub struct Membership {
    state: Arc<StateDir>,
    identity: Arc<Identity>,
    /// Never held while a server is waited for.
    held: Arc<Mutex<Held>>,
    /// Random per start: tells the others that our sessions are gone.
    instance: u64,
    /// Whether the state directory was without a network when we started.
    fresh: bool,
}

/// What changes while we are a member.
struct Held {
    network: JoinedNetwork,
    /// The record that was signed last. All servers get the same, so that none seems to be behind.
    signed: Option<PeerRecord>,
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
    /// By creating one.
    Create {
        /// Its servers as this daemon reaches them.
        servers: Vec<Url>,
        /// Whether the first is our own embedded one.
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
        Self::with(state, identity, network, false)
    }

    /// Begins anew. Keys of a network to be created are on disk before the server hears of it, so that a crash in
    /// between loses nothing.
    pub fn begin(
        state: Arc<StateDir>,
        identity: Arc<Identity>,
        settings: &Settings,
        origin: Origin,
    ) -> Result<Self, Problem> {
        let (id, servers, embedded_server, anchor, psk) = match origin {
            Origin::Join(link) => {
                let servers = std::iter::once(link.server).chain(link.others).collect();
                let anchor = link.admission.map(|admission| Anchor {
                    network_key: admission.network_key,
                    creator_key: None,
                    capability: Some(admission.capability),
                    certificate: None,
                });
                (link.network, servers, None, anchor, link.psk)
            }
            Origin::Create { servers, embedded } => {
                let anchor = match settings.network.trust {
                    Trust::Certificates => Some(new_anchor()?),
                    Trust::Psk => None,
                };
                let psk = NetworkPsk::from_bytes(random_bytes()?);
                (
                    settings.network.id.clone(),
                    servers,
                    Some(embedded),
                    anchor,
                    psk,
                )
            }
        };
        let mut servers: std::vec::IntoIter<Url> = servers.into_iter();
        let server = servers
            .next()
            .ok_or_else(|| problem::operation_failed("enter a network", &"it has no server"))?;
        let network = JoinedNetwork {
            id,
            cidr: settings.network.cidr,
            server,
            others: servers.collect(),
            embedded_server: embedded_server == Some(true),
            created: embedded_server.is_some(),
            anchor,
            psk,
            name: settings.name.clone(),
            virtual_ips: Vec::new(),
            seq: 0,
        };
        state.save_network(&network)?;
        Self::with(state, identity, network, true)
    }

    fn with(
        state: Arc<StateDir>,
        identity: Arc<Identity>,
        network: JoinedNetwork,
        fresh: bool,
    ) -> Result<Self, Problem> {
        let signed = None;
        Ok(Self {
            state,
            identity,
            held: Arc::new(Mutex::new(Held { network, signed })),
            instance: random_u64()?,
            fresh,
        })
    }

    /// What is stored of the network.
    pub fn network(&self) -> JoinedNetwork {
        self.held().network.clone()
    }

    /// The sequence number of our newest record.
    pub fn seq(&self) -> u64 {
        self.held().network.seq
    }

    /// The network's servers, in order of preference.
    pub fn servers(&self) -> Vec<Url> {
        self.held().network.servers()
    }

    /// Uses other servers from now on, also after a restart. Our own embedded one stays the first.
    pub fn set_servers(&self, servers: Vec<Url>) -> Result<(), Problem> {
        let current = self.network();
        if current.embedded_server && servers.first() != Some(&current.server) {
            return Err(problem::server_embedded_first(&current.server));
        }
        self.change(|network| network.set_servers(servers))
    }

    /// Stores a change of the network before it holds.
    fn change(&self, change: impl FnOnce(&mut JoinedNetwork)) -> Result<(), Problem> {
        let mut held = self.held();
        let mut network = held.network.clone();
        change(&mut network);
        if network != held.network {
            self.state.save_network(&network)?;
            held.network = network;
        }
        Ok(())
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down whom links have let in.
    pub fn save_links(&self, links: &Links) -> Result<(), Problem> {
        let id = self.held().network.id.clone();
        self.state.save_links(&id, links)
    }

    /// What we know of the network before the server said anything.
    pub fn provisional(&self) -> Network {
        let network = self.network();
        Network {
            id: network.id,
            cidr: network.cidr,
            network_key: self.network_key(),
            created_at: 0,
            peer_count: 0,
            stun_port: None,
            public_ip: None,
        }
    }

    /// A client for one of the network's servers.
    pub fn rest(&self, server: Url) -> Rest {
        Rest::new(server, self.held().network.psk.admission_token())
    }

    /// What the server may decide.
    pub fn scope(&self) -> Scope {
        let network = self.network();
        let anchor = network.anchor.as_ref();
        Scope {
            root: anchor.map(|anchor| anchor.root(&network.id)),
            network: network.id,
            cidr: network.cidr,
            node_id: self.identity.node_id(),
            own_ips: network.virtual_ips,
        }
    }

    /// Whether we made the network.
    pub fn is_creator(&self) -> bool {
        self.held().network.created
    }

    /// The network on the server, made there if it is ours and missing.
    pub async fn find_or_create(
        &self,
        conversation: &mut Conversation<'_>,
    ) -> Result<Network, ServerError> {
        match self.is_creator() {
            true => self.create(conversation).await,
            false => conversation.network(&self.network().id).await,
        }
    }

    /// The network on the server, made there again if the server has lost it: each member has what that takes.
    pub async fn find_or_restore(
        &self,
        conversation: &mut Conversation<'_>,
    ) -> Result<Network, ServerError> {
        match conversation.network(&self.network().id).await {
            // Unknown there; or there is another one of the name, which the server says when it is asked to make ours.
            Err(ServerError::Refused(refusal)) if refusal.status == 401 => {
                self.create(conversation).await
            }
            answer => answer,
        }
    }

    async fn create(&self, conversation: &mut Conversation<'_>) -> Result<Network, ServerError> {
        let network = self.network();
        let create = CreateNetwork {
            id: network.id.clone(),
            cidr: network.cidr,
            network_key: self.network_key(),
            admission_token: network.psk.admission_token(),
        };
        match conversation.create(&create).await {
            Ok(network) => Ok(network),
            // An earlier start may have created it and died before it could note that; or another member is faster, and we
            // are one of too many at one address.
            Err(exists @ ServerError::Refused(_)) => {
                conversation.network(&network.id).await.map_err(|_| exists)
            }
            Err(error) => Err(error),
        }
    }

    /// The network's key, where it has one.
    pub fn network_key(&self) -> Option<NodeId> {
        let held = self.held();
        let anchor = held.network.anchor.as_ref();
        anchor.map(|anchor| anchor.network_key)
    }

    /// What this node may sign for others.
    pub fn authority(&self) -> Option<Authority> {
        let network = self.network();
        let anchor = network.anchor.as_ref()?;
        anchor.authority(&network.id, self.identity.signing_key())
    }

    /// Whether this node has signed the revocation, or another one with the same key.
    pub fn has_signed(&self, revocation: &Revocation) -> bool {
        match &revocation.admin {
            Some(admin) => admin.binding.node_id == self.identity.node_id(),
            None => {
                let held = self.held();
                let anchor = held.network.anchor.as_ref();
                anchor.is_some_and(|anchor| anchor.creator_key.is_some())
            }
        }
    }

    /// Remembers the address that we were given.
    pub fn registered(&self, own: &PeerInfo) -> Result<(), Problem> {
        self.change(|network| network.virtual_ips.clone_from(&own.virtual_ips))
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
