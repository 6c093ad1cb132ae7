//! What does a router do that wants harm? It holds sessions with its neighbours like any other one, so it is heard; what it says about
//! routes is up to it. What it is given to carry it drops.

use std::time::Duration;

use mesh_wire::{
    relay::{MAX_PATH, Path},
    routing::{INFINITY, Item, Message, PathError, SeqnoRequest, Update},
};

use super::{Happening, Routes};

/// How often it speaks.
const PERIOD: Duration = Duration::from_millis(10);
/// Its own numbers for messages are above those of the honest router inside it.
const NUMBERS: u32 = 1 << 30;
/// Updates of a member without a path that fit a message.
const FULL: usize = Message::ROOM / 10;
/// Made-up members have greater numbers than real ones.
const STRANGERS: u32 = 1_000_000;

/// What it tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// Anything, twenty things a time, under sequence numbers that members have really given themselves.
    Random,
    /// That it reaches everybody at no cost, or at that of one link.
    Cheap,
    /// A hundred members that nobody knows, each time others.
    Strangers,
    /// That it reaches this member, and the next time that it does not: a hundred changes a second.
    Flap(u32),
    /// A request for a newer sequence number of this member, each time one further.
    Ask(u32),
    /// That it reaches this member by a sequence number that the member has not given itself yet, each time one further.
    Forge(u32),
}

/// One such router.
#[derive(Debug)]
pub(super) struct Liar {
    lie: Lie,
    count: u32,
}

impl Routes {
    /// From now on, that router lies.
    pub fn lie(&mut self, who: u32, lie: Lie) {
        let before = self.liars.insert(who, Liar { lie, count: 0 });
        if before.is_none() {
            self.push(self.now + PERIOD, Happening::Lies(who));
        }
    }

    /// It is honest again, and has forgotten everything.
    pub fn repent(&mut self, who: u32) {
        self.liars.remove(&who);
        self.restart(who);
    }

    pub(super) fn is_liar(&self, who: u32) -> bool {
        self.liars.contains_key(&who)
    }

    pub(super) fn tell_lies(&mut self, who: u32) {
        let Some(mut liar) = self.liars.remove(&who) else {
            return;
        };
        let items = self.lies(who, &liar);
        liar.count += 1;
        let own = self.epochs.range((who, 0)..(who + 1, 0));
        let own: Vec<_> = own.map(|(ends, epochs)| (*ends, *epochs)).collect();
        for ((_, to), (epoch, your_epoch)) in own {
            let message = Message {
                epoch,
                your_epoch,
                number: NUMBERS + liar.count,
                items: items.clone(),
                ..Message::default()
            };
            self.send(who, to, message.encode());
        }
        self.liars.insert(who, liar);
        self.push(self.now + PERIOD, Happening::Lies(who));
    }

    fn lies(&mut self, who: u32, liar: &Liar) -> Vec<Item> {
        match liar.lie {
            Lie::Random => (0..20).filter_map(|_| self.any_lie(who)).collect(),
            Lie::Cheap => {
                let members: Vec<u32> = self.routers.keys().copied().collect();
                let metric = [0, 100][usize::from(self.random.bool())];
                let known = members.into_iter().filter(|member| *member != who);
                known
                    .filter_map(|member| self.claim(who, member, metric, 0))
                    .take(FULL)
                    .collect()
            }
            Lie::Strangers => (0..FULL as u32)
                .map(|more| update(STRANGERS + liar.count * FULL as u32 + more, 1, 100, &[]))
                .collect(),
            Lie::Flap(member) => {
                let metric = [INFINITY, 100][liar.count as usize % 2];
                self.claim(who, member, metric, 0).into_iter().collect()
            }
            Lie::Ask(destination) => {
                let seqno = self.known_seqno(who, destination).unwrap_or(0);
                let item = SeqnoRequest {
                    destination,
                    seqno: seqno.wrapping_add(liar.count as u16 % 1_000),
                    hop_limit: 8,
                };
                vec![Item::SeqnoRequest(item)]
            }
            Lie::Forge(member) => {
                let ahead = liar.count as u16 % 1_000 + 1;
                self.claim(who, member, 100, ahead).into_iter().collect()
            }
        }
    }

    /// The sequence number of a member that has come to a router.
    fn known_seqno(&self, who: u32, member: u32) -> Option<u16> {
        Some(self.routers.get(&who)?.feasibility_distance(member)?.0)
    }

    fn claim(&self, who: u32, member: u32, metric: u16, ahead: u16) -> Option<Item> {
        let seqno = self.known_seqno(who, member)?;
        Some(update(member, seqno.wrapping_add(ahead), metric, &[]))
    }

    fn any_lie(&mut self, who: u32) -> Option<Item> {
        let members = self.routers.len() as u32;
        let mut any = || self.random.u32(1..=members + 2);
        let (destination, from, to) = (any(), any(), any());
        let path: Vec<u32> = (0..MAX_PATH).map(|_| any()).collect();
        let (kind, len) = (self.random.u8(0..20), self.random.usize(0..=MAX_PATH));
        let metric = match self.random.u8(0..4) {
            0 => INFINITY,
            1 => 100 * (len as u16 + 1),
            _ => self.random.u16(..),
        };
        Some(match kind {
            0 => Item::SeqnoRequest(SeqnoRequest {
                destination,
                seqno: self.random.u16(..),
                hop_limit: self.random.u8(..),
            }),
            1 => Item::Refresh {
                digest: self.random.u64(..),
            },
            2 => Item::DumpRequest,
            3 => Item::PathError(PathError {
                source: [destination, from, to][self.random.usize(..3)],
                destination,
                from,
                to,
            }),
            _ => {
                let seqno = self.known_seqno(who, destination)?;
                let old = self.random.u16(0..3);
                update(destination, seqno.wrapping_sub(old), metric, &path[..len])
            }
        })
    }
}

fn update(destination: u32, seqno: u16, metric: u16, path: &[u32]) -> Item {
    Item::Update(Update {
        destination,
        seqno,
        metric,
        path: Path::new(path).unwrap_or_default(),
    })
}
