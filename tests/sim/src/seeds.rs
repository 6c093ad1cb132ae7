//! Over which seeds does a scenario run, and how is a failed one replayed?

use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// Seeds per scenario when nothing else is asked for: seconds in all, for every change.
const DEFAULT_COUNT: u64 = 20;
/// Lines of `scenario seed`: runs that failed once and must not again.
const REGRESSIONS: &str = include_str!("../regressions/seeds.txt");

/// Runs `scenario` with each seed: `SIM_SEED` alone if it is set, else those that failed once and then the first
/// `SIM_SEEDS` (20).
///
/// # Panics
/// When the scenario does; the message ends with the line that replays the run.
pub fn for_each_seed(name: &str, scenario: impl FnMut(u64)) {
    run(
        name,
        seeds(name, number("SIM_SEED"), number("SIM_SEEDS")),
        scenario,
    );
}

/// The same with as many seeds as the scenario itself wants: `SIM_SEED` alone if it is set.
///
/// # Panics
/// When the scenario does.
pub fn for_seeds(name: &str, count: u64, scenario: impl FnMut(u64)) {
    run(name, seeds(name, number("SIM_SEED"), Some(count)), scenario);
}

fn run(name: &str, seeds: Vec<u64>, mut scenario: impl FnMut(u64)) {
    for seed in seeds {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| scenario(seed))) {
            let why = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("the scenario panicked");
            panic!("{why}\n{}", replay_line(name, seed));
        }
    }
}

fn seeds(name: &str, only: Option<u64>, count: Option<u64>) -> Vec<u64> {
    if let Some(seed) = only {
        return vec![seed];
    }
    let known = REGRESSIONS
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(scenario, _)| *scenario == name)
        .filter_map(|(_, seed)| seed.trim().parse().ok());
    known.chain(0..count.unwrap_or(DEFAULT_COUNT)).collect()
}

fn replay_line(name: &str, seed: u64) -> String {
    format!("replay: SIM_SEED={seed} cargo test --release -p sim -- {name}")
}

/// A variable of the environment that must be a number when it is set: a typing error must not run something else.
///
/// # Panics
/// When it is set to anything else.
pub fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| {
        panic!("{variable}={text} is not a number; give one, such as {variable}=7")
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_is_replayed_alone_and_a_count_is_taken_from_zero() {
        assert_eq!(seeds("any", Some(7), Some(3)), [7]);
        assert_eq!(seeds("any", None, Some(3)), [0, 1, 2]);
    }

    #[test]
    fn a_failure_names_the_line_that_replays_it() {
        let failed =
            catch_unwind(|| for_each_seed("some_scenario", |seed| assert_ne!(seed, 2, "boom")));
        // A single seed may be asked for from outside; then this one is not among them.
        if let Err(message) = failed {
            let message = message.downcast_ref::<String>().unwrap();
            assert!(message.contains("boom"), "{message}");
            assert!(
                message.ends_with(&replay_line("some_scenario", 2)),
                "{message}"
            );
        } else {
            assert!(number("SIM_SEED").is_some() || number("SIM_SEEDS").is_some_and(|n| n < 3));
        }
    }
}
