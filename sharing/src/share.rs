//! What is a share, to requests, to the local interface and to an owner whose disk is missing?

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
};

use serde::{Deserialize, Serialize};

use crate::{
    acl::{Access, Grant, Visitor, access},
    folder::Folder,
    name::{ShareName, fold},
};

/// A share as the local interface shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareInfo {
    /// The owner's spelling.
    pub name: String,
    /// Absolute, symlinks resolved at the time it was added.
    pub path: String,
    /// Seconds since the Unix epoch.
    pub created_at: u64,
    /// The rights, in order of grantee.
    pub grants: Vec<Grant>,
}

/// A share that its peers cannot read at the moment, for the owner's eyes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShareProblem {
    /// The share's name.
    pub share: String,
    /// What, why and the fix, as sentences.
    pub message: String,
}

/// A share as requests see it.
#[derive(Debug)]
pub(crate) struct Share {
    pub(crate) name: ShareName,
    pub(crate) path: PathBuf,
    pub(crate) grants: Vec<Grant>,
    pub(crate) created_at: u64,
    /// Whether the owner was already warned that the root cannot be opened.
    pub(crate) warned: AtomicBool,
}

/// All shares at one moment, by folded name.
#[derive(Debug, Default)]
pub(crate) struct Shares(pub(crate) BTreeMap<String, Arc<Share>>);

impl Shares {
    /// The share that `name` means, in any case and normalization.
    pub(crate) fn find(&self, name: &str) -> Option<&Arc<Share>> {
        self.0.get(&fold(name))
    }

    /// What `visitor` may read, in order of name.
    pub(crate) fn visible_to(&self, visitor: Visitor) -> impl Iterator<Item = &Arc<Share>> {
        self.0
            .values()
            .filter(move |share| share.access(visitor) >= Access::Read)
    }
}

impl Share {
    pub(crate) fn access(&self, visitor: Visitor) -> Access {
        access(visitor, &self.grants)
    }

    pub(crate) fn info(&self) -> ShareInfo {
        ShareInfo {
            name: self.name.to_string(),
            path: self.path.display().to_string(),
            created_at: self.created_at,
            grants: self.grants.clone(),
        }
    }

    /// What to tell the owner if the directory cannot be opened now. Blocks on the file system.
    pub(crate) fn problem(&self) -> Option<ShareProblem> {
        let error = Folder::open(&self.path).err()?;
        Some(ShareProblem {
            share: self.name.to_string(),
            message: format!(
                "Share `{}` cannot be read by anyone: {}: {error}. Bring the directory back or remove the share.",
                self.name,
                self.path.display()
            ),
        })
    }
}
