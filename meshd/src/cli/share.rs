//! `meshd share ...`: which folders does this machine offer, and to whom?

use std::path::{PathBuf, absolute};

use clap::{Args, Subcommand};
use hyper::Method;
use mesh_wire::problem::Problem;
use url::Url;

use super::{
    Failure,
    client::{Client, NOTHING},
    not_built_yet,
    output::{Output, table},
};
use crate::{
    api::{AddShare, ShareEntry, ShareList},
    problem::{operation_failed, share_not_found},
};

const SHARES: &str = "/api/v1/shares";

#[derive(Debug, Subcommand)]
pub(super) enum ShareCommand {
    /// Offer a directory to other members
    Add(AddArguments),
    /// Show what is shared, and with whom
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Stop sharing a directory; its files stay
    Rm {
        /// The share
        name: String,
    },
    /// Let a member read a share
    Grant {
        /// The share
        name: String,
        /// A member's name, virtual address or node id, or `all`
        peer: String,
        /// Let the member write, too
        #[arg(long, hide = true)]
        rw: bool,
    },
    /// Take a member's right back; its transfers break off
    Revoke {
        /// The share
        name: String,
        /// A member's name, virtual address or node id, or `all`
        peer: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct AddArguments {
    /// What members see: `http://VIRTUAL-IP/NAME/`
    name: String,
    /// The directory
    path: PathBuf,
    /// Who may read: a member's name, virtual address or node id, or `all`; may be repeated
    #[arg(long, value_name = "PEER|all")]
    to: Vec<String>,
    /// Let them write, too
    #[arg(long, hide = true)]
    rw: bool,
}

pub(super) async fn run(
    client: &Client,
    output: &mut Output,
    command: ShareCommand,
) -> Result<(), Failure> {
    match command {
        ShareCommand::Add(arguments) => add(client, output, arguments).await,
        ShareCommand::List { json } => list(client, output, json).await,
        ShareCommand::Rm { name } => {
            let path = path_of(&name, None)?;
            let () = client.send(Method::DELETE, &path, NOTHING).await?;
            Ok(output.line(format_args!("{name} is not shared any more"))?)
        }
        ShareCommand::Grant { name, peer, rw } => {
            if rw {
                return Err(writing_not_built().into());
            }
            let path = path_of(&name, Some(&peer))?;
            let entry: ShareEntry = client.send(Method::PUT, &path, NOTHING).await?;
            Ok(output.line(readers(&entry))?)
        }
        ShareCommand::Revoke { name, peer } => {
            let path = path_of(&name, Some(&peer))?;
            let entry: ShareEntry = client.send(Method::DELETE, &path, NOTHING).await?;
            Ok(output.line(readers(&entry))?)
        }
    }
}

async fn add(client: &Client, output: &mut Output, arguments: AddArguments) -> Result<(), Failure> {
    if arguments.rw {
        return Err(writing_not_built().into());
    }
    let given = &arguments.path;
    let request = AddShare {
        name: arguments.name,
        // The daemon stands elsewhere, so a relative path means something only here.
        path: absolute(given)
            .map_err(|error| operation_failed(format!("find {}", given.display()), &error))?,
        to: arguments.to,
    };
    let entry: ShareEntry = client.send(Method::POST, SHARES, Some(&request)).await?;
    let share = &entry.share;
    let url = entry.url.as_deref().unwrap_or_default();
    output.line(format_args!(
        "{} is shared as {}  {url}",
        share.path, share.name
    ))?;
    Ok(output.line(readers(&entry))?)
}

async fn list(client: &Client, output: &mut Output, json: bool) -> Result<(), Failure> {
    let ShareList { shares } = client.get(SHARES).await?;
    if json {
        output.json(&shares)?;
    } else if shares.is_empty() {
        output
            .line("nothing is shared: `meshd share add NAME PATH --to PEER` shares a directory")?;
    } else {
        let row = |entry: &ShareEntry| {
            [
                entry.share.name.clone(),
                everybody(entry),
                entry.share.path.clone(),
            ]
        };
        let rows: Vec<_> = shares.iter().map(row).collect();
        output.line(table(["NAME", "TO", "PATH"], &rows))?;
    }
    Ok(())
}

/// Who may read a share, and who may once a member of that name is known.
fn everybody(entry: &ShareEntry) -> String {
    let waiting = entry.waiting.iter();
    let waiting = waiting.map(|name| format!("{name} (no such member yet)"));
    let all: Vec<String> = entry.to.iter().cloned().chain(waiting).collect();
    match all.is_empty() {
        true => "nobody".to_owned(),
        false => all.join(", "),
    }
}

/// Says who may read a share now.
fn readers(entry: &ShareEntry) -> String {
    let name = &entry.share.name;
    if entry.to.is_empty() {
        format!("nobody may read it yet: meshd share grant {name} PEER (or all)")
    } else {
        format!("{name} may be read by: {}", entry.to.join(", "))
    }
}

/// The resource of a share, or of one member's right to it, with the names encoded as path segments.
fn path_of(name: &str, peer: Option<&str>) -> Result<String, Problem> {
    // URL paths drop these two, so they would name another resource; no share is called so.
    if matches!(name, "" | "." | "..") {
        return Err(share_not_found(name));
    }
    let mut url =
        Url::parse("http://localhost").map_err(|error| operation_failed("ask", &error))?;
    url.set_path(SHARES);
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.push(name);
        if let Some(peer) = peer {
            segments.push("grants").push(peer);
        }
    }
    Ok(url.path().to_owned())
}

fn writing_not_built() -> Problem {
    not_built_yet(
        "--rw",
        "shares are read-only in this version",
        "leave --rw out: members can read the share, and its owner writes to it in place",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_one_path_segment_each() {
        assert_eq!(
            path_of("a/b ?#ü", Some("bob")).unwrap(),
            "/api/v1/shares/a%2Fb%20%3F%23%C3%BC/grants/bob"
        );
        for dots in ["", ".", ".."] {
            assert!(path_of(dots, None).is_err());
        }
    }
}
