//! `meshd servers`: which discovery servers are used, and which shall be?

use clap::{Args, Subcommand};
use hyper::Method;
use mesh_wire::{join_link::parse_server, problem::Problem};
use url::Url;

use super::{
    Failure,
    client::Client,
    output::{Output, table},
};
use crate::{
    api::{ServersAnswer, SetServers},
    status::ServerStatus,
};

const PATH: &str = "/api/v1/servers";

#[derive(Debug, Args)]
pub(super) struct ServersArguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    change: Option<Change>,
}

/// A change takes effect at once, and no session notices.
#[derive(Debug, Subcommand)]
enum Change {
    /// Use these servers, in order of preference, instead of all that are used now
    Set {
        /// HOST, HOST:PORT or URL
        #[arg(required = true, value_name = "URL")]
        servers: Vec<String>,
    },
    /// Use one more server, behind the others
    Add {
        /// HOST, HOST:PORT or URL
        #[arg(value_name = "URL")]
        server: String,
    },
    /// Use a server no more
    Rm {
        /// HOST, HOST:PORT or URL
        #[arg(value_name = "URL")]
        server: String,
    },
}

pub(super) async fn run(
    client: &Client,
    output: &mut Output,
    arguments: ServersArguments,
) -> Result<(), Failure> {
    let ServersArguments { json, change } = arguments;
    let answer: ServersAnswer = match change {
        None => client.get(PATH).await?,
        Some(change) => {
            let current: ServersAnswer = client.get(PATH).await?;
            let current = current.servers.into_iter().map(|server| server.url);
            let request = SetServers {
                servers: change.applied(current.collect())?,
            };
            client.send(Method::POST, PATH, Some(&request)).await?
        }
    };
    if json {
        output.json(&answer)?;
        return Ok(());
    }
    output.line(shown(&answer.servers))?;
    if let Some(note) = answer.note {
        output.line(format_args!("\n{note}"))?;
    }
    Ok(())
}

impl Change {
    fn applied(self, mut current: Vec<String>) -> Result<Vec<String>, Problem> {
        match self {
            Self::Set { servers } => Ok(servers),
            Self::Add { server } => {
                current.push(server);
                Ok(current)
            }
            Self::Rm { server } => {
                let url = parse_server(&server).ok().map(Url::into);
                let before = current.len();
                current.retain(|other| Some(other) != url.as_ref());
                match current.len() < before {
                    true => Ok(current),
                    false => Err(not_used(&server)),
                }
            }
        }
    }
}

fn not_used(server: &str) -> Problem {
    Problem::new(
        404,
        "server-not-used",
        format!("the discovery server {} is not used", server.escape_debug()),
    )
    .detail("it is not in the list")
    .fix("meshd servers shows the list")
}

fn shown(servers: &[ServerStatus]) -> String {
    let row = |server: &ServerStatus| {
        let retry = server.retry_in_s;
        let retry = retry.map_or_else(String::new, |s| format!(", next attempt within {s} s"));
        let state = match (server.connected, &server.error) {
            (true, _) => "connected".to_owned(),
            (false, Some(error)) => {
                let error = error.lines().next().unwrap_or_default();
                format!("not connected: {error}{retry}")
            }
            (false, None) => "not asked yet".to_owned(),
        };
        [server.url.clone(), state]
    };
    let rows: Vec<_> = servers.iter().map(row).collect();
    table(["SERVER", "STATE"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn current() -> Vec<String> {
        ["http://a:7080/", "http://b:7080/"]
            .map(str::to_owned)
            .into()
    }

    #[test]
    fn a_server_is_named_as_people_write_it_when_it_is_taken_out() {
        let rm = |server: &str| {
            let server = server.to_owned();
            Change::Rm { server }.applied(current())
        };
        for name in ["a", "A:7080", "http://a:7080"] {
            assert_eq!(rm(name).unwrap(), ["http://b:7080/"], "{name}");
        }
        assert_eq!(rm("c").unwrap_err().code, "server-not-used");
        assert_eq!(rm("").unwrap_err().code, "server-not-used");
    }

    #[test]
    fn a_server_that_is_added_comes_last() {
        let server = "c".to_owned();
        let added = Change::Add { server }.applied(current()).unwrap();
        assert_eq!(added, ["http://a:7080/", "http://b:7080/", "c"]);
    }
}
