//! How is one client served that has a connection, whatever carries its messages?

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use super::{Client, Kind, message::kind, outlet::Outlet, service::Taken};
use crate::{
    app::App,
    slots::Slot,
    stun::{self, Answer},
};

/// One client; its allocation ends with it.
pub(super) struct Served<'a> {
    pub(super) client: Client,
    pub(super) outlet: Outlet,
    pub(super) app: &'a App,
    pub(super) slot: Arc<Slot>,
    /// Whether it has had an allocation, so that a member is at the other end.
    pub(super) proven: AtomicBool,
}

impl Drop for Served<'_> {
    fn drop(&mut self) {
        if let Some(turn) = &self.app.turn {
            turn.end(self.client);
        }
    }
}

impl Served<'_> {
    /// Takes one message; whether the connection goes on.
    pub(super) fn take(&self, message: &[u8]) -> bool {
        let turn = self.app.turn.as_ref();
        let taken = match (turn, kind(message)) {
            (Some(turn), Kind::Channel | Kind::Turn) => {
                turn.receive(message, self.client, &self.outlet)
            }
            (_, Kind::Other) => self.answer(message),
            (None, Kind::Channel | Kind::Turn) => Taken::Garbage,
        };
        match taken {
            Taken::Yes => {
                if !self.proven.load(Relaxed) && self.is_relayed() {
                    self.proven.store(true, Relaxed);
                    // A home with many members is not shut out.
                    self.slot.proven();
                }
                true
            }
            Taken::Stuck => false,
            Taken::Garbage => {
                self.app.metrics.stun_garbage.fetch_add(1, Relaxed);
                false
            }
        }
    }

    fn answer(&self, message: &[u8]) -> Taken {
        match stun::answer(message, self.client.address) {
            Answer::Reply(reply) | Answer::ReplyFromOther(reply) => {
                self.app.metrics.stun_requests.fetch_add(1, Relaxed);
                match self.outlet.answer(&reply) {
                    true => Taken::Yes,
                    false => Taken::Stuck,
                }
            }
            Answer::Garbage => Taken::Garbage,
            Answer::Silent => Taken::Yes,
        }
    }

    pub(super) fn is_relayed(&self) -> bool {
        let turn = self.app.turn.as_ref();
        turn.is_some_and(|turn| turn.has(self.client))
    }
}
