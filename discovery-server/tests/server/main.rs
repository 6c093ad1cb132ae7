//! Does the built program do, seen from outside, what its interface promises?
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod access;
mod bodies;
mod crash;
mod crowds;
mod deleted;
mod events;
mod floods;
mod harness;
mod large;
mod life;
mod slow;
mod starting;
mod stun;
mod trust;
mod turn;
