//! The mesh daemon: what runs, in which order, and how it is asked for things.

pub mod api;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod dataplane;
pub mod discovery;
pub mod embedded;
pub mod feed;
pub mod greeting;
pub mod lan;
pub mod lobby;
pub mod log;
pub mod membership;
pub mod netcheck;
pub mod news;
pub mod portmap;
pub mod prepare;
pub mod problem;
pub mod publish;
pub mod server_list;
pub mod shares;
pub mod state;
pub mod status;
pub mod trust;
pub mod whereabouts;
