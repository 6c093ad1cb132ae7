//! Two agents that talk with each other over a net of the test's own: which pair do they agree on, and how long is it theirs?

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use is::CandidateKind::{Host, PeerReflexive, ServerReflexive};

use super::*;
use crate::path::gather::Reflexive;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn at(ip: [u8; 4], port: u16) -> SocketAddr {
    SocketAddr::from((ip, port))
}

/// What is under way: when it arrives, the number of its agent, source, destination and contents.
type Datagram = (Instant, usize, SocketAddr, SocketAddr, Vec<u8>);

/// Two agents, each with one socket, and what is between them.
struct Net {
    agents: [Agent; 2],
    hosts: [SocketAddr; 2],
    /// How the other side sees what leaves from one of our addresses.
    seen_as: BTreeMap<SocketAddr, SocketAddr>,
    now: Instant,
    one_way: Duration,
    is_cut: bool,
    under_way: BinaryHeap<Reverse<Datagram>>,
    nominated: [Vec<(SocketAddr, SocketAddr)>; 2],
    /// When the agent last sent anything, and when it gave up.
    last_sent: [Option<Instant>; 2],
    given_up: [Option<Instant>; 2],
}

impl Net {
    /// Two hosts that see each other; each takes the role given.
    fn new(controlling: [bool; 2], seed: u64) -> Self {
        let now = Instant::now();
        let hosts = [at([203, 0, 113, 1], 7081), at([203, 0, 113, 2], 7081)];
        let mut rng = StdRng::seed_from_u64(seed);
        let agents = [0, 1].map(|number| {
            let role = (controlling[number], Scope::Any);
            Agent::new(role, false, &mut rng, now)
        });
        Self {
            agents,
            hosts,
            seen_as: BTreeMap::new(),
            now,
            one_way: 20 * MS,
            is_cut: false,
            under_way: BinaryHeap::new(),
            nominated: [Vec::new(), Vec::new()],
            last_sent: [None; 2],
            given_up: [None; 2],
        }
    }

    /// What a node that has this address knows of itself; `mapped` is how a server sees it.
    fn gatherer(&self, number: usize, mapped: Option<SocketAddr>) -> Gatherer {
        let mut gatherer = Gatherer::default();
        gatherer.set_hosts(vec![self.hosts[number]], self.now);
        let base = self.hosts[number];
        gatherer.set_port_mappings(
            mapped
                .map(|mapped| Reflexive { mapped, base })
                .into_iter()
                .collect(),
        );
        gatherer
    }

    /// The agent offers its host's address.
    fn offer(&mut self, number: usize) {
        let gatherer = self.gatherer(number, None);
        self.agents[number].add_local(&gatherer, self.now);
    }

    /// What `from` knows of itself reaches the other one.
    fn signal(&mut self, from: usize) {
        let signal = self.agents[from].signal();
        let to = &mut self.agents[1 - from];
        assert_eq!(to.add_remote(&signal, |_| false, self.now), 0);
        to.handle_timeout(self.now);
    }

    fn meet(&mut self) {
        for number in [0, 1] {
            self.offer(number);
        }
        for from in [0, 1, 0] {
            self.signal(from);
        }
    }

