//! How does the daemon talk to the discovery server?
//!
//! [`rest`] makes single requests, [`events`] holds one event connection, [`directory`] turns what the server says
//! into what we believe, [`client`] keeps it all going.

pub mod client;
pub mod directory;
pub mod events;
pub mod rest;

/// Why a conversation with the server failed.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// It did not answer, or not as this protocol has it. Worth another try.
    #[error("{0}")]
    Unreachable(String),
    /// It answered with a refusal.
    #[error("{0}")]
    Refused(Box<mesh_wire::problem::Problem>),
}

impl ServerError {
    /// Something that the network or the server's host did.
    pub fn unreachable(error: &dyn std::error::Error) -> Self {
        // The outermost text of HTTP errors says little; the cause is at the end of the chain.
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text = cause.to_string();
            source = cause.source();
        }
        Self::Unreachable(text)
    }

    /// Whether asking again unchanged is useless: a refusal that is neither "too many" nor the server's own trouble.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Unreachable(_) => false,
            Self::Refused(problem) => {
                problem.status < 500 && problem.status != 429 && problem.status != 408
            }
        }
    }
}
