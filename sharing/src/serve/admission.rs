//! May one more connection be served? At most so many per member and so many in all.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::limits::{CONNECTIONS, CONNECTIONS_PER_VISITOR};
use crate::acl::Visitor;

/// The connections being served. Cheap to clone; clones count together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Admission(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    of: HashMap<Visitor, usize>,
}

/// A connection's place; free again when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    admission: Admission,
    visitor: Visitor,
}

impl Admission {
    /// Takes a place, or `None` where the visitor or the server has all it may. All strangers share one count.
    pub(crate) fn admit(&self, visitor: Visitor) -> Option<Place> {
        self.with(|counts| {
            let own = counts.of.get(&visitor).copied().unwrap_or(0);
            if counts.all >= CONNECTIONS || own >= CONNECTIONS_PER_VISITOR {
                return None;
            }
            counts.all += 1;
            counts.of.insert(visitor, own + 1);
            Some(Place {
                admission: self.clone(),
                visitor,
            })
        })
    }

    /// The lock is held for a look-up and never across an await; its holder cannot panic half-way.
    fn with<T>(&self, action: impl FnOnce(&mut Counts) -> T) -> T {
        action(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.admission.with(|counts| {
            counts.all -= 1;
            if let Some(own) = counts.of.get_mut(&self.visitor) {
                *own -= 1;
                if *own == 0 {
                    counts.of.remove(&self.visitor);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use mesh_wire::NodeId;

    use super::*;

    fn peer(number: u8) -> Visitor {
        Visitor::Peer(NodeId::from_bytes([number; 32]))
    }

    #[test]
    fn one_member_cannot_take_the_places_of_another() {
        let admission = Admission::default();
        let taken: Vec<_> = std::iter::from_fn(|| admission.admit(peer(1))).collect();
        assert_eq!(taken.len(), CONNECTIONS_PER_VISITOR);
        assert!(admission.admit(peer(2)).is_some());
        drop(taken);
        assert!(admission.admit(peer(1)).is_some());
    }

    #[test]
    fn all_together_have_a_limit_and_nothing_is_left_behind() {
        let admission = Admission::default();
        let taken: Vec<_> = (0..u8::MAX)
            .flat_map(|number| {
                let admission = admission.clone();
                std::iter::from_fn(move || admission.admit(peer(number)))
            })
            .collect();
        assert_eq!(taken.len(), CONNECTIONS);
        assert!(admission.admit(Visitor::Unknown).is_none());
        drop(taken);
        admission.with(|counts| assert!(counts.all == 0 && counts.of.is_empty()));
    }
}
