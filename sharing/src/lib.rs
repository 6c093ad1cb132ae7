//! Shares folders with the members of a mesh over plain HTTP, so that any browser, curl or wget can use them.
//!
//! * [`ShareStore`] keeps which folders are shared with whom, in SQLite.
//! * [`ShareServer`] answers `GET`, `HEAD` and `OPTIONS` on the listeners that the daemon binds to the mesh interface.
//! * [`access`] is the one rule of who may do what.
//!
//! What the server answers:
//!
//! | URL | answer |
//! |---|---|
//! | `/` | the shares that the visitor may read |
//! | `/{share}/{path}/` | a folder: HTML; JSON with `?list=json` or `Accept: application/json`; lines with `?list=ndjson` |
//! | `/{share}/{path}` | a file: ranges, conditions, resume; `?download` for a saved copy |
//!
//! Listings take `limit` (1 to 10000), `sort` (`name`, `size`, `mtime`, with `-` in front for descending) and `cursor` (the `next` of the
//! page before).
//!
//! What holds always: who has no right gets the same 404 as for a share that does not exist, byte for byte; no path and
//! no link leads out of the shared folder; a file that changes while it is sent breaks the connection.

mod acl;
mod folder;
mod name;
mod serve;
mod share;
mod store;

pub use acl::{Access, Grant, Grantee, Visitor, access};
pub use name::{MAX_NAME_BYTES, ShareName};
pub use serve::{Origin, ShareServer};
pub use share::{ShareInfo, ShareProblem};
pub use store::{FileShare, ShareStore, StoreError};
