//! Which tables does a run print, and which figure stands in which column?

use crate::figures::{Frames, Results};
use crate::table::{Table, cell};

/// A contestant's row: its name, and the MTU of its interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) contestant: String,
    pub(crate) mtu: Option<u32>,
}

/// What stands in a column.
#[derive(Debug, Clone, Copy)]
enum Column {
    /// Median (min-max) with so many decimals.
    Figure(&'static str, usize),
    /// That figure divided by a contestant's of the same round; only where that one takes part.
    Ratio(&'static str, &'static str),
}

use Column::{Figure, Ratio};

type Group = (&'static str, &'static [(&'static str, Column)]);

const GROUPS: &[Group] = &[
    (
        "TCP, 1 stream, A -> B",
        &[
            ("Gbit/s", Figure("tcp1.gbps", 2)),
            ("x bare", Ratio("tcp1.gbps", "bare")),
            ("x gotatun", Ratio("tcp1.gbps", "gotatun")),
            ("x meshd", Ratio("tcp1.gbps", "meshd")),
            ("daemons CPU s/GB", Figure("tcp1.daemons_s_per_gb", 2)),
            ("TURN server CPU s/GB", Figure("tcp1.relay_s_per_gb", 2)),
            ("machine CPU s/GB", Figure("tcp1.busy_s_per_gb", 2)),
            ("CPU x gotatun", Ratio("tcp1.busy_s_per_gb", "gotatun")),
            ("retransmits", Figure("tcp1.retransmits", 0)),
        ],
    ),
    (
        "TCP, 4 streams, A -> B",
        &[
            ("Gbit/s", Figure("tcp4.gbps", 2)),
            ("x bare", Ratio("tcp4.gbps", "bare")),
            ("x gotatun", Ratio("tcp4.gbps", "gotatun")),
            ("daemons CPU s/GB", Figure("tcp4.daemons_s_per_gb", 2)),
            ("TURN server CPU s/GB", Figure("tcp4.relay_s_per_gb", 2)),
            ("machine CPU s/GB", Figure("tcp4.busy_s_per_gb", 2)),
        ],
    ),
    (
        "TCP, 1 stream, B -> A",
        &[
            ("Gbit/s", Figure("tcp1r.gbps", 2)),
            ("x bare", Ratio("tcp1r.gbps", "bare")),
            ("x gotatun", Ratio("tcp1r.gbps", "gotatun")),
            ("daemons CPU s/GB", Figure("tcp1r.daemons_s_per_gb", 2)),
            ("TURN server CPU s/GB", Figure("tcp1r.relay_s_per_gb", 2)),
            ("machine CPU s/GB", Figure("tcp1r.busy_s_per_gb", 2)),
        ],
    ),
    (
        "UDP flood A -> B, 64-byte and 1200-byte payloads: delivered thousand packets/s",
        &[
            ("64 B kpps", Figure("udp64.kpps", 0)),
            ("x gotatun", Ratio("udp64.kpps", "gotatun")),
            ("loss %", Figure("udp64.lost_percent", 0)),
            (
                "daemons us/packet",
                Figure("udp64.daemons_us_per_packet", 1),
            ),
            ("1200 B kpps", Figure("udp1200.kpps", 0)),
            ("loss %", Figure("udp1200.lost_percent", 0)),
            (
                "daemons us/packet",
                Figure("udp1200.daemons_us_per_packet", 1),
            ),
        ],
    ),
    (
        "UDP A -> B, 64-byte payloads, paced at 20,000 packets/s",
        &[
            ("kpps", Figure("paced.kpps", 1)),
            ("loss %", Figure("paced.lost_percent", 2)),
            (
                "daemons us/packet",
                Figure("paced.daemons_us_per_packet", 1),
            ),
            ("x gotatun", Ratio("paced.daemons_us_per_packet", "gotatun")),
        ],
    ),
    (
        "Round-trip time in ms, idle and during TCP with 1 stream",
        &[
            ("idle min", Figure("idle.min_ms", 3)),
            ("idle avg", Figure("idle.mean_ms", 3)),
            ("idle mdev", Figure("idle.deviation_ms", 3)),
            ("idle p99", Figure("idle.p99_ms", 3)),
            ("load p50", Figure("load.p50_ms", 2)),
            ("load p99", Figure("load.p99_ms", 2)),
            ("load lost %", Figure("load.lost_percent", 1)),
        ],
    ),
    (
        "Resident memory in MB (the greater of the two daemons), and start to first echo in ms",
        &[
            ("idle", Figure("memory.idle_mb", 1)),
            ("after load", Figure("memory.loaded_mb", 1)),
            ("start to first echo", Figure("start.first_echo_ms", 0)),
        ],
    ),
];

/// All tables of the given frames, with their titles.
pub(crate) fn render(results: &Results, frames: Frames, rows: &[Row]) -> String {
    GROUPS
        .iter()
        .filter_map(|(title, columns)| {
            let table = table(results, frames, rows, columns);
            (!table.is_empty()).then(|| format!("{title}\n{}\n", table.render()))
        })
        .collect()
}

fn table(
    results: &Results,
    frames: Frames,
    rows: &[Row],
    columns: &[(&'static str, Column)],
) -> Table {
    let takes_part = |name: &str| rows.iter().any(|row| row.contestant == name);
    let shown: Vec<_> = columns
        .iter()
        .filter(|(_, column)| match column {
            Figure(..) => true,
            Ratio(_, base) => takes_part(base),
        })
        .collect();
    let headings = shown.iter().map(|(heading, _)| *heading);
    let mut table = Table::new(["", "MTU"].into_iter().chain(headings));
    for row in rows {
        let cells: Vec<String> = shown
            .iter()
            .map(|(_, column)| match *column {
                Figure(key, decimals) => {
                    cell(results.spread(frames, &row.contestant, key), decimals)
                }
                Ratio(key, base) => cell(results.ratio(frames, &row.contestant, base, key), 2),
            })
            .collect();
        if cells.iter().any(|cell| cell != "-") {
            let mtu = row
                .mtu
                .map_or_else(|| "-".to_owned(), |mtu| mtu.to_string());
            let first = [row.contestant.clone(), mtu];
            table.row(first.into_iter().chain(cells).collect());
        }
    }
    table
}

/// The keys that the tables read; what measures must set them.
#[cfg(test)]
pub(crate) fn keys() -> std::collections::BTreeSet<&'static str> {
    let columns = GROUPS.iter().flat_map(|(_, columns)| *columns);
    columns
        .map(|(_, column)| match column {
            Figure(key, _) | Ratio(key, _) => *key,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Run;

    fn rows(names: &[&str]) -> Vec<Row> {
        let row = |name: &&str| Row {
            contestant: (*name).to_owned(),
            mtu: Some(1420),
        };
        names.iter().map(row).collect()
    }

    fn results() -> Results {
        let mut results = Results::default();
        for (round, name, gbps) in [
            (1, "bare", 20.0),
            (1, "gotatun", 1.0),
            (2, "bare", 10.0),
            (2, "gotatun", 1.0),
        ] {
            let mut run = Run::new(round, Frames::Offload, name);
            run.set("tcp1", "gbps", gbps);
            results.add(run);
        }
        results
    }

    #[test]
    fn a_table_has_the_ratios_to_those_that_take_part() {
        let text = render(&results(), Frames::Offload, &rows(&["bare", "gotatun"]));
        assert!(text.contains("x bare"), "{text}");
        let gotatun = text.lines().find(|line| line.starts_with("gotatun"));
        let gotatun = gotatun.unwrap();
        assert!(gotatun.contains("1.00 (1.00-1.00)"), "{text}");
        // 0.05 and 0.10, by round
        assert!(gotatun.contains("0.08 (0.05-0.10)"), "{text}");

        let text = render(&results(), Frames::Offload, &rows(&["gotatun"]));
        assert!(!text.contains("x bare"), "{text}");
    }

    #[test]
    fn a_table_without_any_figure_is_left_out() {
        let text = render(&results(), Frames::Offload, &rows(&["bare"]));
        assert!(text.starts_with("TCP, 1 stream, A -> B\n"), "{text}");
        assert!(!text.contains("UDP"), "{text}");
        assert_eq!(render(&results(), Frames::Mtu, &rows(&["bare"])), "");
    }
}
