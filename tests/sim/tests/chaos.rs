//! After any sequence of misfortunes, does the mesh work again once everything is well?

use std::{net::SocketAddr, time::Duration};

use rand::{Rng, RngExt};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use sim::{
    link::Shape,
    oracle::{Place, must_be_direct},
    seeds::for_each_seed,
    server::Mailbox,
    world::World,
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOSTS: usize = 4;
const MISFORTUNES: usize = 40;
/// Not those without UDP, and not leaky NATs: while two keep trying, such a NAT does not forget who came unasked.
const PLACES: [Place; 8] = [
    Place::Open,
    Place::OneToOne,
    Place::FullCone,
    Place::AddressRestricted,
    Place::PortRestricted,
    Place::Symmetric,
    Place::Cgnat,
    Place::CgnatSymmetric,
];
/// Giving up one attempt that began in the chaos, the pause after it, and a whole new one.
const HEALING: Duration = Duration::from_secs(25);

#[test]
fn whatever_happened_the_mesh_heals() {
    for_each_seed("whatever_happened", |seed| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0xC4A0_5000);
        let (mut world, places) = new_world(seed, &mut rng);
        let clean = world.hosts[0].up.shape;
        for _ in 0..MISFORTUNES {
            befall(&mut world, &mut rng, clean);
            let pause = rng.random_range(1..=20_000) * MS;
            world.run_for(pause);
        }
        heal(&mut world, clean);
        check(&mut world, &places);
    });
}

fn new_world(seed: u64, rng: &mut impl Rng) -> (World, Vec<Place>) {
    let mut world = World::new(seed);
    let places: Vec<_> = (0..HOSTS)
        .map(|_| PLACES[rng.random_range(0..PLACES.len())])
        .collect();
    for place in &places {
        world.add(*place);
    }
    world.start();
    world.run_for(SECOND);
    (world, places)
}

/// One misfortune, or some traffic in between.
fn befall(world: &mut World, rng: &mut impl Rng, clean: Shape) {
    let host = rng.random_range(0..HOSTS);
    match rng.random_range(0..13) {
        0..=4 => {
            let len = [100, 1064, 1400][rng.random_range(0..3)];
            let other = (host + rng.random_range(1..HOSTS)) % HOSTS;
            if world.hosts[host].node.is_some() {
                for _ in 0..rng.random_range(1..20) {
                    world.send_sized(host, other, len);
                }
            }
        }
        5 => world.restart(host),
        6 => {
            world.switch_off(host);
            if rng.random() {
                world.publish();
            }
        }
        7 if world.hosts[host].segment.is_some() => world.rebind_nat(host, None),
        7 if world.hosts[host].node.is_some() => {
            let last = rng.random_range(100..=250);
            world.move_host(host, SocketAddr::from(([198, 51, 100, last], 7081)));
        }
        8 => world.server.is_up = !world.server.is_up,
        9 => world.hosts[host].down.shape.loss = [0.0, 0.3, 1.0][rng.random_range(0..3)],
        10 => world.hosts[host].up.shape.loss = [0.0, 0.3, 1.0][rng.random_range(0..3)],
        11 => {
            world.server.mailbox = Mailbox {
                jitter: 500 * MS,
                loss: 0.3,
                duplicate: 0.2,
                ..Mailbox::prompt()
            };
            world.hosts[host].reshape(Shape {
                jitter: 50 * MS,
                reorder: 0.1,
                duplicate: 0.1,
                ..clean
            });
        }
        12 => world.hosts[host].up.shape.mtu = [576, 1124, 1280, 1500][rng.random_range(0..4)],
        _ => {}
    }
}

fn heal(world: &mut World, clean: Shape) {
    world.server.is_up = true;
    world.server.mailbox = Mailbox::prompt();
    for host in 0..HOSTS {
        world.hosts[host].reshape(clean);
        if world.hosts[host].node.is_none() {
            world.restart(host);
        }
    }
    world.publish();
}

fn check(world: &mut World, places: &[Place]) {
    for a in 0..HOSTS {
        for b in 0..HOSTS {
            if a != b && must_be_direct(places[a], places[b]) {
                let took = world.ping_until_answered((a, b), SECOND, HEALING);
                assert!(
                    took.is_some(),
                    "{a} ({:?}) does not reach {b} ({:?}): {:#?} and {:#?}",
                    places[a],
                    places[b],
                    world.status(a),
                    world.status(b)
                );
            }
        }
    }
}
