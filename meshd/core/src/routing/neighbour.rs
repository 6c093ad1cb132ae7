//! What was said to one neighbour, what did it say, and what is due?

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use mesh_wire::{
    relay::Path,
    routing::{INFINITY, Item, Message, SeqnoRequest, Update},
};
use rand_chacha::ChaCha8Rng;

use super::{
    adjacency::{Adjacency, Standing},
    metric::link_cost,
    reliable::{Inbound, Outbound, Topic, is_later},
    said::{Asked, Heard, Refresh, Said, digest, is_worth_it},
};

/// How long an acknowledgement waits for a message that could carry it.
const ACK_DELAY: Duration = Duration::from_millis(10);
/// One destination is announced to a neighbour at most so often, unless it is lost.
const PAUSE: Duration = Duration::from_millis(100);
/// Things that are said once and wait, at most; they fit one message.
const ONCE: usize = 16;

/// A direct neighbour: a peer with a link and a session, with which routes are exchanged.
#[derive(Debug)]
pub(super) struct Neighbour {
    rtt: Duration,
    adjacency: Adjacency,
    outbound: Outbound,
    inbound: Inbound,
    pub(super) said: BTreeMap<u32, Said>,
    pub(super) requests: BTreeMap<u32, Asked>,
    pub(super) heard: BTreeMap<u32, Heard>,
    /// What is due, by time.
    pub(super) schedule: BTreeSet<(Instant, Topic)>,
    ack_due: Option<Instant>,
    /// Said once, and not again if it is lost.
    once: Vec<Item>,
    pub(super) refresh: Refresh,
}

impl Neighbour {
    /// A neighbour that has just come up.
    pub(super) fn new(rtt: Duration, random: &mut ChaCha8Rng, now: Instant) -> Self {
        Self {
            rtt,
            adjacency: Adjacency::new(random, now),
            outbound: Outbound::default(),
            inbound: Inbound::default(),
            said: BTreeMap::new(),
            requests: BTreeMap::new(),
            heard: BTreeMap::new(),
            schedule: BTreeSet::new(),
            ack_due: None,
            once: Vec::new(),
            refresh: Refresh::new(now),
        }
    }

    /// The link's cost.
    pub(super) fn cost(&self) -> u16 {
        link_cost(self.rtt)
    }

    /// Its smoothed round-trip time has changed.
    pub(super) fn set_rtt(&mut self, rtt: Duration) {
        self.rtt = rtt;
    }

    /// Has the route to a member announced at `due`, or as soon after the last time as may be. `again`: even if nothing has
    /// changed.
    pub(super) fn announce(&mut self, member: u32, due: Instant, again: bool) {
        let said = self.said.entry(member).or_default();
        said.again |= again;
        let due = said.due.map_or(due, |planned| planned.min(due));
        reschedule(
            &mut self.schedule,
            Topic::Route(member),
            &mut said.due,
            Some(due),
        );
    }

    /// The earliest time at which something that is no retraction may be said of a member.
    pub(super) fn pause(&self, member: u32) -> Option<Instant> {
        Some(self.said.get(&member)?.sent? + PAUSE)
    }

    /// Asks the neighbour for a newer sequence number.
    pub(super) fn request(&mut self, request: SeqnoRequest, now: Instant) {
        let topic = Topic::Request(request.destination);
        let asked = self.requests.entry(request.destination);
        let asked = asked.or_insert_with(|| Asked::new(request));
        (asked.request, asked.message) = (request, 0);
        reschedule(&mut self.schedule, topic, &mut asked.due, Some(now));
    }

    /// Says something once. What does not fit into one message beside others is not said: it would be old by then.
    pub(super) fn say_once(&mut self, item: Item, now: Instant) {
        if self.once.len() < ONCE && !self.once.contains(&item) {
            self.once.push(item);
        }
        self.ack_due = Some(now);
    }

    /// Whether the neighbour has heard of this adjacency.
    pub(super) fn knows_us(&self) -> bool {
        self.adjacency.is_agreed()
    }

