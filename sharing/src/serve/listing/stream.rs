//! How is a whole folder listed in one response? Page by page, so that memory stays bounded whatever its size.

use bytes::Bytes;

use super::{json, page};
use crate::{
    folder::Folder,
    serve::{
        body::{BlockSource, BodyError},
        lease::Lease,
        query::{MAX_LIMIT, Query},
    },
};

/// A folder being listed. Each page reads the folder anew: 100,000 entries are read ten times, which is still seconds.
pub(crate) struct Lines {
    folder: Folder,
    base: String,
    /// The page to make next; `None` behind the last.
    query: Option<Query>,
    lease: Lease,
}

impl Lines {
    pub(super) fn new(folder: Folder, trail: &[Vec<u8>], query: &Query, lease: Lease) -> Self {
        Self {
            folder,
            base: json::base(trail),
            query: Some(Query {
                limit: MAX_LIMIT,
                ..query.clone()
            }),
            lease,
        }
    }
}

impl BlockSource for Lines {
    fn next_block(&mut self) -> Result<Option<Bytes>, BodyError> {
        let Some(query) = self.query.take() else {
            return Ok(None);
        };
        let (entries, next) = page::collect(&self.folder, &query)?;
        self.query = next.map(|cursor| Query {
            after: Some(cursor),
            ..query
        });
        let lines: String = entries
            .iter()
            .map(|entry| json::entry_line(&self.base, entry))
            .collect();
        Ok((!lines.is_empty()).then(|| lines.into()))
    }

    fn may_send(&self) -> bool {
        self.lease.holds()
    }
}
