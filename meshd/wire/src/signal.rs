//! What do two peers tell each other to connect by ICE?

use serde::{Deserialize, Serialize};

use crate::{DecodeError, discovery::MAX_SIGNAL};

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
    /// The payload to hand to the discovery server.
    pub fn encode(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Decodes a payload, within the limits of [`MAX_SIGNAL`] bytes and [`MAX_CANDIDATES`].
    pub fn decode(payload: &str) -> Result<Self, DecodeError> {
        const WHAT: &str = "signal";
        if payload.len() > MAX_SIGNAL {
            return Err(DecodeError::new(WHAT, "is too long"));
        }
        let signal: Self = serde_json::from_str(payload)
            .map_err(|_| DecodeError::new(WHAT, "is not the JSON expected"))?;
        let credentials = [
            Some(&signal.ufrag),
            Some(&signal.pwd),
            signal.remote_ufrag.as_ref(),
        ];
        if !credentials
            .into_iter()
            .flatten()
            .all(|text| is_ice_text(text))
        {
            return Err(DecodeError::new(WHAT, "has malformed ICE credentials"));
        }
        if signal.candidates.len() > MAX_CANDIDATES
            || signal.candidates.iter().any(|c| c.len() > 256)
        {
            return Err(DecodeError::new(
                WHAT,
                "has too many or too long candidates",
            ));
        }
        Ok(signal)
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
    fn a_signal_survives_encoding() {
        assert_eq!(Signal::decode(&signal().encode()), Ok(signal()));
    }

    #[test]
    fn limits_hold() {
        let mut many = signal();
        many.candidates = vec!["x".into(); MAX_CANDIDATES + 1];
        assert!(Signal::decode(&many.encode()).is_err());
        let mut odd = signal();
        odd.ufrag = "a b c d".into();
        assert!(Signal::decode(&odd.encode()).is_err());
        assert!(Signal::decode(&"[".repeat(MAX_SIGNAL + 1)).is_err());
        assert!(Signal::decode("").is_err());
    }
}
