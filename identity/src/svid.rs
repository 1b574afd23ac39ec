//! An X.509-SVID: a certificate chain and the key that proves it.

use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use zeroize::Zeroizing;

use crate::x509::{CertificateFacts, check_leaf};
use crate::{IdDefect, SvidDefect, Workload};

/// Why a chain and a key do not make an SVID.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SvidError {
    /// No certificate at all.
    #[error("the chain is empty")]
    EmptyChain,
    /// The leaf breaks a rule.
    #[error("the leaf is not an X.509-SVID: {0}")]
    Leaf(#[from] SvidDefect),
    /// A valid SPIFFE ID that is not a workload's.
    #[error("the leaf does not name a workload: {0}")]
    NotAWorkload(#[source] IdDefect),
}

/// A workload's own certificate chain and private key. The key is zeroised on drop and never printed.
pub struct Svid {
    workload: Workload,
    facts: CertificateFacts,
    chain: Vec<CertificateDer<'static>>,
    key: Zeroizing<Vec<u8>>,
}

impl Svid {
    /// Takes a chain, leaf first and without root, and the leaf's private key as PKCS#8 DER.
    ///
    /// # Errors
    /// [`SvidError`] when the leaf breaks a rule at time `now`. That the key fits the leaf is checked where the
    /// TLS configuration is made.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key_pkcs8: Zeroizing<Vec<u8>>,
        now: UnixTime,
    ) -> Result<Self, SvidError> {
        let leaf = chain.first().ok_or(SvidError::EmptyChain)?;
        let facts = check_leaf(leaf, now)?;
        let workload = Workload::try_from(facts.id.clone()).map_err(SvidError::NotAWorkload)?;
        Ok(Self { workload, facts, chain, key: key_pkcs8 })
    }

    /// Whom the certificate names.
    #[must_use]
    pub fn workload(&self) -> &Workload {
        &self.workload
    }

    /// Serial, fingerprint and dates of the leaf.
    #[must_use]
    pub fn facts(&self) -> &CertificateFacts {
        &self.facts
    }

    /// Leaf first, then intermediates; no root.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// A copy of the private key for the TLS stack, which zeroises its own.
    #[must_use]
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.to_vec()).into()
    }

    /// The private key as PKCS#8 DER, for storing.
    #[must_use]
    pub fn key_pkcs8(&self) -> &Zeroizing<Vec<u8>> {
        &self.key
    }
}

impl std::fmt::Debug for Svid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Svid")
            .field("workload", &self.workload)
            .field("facts", &self.facts)
            .finish_non_exhaustive()
    }
}
