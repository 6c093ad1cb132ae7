//! May a body that was allowed to begin still go on? Asked before every block is sent.

use std::path::PathBuf;

use super::{client::Client, site::Site};
use crate::{acl::Access, share::Share};

/// The right by which one body is sent.
pub(crate) struct Lease {
    site: Site,
    client: Client,
    share: String,
    root: PathBuf,
}

impl Lease {
    /// The right of `client` to read `share` as it is now.
    pub(crate) fn new(site: &Site, client: Client, share: &Share) -> Self {
        Self {
            site: site.clone(),
            client,
            share: share.name.to_string(),
            root: share.path.clone(),
        }
    }

    /// Whether the connection still speaks for the same member, and that member may still read the same share.
    pub(crate) fn holds(&self) -> bool {
        self.client.is_who_it_was(&self.site)
            && self
                .site
                .store
                .snapshot()
                .find(&self.share)
                .is_some_and(|share| {
                    share.path == self.root && share.access(self.client.visitor) >= Access::Read
                })
    }
}
