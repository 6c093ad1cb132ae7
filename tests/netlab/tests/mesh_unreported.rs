//! A machine moves, and its system does not say so: in sandboxes, containers and mobile systems netlink may refuse to report changes,
//! never report any, or be closed to the program altogether.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use netlab::{Nat, Netlink, NetlinkFilter, Pair};

/// The host is looked at every three seconds, and is back within another one; twice that on a machine that is busy with other tests.
const LIMIT: Duration = Duration::from_secs(8);

/// Bob moves to another network while his system `does` this; what his log must say.
#[allow(
    clippy::print_stdout,
    reason = "figures for the reader of the test's output"
)]
fn is_noticed(name: &str, (first, then): (Netlink, Netlink), says: &str) {
    let nat = Nat::PortRestricted;
    let mut pair = Pair::linked(name, [nat, nat]).unwrap();
    pair.bob.kill().unwrap();
    let (filter, bob) = NetlinkFilter::start(pair.bob.host(), first).unwrap();
    pair.bob = bob;
    pair.bob.first_echo(&pair.alice, LIMIT).unwrap();
    filter.set(then).unwrap();
    for home in ["cafe", "library"] {
        let home = pair.lab.internet().home(home, nat).unwrap();
        home.connect(pair.bob.host()).unwrap();
        let moved = Instant::now();
        pair.bob.first_echo(&pair.alice, LIMIT).unwrap();
        println!("{name}: back after {:?}", moved.elapsed());
        pair.alice.first_echo(&pair.bob, LIMIT).unwrap();
    }
    let log = pair.bob.process.log();
    assert!(log.contains(says), "{log}");
}

#[test]
fn a_move_is_noticed_where_the_system_refuses_to_report_it() {
    let does = (Netlink::RefusesToReport, Netlink::RefusesToReport);
    is_noticed("unreported", does, "does not report changes of addresses");
}

#[test]
fn a_move_is_noticed_where_the_system_never_reports_any() {
    let does = (Netlink::NeverReports, Netlink::NeverReports);
    is_noticed("silent", does, "");
}

#[test]
fn a_move_is_noticed_where_netlink_is_closed_to_us() {
    let does = (Netlink::NeverReports, Netlink::Refuses);
    is_noticed("closed", does, "addresses cannot be listed");
}
