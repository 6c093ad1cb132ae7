//! What must outlast the process, and how is it kept? (SQLite or PostgreSQL, by the same statements)
//!
//! Changes are made one after the other, over all servers of a database; a few readers work beside that.

mod error;
mod file;
mod networks;
mod open;
mod reach;
mod register;
mod replicas;
mod restore;
mod rows;
mod snapshot;
mod trust;

pub use error::StoreError;
use error::doing;
use ipnet::Ipv4Net;
use mesh_wire::{NetworkId, NodeId, trust::Revocation};
pub(crate) use register::Applicant;
use sqlx::{Any, Transaction};

use self::{open::Sharing, reach::Reach};
pub(crate) use replicas::{Beginning, Listener};
pub use restore::restore;
pub(crate) use rows::Wanted;
pub(crate) use snapshot::Snapshots;
pub use snapshot::backup;
pub(crate) use trust::{Rejection, Revoked};

use crate::{auth::TokenHash, database::Database, news::Change, registry::Member};

/// A stored network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NetworkRow {
    pub(crate) id: NetworkId,
    pub(crate) cidr: Ipv4Net,
    /// Present where certificates make the members.
    pub(crate) network_key: Option<NodeId>,
    pub(crate) admission: TokenHash,
    pub(crate) created_at: u64,
}

/// What became of a network that was to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Created {
    New,
    /// It is there already, exactly so: an answer was lost. Holds when it was created.
    Same(NetworkRow),
    /// Another one has the name.
    Taken,
    /// It was deleted here on purpose.
    Deleted,
    TooMany,
}

/// What became of a record that was to be registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Registered {
    New(Member),
    Updated(Member),
    Unchanged(Member),
    /// The stored record has this `seq`.
    Stale(u64),
    NetworkFull,
    NoAddressLeft,
    /// Another member has the record's WireGuard key.
    KeyTaken,
    /// Another member has the certificate's address.
    AddressTaken,
    /// Another member has the certificate's name.
    NameTaken,
    /// The certificate lets nobody in.
    Rejected(Rejection),
    /// The network was deleted meanwhile.
    NetworkGone,
}

/// What a record that was taken means to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    Joined,
    Updated,
    Nothing,
}

impl Registered {
    /// The member as it is stored now, if the record was taken.
    pub(crate) fn taken(&self) -> Option<(&Member, Effect)> {
        match self {
            Self::New(member) => Some((member, Effect::Joined)),
            Self::Updated(member) => Some((member, Effect::Updated)),
            Self::Unchanged(member) => Some((member, Effect::Nothing)),
            Self::Stale(_)
            | Self::NetworkFull
            | Self::NoAddressLeft
            | Self::KeyTaken
            | Self::AddressTaken
            | Self::NameTaken
            | Self::Rejected(_)
            | Self::NetworkGone => None,
        }
    }
}

/// The open database.
#[derive(Debug)]
pub(crate) struct Store {
    reach: Reach,
    /// Numbers the starts of all servers of this database.
    epoch: u64,
    sharing: Sharing,
}

impl Store {
    /// Opens or makes the database, checks it, brings its schema up to date and begins a new epoch.
    pub(crate) async fn open(database: &Database) -> Result<Self, StoreError> {
        let opened = open::open(database).await?;
        let epoch = sqlx::query_scalar("UPDATE server SET epoch = epoch + 1 RETURNING epoch")
            .fetch_one(&opened.pools.writer)
            .await
            .map_err(doing("begin an epoch"))?;
        Ok(Self {
            reach: Reach::new(opened.pools),
            epoch: rows::unsigned(epoch),
            sharing: opened.sharing,
        })
    }

    /// Which start of a server of this database this one is, from 1 on.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The network of this name.
    pub(crate) async fn network(&self, id: &NetworkId) -> Result<Option<NetworkRow>, StoreError> {
        let read = async { rows::network(&mut *self.reader().await?, id).await };
        self.run("read a network", read).await
    }

    /// All networks in order of name, with their number of members.
    pub(crate) async fn networks(&self) -> Result<Vec<(NetworkRow, u64)>, StoreError> {
        let read = async { rows::networks(&mut *self.reader().await?).await };
        self.run("list the networks", read).await
    }

    /// Registers a record that was verified before: finds address and name, or takes those of its certificate, and stores
    /// all of it or nothing.
    pub(crate) async fn register(
        &self,
        network: &NetworkRow,
        applicant: &Applicant<'_>,
        now: u64,
    ) -> Result<Registered, StoreError> {
        let node = applicant.record.node_id;
        let register = async {
            let mut tx = self.begin().await?;
            let registered = register::register(&mut tx, network, applicant, now).await?;
            let change = match registered.taken() {
                Some((_, Effect::Joined)) => Some(Change::Joined { node }),
                Some((_, Effect::Updated)) => Some(Change::Updated { node }),
                Some((_, Effect::Nothing)) | None => None,
            };
            if let Some(change) = change {
                self.tell_in(&mut tx, &network.id, &change).await?;
            }
            self.commit(tx).await?;
            Ok(registered)
        };
        self.run("register a peer", register).await
    }

