//! From a leaf to a root: the one judge of a chain of certificates, for sidecars and for the authority.
//!
//! webpki builds the path and checks signatures against the roots of the leaf's own trust domain; what webpki does
//! not look at (key usage, the one URI, the root's dates, for whom an issuer may sign) are the rules of this crate,
//! put to every certificate of the path. Whether the peer holds the leaf's key is for the handshake to say.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};

use crate::x509::CLOCK_SKEW;
use crate::{
    CertificateFacts, SpiffeId, SvidDefect, TrustBundle, TrustBundles, TrustDomain, check_issuer, check_leaf,
};

/// Most certificates a peer may show: leaf, a few intermediates, at times the root. webpki's path search grows
/// with the factorial of this number when all of them carry one name.
const MAX_SHOWN: usize = 6;

/// What is wrong with the certificates that a peer showed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ChainDefect {
    /// Refused before any of them was read.
    #[error("the peer shows {shown} certificates, the limit is {limit}")]
    TooManyCertificates {
        /// How many it shows.
        shown: usize,
        /// How many it may show.
        limit: usize,
    },
    /// The leaf has run out.
    #[error("the certificate of the peer expired {ago_s} s ago")]
    Expired {
        /// Seconds since NotAfter.
        ago_s: u64,
    },
    /// The leaf breaks another rule.
    #[error("the peer's certificate is not an X.509-SVID: {0}")]
    Leaf(#[source] SvidDefect),
    /// A trust domain for which no bundle is held.
    #[error("no trust bundle for the trust domain of {claimed}")]
    WrongTrustDomain {
        /// What the certificate claims, unproven.
        claimed: SpiffeId,
    },
    /// No valid path from the leaf to a root of its own trust domain.
    #[error("the certificate that claims {claimed} has no valid path to a root of its trust domain: {cause}")]
    UntrustedIssuer {
        /// What the certificate claims, unproven.
        claimed: SpiffeId,
        /// What the chain check says.
        cause: webpki::Error,
    },
    /// Signed by a known authority that must not sign this, or whose own certificate breaks a rule.
    #[error("an issuer of the certificate that claims {claimed} breaks a rule: {defect}")]
    Issuer {
        /// What the certificate claims.
        claimed: SpiffeId,
        /// Which rule.
        defect: SvidDefect,
    },
}

impl ChainDefect {
    /// Metric label.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::TooManyCertificates { .. } => "too_many_certificates",
            Self::Expired { .. } => "expired",
            Self::Leaf(_) => "not_an_svid",
            Self::WrongTrustDomain { .. } => "wrong_trust_domain",
            Self::UntrustedIssuer { .. } => "untrusted_issuer",
            Self::Issuer { .. } => "bad_issuer",
        }
    }
}

impl From<SvidDefect> for ChainDefect {
    fn from(defect: SvidDefect) -> Self {
        if let SvidDefect::Expired { ago_s } = defect { Self::Expired { ago_s } } else { Self::Leaf(defect) }
    }
}

/// A bundle that cannot vouch for anybody.
#[derive(Debug, Clone, thiserror::Error)]
#[error("a root of trust domain {trust_domain} cannot be a trust anchor: {cause}")]
pub struct BadAnchor {
    /// Whose root.
    pub trust_domain: TrustDomain,
    /// What webpki says.
    pub cause: webpki::Error,
}

/// On which side of a handshake the peer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It called us.
    Client,
    /// We called it.
    Server,
}

/// A chain that leads to a root.
#[derive(Debug, Clone)]
pub struct VerifiedChain {
    /// What the leaf says.
    pub facts: CertificateFacts,
    /// Seconds since the epoch: the earliest NotAfter of the path, root included.
    pub not_after: u64,
}

/// Trust bundles, ready to judge chains by.
pub struct ChainVerifier {
    bundles: TrustBundles,
    anchors: BTreeMap<TrustDomain, Vec<TrustAnchor<'static>>>,
    algorithms: &'static [&'static dyn SignatureVerificationAlgorithm],
}

