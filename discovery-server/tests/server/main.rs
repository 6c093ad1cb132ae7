//! Does the built program do, seen from outside, what its interface promises?
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod access;
mod authority;
mod bodies;
mod crash;
mod crowds;
mod deleted;
mod disk;
mod events;
mod floods;
mod harness;
mod heartbeats;
mod large;
mod life;
mod logs;
mod migrations;
mod replicas;
mod restores;
mod slow;
mod snapshots;
mod starting;
mod stun;
mod trust;
mod turn;
