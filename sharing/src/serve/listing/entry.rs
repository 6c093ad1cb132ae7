//! What is said of one thing in a listing?

use std::time::SystemTime;

use platform::beneath::Stamp;

use crate::folder::Kind;

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: Vec<u8>,
    pub(super) what: What,
}

/// What a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// A share, and whether the visitor may write to it.
    Share { rw: bool },
    /// A folder, last changed at these seconds since the epoch.
    Folder { modified: i64 },
    /// A file of so many bytes.
    File { size: u64, modified: i64 },
}

impl Entry {
    pub(super) fn share(name: String, rw: bool) -> Self {
        Self {
            name: name.into_bytes(),
            what: What::Share { rw },
        }
    }

    pub(super) fn new(name: Vec<u8>, kind: Kind, stamp: &Stamp) -> Self {
        let modified = seconds(stamp.modified);
        let what = match kind {
            Kind::Folder => What::Folder { modified },
            Kind::File => What::File {
                size: stamp.size,
                modified,
            },
        };
        Self { name, what }
    }

    /// Whether it can be entered.
    pub(super) fn is_folder(&self) -> bool {
        match self.what {
            What::Share { .. } | What::Folder { .. } => true,
            What::File { .. } => false,
        }
    }

    /// The name for people; bytes that are not UTF-8 become U+FFFD.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.name).into_owned()
    }
}

/// Whole seconds since the epoch, negative before it.
pub(super) fn seconds(time: SystemTime) -> i64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(before) => {
            let before = before.duration();
            let up = i64::from(before.subsec_nanos() > 0);
            i64::try_from(before.as_secs()).map_or(i64::MIN, |whole| -whole - up)
        }
    }
}
