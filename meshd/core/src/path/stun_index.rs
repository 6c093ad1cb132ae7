//! Which peer's ICE agent is a STUN message for? Told by username fragment and transaction id, never by source
//! address, which is exactly what may be unexpected.

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
};

use crate::peer::table::PeerIdx;

/// Transactions remembered at once. 1,000 peers with two checks in flight each are half of it.
const MAX_TRANSACTIONS: usize = 4096;

/// Transaction id of RFC 8489 section 5.
pub type TransactionId = [u8; 12];

/// Username fragments and open transactions of all agents.
#[derive(Debug, Default)]
pub struct StunIndex {
    by_ufrag: BTreeMap<String, PeerIdx>,
    by_transaction: BTreeMap<TransactionId, (PeerIdx, IpAddr)>,
    oldest: VecDeque<TransactionId>,
}

impl StunIndex {
    /// Requests to this username fragment are for `peer`.
    pub fn add_ufrag(&mut self, ufrag: &str, peer: PeerIdx) {
        self.by_ufrag.insert(ufrag.to_owned(), peer);
    }

    /// Forgets all fragments of `peer`.
    pub fn remove_peer(&mut self, peer: PeerIdx) {
        self.by_ufrag.retain(|_, owner| *owner != peer);
    }

    /// Notes a request that `peer`'s agent sends to this address, so that the response finds it.
    pub fn sent(&mut self, request: &[u8], peer: PeerIdx, to: IpAddr) {
        let Some(id) = transaction_id(request) else {
            return;
        };
        if self.by_transaction.insert(id, (peer, to)).is_none() {
            self.oldest.push_back(id);
        }
        while self.oldest.len() > MAX_TRANSACTIONS {
            if let Some(id) = self.oldest.pop_front() {
                self.by_transaction.remove(&id);
            }
        }
    }

    /// Whose agent sent the request with this id.
    pub fn by_transaction(&self, id: &TransactionId) -> Option<PeerIdx> {
        self.by_transaction.get(id).map(|(peer, _)| *peer)
    }

    /// Whether what comes from this address answers a request that went there (RFC 8445 section 7.2.5.2.1). Who gets one at an
    /// address of its own can write any source onto the answer.
    pub fn went_to(&self, response: &[u8], from: IpAddr) -> bool {
        let asked = transaction_id(response).and_then(|id| self.by_transaction.get(&id));
        asked.is_some_and(|(_, to)| *to == from)
    }

    /// Whose agent goes by this username fragment.
    pub fn by_ufrag(&self, ufrag: &str) -> Option<PeerIdx> {
        self.by_ufrag.get(ufrag).copied()
    }
}

/// The transaction id of a STUN message, if it is long enough to have one.
pub fn transaction_id(message: &[u8]) -> Option<TransactionId> {
    message.get(8..20)?.try_into().ok()
}

/// Whether a STUN message is a Binding request, and no answer to one.
pub fn is_check(message: &[u8]) -> bool {
    message.starts_with(&[0, 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transactions_are_forgotten_oldest_first() {
        let (mut index, there) = (StunIndex::default(), IpAddr::from([192, 0, 2, 1]));
        let request = |n: u16| {
            let mut message = [0; 20];
            message[8..10].copy_from_slice(&n.to_be_bytes());
            message
        };
        for n in 0..=u16::try_from(MAX_TRANSACTIONS).unwrap() {
            index.sent(&request(n), PeerIdx::new(1), there);
        }
        assert_eq!(
            index.by_transaction(&transaction_id(&request(0)).unwrap()),
            None
        );
        assert_eq!(
            index.by_transaction(&transaction_id(&request(1)).unwrap()),
            Some(PeerIdx::new(1))
        );
        index.sent(&[0; 4], PeerIdx::new(1), there);
    }

    #[test]
    fn an_answer_from_elsewhere_proves_nothing() {
        let [there, elsewhere] = [1, 2].map(|last| IpAddr::from([192, 0, 2, last]));
        let mut index = StunIndex::default();
        index.sent(&[7; 20], PeerIdx::new(1), there);
        assert!(index.went_to(&[7; 20], there));
        assert!(!index.went_to(&[7; 20], elsewhere));
        assert!(!index.went_to(&[8; 20], there), "nobody asked");
    }
}