    /// Sends what the agents want sent, and notes what they find.
    fn pump(&mut self) {
        for number in [0, 1] {
            let agent = &mut self.agents[number];
            while let Some((source, destination, bytes)) = agent.poll_transmit() {
                self.last_sent[number] = Some(self.now);
                let source = self.seen_as.get(&source).copied().unwrap_or(source);
                // What is behind a NAT is reached at its outside only.
                let is_hidden = self.seen_as.contains_key(&destination);
                let inside = self.seen_as.iter().find(|(_, seen)| **seen == destination);
                let destination = inside.map_or(destination, |(inside, _)| *inside);
                if is_hidden {
                    continue;
                }
                let arrives = self.now + self.one_way;
                let datagram = (arrives, 1 - number, source, destination, bytes);
                self.under_way.push(Reverse(datagram));
            }
            while let Some(event) = agent.poll_event(self.now) {
                match event {
                    AgentEvent::Nominated(source, destination) => {
                        self.nominated[number].push((source, destination));
                    }
                    AgentEvent::Disconnected => self.given_up[number] = Some(self.now),
                }
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.pump();
            let arrival = self.under_way.peek().map(|Reverse(next)| next.0);
            let timers = self.agents.iter_mut().filter_map(Agent::poll_timeout);
            let next = timers.chain(arrival).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            while let Some(Reverse(next)) = self.under_way.peek()
                && next.0 <= self.now
                && let Some(Reverse(next)) = self.under_way.pop()
            {
                let (_, to, source, destination, bytes) = next;
                let message = StunMessage::parse(&bytes).unwrap();
                if !self.is_cut {
                    self.agents[to].handle_stun((source, destination), message, self.now);
                }
            }
            for agent in &mut self.agents {
                if agent.poll_timeout().is_some_and(|at| at <= self.now) {
                    agent.handle_timeout(self.now);
                }
            }
        }
    }

    /// The pair that both use, as the first one names it; checks that it is one and the same.
    fn agreed(&self) -> (SocketAddr, SocketAddr) {
        let [ours, theirs] = [0, 1].map(|number| *self.nominated[number].last().expect("a pair"));
        assert_eq!(
            self.agents
                .iter()
                .filter(|agent| agent.ice.controlling())
                .count(),
            1,
            "roles"
        );
        assert_eq!((ours.0, ours.1), (theirs.1, theirs.0), "one pair");
        ours
    }

    fn kinds(&self, number: usize) -> Vec<CandidateKind> {
        let all = self.agents[number].ice.remote_candidates();
        all.map(|candidate| candidate.kind()).collect()
    }
}

#[test]
fn two_that_both_believe_to_be_controlling_or_both_controlled_agree_on_roles_and_on_one_pair() {
    for controlling in [[true, true], [false, false], [true, false], [false, true]] {
        for seed in 0..50 {
            let mut net = Net::new(controlling, seed);
            net.meet();
            net.run(2 * SECOND);
            assert_eq!(
                net.agreed(),
                (net.hosts[0], net.hosts[1]),
                "{controlling:?}"
            );
            let before = net.nominated.clone();
            net.run(60 * SECOND);
            assert_eq!(net.nominated, before, "{controlling:?}: they go on and on");
        }
    }
}

#[test]
fn candidates_that_come_one_by_one_are_tried_as_they_come() {
    let mut net = Net::new([true, false], 1);
    // Neither has said anything but who it is, and so nothing is found.
    for from in [0, 1] {
        net.signal(from);
    }
    net.run(SECOND);
    assert_eq!(net.nominated, [vec![], vec![]]);
    net.offer(0);
    net.signal(0);
    net.run(SECOND);
    assert_eq!(
        net.nominated,
        [vec![], vec![]],
        "the other has no address yet"
    );
    net.offer(1);
    net.signal(1);
    net.run(SECOND);
    assert_eq!(net.agreed(), (net.hosts[0], net.hosts[1]));
    assert_eq!(net.kinds(0), [Host]);
}

#[test]
fn one_behind_a_nat_is_reached_where_a_server_saw_it_and_else_where_its_check_came_from() {
    let outside = at([198, 51, 100, 7], 40_000);
    for is_named in [true, false] {
        let mut net = Net::new([true, false], 2);
        net.hosts[1] = at([192, 168, 1, 10], 7081);
        net.seen_as.insert(net.hosts[1], outside);
        net.offer(0);
        let gatherer = net.gatherer(1, is_named.then_some(outside));
        net.agents[1].add_local(&gatherer, net.now);
        for from in [0, 1, 0] {
            net.signal(from);
        }
        net.run(2 * SECOND);
        let wanted = match is_named {
            true => ServerReflexive,
            false => PeerReflexive,
        };
        assert!(net.kinds(0).contains(&wanted), "{:?}", net.kinds(0));
        assert_eq!(net.nominated[0].last(), Some(&(net.hosts[0], outside)));
        assert_eq!(net.nominated[1].last(), Some(&(net.hosts[1], net.hosts[0])));
    }
}

#[test]
fn a_restart_takes_new_credentials_finds_a_pair_anew_and_refuses_the_old_ones() {
    let mut net = Net::new([true, false], 3);
    net.meet();
    net.run(2 * SECOND);
    let before = net.agreed();
    let old = net.agents[0].blind_check().unwrap();
    // RFC 8445 section 9: new credentials on both sides; each may have moved meanwhile.
    let mut anew = Net::new([true, false], 4);
    anew.now = net.now;
    anew.hosts[1] = at([203, 0, 113, 77], 7081);
    anew.meet();
    anew.run(2 * SECOND);
    assert_eq!(anew.agreed(), (before.0, anew.hosts[1]));
    for (agent, was) in anew.agents.iter().zip(&net.agents) {
        assert_ne!(agent.ufrag(), was.ufrag());
    }
    let message = StunMessage::parse(&old).unwrap();
    let way = (net.hosts[0], anew.hosts[1]);
    assert!(!anew.agents[1].handle_stun(way, message, anew.now));
}

#[test]
fn a_pair_whose_checks_are_answered_no_more_is_given_up_well_before_consent_ends() {
    for number in [0, 1] {
        let mut net = Net::new([true, false], 5);
        net.meet();
        net.run(11 * SECOND);
        for agent in &mut net.agents {
            agent.rest(Some(net.now), net.now);
        }
        net.run(27 * SECOND);
        assert!(
            net.agents[number].proven() < Some(net.now - 20 * SECOND),
            "they rest"
        );
        net.is_cut = true;
        let cut = net.now;
        net.agents[number].look(cut);
        net.run(30 * SECOND);
        let given_up = net.given_up[number].expect("given up");
        assert!(given_up < cut + 12 * SECOND, "{:?}", given_up - cut);
        assert!(net.agents[number].proven() < Some(cut));
    }
}

#[test]
fn what_an_answer_takes_is_what_the_checks_of_this_pair_show() {
    let mut net = Net::new([true, false], 6);
    assert_eq!(net.agents[0].answer_takes(), Duration::ZERO);
    net.meet();
    net.run(5 * SECOND);
    assert_eq!(net.agents[0].answer_takes(), 40 * MS);
    // One check is held up, and those behind it are not.
    net.one_way = 4 * SECOND;
    net.run(SECOND / 2);
    net.one_way = 20 * MS;
    net.run(2 * SECOND);
    let takes = net.agents[0].answer_takes();
    assert!(takes * 3 / 2 <= 5 * SECOND, "{takes:?}");
}
