//! Rows as types.

use portcullis_identity::TrustDomain;

use super::StoreError;

/// What an authority is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Trust anchor; signs intermediates.
    Root,
    /// Signs leaves.
    Intermediate,
}

impl Role {
    /// As the table says it.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Intermediate => "intermediate",
        }
    }
}

/// Where an authority is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AuthorityState {
    /// Published, not yet signing.
    Staged,
    /// The one that signs.
    Active,
    /// No longer signing; what it signed is still alive.
    Retiring,
}

impl AuthorityState {
    /// As the table says it.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Staged => "staged",
            Self::Active => "active",
            Self::Retiring => "retiring",
        }
    }
}

/// The one row of `meta`.
pub(crate) struct Meta {
    /// Whom the authority vouches for.
    pub(crate) trust_domain: TrustDomain,
    /// Rises with every change of the set of roots.
    pub(crate) bundle_generation: u64,
    /// A known text, sealed.
    pub(crate) key_check: Vec<u8>,
}

/// One authority. Its key is sealed.
pub(crate) struct AuthorityRecord {
    /// Hash of the certificate, in hexadecimal.
    pub(crate) id: String,
    /// What it is for.
    pub(crate) role: Role,
    /// Where it is in its life.
    pub(crate) state: AuthorityState,
    /// DER.
    pub(crate) certificate: Vec<u8>,
    /// Nonce, ciphertext, tag.
    pub(crate) sealed_key: Vec<u8>,
    /// Seconds since the epoch.
    pub(crate) not_after: u64,
}

pub(super) type AuthorityRow = (String, String, String, Vec<u8>, Vec<u8>, i64);

impl AuthorityRecord {
    pub(super) fn from_row(row: AuthorityRow) -> Result<Self, StoreError> {
        let (id, role, state, certificate, sealed_key, not_after) = row;
        let role = match role.as_str() {
            "root" => Role::Root,
            "intermediate" => Role::Intermediate,
            other => return Err(StoreError::Row(format!("authority of role {other:?}"))),
        };
        let state = match state.as_str() {
            "staged" => AuthorityState::Staged,
            "active" => AuthorityState::Active,
            "retiring" => AuthorityState::Retiring,
            other => return Err(StoreError::Row(format!("authority in state {other:?}"))),
        };
        Ok(Self { id, role, state, certificate, sealed_key, not_after: not_after.unsigned_abs() })
    }
}

/// All that a new store starts with.
pub(crate) struct Founding {
    /// Whom the authority vouches for.
    pub(crate) trust_domain: TrustDomain,
    /// A known text, sealed.
    pub(crate) key_check: Vec<u8>,
    /// The first root.
    pub(crate) root: AuthorityRecord,
    /// The first intermediate.
    pub(crate) intermediate: AuthorityRecord,
}

/// One issued leaf.
pub(crate) struct LeafRecord {
    /// Hexadecimal.
    pub(crate) serial: String,
    /// SPIFFE ID.
    pub(crate) identity: String,
    /// Seconds since the epoch.
    pub(crate) issued_at: u64,
    /// Seconds since the epoch.
    pub(crate) not_after: u64,
    /// Id of the intermediate.
    pub(crate) authority: String,
    /// SHA-256 of the public key.
    pub(crate) key_hash: [u8; 32],
    /// `token`, `svid` or `operator`.
    pub(crate) evidence: &'static str,
}
