//! How is a folder of any size listed in one response? Line by line in the folder's own order, as fast as it is read.

use std::{fmt::Write, io};

use bytes::Bytes;

use super::{
    entry::Entry,
    json::{base, entry_line},
};
use crate::{
    folder::{Entries, Folder},
    serve::{
        body::{BlockSource, BodyError},
        lease::Lease,
    },
};

/// About 500 lines: enough that the hop between threads does not count.
const BLOCK: usize = 64 * 1024;

/// A folder being listed.
pub(crate) struct Lines {
    folder: Folder,
    entries: Entries,
    base: String,
    lease: Lease,
}

impl Lines {
    pub(super) fn new(folder: Folder, trail: &[Vec<u8>], lease: Lease) -> io::Result<Self> {
        Ok(Self {
            entries: folder.entries()?,
            folder,
            base: base(trail),
            lease,
        })
    }
}

impl BlockSource for Lines {
    fn next_block(&mut self) -> Result<Option<Bytes>, BodyError> {
        let mut block = String::new();
        while block.len() < BLOCK {
            let Some(listed) = self.entries.next() else {
                break;
            };
            let (name, _) = listed?;
            if let Ok((kind, stamp)) = self.folder.look(&name) {
                let entry = Entry::new(name, kind, &stamp);
                // Writing to a String cannot fail.
                let _ = write!(block, "{}", entry_line(&self.base, &entry));
            }
        }
        Ok((!block.is_empty()).then(|| Bytes::from(block)))
    }

    fn may_send(&self) -> bool {
        self.lease.holds()
    }
}
