//! Machines behind routers, daemons, and which discovery servers they are connected with.

use std::time::Duration;

use netlab::{Daemon, Host, Lab, Nat};

/// What an echo between two who never spoke may take.
pub(crate) const ECHO: Duration = Duration::from_secs(10);
/// What a daemon may take until it asks a server again that was away for a short while.
pub(crate) const BACK: Duration = Duration::from_secs(60);

pub(crate) fn wait_until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    netlab::wait_until(what, limit, || Ok(holds())).unwrap();
}

/// A machine behind a router of its own.
pub(crate) fn machine(lab: &Lab, name: &str) -> Host {
    let home = lab
        .internet()
        .home(&format!("h{name}"), Nat::PortRestricted);
    home.unwrap().host(name).unwrap()
}

pub(crate) fn url(host: &Host) -> String {
    format!("http://{}:7080/", host.address())
}

pub(crate) fn up(host: &Host, how: &[&str], name: &str) -> Daemon {
    Daemon::up(host, &[how, &["--name", name]].concat()).unwrap()
}

pub(crate) fn is_connected(daemon: &Daemon, to: &Host) -> bool {
    let to = url(to);
    let status = daemon.status().unwrap();
    let servers = status["servers"].as_array().unwrap();
    servers
        .iter()
        .any(|server| server["url"] == to.as_str() && server["connected"] == true)
}

pub(crate) fn wait_connected(daemons: &[&Daemon], to: &[&Host]) {
    wait_until("all are connected", BACK, || {
        let mut pairs = daemons
            .iter()
            .flat_map(|daemon| to.iter().map(move |to| (daemon, to)));
        pairs.all(|(daemon, to)| is_connected(daemon, to))
    });
}

pub(crate) fn wait_lost(daemons: &[&Daemon], to: &Host) {
    wait_until("all notice", Duration::from_secs(10), || {
        daemons.iter().all(|daemon| !is_connected(daemon, to))
    });
}
