//! What do two peers tell each other to connect by ICE?

use serde::{Deserialize, Serialize};

use crate::DecodeError;

/// The most candidates that one signal may carry. A host with more interfaces than that sends the best ones.
pub const MAX_CANDIDATES: usize = 32;

/// ICE credentials and candidates (RFC 8445, trickled as in RFC 8838) from one peer to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signal {
    /// Username fragment of the sender's agent.
    pub ufrag: String,
    /// Password of the sender's agent.
    pub pwd: String,
    /// The receiver's username fragment that the sender pairs with; absent while it knows none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_ufrag: Option<String>,
    /// Candidates in SDP form (RFC 8839 section 5.1), all that are known so far.
    pub candidates: Vec<String>,
}

impl Signal {
    /// Whether it keeps within [`MAX_CANDIDATES`] and the forms of RFC 8839.
    ///
    /// # Errors
    /// With the rule that it breaks.
    pub fn check(&self) -> Result<(), DecodeError> {
        const WHAT: &str = "signal";
        let credentials = [
            Some(&self.ufrag),
            Some(&self.pwd),
            self.remote_ufrag.as_ref(),
        ];
        if !credentials
            .into_iter()
            .flatten()
            .all(|text| is_ice_text(text))
        {
            return Err(DecodeError::new(WHAT, "has malformed ICE credentials"));
        }
        if self.candidates.len() > MAX_CANDIDATES || self.candidates.iter().any(|c| c.len() > 256) {
            return Err(DecodeError::new(
                WHAT,
                "has too many or too long candidates",
            ));
        }
        Ok(())
    }
}

/// `ice-char` of RFC 8839 section 5.4, 4 to 256 of them.
fn is_ice_text(text: &str) -> bool {
    (4..=256).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signal() -> Signal {
        Signal {
            ufrag: "abcd".into(),
            pwd: "0123456789abcdefghijkl".into(),
            remote_ufrag: None,
            candidates: vec!["candidate:1 1 udp 1 198.51.100.1 7081 typ host".into()],
        }
    }

    #[test]
    fn limits_hold() {
        assert_eq!(signal().check(), Ok(()));
        let mut many = signal();
        many.candidates = vec!["x".into(); MAX_CANDIDATES + 1];
        assert!(many.check().is_err());
        let mut long = signal();
        long.candidates = vec!["x".repeat(257)];
        assert!(long.check().is_err());
        let mut odd = signal();
        odd.ufrag = "a b c d".into();
        assert!(odd.check().is_err());
    }
}