    /// Keeps a revocation that was verified before, and removes the members that rest on its key.
    pub(crate) async fn revoke(
        &self,
        network: &NetworkId,
        revocation: &Revocation,
    ) -> Result<Revoked, StoreError> {
        let revoke = async {
            let mut tx = self.begin().await?;
            let revoked = trust::revoke(&mut tx, network, revocation).await?;
            if let Revoked::Done(out) = &revoked {
                let revocation = revocation.to_text();
                let left = out.iter().map(|node| Change::Left { node: *node });
                for change in [Change::Revoked { revocation }].into_iter().chain(left) {
                    self.tell_in(&mut tx, network, &change).await?;
                }
            }
            self.commit(tx).await?;
            Ok(revoked)
        };
        self.run("revoke a key", revoke).await
    }

    /// The revocations of a network, in their text form.
    pub(crate) async fn revocations(&self, network: &NetworkId) -> Result<Vec<String>, StoreError> {
        let read = async { trust::revocations(&mut *self.reader().await?, network).await };
        self.run("list the revocations", read).await
    }

    /// Members of a network in order of name: so many, behind that name.
    pub(crate) async fn members(
        &self,
        network: &NetworkId,
        (after, most): (&str, usize),
    ) -> Result<Vec<Member>, StoreError> {
        let read =
            async { rows::members(&mut *self.reader().await?, network, (after, most)).await };
        self.run("list the peers", read).await
    }

    /// The members of a network that a client asks for.
    pub(crate) async fn find_members(
        &self,
        network: &NetworkId,
        wanted: Wanted<'_>,
    ) -> Result<Vec<Member>, StoreError> {
        let read = async { rows::find_members(&mut *self.reader().await?, network, wanted).await };
        self.run("find peers", read).await
    }

    /// How many members a network has.
    pub(crate) async fn count_members(&self, network: &NetworkId) -> Result<u64, StoreError> {
        let read = async { rows::count_members(&mut *self.reader().await?, network).await };
        self.run("count the peers", read).await
    }

    /// One member.
    pub(crate) async fn member(
        &self,
        network: &NetworkId,
        node: &NodeId,
    ) -> Result<Option<Member>, StoreError> {
        let read = async { rows::member(&mut *self.reader().await?, network, node).await };
        self.run("read a peer", read).await
    }

    /// Removes a member; whether it was there.
    pub(crate) async fn remove_member(
        &self,
        network: &NetworkId,
        node: &NodeId,
    ) -> Result<bool, StoreError> {
        let remove = async {
            let mut tx = self.begin().await?;
            let removed = rows::remove_member(&mut tx, network, node).await?;
            if removed {
                self.tell_in(&mut tx, network, &Change::Left { node: *node })
                    .await?;
            }
            self.commit(tx).await?;
            Ok(removed)
        };
        self.run("deregister a peer", remove).await
    }

    /// Writes down when members were last seen.
    pub(crate) async fn save_last_seen(
        &self,
        seen: &[(NetworkId, NodeId, u64)],
    ) -> Result<(), StoreError> {
        let save = async {
            let mut tx = self.begin().await?;
            for (network, node, at) in seen {
                sqlx::query("UPDATE peers SET last_seen = $1 WHERE network = $2 AND node_id = $3 AND last_seen < $1")
                    .bind(rows::signed(*at))
                    .bind(network.as_str())
                    .bind(node.to_string())
                    .execute(&mut *tx)
                    .await?;
            }
            self.commit(tx).await
        };
        self.run("write down when peers were last seen", save).await
    }

    /// Networks and members of all networks.
    pub(crate) async fn counts(&self) -> Result<(u64, u64), StoreError> {
        let query = "SELECT (SELECT count(*) FROM networks), (SELECT count(*) FROM peers)";
        let count = async {
            sqlx::query_as(query)
                .fetch_one(&mut *self.reader().await?)
                .await
        };
        let (networks, peers) = self.run("count networks and peers", count).await?;
        Ok((rows::unsigned(networks), rows::unsigned(peers)))
    }

    /// Begins a change.
    async fn begin(&self) -> Result<Transaction<'static, Any>, sqlx::Error> {
        let writer = self.reach.pools().writer;
        if !self.is_shared() {
            return writer.begin_with("BEGIN IMMEDIATE").await;
        }
        let mut tx = writer.begin().await?;
        // What BEGIN IMMEDIATE does: whoever changes something waits for the change before it, and so sees it.
        sqlx::query("LOCK TABLE server IN EXCLUSIVE MODE")
            .execute(&mut *tx)
            .await?;
        Ok(tx)
    }

    /// Ends a change. Where that fails, others may see it though nobody here was told: this server begins anew.
    async fn commit(&self, tx: Transaction<'static, Any>) -> Result<(), sqlx::Error> {
        let committed = tx.commit().await;
        committed.inspect_err(|_| self.must_begin_anew())
    }
}
