//! A handshake that we began and that is not answered yet.

use std::time::{Duration, Instant};

use super::Session;
use crate::wireguard::noise::Initiator;

/// The first handshake on a new path is repeated this soon; WireGuard's own 5 s are for a path that is known to work.
pub(super) const FIRST_RETRY: Duration = Duration::from_millis(500);
/// It is repeated this soon with a cookie. Whoever gave one is busy, so not at once: two that come together are one too many.
pub(super) const PROVEN_RETRY: Duration = Duration::from_millis(20);
/// How often it is repeated so soon.
pub(super) const QUICK_RETRIES: u8 = 4;

impl Session {
    /// Whether [`Session::initiate`] would begin or repeat one now.
    pub fn may_initiate(&self, now: Instant) -> bool {
        let attempt = self.attempt.as_ref();
        attempt.is_none_or(|attempt| attempt.resend <= now)
    }
}

/// The handshake, and when it is begun anew.
pub(super) struct Attempt {
    pub(super) handshake: Initiator,
    pub(super) local: u32,
    pub(super) began: Instant,
    pub(super) resend: Instant,
    pub(super) quick_retries: u8,
}
