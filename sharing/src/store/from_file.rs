//! Which shares and rights does the configuration file own? It can take back what it gave, and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use sqlx::Row;

use super::{ShareStore, StoreError, directory};
use crate::{
    acl::Grantee,
    name::{ShareName, fold},
};

/// One share as the configuration file writes it.
#[derive(Debug, Clone)]
pub struct FileShare {
    /// What the share shall be called.
    pub name: ShareName,
    /// The directory.
    pub path: PathBuf,
    /// Who may read it, as written: `all`, names, node ids or virtual addresses.
    pub to: Vec<String>,
}

impl FileShare {
    fn written_path(&self) -> String {
        self.path.to_string_lossy().into_owned()
    }
}

impl ShareStore {
    /// Ends the shares and takes back the rights that the file once gave and that `wanted` does not have any more. A share
    /// whose path in the file has changed ends with all its rights: they were given for another directory.
    pub async fn retract_from_file(&self, wanted: &[FileShare]) -> Result<(), StoreError> {
        let shares: BTreeSet<(String, String)> = wanted
            .iter()
            .map(|share| (share.name.key(), share.written_path()))
            .collect();
        let grants: BTreeSet<(String, String)> = wanted
            .iter()
            .flat_map(|share| share.to.iter().map(|to| (share.name.key(), to.clone())))
            .collect();
        let _changing = self.changing.lock().await;
        let mut transaction = self.begin().await?;
        let tables = [
            (
                "SELECT name_key, written FROM shares WHERE written IS NOT NULL",
                "DELETE FROM shares WHERE name_key = ? AND written = ?",
                shares,
            ),
            (
                "SELECT name_key, written FROM grants WHERE written IS NOT NULL",
                "DELETE FROM grants WHERE name_key = ? AND written = ?",
                grants,
            ),
        ];
        for (select, delete, wanted) in tables {
            let failed = |source| self.failed("comparing with the configuration file", source);
            let rows = sqlx::query(select)
                .fetch_all(&mut *transaction)
                .await
                .map_err(failed)?;
            for row in rows {
                let known: (String, String) = (
                    row.try_get("name_key").map_err(failed)?,
                    row.try_get("written").map_err(failed)?,
                );
                if !wanted.contains(&known) {
                    sqlx::query(delete)
                        .bind(&known.0)
                        .bind(&known.1)
                        .execute(&mut *transaction)
                        .await
                        .map_err(failed)?;
                }
            }
        }
        self.commit(transaction).await
    }

    /// Adds a share of the file. Done already where the file or a command has shared that directory under that name;
    /// [`StoreError::NameTaken`] where the name means another directory.
    pub async fn add_from_file(&self, share: &FileShare) -> Result<(), StoreError> {
        let written = share.written_path();
        match self
            .insert(&share.name, &share.path, Some(&written), &[])
            .await
        {
            Err(StoreError::NameTaken(_)) if self.is_same(share).await? => Ok(()),
            added => added.map(|_| ()),
        }
    }

    /// Gives `peer` the right that the file writes as `to`. A name of the file that some member has claimed stays with
    /// that member, and a right that a command gave is left as it is.
    pub async fn grant_from_file(
        &self,
        share: &FileShare,
        to: &str,
        peer: Grantee,
    ) -> Result<(), StoreError> {
        if !self.is_same(share).await? {
            // The name means another directory, which the file grants to nobody.
            return Ok(());
        }
        let _changing = self.changing.lock().await;
        let mut transaction = self.begin().await?;
        sqlx::query(
            "INSERT INTO grants (name_key, grantee, rw, written) SELECT name_key, ?2, 0, ?3 FROM shares \
             WHERE name_key = ?1 AND NOT EXISTS (SELECT 1 FROM grants WHERE name_key = ?1 AND written = ?3) \
             ON CONFLICT DO NOTHING",
        )
        .bind(share.name.key())
        .bind(peer.to_string())
        .bind(to)
        .execute(&mut *transaction)
        .await
        .map_err(|source| self.failed("giving a right", source))?;
        self.commit(transaction).await
    }

    /// These rights of the file, and no others, wait for a member of the name to be known.
    pub fn note_waiting<'a>(&self, rights: impl Iterator<Item = (&'a FileShare, &'a String)>) {
        let mut waiting = BTreeMap::<String, Vec<String>>::new();
        for (share, to) in rights {
            waiting
                .entry(share.name.key())
                .or_default()
                .push(to.clone());
        }
        self.waiting.send_replace(waiting);
    }

    /// Whom the file lets read the share `name` as soon as they are known.
    pub fn waiting(&self, name: &str) -> Vec<String> {
        self.waiting
            .borrow()
            .get(&fold(name))
            .cloned()
            .unwrap_or_default()
    }

    /// Whether the share of that name is the one that the file means.
    async fn is_same(&self, share: &FileShare) -> Result<bool, StoreError> {
        let Some(known) = self.snapshot().find(share.name.as_str()).cloned() else {
            return Ok(false);
        };
        if known.path == share.path {
            return Ok(true);
        }
        let row = sqlx::query("SELECT written FROM shares WHERE name_key = ?")
            .bind(share.name.key())
            .fetch_optional(&self.pool)
            .await
            .map_err(|source| self.failed("reading", source))?;
        let written: Option<String> = match row {
            Some(row) => row
                .try_get("written")
                .map_err(|source| self.failed("reading", source))?,
            None => None,
        };
        if written == Some(share.written_path()) {
            return Ok(true);
        }
        // Added by a command, which knows the directory under its resolved name.
        let resolved = directory(&share.path).await;
        Ok(resolved.is_ok_and(|resolved| known.path == Path::new(&resolved)))
    }
}

#[cfg(test)]
mod tests {
    use mesh_wire::NodeId;

