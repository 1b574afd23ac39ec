//! Everything that changes the store, as statements of one transaction.

use portcullis_identity::JoinToken;
use sqlx::{Sqlite, SqliteConnection, Transaction};

use super::record::{AuthorityRecord, AuthorityState, Founding, LeafRecord, Role};
use super::{Store, StoreError};

/// How long what has expired is still there, so that a late caller hears "expired" and not "unknown".
const KEPT_AFTER_END: u64 = 24 * 3600;
/// How long the audit log tells who got what: longer than any leaf lives, and than a year's report needs.
const ISSUED_KEPT: u64 = 400 * 24 * 3600;
/// Refusals cost an attacker nothing, so they are bounded by number.
const REFUSALS_KEPT: i64 = 10_000;
/// Longest text of a peer's making that goes into the audit log.
const MAX_REASON: usize = 256;

/// A write transaction; dropped without [`Write::commit`] it leaves nothing.
pub(crate) struct Write(Transaction<'static, Sqlite>);

/// What a token turned out to be worth.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Redeemed {
    /// Good for this identity, and bound to the key from now on.
    Good { identity: String },
    /// Never issued here, or long gone.
    Unknown,
    /// Its time is over.
    Expired,
    /// Used before, for another key.
    OtherKey,
}

/// One line of the audit log.
pub(crate) struct AuditEntry<'a> {
    pub(crate) at: u64,
    pub(crate) identity: Option<&'a str>,
    /// The serial issued, or why none was.
    pub(crate) outcome: Result<&'a str, &'a str>,
    pub(crate) evidence: &'static str,
    pub(crate) peer: &'a str,
}

impl Write {
    pub(super) fn new(transaction: Transaction<'static, Sqlite>) -> Self {
        Self(transaction)
    }

    fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.0
    }

    /// On disk when this returns.
    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        Ok(self.0.commit().await?)
    }

    pub(super) async fn found(&mut self, founding: &Founding) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO meta (one, trust_domain, bundle_generation, key_check) VALUES (1, ?, 1, ?)")
            .bind(founding.trust_domain.as_str())
            .bind(founding.key_check.as_slice())
            .execute(self.connection())
            .await?;
        self.add_authority(&founding.root).await?;
        self.add_authority(&founding.intermediate).await
    }

    async fn add_authority(&mut self, authority: &AuthorityRecord) -> Result<(), StoreError> {
        let insert = "INSERT INTO authorities (id, role, state, certificate, sealed_key, not_after) \
                      VALUES (?, ?, ?, ?, ?, ?)";
        sqlx::query(insert)
            .bind(authority.id.as_str())
            .bind(authority.role.as_str())
            .bind(authority.state.as_str())
            .bind(authority.certificate.as_slice())
            .bind(authority.sealed_key.as_slice())
            .bind(signed(authority.not_after))
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// Puts a new intermediate in the place of the active one.
    pub(crate) async fn succeed_intermediate(&mut self, next: &AuthorityRecord) -> Result<(), StoreError> {
        sqlx::query("UPDATE authorities SET state = ? WHERE role = ? AND state = ?")
            .bind(AuthorityState::Retiring.as_str())
            .bind(Role::Intermediate.as_str())
            .bind(AuthorityState::Active.as_str())
            .execute(self.connection())
            .await?;
        self.add_authority(next).await
    }

    /// Uses a token for a key: the first key stays bound to it, so that a lost answer can be asked for again.
    pub(crate) async fn redeem(
        &mut self,
        token: &JoinToken,
        key_hash: &[u8; 32],
        now: u64,
    ) -> Result<Redeemed, StoreError> {
        let secret_hash = token.secret_hash();
        let row: Option<(String, i64, Option<Vec<u8>>)> =
            sqlx::query_as("SELECT identity, expires_at, key_hash FROM tokens WHERE secret_hash = ?")
                .bind(secret_hash.as_slice())
                .fetch_optional(self.connection())
                .await?;
        let Some((identity, expires_at, bound)) = row else { return Ok(Redeemed::Unknown) };
        if signed(now) >= expires_at {
            return Ok(Redeemed::Expired);
        }
        if bound.is_some_and(|bound| bound != key_hash) {
            return Ok(Redeemed::OtherKey);
        }
        sqlx::query("UPDATE tokens SET key_hash = ?, used_at = ? WHERE secret_hash = ? AND key_hash IS NULL")
            .bind(key_hash.as_slice())
            .bind(signed(now))
            .bind(secret_hash.as_slice())
            .execute(self.connection())
            .await?;
        Ok(Redeemed::Good { identity })
    }

    pub(crate) async fn add_leaf(&mut self, leaf: &LeafRecord) -> Result<(), StoreError> {
        let insert = "INSERT INTO leaves (serial, identity, issued_at, not_after, authority, key_hash, evidence) \
                      VALUES (?, ?, ?, ?, ?, ?, ?)";
        sqlx::query(insert)
            .bind(leaf.serial.as_str())
            .bind(leaf.identity.as_str())
            .bind(signed(leaf.issued_at))
            .bind(signed(leaf.not_after))
            .bind(leaf.authority.as_str())
            .bind(leaf.key_hash.as_slice())
            .bind(leaf.evidence)
            .execute(self.connection())
            .await?;
        Ok(())
    }

    pub(crate) async fn audit(&mut self, entry: &AuditEntry<'_>) -> Result<(), StoreError> {
        let (outcome, serial, reason) = match entry.outcome {
            Ok(serial) => ("issued", Some(serial), None),
            Err(reason) => ("refused", None, Some(reason.chars().take(MAX_REASON).collect::<String>())),
        };
        let insert = "INSERT INTO audit (at, outcome, identity, serial, evidence, peer, reason) \
                      VALUES (?, ?, ?, ?, ?, ?, ?)";
        sqlx::query(insert)
            .bind(signed(entry.at))
            .bind(outcome)
            .bind(entry.identity)
            .bind(serial)
            .bind(entry.evidence)
            .bind(entry.peer)
            .bind(reason)
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// Removes what has been over for a day, and what the audit log no longer has to tell.
    pub(crate) async fn prune(&mut self, now: u64) -> Result<(), StoreError> {
        let ended = signed(now.saturating_sub(KEPT_AFTER_END));
        for delete in [
            "DELETE FROM leaves WHERE not_after < ?",
            "DELETE FROM tokens WHERE expires_at < ?",
            "DELETE FROM authorities WHERE state = 'retiring' AND role = 'intermediate' AND not_after < ? \
             AND NOT EXISTS (SELECT 1 FROM leaves WHERE authority = authorities.id)",
            "DELETE FROM acknowledgements WHERE at < ? \
             AND NOT EXISTS (SELECT 1 FROM leaves WHERE leaves.identity = acknowledgements.identity)",
        ] {
            sqlx::query(delete).bind(ended).execute(self.connection()).await?;
        }
        sqlx::query("DELETE FROM audit WHERE outcome = 'issued' AND at < ?")
            .bind(signed(now.saturating_sub(ISSUED_KEPT)))
            .execute(self.connection())
            .await?;
        sqlx::query(
            "DELETE FROM audit WHERE outcome = 'refused' AND id <= \
             (SELECT id FROM audit WHERE outcome = 'refused' ORDER BY id DESC LIMIT 1 OFFSET ?)",
        )
        .bind(REFUSALS_KEPT)
        .execute(self.connection())
        .await?;
        Ok(())
    }
}

impl Store {
    /// Keeps a new token: the hash of its secret, and what it is good for.
    pub(crate) async fn add_token(&self, token: &JoinToken, expires_at: u64) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO tokens (secret_hash, identity, expires_at) VALUES (?, ?, ?)")
            .bind(token.secret_hash().as_slice())
            .bind(token.workload().id().as_str())
            .bind(signed(expires_at))
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Notes which bundle a workload verifies with.
    pub(crate) async fn acknowledge(
        &self,
        identity: &str,
        generation: u64,
        now: u64,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO acknowledgements (identity, generation, at) VALUES (?1, ?2, ?3) \
             ON CONFLICT (identity) DO UPDATE SET generation = ?2, at = ?3",
        )
        .bind(identity)
        .bind(signed(generation))
        .bind(signed(now))
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}

/// SQLite's integers are signed; no date or generation comes near the end.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
