//! Why does an event connection end, and what is its client told?

use axum::extract::ws::close_code;
use mesh_wire::problem::Problem;

use super::super::refusal::{database_away, database_busy};
use crate::{
    http::networks::network_deleted,
    mailbox::{Attachment, Ending},
    store::StoreError,
};

/// Why the loop of a connection ends.
pub(super) enum End {
    /// The client left, or its connection broke: nothing more can be said.
    Gone,
    /// The server closes, with the reason that its client is told.
    Closed(u16, Option<Problem>),
}

pub(super) fn failed(error: StoreError) -> End {
    tracing::error!(%error, "an event connection failed");
    if error.is_busy() {
        return End::Closed(close_code::AGAIN, Some(database_busy()));
    }
    if error.is_away() {
        return End::Closed(close_code::AGAIN, Some(database_away()));
    }
    let problem = Problem::new(500, "database", "the server could not read its database")
        .fix("connect again in a few seconds");
    End::Closed(close_code::ERROR, Some(problem))
}

pub(super) fn hello_expected() -> End {
    let problem = Problem::new(408, "hello-expected", "no hello came in time")
        .detail("members show who they are; only the administrator may just watch")
        .fix("connect again and answer the challenge with a hello at once");
    End::Closed(close_code::POLICY, Some(problem))
}

pub(super) fn going_away() -> End {
    End::Closed(close_code::AWAY, None)
}

pub(super) fn ended(attachment: &Attachment) -> End {
    let reason = *attachment.ending.borrow();
    // The sender is dropped only after it gave a reason, or with the whole hub when the server ends.
    reason.map_or_else(going_away, ending)
}

fn ending(reason: Ending) -> End {
    let (code, problem) = match reason {
        Ending::Resync => (
            close_code::AGAIN,
            Problem::new(503, "resync-required", "messages were lost because they were read too slowly")
                .fix("connect again; the new snapshot has everything"),
        ),
        Ending::BeganAnew => (
            close_code::AGAIN,
            Problem::new(503, "resync-required", "this server was cut off from its database, and may have missed changes")
                .fix("connect again; the new snapshot has everything"),
        ),
        Ending::CutOff => (close_code::AGAIN, database_away()),
        Ending::Replaced => (
            close_code::POLICY,
            Problem::new(409, "replaced", "a newer connection of this node took the place of this one")
                .fix("if no second daemon was started on purpose, a copy of the node's key is in use elsewhere"),
        ),
        Ending::Deregistered => (
            close_code::POLICY,
            Problem::new(403, "deregistered", "this node was deregistered")
                .fix("register it again to come back"),
        ),
        Ending::NetworkDeleted => (
            close_code::POLICY,
            network_deleted(),
        ),
    };
    End::Closed(code, Some(problem))
}
