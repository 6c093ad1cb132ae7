//! Who signs invites and revocations? The network key, or the member of a certificate that makes it an admin.

use super::{Certificate, Roles, Root, certificate::MAX_DEPTH, reader::Reader};
use crate::DecodeError;

/// An admin; the network key if absent.
pub(super) type Admin = Option<Box<Certificate>>;

/// Inside a statement there is one certificate less than may stand inside each other: with that of the member who joins
/// they are as many.
pub(super) const DEPTH: usize = MAX_DEPTH - 1;

pub(super) fn put(bytes: &mut Vec<u8>, admin: Option<&Certificate>) {
    match admin {
        None => bytes.push(0),
        Some(admin) => {
            bytes.push(2);
            bytes.extend_from_slice(admin.as_bytes());
        }
    }
}

/// Reads one with at most `depth` certificates inside each other.
pub(super) fn read(reader: &mut Reader<'_>, depth: usize) -> Result<Admin, DecodeError> {
    match reader.byte()? {
        0 => Ok(None),
        2 => Ok(Some(Box::new(Certificate::read_from(reader, depth)?))),
        _ => Err(reader.error("is of somebody that this version does not know")),
    }
}

/// Whether `bytes`, a statement of this kind with its signature, was signed by this admin or the network key, which might
/// give these roles at that second.
pub(super) fn verify(
    root: &Root,
    admin: &Admin,
    (kind, bytes): (&'static str, &[u8]),
    (roles, at): (Roles, u64),
) -> Result<(), DecodeError> {
    match admin {
        None => root.verify(&root.key, kind, bytes),
        Some(admin) => {
            admin.may_issue(root, roles, at)?;
            root.verify(&admin.binding.node_id, kind, bytes)
        }
    }
}
