//! `GET` and `POST /api/v1/servers`: which discovery servers are used, and which shall be?

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::{
    Api,
    error::{ApiError, Json as ApiJson, ask},
};
use crate::{
    control::Control,
    server_list,
    status::{self, ServerStatus},
};

/// The whole list, in order of preference.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetServers {
    /// `HOST`, `HOST:PORT` or URL.
    pub servers: Vec<String>,
}

/// The servers and how they do.
#[derive(Debug, Serialize, Deserialize)]
pub struct ServersAnswer {
    /// In order of preference.
    pub servers: Vec<ServerStatus>,
    /// What the caller should know of a change; `null` where there is nothing.
    pub note: Option<String>,
}

pub(super) async fn list(State(api): State<Api>) -> Json<ServersAnswer> {
    Json(ServersAnswer {
        servers: api.context.status.borrow().servers.clone(),
        note: None,
    })
}

/// Answers once the list is stored and in use. A server that is new in it is being connected to then.
pub(super) async fn replace(
    State(api): State<Api>,
    ApiJson(request): ApiJson<SetServers>,
) -> Result<Json<ServersAnswer>, ApiError> {
    let servers = server_list::parse(&request.servers).map_err(|why| {
        ApiError::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "malformed-request",
            "this is no list of discovery servers",
        )
        .why(why)
        .fix("name 1 to 8 different servers, such as http://198.51.100.2:7080 or https://mesh.example.com")
    })?;
    let wanted = servers.clone();
    let (reply, answer) = oneshot::channel();
    ask(&api.context.control, Control::Servers { servers, reply }).await?;
    let configured = match answer.await {
        Ok(Ok(configured)) => configured,
        Ok(Err(problem)) => return Err(problem.into()),
        Err(_) => return Err(ApiError::stopping()),
    };
    let known = api.context.status.borrow().servers.clone();
    Ok(Json(ServersAnswer {
        servers: status::relisted(&known, &wanted),
        note: configured.then(|| {
            "meshd up was started with servers named by its command line or its configuration file: started so again, it uses those"
                .to_owned()
        }),
    }))
}
