//! A little internet on one machine: which hosts, routers, NATs and cables can a test build,
//! and how does it run the real programs in them?
//!
//! Everything is made of network namespaces that no file names, so a lab vanishes with the
//! process that built it, however that process ends. Start at [`Lab::new`].

mod binary;
mod capture;
mod coturn;
mod delay_queue;
mod deploy;
mod evil;
mod failover;
mod flood;
mod front;
mod home;
mod host;
mod internet;
mod ipv6;
mod lab;
mod lab_dir;
mod link;
mod measure;
mod meeting;
mod mini_upnp;
mod namespace;
mod nat;
mod netlink;
mod pair;
mod pings;
mod postgres;
mod preload;
mod process;
mod returning;
mod roam;
mod sleeper;
mod stream;
mod tap;
mod traffic;
mod way;

pub use binary::binary;
pub use capture::Capture;
pub use coturn::{COTURN_PASSWORD, Certificate, coturn, coturn_with};
pub use deploy::{Daemon, Discovery};
pub use evil::EvilServer;
pub use failover::{Failing, Failover};
pub use flood::{Flood, Junk};
pub use front::{Bytes, Does, Front, tinyproxy};
pub use home::{Home, HomePlan};
pub use host::Host;
pub use internet::Internet;
pub use lab::Lab;
pub use link::{Link, LinkShape};
pub use measure::{Counters, PingReport};
pub use meeting::{MATRIX, Meeting};
pub use mini_upnp::{Asking, MiniUpnp};
pub use namespace::Namespace;
pub use nat::Nat;
pub use netlink::{Netlink, NetlinkFilter};
pub use pair::{Pair, wait_until};
pub use pings::Pings;
pub use postgres::Postgres;
pub use process::{Output, Process};
pub use returning::{End, Return, Returning};
pub use roam::{Roam, Roaming, Talker, percentile};
pub use sleeper::SleepClock;
pub use traffic::Traffic;
