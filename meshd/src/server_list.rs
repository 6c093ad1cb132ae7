//! Which lists of discovery servers can there be, and how does the list change while the daemon runs?

use mesh_wire::join_link::{MAX_SERVERS, parse_server};
use tokio::sync::watch;
use url::Url;

use crate::{membership::Membership, problem::Problem};

/// The list in use, to be read and changed from anywhere in the daemon.
#[derive(Clone)]
pub struct LiveList {
    membership: Membership,
    wanted: watch::Sender<Vec<Url>>,
    /// Whether the configuration or the command line names the servers.
    configured: bool,
}

impl LiveList {
    /// The list as it is stored. `configured` tells whether the next start will read it from elsewhere.
    pub fn new(membership: Membership, configured: bool) -> Self {
        let wanted = watch::Sender::new(membership.servers());
        Self {
            membership,
            wanted,
            configured,
        }
    }

    /// The servers, in order of preference.
    pub fn servers(&self) -> Vec<Url> {
        self.membership.servers()
    }

    /// Tells of changes.
    pub fn watch(&self) -> watch::Receiver<Vec<Url>> {
        self.wanted.subscribe()
    }

    /// Uses other servers from now on, after a restart too unless the configuration names some; whether it does.
    pub fn change(&self, servers: Vec<Url>) -> Result<bool, Problem> {
        self.membership.set_servers(servers.clone())?;
        self.wanted.send_replace(servers);
        Ok(self.configured)
    }
}

/// Puts one more server behind the others. The error is the rule, worded to stand behind the server's name.
pub fn add(servers: &mut Vec<Url>, server: Url) -> Result<(), String> {
    if servers.contains(&server) {
        return Err("is named twice".to_owned());
    }
    if servers.len() >= MAX_SERVERS {
        return Err(format!("is too many: at most {MAX_SERVERS} can be used"));
    }
    servers.push(server);
    Ok(())
}

/// Reads a list as a person gives it. The error names the first that is wrong, and why.
pub fn parse(texts: &[String]) -> Result<Vec<Url>, String> {
    let mut servers = Vec::new();
    for (at, text) in texts.iter().enumerate() {
        let server = parse_server(text).map_err(|error| error.why.to_owned());
        let added = server.and_then(|server| add(&mut servers, server));
        added.map_err(|rule| format!("server {} {rule}", at + 1))?;
    }
    match servers.is_empty() {
        true => Err("the list names no server".to_owned()),
        false => Ok(servers),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(texts: &[&str]) -> Result<Vec<Url>, String> {
        let texts: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
        parse(&texts)
    }

    #[test]
    fn a_list_keeps_its_order() {
        let servers = parsed(&["b", "https://a.example"]).unwrap();
        let servers: Vec<_> = servers.iter().map(Url::as_str).collect();
        assert_eq!(servers, ["http://b:7080/", "https://a.example/"]);
    }

    #[test]
    fn a_wrong_list_is_refused_and_the_value_not_repeated() {
        for (texts, why) in [
            (&[][..], "names no server"),
            (&["a", "ftp://x"], "server 2 must be an http or https URL"),
            (&["a", "http://A:7080/x"], "server 2 is named twice"),
            (&["http://u:HUNTER2@a"], "must not hold a user name"),
            (&[""], "server 1 "),
            (
                &["1", "2", "3", "4", "5", "6", "7", "8", "9"],
                "server 9 is too many",
            ),
        ] {
            let error = parsed(texts).unwrap_err();
            assert!(error.contains(why), "{texts:?}: {error}");
            assert!(!error.contains("HUNTER2"));
        }
    }
}