    /// Takes in what stands around the items of a message, and tells what to make of those.
    pub(super) fn receive(
        &mut self,
        message: &Message,
        random: &mut ChaCha8Rng,
        now: Instant,
    ) -> Standing {
        let standing = self.adjacency.judge(message, random, now);
        match standing {
            Standing::Void => {}
            Standing::Anew => {
                // It has forgotten what we said, or may have.
                self.outbound = Outbound::default();
                self.inbound = Inbound::default();
                self.heard.clear();
                self.requests.clear();
                self.schedule
                    .retain(|(_, topic)| matches!(topic, Topic::Route(_)));
                let all: Vec<u32> = self.said.keys().copied().collect();
                for member in all {
                    self.announce(member, now, true);
                }
            }
            Standing::First | Standing::Current => {
                for (number, topics) in self.outbound.acknowledged(message.ack) {
                    for topic in topics {
                        self.confirmed(topic, number);
                    }
                }
                if message.number != 0 {
                    self.inbound.came(message.number);
                    let due = now + ACK_DELAY;
                    self.ack_due = Some(self.ack_due.map_or(due, |planned| planned.min(due)));
                }
            }
        }
        standing
    }

    /// Whether this is news: an older message must not undo a newer one.
    pub(super) fn is_news(&mut self, message: u32, update: &Update) -> bool {
        let known = self.heard.get(&update.destination);
        if known.is_some_and(|known| !is_later(message, known.message)) {
            return false;
        }
        let digest = digest(update);
        self.heard
            .insert(update.destination, Heard { message, digest });
        true
    }

    /// Whether all that the neighbour holds to is what we have heard.
    pub(super) fn agrees(&self, with: u64) -> bool {
        self.heard
            .values()
            .fold(0, |sum: u64, heard| sum ^ heard.digest)
            == with
    }

    /// When there is something to do; `None` if the neighbour must say something first.
    pub(super) fn due(&self) -> Option<Instant> {
        if !self.adjacency.is_agreed() {
            return self.adjacency.due();
        }
        let scheduled = self.schedule.first().map(|(due, _)| *due);
        let times = [
            scheduled.filter(|_| self.outbound.has_room()),
            self.outbound.due(self.rtt),
            self.ack_due,
            self.adjacency.due(),
            Some(self.refresh.due),
        ];
        times.into_iter().flatten().min()
    }

    /// What was lost is due again.
    fn repeat_lost(&mut self, now: Instant) {
        for (number, topics) in self.outbound.lost(self.rtt, now) {
            for topic in topics {
                match topic {
                    Topic::Route(member)
                        if self
                            .said
                            .get(&member)
                            .is_some_and(|said| said.message == number) =>
                    {
                        self.announce(member, now, true);
                    }
                    Topic::Request(member) => {
                        let asked = self.requests.get_mut(&member);
                        if let Some(asked) = asked.filter(|asked| asked.message == number) {
                            reschedule(&mut self.schedule, topic, &mut asked.due, Some(now));
                        }
                    }
                    Topic::Route(_) => {}
                }
            }
        }
    }

    /// The next message, if one is due. `compose` says how a member is reached now, as this neighbour may be told; it is asked
    /// for each announcement that is due, and what it returns is sent.
    pub(super) fn poll(
        &mut self,
        now: Instant,
        mut compose: impl FnMut(u32) -> Option<Update>,
    ) -> Option<Message> {
        let mut topics = Vec::new();
        let mut items = match self.adjacency.is_agreed() {
            true => self.items(&mut topics, now, &mut compose),
            false => Vec::new(),
        };
        if self.adjacency.is_agreed() && self.refresh.is_due(now) {
            items.extend(self.refresh(&topics));
        }
        let due = [self.ack_due, self.adjacency.due()];
        if items.is_empty() && due.into_iter().flatten().min().is_none_or(|due| due > now) {
            return None;
        }
        self.ack_due = None;
        let number = match topics.is_empty() {
            true => 0,
            false => self.note(topics, now),
        };
        let (epoch, your_epoch) = self.adjacency.speak(now);
        Some(Message {
            epoch,
            your_epoch,
            number,
            ack: self.inbound.ack(),
            items,
        })
    }

