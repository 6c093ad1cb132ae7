//! How does a table look in plain text?

use crate::statistics::Spread;

/// Rows of cells under headings; the first column is on the left, the others on the right.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(headings: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            rows: vec![headings.into_iter().map(Into::into).collect()],
        }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// True while only the headings are there.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }

    /// The table with aligned columns; each line ends in a newline.
    pub(crate) fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                let cells = self.rows.iter().filter_map(|row| row.get(column));
                cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
            })
            .collect();
        let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
        let (headings, rows) = self.rows.split_at(1);
        let rows = headings.iter().chain([&rule]).chain(rows);
        rows.map(|row| line(row, &widths)).collect()
    }
}

/// `median (min-max)`; the median alone where there was one round, `-` where there was none.
pub(crate) fn cell(spread: Option<Spread>, decimals: usize) -> String {
    match spread {
        None => "-".to_owned(),
        Some(Spread {
            median, rounds: 1, ..
        }) => format!("{median:.decimals$}"),
        Some(Spread {
            median, min, max, ..
        }) => format!("{median:.decimals$} ({min:.decimals$}-{max:.decimals$})"),
    }
}

fn line(row: &[String], widths: &[usize]) -> String {
    let mut text = String::new();
    for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
        if column == 0 {
            text.push_str(&format!("{cell:width$}"));
        } else {
            text.push_str(&format!("  {cell:>width$}"));
        }
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["peer", "Gbit/s"]);
        assert!(table.is_empty());
        table.row(vec!["bare".to_owned(), "18.9 (17-20)".to_owned()]);
        table.row(vec!["µ".to_owned(), "1".to_owned()]);
        let expected =
            "peer        Gbit/s\n----  ------------\nbare  18.9 (17-20)\nµ                1\n";
        assert_eq!(table.render(), expected);
        assert!(!table.is_empty());
    }

    #[test]
    fn a_cell_shows_the_extremes_of_several_rounds() {
        assert_eq!(cell(Spread::of(&[1.0, 2.0, 4.0]), 1), "2.0 (1.0-4.0)");
        assert_eq!(cell(Spread::of(&[1.25]), 1), "1.2");
        assert_eq!(cell(None, 1), "-");
    }
}
