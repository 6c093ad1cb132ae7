//! What does a link do to messages, and do its ends know?

use std::time::Duration;

use super::{Happening, NOTICED, Routes};

/// One direction of a link.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    /// How long a message takes at least.
    pub delay: Duration,
    /// Added at random up to this, so that messages overtake each other.
    pub jitter: Duration,
    /// Of a hundred messages, so many are lost.
    pub loss: u8,
    /// Of a hundred messages, so many come twice.
    pub twice: u8,
    /// Carries anything.
    pub carries: bool,
}

/// A link between two routers.
#[derive(Debug, Clone, Copy)]
pub struct Cable {
    /// From the end with the lesser number to the other, and back.
    pub ways: [Way; 2],
    /// Is there at all.
    pub up: bool,
}

impl Cable {
    /// A link that is the same in both directions, and gives each message its turn.
    pub fn even(delay: Duration, loss: u8) -> Self {
        let way = Way {
            delay,
            jitter: Duration::ZERO,
            loss,
            twice: 0,
            carries: true,
        };
        Self {
            ways: [way; 2],
            up: true,
        }
    }

    /// The direction away from one end.
    pub fn way(&self, from: u32, to: u32) -> &Way {
        let [there, back] = &self.ways;
        if from < to { there } else { back }
    }

    /// Passes messages from one end to the other.
    pub fn passes(&self, from: u32, to: u32) -> bool {
        self.up && self.way(from, to).carries
    }

    /// Both directions pass, so that a session can stand over it.
    pub fn works(&self) -> bool {
        self.up && self.ways.iter().all(|way| way.carries)
    }

    /// There and back, without jitter.
    pub fn rtt(&self) -> Duration {
        self.ways.iter().map(|way| way.delay).sum()
    }
}

impl Routes {
    /// The link between two routers.
    pub fn cable(&self, a: u32, b: u32) -> Option<Cable> {
        self.cables.get(&(a.min(b), a.max(b))).copied()
    }

    /// Lays a link, or makes it another one; both ends notice at once.
    pub fn link(&mut self, a: u32, b: u32, cable: Cable) {
        self.cables.insert((a.min(b), a.max(b)), cable);
        for (who, other) in [(a, b), (b, a)] {
            self.push(self.now + NOTICED, Happening::Notices { who, other });
        }
    }

    /// A link carries nothing from `from` to `to` any more, or again. Each end finds out by itself and in its own time, up to three
    /// seconds: by silence, or because the other one tells nothing new.
    pub fn one_way(&mut self, from: u32, to: u32, carries: bool) {
        let Some(cable) = self.cables.get_mut(&(from.min(to), from.max(to))) else {
            return;
        };
        let at = usize::from(from > to);
        if let Some(way) = cable.ways.get_mut(at) {
            way.carries = carries;
        }
        for (who, other) in [(from, to), (to, from)] {
            let found = Duration::from_millis(self.random.u64(300..3_000));
            self.push(self.now + found, Happening::Notices { who, other });
        }
    }

    /// One end measures another round-trip time, between two fifths and eight fifths of the true one; the other end does not.
    pub fn measure(&mut self, who: u32, other: u32) {
        let Some(cable) = self.cable(who, other).filter(Cable::works) else {
            return;
        };
        let rtt = cable.rtt().mul_f64(0.4 + 1.2 * self.random.f64());
        let name = self.member(other);
        if let Some(router) = self.routers.get_mut(&who)
            && router.neighbours().any(|neighbour| neighbour == name)
        {
            router.neighbour_up(name, rtt, self.now);
            self.touched(who);
        }
    }
}
