//! How much does a router hold?

use super::{Router, neighbour::Neighbour};

/// Entries in a router's tables. Whatever neighbours say, there are no more than `docs/ROUTING.md` allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Size {
    /// Members that a route is known to, or was until lately.
    pub destinations: usize,
    /// Routes to them, of all neighbours.
    pub routes: usize,
    /// What neighbours were told, and what they are to be told.
    pub announced: usize,
    /// What neighbours have spoken of, and may take back.
    pub heard: usize,
    /// Things to be done at a time.
    pub planned: usize,
    /// Requests under way for newer sequence numbers.
    pub asked: usize,
}

impl Router {
    /// How much is held now.
    pub fn size(&self) -> Size {
        let neighbours = || self.neighbours.values();
        let sum = |f: fn(&Neighbour) -> usize| neighbours().map(f).sum::<usize>();
        Size {
            destinations: self.destinations.len(),
            routes: self.destinations.values().map(|it| it.routes.len()).sum(),
            announced: sum(|it| it.said.len()),
            heard: sum(|it| it.heard.len()),
            planned: self.reviews.len() + sum(|it| it.schedule.len()),
            asked: sum(|it| it.requests.len()),
        }
    }
}
