//! What does this node do with certificates?
//!
//! [`anchor`]: what it holds. [`place`]: which address and name it asks for. [`authority`]: what it may sign for others.
//! [`correspondence`]: letters to other members. [`invitation`]: join links. [`revoked`]: whom it does not believe any more.

pub mod anchor;
pub mod authority;
pub mod correspondence;
pub mod invitation;
pub mod place;
pub mod revoked;

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since the Unix epoch. A clock before 1970 is as wrong as one at 1970.
pub fn unix_time() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| now.as_secs())
}

/// Random numbers for serials.
pub(crate) fn random_u64() -> Result<u64, getrandom::Error> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}
