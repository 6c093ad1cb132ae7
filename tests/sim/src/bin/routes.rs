//! Prints the tables of `docs/ROUTING.md`: gaps for each loss, and what networks of many routers cost beside the arithmetic.
//!
//! usage: routes gaps [FIRST SEEDS]          p50 and p99 of each change and loss, as `baseline/gaps.txt` has them
//!        routes scale [ROUTERS RELAYS]...   without numbers, the sizes that the document has

use std::io::{self, Write};

use sim::routes::figures::{LOSSES, Scale, gaps, scale};

/// Sizes, and how many of each carry for others.
const SIZES: [(u32, u32); 5] = [
    (200, 200),
    (500, 500),
    (1_000, 1_000),
    (1_000, 32),
    (10_000, 100),
];

fn main() -> io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let numbers: Option<Vec<u32>> = words.iter().skip(1).map(|it| it.parse().ok()).collect();
    let mut out = io::stdout().lock();
    match (words.first().map(String::as_str), numbers.as_deref()) {
        (Some("gaps"), Some([])) => print_gaps(&mut out, 0, 60),
        (Some("gaps"), Some([first, seeds])) => print_gaps(&mut out, *first, *seeds),
        (Some("scale"), Some([])) => print_scales(&mut out, &SIZES),
        (Some("scale"), Some(sizes)) if sizes.len().is_multiple_of(2) => {
            let sizes: Vec<(u32, u32)> = sizes.chunks(2).map(|it| (it[0], it[1])).collect();
            print_scales(&mut out, &sizes)
        }
        _ => writeln!(
            out,
            "usage: routes gaps [FIRST SEEDS] | routes scale [ROUTERS RELAYS]..."
        ),
    }
}

fn print_gaps(out: &mut impl Write, first: u32, seeds: u32) -> io::Result<()> {
    for loss in LOSSES {
        for of in gaps(loss, u64::from(first)..u64::from(first + seeds)) {
            writeln!(out, "{} {loss} {} {}", of.change, of.p50, of.p99)?;
        }
    }
    Ok(())
}

fn print_scales(out: &mut impl Write, sizes: &[(u32, u32)]) -> io::Result<()> {
    writeln!(
        out,
        "| routers | carry | converged, s | to start, kB in messages | at rest, B/s | for a lost link, B | entries, most | entries, median | memory, MB | pairs with a way | took, s |"
    )?;
    writeln!(out, "|---|---|---|---|---|---|---|---|---|---|---|")?;
    for (routers, relays) in sizes {
        let Scale {
            converged,
            start_bytes,
            start_messages,
            rest,
            change,
            entries,
            median,
            memory,
            reached,
            took,
            ..
        } = scale(*routers, *relays, 1);
        writeln!(
            out,
            "| {routers} | {relays} | {:.1} | {:.1} in {start_messages} | {rest:.1} | {change:.0} | {entries} | {median} | {:.2} | {:.1} % | {} |",
            converged.as_secs_f64(),
            start_bytes as f64 / 1e3,
            memory as f64 / 1e6,
            reached as f64 / 10.0,
            took.as_secs(),
        )?;
        out.flush()?;
    }
    Ok(())
}
