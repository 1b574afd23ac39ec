//! From evidence to a leaf: who is asking, may they have it, and the record of the answer.
//!
//! The identity comes from a join token or from the SVID of the connection, never from the request. The leaf and
//! its audit line are on disk before the certificate is handed to anybody.

use std::sync::Arc;
use std::time::Duration;

use portcullis_identity::{CertificateFacts, JoinToken, SpiffeId, TokenDefect, TrustBundle, Workload};
use rustls_pki_types::CertificateDer;

use crate::authority::{Authority, AuthorityError};
use crate::csr::{CsrDefect, RequestedKey};
use crate::profile;
use crate::store::{AuditEntry, LeafRecord, Redeemed, StoreError, Write};

/// Life of the authority's own leaf when workloads' leaves are shorter.
const OWN_LIFE: Duration = Duration::from_secs(3600);
/// Longer tokens are of no use for joining: whoever prepares a machine does it within days.
const LONGEST_TOKEN_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);

/// Why the evidence does not suffice. The caller is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Neither token nor SVID.
    #[error("no evidence: send a join token, or connect with a current SVID")]
    NoEvidence,
    /// The token's text.
    #[error("{0}")]
    Token(#[from] TokenDefect),
    /// A secret never given out here.
    #[error("the join token is not known here")]
    TokenUnknown,
    /// Too late.
    #[error("the join token has expired; it was for {0}")]
    TokenExpired(SpiffeId),
    /// A second workload with one token.
    #[error("the join token has been used for another key; it is for {0}")]
    TokenUsed(SpiffeId),
    /// The token's text names another identity than it was given out for.
    #[error("the join token was not given out for the identity it names")]
    TokenAltered,
    /// The SVID of the connection has run out since the handshake.
    #[error("the SVID of this connection has expired: connect with a current one, or join anew with a token")]
    SvidExpired,
    /// Token and SVID name two identities.
    #[error("the SVID of this connection is for {svid}, the join token for {token}")]
    OtherIdentity {
        /// On the connection.
        svid: SpiffeId,
        /// In the token.
        token: SpiffeId,
    },
    /// The authority's own name, or not a workload's.
    #[error("{0} is not an identity that is given out")]
    NotGivenOut(SpiffeId),
}

/// Why no leaf was issued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// The evidence.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The request.
    #[error(transparent)]
    Csr(#[from] CsrDefect),
    /// The authority itself.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
}

impl From<StoreError> for IssueError {
    fn from(error: StoreError) -> Self {
        Self::Authority(error.into())
    }
}

/// Why no token was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Of another trust domain, or the authority's own identity.
    #[error("no token can be made for {id}: {reason}")]
    Identity {
        /// As asked.
        id: SpiffeId,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Outside 1 s to 30 d.
    #[error("a token lives from 1s to 30d: correct --ttl")]
    Life,
    /// No randomness.
    #[error("no randomness for a token")]
    Random,
    /// The store.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
}

/// What a workload sends, and what its connection proves.
pub struct Ask<'a> {
    /// PKCS#10.
    pub csr_der: &'a [u8],
    /// The token's text; empty for none.
    pub join_token: &'a str,
    /// The verified SVID of the connection.
    pub svid: Option<&'a CertificateFacts>,
    /// Where it comes from, for the audit log.
    pub peer: &'a str,
}

/// A leaf that may be handed out.
#[derive(Debug)]
pub struct Issued {
    /// Leaf, then intermediate; no root.
    pub chain: Vec<CertificateDer<'static>>,
    /// What the leaf says.
    pub facts: CertificateFacts,
    /// What to verify others with.
    pub bundle: Arc<TrustBundle>,
}

/// Evidence that is at least well-formed.
enum Evidence<'a> {
    Token(JoinToken, Option<&'a CertificateFacts>),
    Svid(&'a CertificateFacts),
    Operator(&'a Workload),
}

impl Evidence<'_> {
    fn label(&self) -> &'static str {
        match self {
            Self::Token(..) => "token",
            Self::Svid(_) => "svid",
            Self::Operator(_) => "operator",
        }
    }
}

impl Authority {
    /// Issues a leaf for the identity that the evidence proves. A refusal leaves a line in the audit log too, as
    /// long as there are not too many at once.
    ///
    /// # Errors
    /// [`IssueError`].
    pub async fn issue(&self, ask: &Ask<'_>) -> Result<Issued, IssueError> {
        let answer = self.try_issue(ask).await;
        if let Err(error @ (IssueError::Refused(_) | IssueError::Csr(_))) = &answer
            && self.refusals.take(self.clock.now())
        {
            self.audit_refusal(ask, &error.to_string()).await?;
        }
        answer
    }

    async fn audit_refusal(&self, ask: &Ask<'_>, reason: &str) -> Result<(), StoreError> {
        let entry = AuditEntry {
            at: self.clock.now().as_secs(),
            identity: ask.svid.map(|svid| svid.id.as_str()),
            outcome: Err(reason),
            evidence: match (ask.join_token, ask.svid) {
                ("", None) => "none",
                ("", Some(_)) => "svid",
                _ => "token",
            },
            peer: ask.peer,
        };
        tracing::warn!(peer = ask.peer, evidence = entry.evidence, reason, "refused");
        let mut write = self.store.begin().await?;
        write.audit(&entry).await?;
        write.commit().await
    }

    /// Issues a leaf for any identity of the trust domain and any key, on the word of whoever holds the authority.
    ///
    /// # Errors
    /// [`IssueError`].
    pub async fn issue_to(&self, workload: &Workload, key: &RequestedKey) -> Result<Issued, IssueError> {
        if workload.id().trust_domain() != &self.trust_domain {
            return Err(Refusal::NotGivenOut(workload.id().clone()).into());
        }
        self.record(&Evidence::Operator(workload), key, "local").await
    }