impl ChainVerifier {
    /// `algorithms`: the signatures that certificates may carry.
    ///
    /// # Errors
    /// [`BadAnchor`].
    pub fn new(
        bundles: TrustBundles,
        algorithms: &'static [&'static dyn SignatureVerificationAlgorithm],
    ) -> Result<Self, BadAnchor> {
        let mut anchors = BTreeMap::new();
        for bundle in bundles.iter() {
            let trust_domain = bundle.trust_domain();
            let bad = |cause| BadAnchor { trust_domain: trust_domain.clone(), cause };
            let roots = bundle.roots().iter();
            let roots = roots.map(|root| Ok(webpki::anchor_from_trusted_cert(root).map_err(bad)?.to_owned()));
            anchors.insert(trust_domain.clone(), roots.collect::<Result<_, BadAnchor>>()?);
        }
        Ok(Self { bundles, anchors, algorithms })
    }

    /// What chains are judged by.
    #[must_use]
    pub fn bundles(&self) -> &TrustBundles {
        &self.bundles
    }

    /// Judges what a peer in `role` showed, at time `now`.
    ///
    /// # Errors
    /// The first defect met.
    pub fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        role: Role,
        now: UnixTime,
    ) -> Result<VerifiedChain, ChainDefect> {
        let shown = others.len() + 1;
        if shown > MAX_SHOWN {
            return Err(ChainDefect::TooManyCertificates { shown, limit: MAX_SHOWN });
        }
        let facts = check_leaf(leaf, now)?;
        let trust_domain = facts.id.trust_domain();
        let (Some(bundle), Some(anchors)) = (self.bundles.get(trust_domain), self.anchors.get(trust_domain))
        else {
            return Err(ChainDefect::WrongTrustDomain { claimed: facts.id });
        };
        let path = Path { algorithms: self.algorithms, bundle, anchors, facts: &facts, role, now };
        let not_after = path.find(leaf, others)?;
        Ok(VerifiedChain { facts, not_after })
    }
}

impl fmt::Debug for ChainVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChainVerifier").field("bundles", &self.bundles).finish_non_exhaustive()
    }
}

/// The search for one path.
struct Path<'a> {
    algorithms: &'a [&'a dyn SignatureVerificationAlgorithm],
    bundle: &'a TrustBundle,
    anchors: &'a [TrustAnchor<'static>],
    facts: &'a CertificateFacts,
    role: Role,
    now: UnixTime,
}

impl Path<'_> {
    /// The earliest NotAfter of a path whose every certificate keeps the rules, in seconds since the epoch.
    fn find(&self, leaf: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> Result<u64, ChainDefect> {
        let claimed = || self.facts.id.clone();
        let untrusted = |cause| ChainDefect::UntrustedIssuer { claimed: claimed(), cause };
        let end_entity = EndEntityCert::try_from(leaf).map_err(untrusted)?;
        // webpki asks this of each path it finds, and searches on when the answer is no.
        let verdict = RefCell::new(None);
        let judge = |path: &VerifiedPath<'_>| {
            let not_after = self.judge(path)?;
            let refused = not_after.is_err();
            verdict.replace(Some(not_after));
            if refused { Err(webpki::Error::UnknownIssuer) } else { Ok(()) }
        };
        let mut time = self.now;
        let found = loop {
            let usage = match self.role {
                Role::Client => KeyUsage::client_auth(),
                Role::Server => KeyUsage::server_auth(),
            };
            let (anchors, algorithms) = (self.anchors, self.algorithms);
            let path =
                end_entity.verify_for_usage(algorithms, anchors, others, time, usage, None, Some(&judge));
            match path {
                // webpki knows no skew. Each turn moves on to another certificate's NotBefore, so there are at most
                // MAX_SHOWN; the rules look at all dates again, with the true time.
                Err(webpki::Error::CertNotValidYet { not_before, .. })
                    if not_before > time
                        && not_before.as_secs() <= self.now.as_secs() + CLOCK_SKEW.as_secs() =>
                {
                    time = not_before;
                }
                path => break path.map(|_| ()),
            }
        };
        match (found, verdict.into_inner()) {
            (Ok(()), Some(Ok(not_after))) => Ok(not_after),
            (_, Some(Err(defect))) => Err(ChainDefect::Issuer { claimed: claimed(), defect }),
            (Err(cause), _) => Err(untrusted(cause)),
            // Not reachable: webpki accepts no path that the closure has not judged.
            (Ok(()), None) => Err(untrusted(webpki::Error::UnknownIssuer)),
        }
    }

    /// The rules for everyone who vouches for the leaf, the root included. The outer error: a path to no root of ours.
    fn judge(&self, path: &VerifiedPath<'_>) -> Result<Result<u64, SvidDefect>, webpki::Error> {
        let root = self.anchors.iter().position(|anchor| std::ptr::eq(anchor, path.anchor()));
        let root =
            root.and_then(|index| self.bundle.roots().get(index)).ok_or(webpki::Error::UnknownIssuer)?;
        let intermediates: Vec<_> = path.intermediate_certificates().map(|issuer| issuer.der()).collect();
        let mut issuers = intermediates.iter().chain([root]);
        Ok(issuers.try_fold(self.facts.not_after, |earliest, issuer| {
            let issuer = check_issuer(issuer, self.now)?;
            issuer.may_issue(&self.facts.id)?;
            Ok(earliest.min(issuer.not_after))
        }))
    }
}
