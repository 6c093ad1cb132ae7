//! Which single requests are made of the discovery server?

use std::time::Duration;

use mesh_wire::{
    NetworkId,
    discovery::{CreateNetwork, Network, RegisterPeer},
    peer_info::{Directory, PeerInfo},
    problem::Problem,
};
use reqwest::{Client, Method, RequestBuilder, Response, redirect};
use serde::de::DeserializeOwned;
use url::Url;

use super::ServerError;

/// A request that takes longer than this is as good as lost.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The greatest answer that is read, in bytes: a list of 10,000 members.
const MAX_ANSWER: usize = 8 * 1024 * 1024;

/// A client for one server.
#[derive(Clone)]
pub struct Rest {
    client: Client,
    server: Url,
    /// Proves that we may join; never logged, never part of a URL.
    token: String,
}

impl Rest {
    /// A client for `server` that shows the admission `token`. Redirects are refused: the link named this server.
    pub fn new(server: Url, token: String) -> Result<Self, ServerError> {
        let client = Client::builder()
            .timeout(TIMEOUT)
            .connect_timeout(TIMEOUT)
            .redirect(redirect::Policy::none())
            .no_proxy()
            // A kept connection dies unnoticed when this host moves to another network, and requests are rare.
            .pool_max_idle_per_host(0)
            .build()
            .map_err(|error| ServerError::unreachable(&error))?;
        Ok(Self {
            client,
            server,
            token,
        })
    }

    /// The server's URL.
    pub fn server(&self) -> &Url {
        &self.server
    }

    /// The token to show.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// `POST /api/v1/mesh/networks`
    pub async fn create(&self, network: &CreateNetwork) -> Result<Network, ServerError> {
        let request = self
            .client
            .request(Method::POST, self.url("api/v1/mesh/networks")?);
        answer(request.json(network)).await
    }

    /// `GET /api/v1/mesh/networks/{id}`
    pub async fn network(&self, id: &NetworkId) -> Result<Network, ServerError> {
        let url = self.url(&format!("api/v1/mesh/networks/{id}"))?;
        answer(self.client.get(url).bearer_auth(&self.token)).await
    }

    /// `POST /api/v1/mesh/networks/{id}/peers`
    pub async fn register(
        &self,
        id: &NetworkId,
        peer: &RegisterPeer,
    ) -> Result<PeerInfo, ServerError> {
        let url = self.url(&format!("api/v1/mesh/networks/{id}/peers"))?;
        answer(self.client.post(url).bearer_auth(&self.token).json(peer)).await
    }

    /// `GET /api/v1/mesh/networks/{id}/peers`
    pub async fn peers(&self, id: &NetworkId) -> Result<Directory, ServerError> {
        let url = self.url(&format!("api/v1/mesh/networks/{id}/peers"))?;
        answer(self.client.get(url).bearer_auth(&self.token)).await
    }

    /// Where the event connection is.
    pub fn events_url(&self, id: &NetworkId) -> Result<Url, ServerError> {
        let mut url = self.url(&format!("api/v1/mesh/networks/{id}/events"))?;
        let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
        url.set_scheme(scheme).map_err(|()| {
            ServerError::Unreachable("the server's URL is neither http nor https".to_owned())
        })?;
        Ok(url)
    }

    fn url(&self, path: &str) -> Result<Url, ServerError> {
        self.server
            .join(path)
            .map_err(|error| ServerError::unreachable(&error))
    }
}

impl std::fmt::Debug for Rest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rest")
            .field("server", &self.server.as_str())
            .finish_non_exhaustive()
    }
}

async fn answer<T: DeserializeOwned>(request: RequestBuilder) -> Result<T, ServerError> {
    let response = request
        .send()
        .await
        .map_err(|error| ServerError::unreachable(&error))?;
    let status = response.status();
    let body = read_bounded(response).await?;
    if status.is_success() {
        return serde_json::from_slice(&body).map_err(|_| {
            ServerError::Unreachable(format!(
                "answered {status} with something else than expected"
            ))
        });
    }
    match serde_json::from_slice::<Problem>(&body) {
        Ok(mut problem) => {
            problem.status = status.as_u16();
            Err(ServerError::refused(problem))
        }
        // A proxy in between, or no discovery server at all.
        Err(_) => Err(ServerError::Unreachable(format!(
            "answered {status}, but not as a discovery server does"
        ))),
    }
}

/// A hostile server must not fill our memory.
async fn read_bounded(mut response: Response) -> Result<Vec<u8>, ServerError> {
    let mut body = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| ServerError::unreachable(&error))?
    {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ANSWER {
            return Err(ServerError::Unreachable(
                "sent a longer answer than the protocol allows".to_owned(),
            ));
        }
    }
    Ok(body)
}
