//! Which entries are on a page? The folder is read once per page and only one page of it is kept, so memory does not grow
//! with the folder.

use std::{cmp::Ordering, collections::BinaryHeap, io};

use super::entry::{Entry, seconds};
use crate::{
    folder::{Folder, Item, Kind},
    serve::query::{Column, Cursor, Order, Query},
};

/// The entries of the page that `query` asks for, and the cursor of the next page if there is one.
pub(super) fn collect(folder: &Folder, query: &Query) -> io::Result<(Vec<Entry>, Option<Cursor>)> {
    let after = query
        .after
        .clone()
        .map(|cursor| Place::new(cursor, query.order));
    // A heap whose top is the last of the best: what comes after it is dropped at once.
    let mut best = BinaryHeap::new();
    let mut more = false;
    for item in folder.items()? {
        let line = Line::new(item?, query.order);
        if after.as_ref().is_some_and(|after| line.place <= *after) {
            continue;
        }
        if best.len() == query.limit {
            more = true;
            if best.peek().is_some_and(|last| line >= *last) {
                continue;
            }
            best.pop();
        }
        best.push(line);
    }
    let lines = best.into_sorted_vec();
    let next = lines
        .last()
        .filter(|_| more)
        .map(|last| last.place.cursor.clone());
    let entries = lines.into_iter().map(|line| line.entry).collect();
    Ok((entries, next))
}

/// Where an entry stands in the order.
#[derive(PartialEq, Eq)]
struct Place {
    cursor: Cursor,
    /// The name without regard to case, by which people look for it.
    folded: String,
    descending: bool,
}

/// An entry in its place.
struct Line {
    place: Place,
    entry: Entry,
}

impl Place {
    fn new(cursor: Cursor, order: Order) -> Self {
        Self {
            folded: String::from_utf8_lossy(&cursor.name).to_lowercase(),
            cursor,
            descending: order.descending,
        }
    }
}

impl Line {
    fn new(item: Item, order: Order) -> Self {
        let folder = item.kind == Kind::Folder;
        let value = match order.by {
            Column::Size if !folder => item.stamp.size,
            Column::Modified => sortable(seconds(item.stamp.modified)),
            Column::Name | Column::Size => 0,
        };
        let name = item.name.clone();
        Self {
            place: Place::new(
                Cursor {
                    folder,
                    value,
                    name,
                },
                order,
            ),
            entry: Entry::new(item.name, item.kind, &item.stamp),
        }
    }
}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> Ordering {
        fn key(place: &Place) -> (u64, &str, &[u8]) {
            (place.cursor.value, &place.folded, &place.cursor.name)
        }
        let order = key(self).cmp(&key(other));
        let order = if self.descending {
            order.reverse()
        } else {
            order
        };
        other.cursor.folder.cmp(&self.cursor.folder).then(order)
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Line {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place.cmp(&other.place)
    }
}

impl PartialOrd for Line {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Line {
    fn eq(&self, other: &Self) -> bool {
        self.place == other.place
    }
}

impl Eq for Line {}

/// Maps signed seconds to unsigned in the same order.
fn sortable(seconds: i64) -> u64 {
    seconds.cast_unsigned() ^ (1 << 63)
}
