//! Do the walks keep their budget? In multiples of the bare cipher, measured in the same run, so that a slow or busy
//! machine judges both alike.

use hotpath::walks::{Load, out_and_in, relay};

/// How often a measurement over budget is taken again before it counts: another program may have had the core.
const TRIES: usize = 5;

/// What each walk measured when the budget was set, and what it may cost: a quarter more.
fn holds(load: Load, gcm: bool, [out, back]: [f64; 2]) {
    let mut seen = Vec::new();
    for _ in 0..TRIES {
        let timings = out_and_in(load, gcm);
        let ratios = timings.each_ref().map(|timing| timing.ratio());
        if ratios[0] <= out * 1.25 && ratios[1] <= back * 1.25 {
            return;
        }
        seen.push(ratios);
    }
    panic!(
        "{load:?}, gcm {gcm}: out and in took {seen:.2?} times the bare cipher, measured once {out} and {back}"
    );
}

#[test]
fn bulk_under_chacha20_poly1305() {
    holds(Load::Bulk, false, [1.17, 1.07]);
}

#[test]
fn bulk_under_aes_256_gcm() {
    holds(Load::Bulk, true, [1.50, 1.29]);
}

#[test]
fn small_packets_under_chacha20_poly1305() {
    holds(Load::Small, false, [1.27, 1.27]);
}

#[test]
fn small_packets_under_aes_256_gcm() {
    holds(Load::Small, true, [1.78, 1.77]);
}

#[test]
fn carrying_for_others_costs_a_fraction_of_sealing() {
    for (load, once) in [(Load::Bulk, 0.25), (Load::Small, 0.92)] {
        let ratios: Vec<f64> = (0..TRIES).map(|_| relay(load).ratio()).collect();
        let best = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        assert!(
            best <= once * 1.25,
            "{load:?}: {ratios:.2?}, measured once {once}"
        );
    }
}
