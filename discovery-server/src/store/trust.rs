//! How are uses of invites and revoked keys kept? Everything here runs inside the caller's transaction.

use mesh_wire::{
    NetworkId, NodeId,
    trust::{Certificate, Invite, Issuer, Revocation},
};
use sqlx::AnyConnection;

use super::rows::{self, unsigned};
use crate::registry::{MAX_REVOCATIONS, MAX_USES, Member};

/// Why a certificate that verifies lets nobody in nevertheless.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// It holds no more.
    Expired,
    /// A key of its chain is revoked.
    Revoked,
    /// Its invite holds no more, and did not let this node in before.
    InviteExpired,
    /// Its invite has let in as many others as it may.
    InviteUsedUp,
}

/// Lets the node of a certificate in, and counts that against its invite.
pub(super) async fn admit(
    tx: &mut AnyConnection,
    network: &NetworkId,
    certificate: &Certificate,
    now: u64,
) -> Result<Option<Rejection>, sqlx::Error> {
    // When it begins is nobody's concern: its issuer's clock may be ahead.
    if certificate.binding.span.until < now {
        return Ok(Some(Rejection::Expired));
    }
    for key in certificate.keys() {
        if is_revoked(tx, network, &key).await? {
            return Ok(Some(Rejection::Revoked));
        }
    }
    let Issuer::Invite(invite) = &certificate.issuer else {
        return Ok(None);
    };
    let terms = &invite.terms;
    let node = certificate.binding.node_id.to_string();
    let (used, has_used): (i64, i64) = sqlx::query_as(
        "SELECT count(*), count(CASE WHEN node_id = $1 THEN 1 END) FROM invite_uses \
         WHERE network = $2 AND invite_key = $3",
    )
    .bind(&node)
    .bind(network.as_str())
    .bind(terms.key.to_string())
    .fetch_one(&mut *tx)
    .await?;
    if has_used > 0 {
        return Ok(None);
    }
    if terms.span.until < now {
        return Ok(Some(Rejection::InviteExpired));
    }
    let most = terms.uses.map_or(MAX_USES, u64::from).min(MAX_USES);
    if unsigned(used) >= most {
        let freed = taken_back(tx, network, invite).await?;
        if unsigned(used).saturating_sub(freed) >= most {
            return Ok(Some(Rejection::InviteUsedUp));
        }
    }
    sqlx::query("INSERT INTO invite_uses (network, invite_key, node_id) VALUES ($1, $2, $3)")
        .bind(network.as_str())
        .bind(terms.key.to_string())
        .bind(node)
        .execute(tx)
        .await?;
    Ok(None)
}

/// How many of those that an invite let in were put out by whoever made it. It did not mean them: where two came by a link for
/// one machine at servers that know nothing of each other, it knows which one to keep, and that one may not have been here yet.
/// A revocation by others takes no use back, and the maker that puts out a machine that it had let in ends the invite.
async fn taken_back(
    tx: &mut AnyConnection,
    network: &NetworkId,
    invite: &Invite,
) -> Result<u64, sqlx::Error> {
    let query = "SELECT revocations.revocation FROM revocations JOIN invite_uses \
         ON invite_uses.network = revocations.network AND invite_uses.node_id = revocations.key \
         WHERE invite_uses.network = $1 AND invite_uses.invite_key = $2";
    let revoked: Vec<String> = sqlx::query_scalar(query)
        .bind(network.as_str())
        .bind(invite.terms.key.to_string())
        .fetch_all(tx)
        .await?;
    let maker = invite.admin.as_ref().map(|admin| admin.binding.node_id);
    let by_its_maker = |text: &&String| {
        Revocation::from_text(text).is_ok_and(|revocation| {
            let signer = revocation.admin.as_ref();
            signer.map(|admin| admin.binding.node_id) == maker
        })
    };
    Ok(revoked.iter().filter(by_its_maker).count() as u64)
}

async fn is_revoked(
    tx: &mut AnyConnection,
    network: &NetworkId,
    key: &NodeId,
) -> Result<bool, sqlx::Error> {
    let query = "SELECT count(*) FROM revocations WHERE network = $1 AND key = $2";
    let found: i64 = sqlx::query_scalar(query)
        .bind(network.as_str())
        .bind(key.to_string())
        .fetch_one(tx)
        .await?;
    Ok(found > 0)
}

/// What became of a key that was to be revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Revoked {
    /// It is out now, and with it these members.
    Done(Vec<NodeId>),
    /// It was out before.
    Known,
    /// The network keeps no further revocation.
    TooMany,
    /// Who signed it is out itself.
    SignerIsOut,
}

/// Keeps a revocation that was verified before, and removes whoever rests on its key.
pub(super) async fn revoke(
    tx: &mut AnyConnection,
    network: &NetworkId,
    revocation: &Revocation,
) -> Result<Revoked, sqlx::Error> {
    // Who is out puts nobody else out.
    for key in revocation.admin.iter().flat_map(|admin| admin.keys()) {
        if is_revoked(tx, network, &key).await? {
            return Ok(Revoked::SignerIsOut);
        }
    }
    if is_revoked(tx, network, &revocation.key).await? {
        return Ok(Revoked::Known);
    }
    let count = sqlx::query_scalar("SELECT count(*) FROM revocations WHERE network = $1")
        .bind(network.as_str())
        .fetch_one(&mut *tx)
        .await
        .map(unsigned)?;
    if count >= MAX_REVOCATIONS {
        return Ok(Revoked::TooMany);
    }
    sqlx::query("INSERT INTO revocations (network, key, revocation) VALUES ($1, $2, $3)")
        .bind(network.as_str())
        .bind(revocation.key.to_string())
        .bind(revocation.to_text())
        .execute(&mut *tx)
        .await?;
    let members = rows::members(tx, network, ("", usize::MAX)).await?;
    let mut out = Vec::new();
    for member in members
        .iter()
        .filter(|member| rests_on(member, &revocation.key))
    {
        let node = member.record.node_id;
        rows::remove_member(tx, network, &node).await?;
        out.push(node);
    }
    Ok(Revoked::Done(out))
}

fn rests_on(member: &Member, key: &NodeId) -> bool {
    let certificate = member.record.stated_certificate();
    certificate.is_some_and(|certificate| certificate.keys().contains(key))
}

/// All of a network, in order of key.
pub(super) async fn revocations(
    connection: &mut AnyConnection,
    network: &NetworkId,
) -> Result<Vec<String>, sqlx::Error> {
    let query = "SELECT revocation FROM revocations WHERE network = $1 ORDER BY key";
    sqlx::query_scalar(query)
        .bind(network.as_str())
        .fetch_all(connection)
        .await
}
