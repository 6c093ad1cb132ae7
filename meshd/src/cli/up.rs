//! `meshd up`: what may be said on its command line, and what does the daemon make of it?

use std::{
    io::{self, BufRead},
    path::{Path, PathBuf},
};

use clap::Args;
use mesh_wire::join_link::JoinLink;

use crate::{
    config::{self, Overrides, RawConfig},
    problem::{Problem, join_link_invalid, operation_failed},
};

/// Read when it is there; a file that was named must be there.
pub(super) const DEFAULT_CONFIG: &str = "/etc/meshd/meshd.yaml";

/// Bytes of a join link from standard input; real ones have about 200.
const MAX_LINK: u64 = 4096;

/// What `meshd up` was told. Values of [`Overrides`] are judged with those of the file, by
/// [`config::Settings::parse`].
#[derive(Debug, Clone)]
pub struct UpOptions {
    /// The named configuration file; `None` means the default one, which may be absent.
    pub config: Option<PathBuf>,
    /// Where keys and state are kept.
    pub state_dir: PathBuf,
    /// The network to join.
    pub join: Option<JoinLink>,
    /// What wins over the file.
    pub overrides: Overrides,
}

impl UpOptions {
    /// The configuration file with the command line above it; an empty file where the default one is absent.
    pub fn raw_config(&self) -> Result<RawConfig, Problem> {
        let mut raw = match &self.config {
            Some(file) => config::load(file)?,
            None => config::load_if_present(Path::new(DEFAULT_CONFIG))?,
        };
        raw.overlay(self.overrides.clone());
        Ok(raw)
    }
}

#[derive(Debug, Args)]
pub(super) struct UpArguments {
    /// The configuration file [default: /etc/meshd/meshd.yaml, if it exists]
    #[arg(long, value_name = "FILE", env = "MESHD_CONFIG")]
    config: Option<PathBuf>,
    /// This machine's name in the network [default: its host name]
    #[arg(long, value_name = "HOST")]
    name: Option<String>,
    /// Join the network of this link; `-` reads it from standard input
    #[arg(long, value_name = "LINK", conflicts_with_all = ["server", "network", "cidr"])]
    join: Option<String>,
    /// Create the network on this discovery server; said again, it names further ones that are used beside it
    #[arg(long, value_name = "URL")]
    server: Vec<String>,
    /// The name of the network to create [default: my-network]
    #[arg(long, value_name = "NAME")]
    network: Option<String>,
    /// Where the network's virtual addresses come from [default: 10.100.0.0/16]
    #[arg(long, value_name = "CIDR")]
    cidr: Option<String>,
    /// The mesh's UDP port, 0 for any [default: 7081]
    #[arg(long, value_name = "PORT")]
    listen_port: Option<String>,
    /// The name of the mesh interface [default: mesh0]
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// Where the local API listens [default: 127.0.0.1:7082]
    #[arg(long, value_name = "ADDR:PORT")]
    api: Option<String>,
}

impl UpArguments {
    /// Reads the join link; everything else is judged later, together with the file.
    pub(super) fn into_options(self, state_dir: PathBuf) -> Result<UpOptions, Problem> {
        let join = match self.join.as_deref() {
            None => None,
            // Other users can read the command lines of running programs; standard input they cannot.
            Some("-") => Some(parse_link(&read_link(io::stdin().lock())?)?),
            Some(link) => Some(parse_link(link)?),
        };
        Ok(UpOptions {
            config: self.config,
            state_dir,
            join,
            overrides: Overrides {
                network: self.network,
                cidr: self.cidr,
                servers: self.server,
                name: self.name,
                listen_port: self.listen_port,
                interface: self.interface,
                api_listen: self.api,
            },
        })
    }
}

fn parse_link(link: &str) -> Result<JoinLink, Problem> {
    JoinLink::parse(link).map_err(|error| join_link_invalid(&error))
}

fn read_link(input: impl BufRead) -> Result<String, Problem> {
    let mut line = String::new();
    input
        .take(MAX_LINK)
        .read_line(&mut line)
        .map_err(|error| operation_failed("read the join link from standard input", &error))?;
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_from_standard_input_is_its_first_line() {
        assert_eq!(read_link(&b"http://x\nrest"[..]).unwrap(), "http://x\n");
        let long = vec![b'a'; 10_000];
        assert_eq!(read_link(&long[..]).unwrap().len(), 4096);
        assert!(read_link(&b"\xff\n"[..]).is_err());
    }

    #[test]
    fn a_cut_link_is_a_problem_that_does_not_repeat_it() {
        let problem = parse_link("http://h:7080/join/n?key=abc#cleartext").unwrap_err();
        assert_eq!(problem.code, "join-link-invalid");
        assert!(!problem.to_string().contains("cleartext"), "{problem}");
    }
}
