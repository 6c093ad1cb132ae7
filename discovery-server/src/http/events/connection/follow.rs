//! What becomes of a client's wish to hear of members?

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use mesh_wire::{
    discovery::{MAX_FOLLOW, MAX_FOLLOWED, ServerMessage},
    problem::Problem,
};

use super::{
    super::end::{End, failed},
    Connection,
};
use crate::{rate::Rate, store::Wanted};

/// Whoever starts asks for all that it knew before; later, for whom it wants to reach.
const FOLLOW_RATE: Rate = Rate {
    burst: 32,
    refill: Duration::from_millis(250),
};

impl Connection {
    pub(super) async fn follow(&mut self, wanted: Wanted<'_>) -> Result<(), End> {
        let count = wanted.nodes.len() + wanted.addresses.len() + wanted.names.len();
        let networks = Arc::clone(&self.app.networks);
        let problem = if self.node.is_none() {
            Problem::new(
                403,
                "hello-required",
                "only members that said hello may follow others",
            )
        } else if count > MAX_FOLLOW {
            Problem::new(
                413,
                "follow-too-large",
                "too many members were asked for at once",
            )
            .detail(format!("at most {MAX_FOLLOW} are followed by one message"))
        } else if !self.follows.take(FOLLOW_RATE, Instant::now()) {
            Problem::new(429, "too-many-follows", "members were asked for too often")
                .fix("wait a second and ask again")
        } else if !networks
            .follow(&self.network, self.id, wanted)
            .await
            .map_err(failed)?
        {
            Problem::new(
                429,
                "follows-too-many",
                "this connection follows too many members",
            )
            .detail(format!("it may follow {MAX_FOLLOWED}"))
            .fix("connect again, and follow those that matter")
        } else {
            return Ok(());
        };
        self.send(ServerMessage::Error { problem }).await
    }
}
