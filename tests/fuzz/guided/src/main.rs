//! Which inputs reach new code in a target? libFuzzer drives the target named by `FUZZ_TARGET`; see `docs/TESTING.md`.
#![no_main]

use std::sync::LazyLock;

/// The target's name.
static TARGET: LazyLock<String> =
    LazyLock::new(|| std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target"));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::run(&TARGET, bytes));
