//! What `status` shows, read from the store alone.

use std::time::Duration;

use serde::Serialize;

use super::{Store, StoreError};

/// A picture of the store at one moment. Times are seconds since the epoch.
#[derive(Debug, Serialize)]
pub struct Status {
    /// Whom the authority vouches for.
    pub trust_domain: String,
    /// Generation of the bundle.
    pub bundle_generation: u64,
    /// Roots and intermediates, newest end first.
    pub authorities: Vec<AuthorityLine>,
    /// Leaves that have not expired.
    pub live_leaves: u64,
    /// The newest leaf of each identity.
    pub identities: Vec<IdentityLine>,
    /// Tokens neither used nor expired.
    pub tokens_outstanding: u64,
}

/// One authority.
#[derive(Debug, Serialize)]
pub struct AuthorityLine {
    /// Hash of the certificate, in hexadecimal.
    pub id: String,
    /// `root` or `intermediate`.
    pub role: String,
    /// `staged`, `active` or `retiring`.
    pub state: String,
    /// Seconds since the epoch.
    pub not_after: u64,
}

/// One identity and its newest leaf.
#[derive(Debug, Serialize, sqlx::FromRow)]
pub struct IdentityLine {
    /// SPIFFE ID.
    pub identity: String,
    /// Hexadecimal.
    pub serial: String,
    /// Seconds since the epoch.
    pub issued_at: i64,
    /// Seconds since the epoch.
    pub not_after: i64,
    /// `token`, `svid` or `operator`.
    pub evidence: String,
    /// Newest bundle that it said it verifies with.
    pub acknowledged_generation: Option<i64>,
}

impl Store {
    /// Reads what `status` shows.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn status(&self, now: Duration) -> Result<Status, StoreError> {
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let meta = self.meta().await?;
        let authorities = self.authorities().await?.into_iter().map(|authority| AuthorityLine {
            id: authority.id,
            role: authority.role.as_str().to_owned(),
            state: authority.state.as_str().to_owned(),
            not_after: authority.not_after,
        });
        let live_leaves: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM leaves WHERE not_after >= ?")
            .bind(now)
            .fetch_one(&self.pool)
            .await?;
        // SQLite takes the bare columns from the row that has the maximum (lang_select, 2.5).
        let identities = sqlx::query_as(
            "SELECT leaves.identity, serial, MAX(issued_at) AS issued_at, not_after, evidence, \
             generation AS acknowledged_generation FROM leaves \
             LEFT JOIN acknowledgements USING (identity) GROUP BY leaves.identity ORDER BY leaves.identity",
        )
        .fetch_all(&self.pool)
        .await?;
        let tokens: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM tokens WHERE used_at IS NULL AND expires_at > ?")
                .bind(now)
                .fetch_one(&self.pool)
                .await?;
        Ok(Status {
            trust_domain: meta.trust_domain.to_string(),
            bundle_generation: meta.bundle_generation,
            authorities: authorities.collect(),
            live_leaves: live_leaves.unsigned_abs(),
            identities,
            tokens_outstanding: tokens.unsigned_abs(),
        })
    }
}
