//! What should be known of a discovery server's URL, though nothing fails?

use super::Problem;

/// The server is reached by plain http over the Internet; this stands in the daemon's notes while the server is in the list.
pub fn server_plain_http(server: &str) -> Problem {
    Problem::new(
        0,
        "server-plain-http",
        format!("the discovery server {server} is reached over plain http, and is not in a private network by its name"),
    )
    .detail("whoever is on the way can read the network's token, and with it who the members are, where they are and who writes to whom, and can answer in the server's place; what members send each other is sealed, and the network's secret is not sent")
    .fix("put a reverse proxy that speaks https in front of it, and use its name: meshd servers set https://NAME (docs/OPERATIONS.md, \"https\"); for a server inside a daemon, run discovery-server so instead")
}

/// The server is named as each machine names itself; this stands in the daemon's notes while the server is in the list.
pub fn server_on_loopback(server: &str) -> Problem {
    Problem::new(
        0,
        "server-on-loopback",
        format!("the discovery server is named {server}, which is this machine only here"),
    )
    .detail("join links name it so, and lead each other machine to itself; nor can the server tell this machine how others see it")
    .fix("name it as others reach it: meshd servers set http://ADDRESS:PORT, with an address of this machine, or a name for it")
}
