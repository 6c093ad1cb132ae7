//! Is every daemon that is started again while the discovery server is dead back within five seconds, behind whatever NAT?
//! `--bin restarts` does so many times over, for all pairs of the matrix.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::print_stdout,
    reason = "figures for the reader of the test's output"
)]

use std::time::Duration;

use netlab::{End, Nat, Returning};

/// From the start of the process to the first answer.
const LIMIT: Duration = Duration::from_secs(5);

/// One daemon after the other is killed, and then asked to end.
fn all_come_back(name: &str, nats: &[Nat]) {
    let mut scene = Returning::new(name, nats).unwrap();
    for end in [End::Killed, End::Asked] {
        for which in 0..scene.count() {
            for back in scene.restart(which, end, LIMIT).unwrap() {
                println!("{end:?} {:?}: {:?}", back.nats, back.took);
                assert!(
                    back.took.is_some_and(|took| took <= LIMIT),
                    "{end:?} {back:?}"
                );
            }
        }
    }
}

#[test]
fn three_behind_port_restricted_and_carriers_nats_come_back() {
    let nats = [Nat::PortRestricted, Nat::Cgnat, Nat::PortRestricted];
    all_come_back("backport", &nats);
}

#[test]
fn leaky_nats_come_back() {
    all_come_back("backleaky", &[Nat::Leaky, Nat::Leaky]);
}

/// The two symmetric ones find the third; between them no path is possible.
#[test]
fn symmetric_nats_come_back_to_one_that_lets_all_in() {
    let nats = [Nat::FullCone, Nat::Symmetric, Nat::CgnatSymmetric];
    all_come_back("backsym", &nats);
}

#[test]
fn an_address_restricted_and_a_symmetric_nat_come_back_to_each_other() {
    all_come_back("backaddr", &[Nat::AddressRestricted, Nat::Symmetric]);
}
