//! How does this node come to be a member? From its state, from a join link, or by creating a network; and how does it
//! sign what it registers?

use std::{sync::Arc, time::Duration};

use ed25519_dalek::SigningKey;
use mesh_wire::{
    NodeId,
    discovery::{CreateNetwork, Network, RegisterPeer},
    join_link::JoinLink,
    peer_info::{Directory, PeerInfo, PeerRecord},
    psk::NetworkPsk,
};
use tokio::{sync::watch, time::sleep};
use url::Url;

use crate::{
    config::Settings,
    discovery::{
        ServerError,
        client::whole_seconds,
        rest::{Conversation, Rest},
        scope::Scope,
    },
    prepare::refuse_overlap,
    problem::{self, Problem},
    state::{Identity, JoinedNetwork, StateDir},
    status::ServerStatus,
};

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

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
        let (id, server, embedded_server, creator_key, network_key, psk) = match origin {
            Origin::Join(link) => (
                link.network,
                link.server,
                false,
                None,
                link.network_key,
                link.psk,
            ),
            Origin::Create { server, embedded } => {
                let key = SigningKey::from_bytes(&random_bytes()?);
                let psk = NetworkPsk::from_bytes(random_bytes()?);
                let public = NodeId::of(&key);
                (
                    settings.network.clone(),
                    server,
                    embedded,
                    Some(key),
                    public,
                    psk,
                )
            }
        };
        let network = JoinedNetwork {
            id,
            cidr: settings.cidr,
            server,
            embedded_server,
            network_key,
            psk,
            creator_key,
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
            network_key: self.network.network_key,
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

    /// Sees to it that the network exists and that we have an address in it. Tries until it works; only a refusal
    /// ends it. `server` is kept informed meanwhile.
    pub async fn establish(
        &mut self,
        rest: &Rest,
        server: &watch::Sender<ServerStatus>,
        interface: &str,
    ) -> Result<Established, Problem> {
        let mut pause = FIRST_PAUSE;
        loop {
            let error = match self.attempt(rest, interface).await {
                Ok(Ok(established)) => return Ok(established),
                Ok(Err(error)) => error,
                Err(problem) => {
                    self.undo()?;
                    return Err(problem);
                }
            };
            let refused = problem_of(&error, rest.server(), &self.network);
            if error.is_final() {
                self.undo()?;
                return Err(refused);
            }
            tracing::warn!(server = %rest.server(), %error, "discovery server not reached; trying again in {pause:?}");
            server.send_modify(|status| {
                status.error = Some(error.to_string());
                status.retry_in_s = Some(whole_seconds(pause));
            });
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// A first start that led nowhere leaves no network behind.
    fn undo(&self) -> Result<(), Problem> {
        if self.fresh {
            self.state.remove_network()
        } else {
            Ok(())
        }
    }

    /// The outer error is ours and final, the inner one the server's. Nothing is registered before it is certain that
    /// this host can take part.
    async fn attempt(
        &mut self,
        rest: &Rest,
        interface: &str,
    ) -> Result<Result<Established, ServerError>, Problem> {
        let mut conversation = match rest.converse().await {
            Ok(conversation) => conversation,
            Err(error) => return Ok(Err(error)),
        };
        let network = match self.find_or_create(&mut conversation).await {
            Ok(network) => network,
            Err(error) => return Ok(Err(error)),
        };
        if network.network_key != self.network.network_key {
            return Err(problem::network_key_differs(&network.id, rest.server()));
        }
        let scope = self.scope();
        if let Some(why) = scope.object_to_network(&network, false) {
            return Err(problem::server_implausible(rest.server(), &why));
        }
        refuse_overlap(network.cidr, interface).await?;
        let registration = self.registration()?;
        let own = match conversation.register(&network.id, &registration).await {
            Ok(own) => own,
            Err(error) => return Ok(Err(error)),
        };
        let scope = Scope {
            cidr: network.cidr,
            ..scope
        };
        if let Some(why) = scope.object_to_own(&own) {
            return Err(problem::server_implausible(rest.server(), &why));
        }
        self.network.cidr = network.cidr;
        self.registered(&own)?;
        let members = match conversation.peers(&network.id).await {
            Ok(members) => members,
            Err(error) => return Ok(Err(error)),
        };
        Ok(Ok(Established {
            network,
            own,
            members,
        }))
    }

    /// What the server may decide.
    pub fn scope(&self) -> Scope {
        Scope {
            network: self.network.id.clone(),
            cidr: self.network.cidr,
            node_id: self.identity.node_id(),
            own_ips: self.network.virtual_ips.clone(),
        }
    }

    /// Whether we made the network, and could make it again on a server that lost it.
    pub fn is_creator(&self) -> bool {
        self.network.creator_key.is_some()
    }

    /// The network on the server, made there if it is ours and missing.
    pub async fn find_or_create(
        &self,
        conversation: &mut Conversation<'_>,
    ) -> Result<Network, ServerError> {
        let Some(key) = &self.network.creator_key else {
            return conversation.network(&self.network.id).await;
        };
        let create = CreateNetwork {
            id: self.network.id.clone(),
            cidr: self.network.cidr,
            network_key: NodeId::of(key),
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

    /// A freshly signed record with the address that we had.
    pub fn registration(&mut self) -> Result<RegisterPeer, Problem> {
        let seq = self.state.next_seq(&mut self.network)?;
        let record = PeerRecord::sign(
            self.identity.signing_key(),
            &self.network.id,
            self.identity.wireguard_key(),
            &self.network.name,
            (seq, self.instance),
        )
        .map_err(|error| problem::operation_failed("sign our peer record", &error))?;
        Ok(RegisterPeer {
            record,
            requested_ip: self.network.virtual_ips.first().copied(),
        })
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

/// What the user sees of a server error.
fn problem_of(error: &ServerError, server: &Url, network: &JoinedNetwork) -> Problem {
    match error {
        ServerError::Unreachable(why) => problem::server_unreachable(server, why),
        ServerError::Refused(refusal) if refusal.code == "network-exists" => {
            problem::network_exists(&network.id, server)
        }
        ServerError::Refused(refusal) => problem::server_refused(server, refusal),
    }
}

fn random_bytes() -> Result<[u8; 32], Problem> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| problem::operation_failed("get random bytes", &error))?;
    Ok(bytes)
}

fn random_u64() -> Result<u64, Problem> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)
        .map_err(|error| problem::operation_failed("get random bytes", &error))?;
    Ok(u64::from_le_bytes(bytes))
}
