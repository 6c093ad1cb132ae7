mod pairs;

use rand::{SeedableRng, rngs::StdRng};

use super::*;

fn agent(controlling: bool, host: SocketAddr, now: Instant) -> Agent {
    let mut rng = StdRng::seed_from_u64(u64::from(controlling));
    let mut gatherer = Gatherer::default();
    gatherer.set_hosts(vec![host], now);
    let mut agent = Agent::new((controlling, Scope::Any), false, &mut rng, now);
    agent.add_local(&gatherer, now);
    agent
}

#[test]
fn a_relay_whose_check_comes_before_the_signal_that_names_it_is_known_for_one() {
    let now = Instant::now();
    let (relay, host) = (
        SocketAddr::from(([198, 51, 100, 2], 50_000)),
        SocketAddr::from(([203, 0, 113, 7], 7081)),
    );
    let mut alice = agent(true, relay, now);
    let mut bob = agent(false, host, now);
    let mut signal = alice.signal();
    signal.candidates.clear();
    bob.add_remote(&signal, |_| false, now);
    alice.add_remote(&bob.signal(), |_| false, now);
    // The first call does no more than to pair the addresses.
    alice.handle_timeout(now);
    alice.handle_timeout(now + PACING);
    let (source, destination, check) = alice.poll_transmit().unwrap();
    let message = StunMessage::parse(&check).unwrap();
    assert!(bob.handle_stun((source, destination), message, now));
    bob.handle_timeout(now);
    assert_eq!(bob.remote_addresses().collect::<Vec<_>>(), [relay]);

    let named = Candidate::relayed(relay, relay, "udp").unwrap();
    signal.candidates.push(named.to_sdp_string());
    for _ in 0..2 {
        assert_eq!(bob.add_remote(&signal, |_| false, now), 0);
        assert_eq!(bob.remote_relays(), [relay]);
        assert!(bob.is_led_around());
        let kinds: Vec<_> = bob.ice.remote_candidates().map(|c| c.kind()).collect();
        assert_eq!(kinds, [CandidateKind::Relayed]);
    }
}
