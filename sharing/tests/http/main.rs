//! The share server from outside: a real server on loopback, driven by curl and by raw sockets.
#![allow(
    clippy::unwrap_used,
    reason = "a laboratory that cannot be set up fails its test"
)]

mod conditions;
mod files;
mod limits;
mod listing;
mod never_wrong_bytes;
mod not_found;
mod site;
