//! What does this node do with certificates?
//!
//! [`anchor`]: what it holds. [`place`]: which address and name it asks for. [`authority`]: what it may sign for others.
//! [`correspondence`]: letters to other members. [`invitation`]: join links. [`revoked`]: whom it does not believe any more.

pub mod anchor;
pub mod authority;
pub mod correspondence;
pub mod invitation;
pub mod links;
pub mod place;
pub mod revoked;

use std::time::{SystemTime, UNIX_EPOCH};

/// When this code was written, in seconds since the Unix epoch. A clock that says less is wrong: that of a small computer
/// without a battery, before it has asked for the time.
const EARLIEST: u64 = 1_795_824_000;

/// Seconds since the Unix epoch, as far as the clock can be believed.
pub fn unix_time() -> u64 {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH);
    clock.map_or(EARLIEST, |now| now.as_secs().max(EARLIEST))
}

/// Random numbers for serials.
pub(crate) fn random_u64() -> Result<u64, getrandom::Error> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}