    /// What is due, and what it is about.
    fn items(
        &mut self,
        topics: &mut Vec<Topic>,
        now: Instant,
        compose: &mut impl FnMut(u32) -> Option<Update>,
    ) -> Vec<Item> {
        self.repeat_lost(now);
        let mut items = std::mem::take(&mut self.once);
        let mut room = Message::ROOM.saturating_sub(items.iter().map(Item::size).sum());
        while self.outbound.has_room() && room >= Item::MAX_LEN {
            let next = self.schedule.first().copied();
            let Some((due, topic)) = next.filter(|(due, _)| *due <= now) else {
                break;
            };
            self.schedule.remove(&(due, topic));
            let item = match topic {
                Topic::Route(member) => self.speak_of(member, now, compose),
                Topic::Request(member) => self.requests.get_mut(&member).map(|asked| {
                    asked.due = None;
                    Item::SeqnoRequest(asked.request)
                }),
            };
            if let Some(item) = item {
                room -= item.size();
                items.push(item);
                topics.push(topic);
            }
        }
        items
    }

    /// What we hold to. While something is under way both may differ for good reasons.
    fn refresh(&self, topics: &[Topic]) -> Option<Item> {
        let is_settled = |said: &Said| said.message == 0 && said.due.is_none();
        let settled = topics.is_empty() && self.said.values().all(is_settled);
        settled.then(|| Item::Refresh {
            digest: self.digest(),
        })
    }

    /// The announcement of a member, unless the neighbour knows it already.
    fn speak_of(
        &mut self,
        member: u32,
        now: Instant,
        compose: &mut impl FnMut(u32) -> Option<Update>,
    ) -> Option<Item> {
        let said = self.said.entry(member).or_default();
        said.due = None;
        let again = std::mem::take(&mut said.again);
        let old = said.told.filter(|told| told.metric != INFINITY || again);
        let update = match (compose(member), old) {
            (Some(new), Some(old)) if !again && !is_worth_it(&old, &new) => return None,
            (Some(new), _) => new,
            // Poison: the neighbour was told of a route that is none for it any more.
            (None, Some(old)) => Update {
                metric: INFINITY,
                path: Path::default(),
                ..old
            },
            (None, None) => {
                if said.told.is_none() {
                    self.said.remove(&member);
                }
                return None;
            }
        };
        said.told = Some(update);
        said.sent = Some(now);
        Some(Item::Update(update))
    }

    fn note(&mut self, topics: Vec<Topic>, now: Instant) -> u32 {
        let number = self.outbound.number(topics.clone(), now);
        for topic in topics {
            match topic {
                Topic::Route(member) => {
                    if let Some(said) = self.said.get_mut(&member) {
                        said.message = number;
                    }
                }
                Topic::Request(member) => {
                    if let Some(asked) = self.requests.get_mut(&member) {
                        asked.message = number;
                    }
                }
            }
        }
        number
    }

    fn confirmed(&mut self, topic: Topic, number: u32) {
        match topic {
            Topic::Route(member) => {
                if let Some(said) = self
                    .said
                    .get_mut(&member)
                    .filter(|said| said.message == number)
                {
                    said.message = 0;
                    if said.due.is_none() && said.told.is_none_or(|told| told.metric == INFINITY) {
                        self.said.remove(&member);
                    }
                }
            }
            Topic::Request(member) => {
                let asked = self.requests.get(&member);
                if asked.is_some_and(|asked| asked.message == number && asked.due.is_none()) {
                    self.requests.remove(&member);
                }
            }
        }
    }

    fn digest(&self) -> u64 {
        let told = self.said.values().filter_map(|said| said.told.as_ref());
        told.fold(0, |sum, update| sum ^ digest(update))
    }
}

fn reschedule(
    schedule: &mut BTreeSet<(Instant, Topic)>,
    topic: Topic,
    planned: &mut Option<Instant>,
    due: Option<Instant>,
) {
    if let Some(old) = std::mem::replace(planned, due) {
        schedule.remove(&(old, topic));
    }
    schedule.extend(due.map(|due| (due, topic)));
}
