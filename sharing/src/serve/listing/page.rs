//! Which entries are on a page? The folder is read once per page and only one page of it is kept, so memory does not grow
//! with the folder.

use std::{cmp::Ordering, collections::BinaryHeap, io};

use super::entry::{Entry, seconds};
use crate::{
    folder::{Folder, Kind, Stamp},
    serve::query::{Column, Cursor, Order, Query},
};

/// The entries of the page that `query` asks for, and the cursor of the next page if there is one.
pub(super) fn collect(folder: &Folder, query: &Query) -> io::Result<(Vec<Entry>, Option<String>)> {
    let after = query
        .after
        .as_ref()
        .map(|cursor| Key::of_cursor(cursor, query.order));
    // A heap whose top is the last of the best: what comes after it is dropped at once.
    let mut best = BinaryHeap::new();
    let mut more = false;
    for listed in folder.entries()? {
        let Some(key) = key(folder, listed?, query.order) else {
            continue;
        };
        if after.as_ref().is_some_and(|after| key <= *after) {
            continue;
        }
        if best.len() == query.limit {
            more = true;
            if best.peek().is_some_and(|last| key >= *last) {
                continue;
            }
            best.pop();
        }
        best.push(key);
    }
    let keys = best.into_sorted_vec();
    let next = keys
        .last()
        .filter(|_| more)
        .map(|last| last.cursor().encode());
    let entries = keys
        .into_iter()
        .filter_map(|key| key.entry(folder))
        .collect();
    Ok((entries, next))
}

/// Where an entry stands in the order.
struct Key {
    folder: bool,
    value: u64,
    /// The name without regard to case, by which people look for it.
    folded: String,
    name: Vec<u8>,
    stamp: Option<Stamp>,
    descending: bool,
}

/// `None` for what cannot be served: special files, links that lead out or nowhere, names that vanished meanwhile.
fn key(folder: &Folder, (name, hint): (Vec<u8>, Option<Kind>), order: Order) -> Option<Key> {
    let (kind, stamp) = match (hint, order.by) {
        (Some(kind), Column::Name) => (kind, None),
        (Some(_) | None, Column::Name | Column::Size | Column::Modified) => {
            let (kind, stamp) = folder.look(&name).ok()?;
            (kind, Some(stamp))
        }
    };
    let value = match (order.by, &stamp) {
        (Column::Size, Some(stamp)) if kind == Kind::File => stamp.size,
        (Column::Modified, Some(stamp)) => sortable(seconds(stamp.modified)),
        (Column::Name | Column::Size | Column::Modified, _) => 0,
    };
    Some(Key {
        folder: kind == Kind::Folder,
        value,
        folded: fold(&name),
        name,
        stamp,
        descending: order.descending,
    })
}

impl Key {
    fn of_cursor(cursor: &Cursor, order: Order) -> Self {
        Self {
            folder: cursor.folder,
            value: cursor.value,
            folded: fold(&cursor.name),
            name: cursor.name.clone(),
            stamp: None,
            descending: order.descending,
        }
    }

    fn cursor(&self) -> Cursor {
        Cursor {
            folder: self.folder,
            value: self.value,
            name: self.name.clone(),
        }
    }

    fn entry(self, folder: &Folder) -> Option<Entry> {
        let kind = if self.folder {
            Kind::Folder
        } else {
            Kind::File
        };
        match self.stamp {
            Some(stamp) => Some(Entry::new(self.name, kind, &stamp)),
            None => {
                let (kind, stamp) = folder.look(&self.name).ok()?;
                Some(Entry::new(self.name, kind, &stamp))
            }
        }
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        let order =
            (self.value, &self.folded, &self.name).cmp(&(other.value, &other.folded, &other.name));
        let order = if self.descending {
            order.reverse()
        } else {
            order
        };
        other.folder.cmp(&self.folder).then(order)
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Key {}

fn fold(name: &[u8]) -> String {
    String::from_utf8_lossy(name).to_lowercase()
}

/// Maps signed seconds to unsigned in the same order.
fn sortable(seconds: i64) -> u64 {
    seconds.cast_unsigned() ^ (1 << 63)
}
