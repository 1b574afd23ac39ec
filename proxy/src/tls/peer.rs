//! Who a peer is, and who it should be.

use std::fmt;
use std::time::Duration;

use portcullis_identity::{CertificateFacts, Fingerprint, Serial, SpiffeId, TrustDomain, Workload};

/// Whose identity a server may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExpectedPeer {
    /// One of these. An empty list admits nobody; [`ExpectedPeer::one_of`] does not make one.
    OneOf(Vec<SpiffeId>),
    /// Any service account of one namespace.
    AnyIn {
        /// Who vouches.
        trust_domain: TrustDomain,
        /// `NAMESPACE` of `/ns/NAMESPACE/sa/SERVICE_ACCOUNT`.
        namespace: String,
    },
}

impl ExpectedPeer {
    /// One of a list of identities; `None` if the list is empty, which never means any.
    #[must_use]
    pub fn one_of(ids: Vec<SpiffeId>) -> Option<Self> {
        if ids.is_empty() { None } else { Some(Self::OneOf(ids)) }
    }

    /// Whether a server with identity `id` is the one meant.
    #[must_use]
    pub fn admits(&self, id: &SpiffeId) -> bool {
        match self {
            Self::OneOf(ids) => ids.contains(id),
            Self::AnyIn { trust_domain, namespace } => {
                id.trust_domain() == trust_domain
                    && Workload::try_from(id.clone()).is_ok_and(|workload| workload.namespace() == namespace)
            }
        }
    }
}

impl fmt::Display for ExpectedPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Most identities shown: a log line stays bounded whatever a policy lists.
        const SHOWN: usize = 4;
        match self {
            Self::OneOf(ids) => {
                for (index, id) in ids.iter().take(SHOWN).enumerate() {
                    write!(f, "{}{id}", if index == 0 { "" } else { " or " })?;
                }
                match ids.len().checked_sub(SHOWN) {
                    Some(more @ 1..) => write!(f, " or {more} more"),
                    _ if ids.is_empty() => f.write_str("nobody"),
                    _ => Ok(()),
                }
            }
            Self::AnyIn { trust_domain, namespace } => {
                write!(f, "spiffe://{trust_domain}/ns/{namespace}/sa/*")
            }
        }
    }
}

/// Proof that a peer showed a valid SVID. Only the verifier of this module makes one, and it leaves the
/// module only after a handshake that the SVID's key has signed.
#[derive(Debug, Clone)]
pub struct VerifiedPeer {
    facts: CertificateFacts,
    chain_not_after: u64,
}

impl VerifiedPeer {
    /// `chain_not_after`: seconds since the epoch at which the first certificate of the verified path ends.
    pub(super) fn new(facts: CertificateFacts, chain_not_after: u64) -> Self {
        Self { facts, chain_not_after }
    }

    /// Whom the certificate names.
    #[must_use]
    pub fn id(&self) -> &SpiffeId {
        &self.facts.id
    }

    /// Serial number of the leaf.
    #[must_use]
    pub fn serial(&self) -> &Serial {
        &self.facts.serial
    }

    /// SHA-256 of the leaf.
    #[must_use]
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.facts.fingerprint
    }

    /// Last second of the proof, since the epoch: the earliest NotAfter among leaf, intermediates and root.
    #[must_use]
    pub fn not_after(&self) -> Duration {
        Duration::from_secs(self.chain_not_after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> SpiffeId {
        SpiffeId::parse(text).unwrap()
    }

    #[test]
    fn a_list_admits_its_members_and_an_empty_one_nobody() {
        let list = ExpectedPeer::one_of(vec![id("spiffe://td/ns/a/sa/b")]).unwrap();
        assert!(list.admits(&id("spiffe://td/ns/a/sa/b")));
        assert!(!list.admits(&id("spiffe://td/ns/a/sa/c")));
        assert!(!list.admits(&id("spiffe://td/ns/a/sa/B")));
        assert!(ExpectedPeer::one_of(vec![]).is_none());
        assert!(!ExpectedPeer::OneOf(vec![]).admits(&id("spiffe://td/ns/a/sa/b")));
    }

    #[test]
    fn a_namespace_admits_its_service_accounts_alone() {
        let any = ExpectedPeer::AnyIn { trust_domain: "td".parse().unwrap(), namespace: "a".into() };
        assert!(any.admits(&id("spiffe://td/ns/a/sa/b")));
        for other in [
            "spiffe://td/ns/ab/sa/b",
            "spiffe://other/ns/a/sa/b",
            "spiffe://td/ns/a",
            "spiffe://td/ns/a/sa/b/c",
        ] {
            assert!(!any.admits(&id(other)), "{other}");
        }
    }

    #[test]
    fn a_long_list_is_shown_in_part() {
        let ids: Vec<_> = (0..9).map(|n| id(&format!("spiffe://td/n{n}"))).collect();
        assert!(ExpectedPeer::OneOf(ids).to_string().ends_with("spiffe://td/n3 or 5 more"));
    }
}
