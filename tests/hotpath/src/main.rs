//! Prints what the walks cost: `cargo run --release -p hotpath [-- --json]`.
#![allow(clippy::print_stdout, reason = "a program that prints its result")]

use clap::Parser;
use hotpath::walks::{Load, Timing, out_and_in, relay};

/// Nanoseconds per packet of each walk beside the bare cipher.
#[derive(Parser)]
struct Options {
    /// One JSON array instead of a table.
    #[arg(long)]
    json: bool,
}

fn main() -> serde_json::Result<()> {
    let mut timings: Vec<Timing> = Vec::new();
    for load in [Load::Bulk, Load::Small] {
        for gcm in [false, true] {
            timings.extend(out_and_in(load, gcm));
        }
        timings.push(relay(load));
    }
    if Options::parse().json {
        println!("{}", serde_json::to_string_pretty(&timings)?);
        return Ok(());
    }
    println!("walk  load   cipher             ns/packet  cipher alone  ratio");
    for timing in &timings {
        println!(
            "{:<5} {:<6} {:<18} {:>9.0}  {:>12.0}  {:>5.2}",
            timing.walk,
            format!("{:?}", timing.load).to_lowercase(),
            timing.cipher,
            timing.walk_ns,
            timing.cipher_ns,
            timing.ratio()
        );
    }
    Ok(())
}