    /// Makes a token for one identity.
    ///
    /// # Errors
    /// [`TokenError`].
    pub async fn create_token(&self, workload: &Workload, life: Duration) -> Result<JoinToken, TokenError> {
        create_token(&self.store, workload, life, self.clock.now()).await
    }

    async fn try_issue(&self, ask: &Ask<'_>) -> Result<Issued, IssueError> {
        let evidence = match (ask.join_token, ask.svid) {
            ("", None) => return Err(Refusal::NoEvidence.into()),
            ("", Some(svid)) => Evidence::Svid(svid),
            (token, svid) => Evidence::Token(JoinToken::parse(token).map_err(Refusal::from)?, svid),
        };
        let key = RequestedKey::from_csr(ask.csr_der)?;
        self.record(&evidence, &key, ask.peer).await
    }

    /// One transaction: the token is bound, the leaf and its audit line are there, or nothing is.
    async fn record(
        &self,
        evidence: &Evidence<'_>,
        key: &RequestedKey,
        peer: &str,
    ) -> Result<Issued, IssueError> {
        let issuer = self.issuer().await?;
        let mut write = self.store.begin().await?;
        let now = self.clock.now();
        let workload = self.prove(&mut write, evidence, key, now).await?;
        // The authority's own leaf is not renewed by peers' rules: a server that changes it every 3 s helps nobody.
        let life = if workload == self.own { self.lives.leaf().max(OWN_LIFE) } else { self.lives.leaf() };
        let leaf = profile::leaf(&workload, key.info(), &issuer, now, life).map_err(AuthorityError::from)?;
        let serial = leaf.facts.serial.to_string();
        let identity = workload.id().as_str();
        let record = LeafRecord {
            serial: serial.clone(),
            identity: identity.to_owned(),
            issued_at: now.as_secs(),
            not_after: leaf.facts.not_after,
            authority: issuer.id(),
            key_hash: *key.hash(),
            evidence: evidence.label(),
        };
        let entry = AuditEntry {
            at: now.as_secs(),
            identity: Some(identity),
            outcome: Ok(&serial),
            evidence: evidence.label(),
            peer,
        };
        write.add_leaf(&record).await?;
        write.audit(&entry).await?;
        write.commit().await?;
        tracing::info!(identity, serial, peer, evidence = entry.evidence, "issued");
        let chain = vec![leaf.certificate, issuer.certificate.clone()];
        Ok(Issued { chain, facts: leaf.facts, bundle: self.bundle() })
    }

    /// The identity that the evidence proves.
    async fn prove(
        &self,
        write: &mut Write,
        evidence: &Evidence<'_>,
        key: &RequestedKey,
        now: Duration,
    ) -> Result<Workload, IssueError> {
        let id = match evidence {
            Evidence::Operator(workload) => return Ok((*workload).clone()),
            Evidence::Svid(svid) => {
                still_valid(svid, now)?;
                svid.id.clone()
            }
            Evidence::Token(token, svid) => {
                let id = token.workload().id();
                if let Some(svid) = svid {
                    still_valid(svid, now)?;
                    if svid.id != *id {
                        return Err(
                            Refusal::OtherIdentity { svid: svid.id.clone(), token: id.clone() }.into()
                        );
                    }
                }
                match write.redeem(token, key.hash(), now.as_secs()).await? {
                    Redeemed::Good { identity } if identity == id.as_str() => id.clone(),
                    Redeemed::Good { .. } => return Err(Refusal::TokenAltered.into()),
                    Redeemed::Unknown => return Err(Refusal::TokenUnknown.into()),
                    Redeemed::Expired => return Err(Refusal::TokenExpired(id.clone()).into()),
                    Redeemed::OtherKey => return Err(Refusal::TokenUsed(id.clone()).into()),
                }
            }
        };
        match Workload::try_from(id.clone()) {
            Ok(workload) if workload != self.own => Ok(workload),
            _ => Err(Refusal::NotGivenOut(id).into()),
        }
    }
}

fn still_valid(svid: &CertificateFacts, now: Duration) -> Result<(), Refusal> {
    if now.as_secs() > svid.not_after { Err(Refusal::SvidExpired) } else { Ok(()) }
}

/// Makes a token for one identity in a store that an authority may be running on.
pub(crate) async fn create_token(
    store: &crate::store::Store,
    workload: &Workload,
    life: Duration,
    now: Duration,
) -> Result<JoinToken, TokenError> {
    let refused = |reason| TokenError::Identity { id: workload.id().clone(), reason };
    let trust_domain = store.meta().await.map_err(AuthorityError::from)?.trust_domain;
    if workload.id().trust_domain() != &trust_domain {
        return Err(refused("the store is of another trust domain"));
    }
    // Who holds the authority's own name could answer in its place.
    if crate::own_workload(&trust_domain).is_ok_and(|own| own == *workload) {
        return Err(refused("it is the authority's own"));
    }
    if !(Duration::from_secs(1)..=LONGEST_TOKEN_LIFE).contains(&life) {
        return Err(TokenError::Life);
    }
    let mut secret = zeroize::Zeroizing::new([0; 32]);
    aws_lc_rs::rand::fill(secret.as_mut_slice()).map_err(|_| TokenError::Random)?;
    let token = JoinToken::new(workload.clone(), crate::authority::active_root(store).await?, secret);
    let expires_at = (now + life).as_secs();
    store.add_token(&token, expires_at).await.map_err(AuthorityError::from)?;
    Ok(token)
}
