//! How do answers reach the terminal?
//!
//! Everything printed passes through [`Output`], because names and messages come from other machines: a control
//! character in one must not move the cursor or retitle the window.

use std::{
    fmt::Display,
    io::{self, BufWriter, Stdout, Write},
    time::Duration,
};

use mesh_wire::problem::Problem;
use serde::Serialize;

use crate::problem::printable;

/// Standard output.
pub(super) struct Output(BufWriter<Stdout>);

impl Output {
    pub(super) fn new() -> Self {
        Self(BufWriter::new(io::stdout()))
    }

    /// Writes `text` and a line break, and shows them at once.
    pub(super) fn line(&mut self, text: impl Display) -> io::Result<()> {
        writeln!(self.0, "{}", printable(&text.to_string()))?;
        self.0.flush()
    }

    /// Writes a value for programs to read.
    pub(super) fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut self.0, value)?;
        writeln!(self.0)?;
        self.0.flush()
    }
}

/// A problem that came from elsewhere, safe to print.
pub(super) fn printable_problem(problem: Problem) -> Problem {
    Problem {
        status: problem.status,
        code: printable(&problem.code),
        title: printable(&problem.title),
        detail: printable(&problem.detail),
        fix: printable(&problem.fix),
    }
}

/// Columns as wide as their widest cell, two spaces apart; the last one is not padded.
pub(super) fn table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let widest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
        widest.max(header.get(column).map_or(0, |title| title.len()))
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells
            .zip(&widths)
            .map(|(cell, &width)| format!("{cell:width$}"))
            .collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(&mut header.into_iter())];
    lines.extend(
        rows.iter()
            .map(|row| line(&mut row.iter().map(String::as_str))),
    );
    lines.join("\n")
}

/// `1.5 MiB`
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut units = UNITS.iter();
    let mut unit = units.next().unwrap_or(&"B");
    #[expect(
        clippy::cast_precision_loss,
        reason = "two digits are shown, 52 bits are kept"
    )]
    let mut value = count as f64;
    for next in units {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if count < 1024 {
        format!("{count} B")
    } else {
        format!("{value:.1} {unit}")
    }
}

/// `2 h 5 min`: the two greatest units.
pub(super) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3600 % 24, "h"),
        (seconds / 60 % 60, "min"),
        (seconds % 60, "s"),
    ];
    let shown: Vec<String> = parts
        .iter()
        .skip_while(|(count, _)| *count == 0)
        .take(2)
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| format!("{count} {unit}"))
        .collect();
    if shown.is_empty() {
        "0 s".to_owned()
    } else {
        shown.join(" ")
    }
}

/// `12.3 ms`
pub(super) fn milliseconds(milliseconds: f64) -> String {
    format!("{milliseconds:.1} ms")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_have_no_trailing_space() {
        let rows = [
            ["bob".to_owned(), "direct".to_owned()],
            ["carolina".to_owned(), String::new()],
        ];
        assert_eq!(
            table(["NAME", "PATH"], &rows),
            "NAME      PATH\nbob       direct\ncarolina"
        );
    }

    #[test]
    fn a_name_cannot_drive_the_terminal() {
        assert_eq!(
            printable("bob\x1b]0;owned\x07\r\n"),
            "bob\u{fffd}]0;owned\u{fffd}\u{fffd}\n"
        );
    }

    #[test]
    fn sizes_and_times_are_written_as_people_say_them() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(u64::MAX), "16777216.0 TiB");
        let spoken = |seconds| duration(Duration::from_secs(seconds));
        assert_eq!(spoken(0), "0 s");
        assert_eq!(spoken(65), "1 min 5 s");
        assert_eq!(spoken(3600), "1 h");
        assert_eq!(spoken(90_061), "1 d 1 h");
    }
}