    use super::*;
    use crate::{Grant, ShareInfo};

    const BOB: Grantee = Grantee::Peer(NodeId::from_bytes([1; 32]));
    const EVE: Grantee = Grantee::Peer(NodeId::from_bytes([2; 32]));

    struct Place {
        store: ShareStore,
        folder: tempfile::TempDir,
    }

    impl Place {
        async fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            for name in ["docs", "music"] {
                std::fs::create_dir(folder.path().join(name)).unwrap();
            }
            std::os::unix::fs::symlink("docs", folder.path().join("link")).unwrap();
            let store = ShareStore::open(&folder.path().join("shares.db"))
                .await
                .unwrap();
            Self { store, folder }
        }

        fn share(&self, name: &str, path: &str, to: &[&str]) -> FileShare {
            FileShare {
                name: ShareName::parse(name).unwrap(),
                path: self.folder.path().join(path),
                to: to.iter().map(|&to| to.to_owned()).collect(),
            }
        }

        /// What a start does with a file in which these shares stand, when bob and eve have these ids.
        async fn start(&self, file: &[FileShare], members: &[(&str, Grantee)]) {
            self.store.retract_from_file(file).await.unwrap();
            for share in file {
                self.store.add_from_file(share).await.unwrap();
                for (name, peer) in members {
                    if share.to.iter().any(|to| to == name) {
                        self.store
                            .grant_from_file(share, name, *peer)
                            .await
                            .unwrap();
                    }
                }
            }
        }

        async fn granted_by_command(&self, share: &str, peer: Grantee) {
            let grant = Grant { peer, rw: false };
            self.store.grant(share, grant).await.unwrap();
        }

        fn readers(&self) -> Vec<(String, Vec<Grantee>)> {
            let readers = |share: ShareInfo| {
                let peers = share.grants.iter().map(|grant| grant.peer).collect();
                (share.name, peers)
            };
            self.store.list().into_iter().map(readers).collect()
        }
    }

    const MEMBERS: [(&str, Grantee); 3] = [("bob", BOB), ("eve", EVE), ("all", Grantee::All)];

    #[tokio::test]
    async fn a_right_that_is_gone_from_the_file_is_taken_back() {
        let place = Place::new().await;
        place
            .start(&[place.share("docs", "docs", &["all", "bob"])], &MEMBERS)
            .await;
        assert_eq!(place.readers()[0].1.len(), 2);
        place
            .start(&[place.share("docs", "docs", &["bob"])], &MEMBERS)
            .await;
        assert_eq!(place.readers(), [("docs".into(), vec![BOB])]);
        place.start(&[], &MEMBERS).await;
        assert_eq!(place.readers(), []);
    }

    #[tokio::test]
    async fn what_a_command_made_stays_whatever_the_file_says() {
        let place = Place::new().await;
        let music = place.folder.path().join("music");
        place.store.add("music", &music, &[]).await.unwrap();
        let file = [
            place.share("docs", "docs", &["bob"]),
            place.share("music", "music", &["bob"]),
        ];
        place.start(&file, &MEMBERS).await;
        place.granted_by_command("docs", EVE).await;
        place.granted_by_command("music", EVE).await;
        place
            .start(&[place.share("docs", "docs", &[])], &MEMBERS)
            .await;
        assert_eq!(
            place.readers(),
            [("docs".into(), vec![EVE]), ("music".into(), vec![EVE])]
        );
        // Given by the file first, then by a command: the command's.
        place
            .start(&[place.share("docs", "docs", &["bob"])], &MEMBERS)
            .await;
        place.granted_by_command("docs", BOB).await;
        place
            .start(&[place.share("docs", "docs", &[])], &MEMBERS)
            .await;
        assert_eq!(place.readers()[0].1.len(), 2);
    }

    #[tokio::test]
    async fn a_name_stays_with_the_member_that_had_it_first() {
        let place = Place::new().await;
        let file = [place.share("docs", "docs", &["bob"])];
        place.start(&file, &[("bob", BOB)]).await;
        place.start(&file, &[("bob", EVE)]).await;
        assert_eq!(place.readers(), [("docs".into(), vec![BOB])]);
        place.store.revoke("docs", BOB).await.unwrap();
        place.start(&file, &[("bob", EVE)]).await;
        assert_eq!(place.readers(), [("docs".into(), vec![EVE])]);
    }

    #[tokio::test]
    async fn another_directory_under_the_same_name_inherits_no_right() {
        let place = Place::new().await;
        place
            .start(&[place.share("docs", "docs", &["bob"])], &MEMBERS)
            .await;
        place.granted_by_command("docs", EVE).await;
        place
            .start(&[place.share("docs", "music", &["all"])], &MEMBERS)
            .await;
        assert_eq!(place.readers(), [("docs".into(), vec![Grantee::All])]);
        // A command's share of that name keeps it, and the file's readers do not get it.
        place.start(&[], &[]).await;
        let docs = place.folder.path().join("docs");
        place.store.add("docs", &docs, &[]).await.unwrap();
        let other = place.share("docs", "music", &["all"]);
        let error = place.store.add_from_file(&other).await.unwrap_err();
        assert!(matches!(error, StoreError::NameTaken(_)), "{error}");
        place
            .store
            .grant_from_file(&other, "all", Grantee::All)
            .await
            .unwrap();
        assert_eq!(place.readers(), [("docs".into(), vec![])]);
    }

    #[tokio::test]
    async fn a_share_through_a_link_is_the_same_at_the_next_start() {
        let place = Place::new().await;
        let file = [place.share("docs", "link", &["bob"])];
        place.start(&file, &MEMBERS).await;
        place.start(&file, &MEMBERS).await;
        assert_eq!(place.readers(), [("docs".into(), vec![BOB])]);
    }
}
