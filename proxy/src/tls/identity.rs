//! One immutable generation of who we are and whom we trust, with the configurations made from it.

use std::fmt;
use std::sync::Arc;

use portcullis_identity::{BadAnchor, Clock, Svid, TrustBundles};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ServerConfig};

use super::callbacks::ServerVerifier;
use super::{ExpectedPeer, MinVersion, NoMutualTls, PeerDefect, Role, Verifier, configs};

/// Why an SVID and trust bundles do not make a working identity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The key is not the leaf's, or unusable.
    #[error("the private key and the certificate do not go together: {0}")]
    Key(#[source] rustls::Error),
    /// A root of the bundles cannot be used.
    #[error(transparent)]
    Root(#[from] BadAnchor),
    /// Peers would refuse our own chain.
    #[error("the own certificate chain does not verify: {0}")]
    OwnChain(#[from] PeerDefect),
    /// rustls refuses the configuration.
    #[error("no TLS configuration: {0}")]
    Config(#[source] rustls::Error),
}

/// One generation: own SVID, trust bundles, and the TLS configurations made from them. Cheap to clone.
#[derive(Clone)]
pub struct Identity {
    generation: u64,
    svid: Arc<Svid>,
    verifier: Arc<Verifier>,
    server: Arc<ServerConfig>,
    client: ClientConfig,
}

impl Identity {
    /// Builds the TLS configurations. Verifies the own chain with the own bundle, in both roles, so that a
    /// broken SVID or bundle is refused here and not by every peer.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn new(
        generation: u64,
        svid: Arc<Svid>,
        bundles: TrustBundles,
        clock: Clock,
        min_version: MinVersion,
    ) -> Result<Self, IdentityError> {
        let algorithms = configs::provider().signature_verification_algorithms;
        let verifier = Verifier::new(bundles, algorithms, clock).map_err(IdentityError::Root)?;
        Self::with_verifier(generation, svid, Arc::new(verifier), min_version)
    }

    /// The next generation with another SVID and the same bundles: verified chains stay remembered.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn with_svid(
        &self,
        generation: u64,
        svid: Arc<Svid>,
        min_version: MinVersion,
    ) -> Result<Self, IdentityError> {
        Self::with_verifier(generation, svid, Arc::clone(&self.verifier), min_version)
    }

    fn with_verifier(
        generation: u64,
        svid: Arc<Svid>,
        verifier: Arc<Verifier>,
        min_version: MinVersion,
    ) -> Result<Self, IdentityError> {
        let provider = configs::provider();
        let own = CertifiedKey::from_der(svid.chain().to_vec(), svid.key(), &provider)
            .map_err(IdentityError::Key)?;
        let own = Arc::new(own);
        if let Some((leaf, others)) = svid.chain().split_first() {
            verifier.verify(leaf, others, Role::Client)?;
            verifier.verify(leaf, others, Role::Server)?;
        }
        let server =
            configs::server(Arc::clone(&own), Arc::clone(&verifier), Arc::clone(&provider), min_version)
                .map_err(IdentityError::Config)?;
        // A template: each connection puts in whom it expects, and until then nobody is.
        let nobody =
            ServerVerifier { verifier: Arc::clone(&verifier), expected: ExpectedPeer::OneOf(Vec::new()) };
        let client =
            configs::client(own, Arc::new(nobody), provider, min_version).map_err(IdentityError::Config)?;
        Ok(Self { generation, svid, verifier, server: Arc::new(server), client })
    }

    /// Rises with every change of SVID or bundles.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Own certificate chain and key.
    #[must_use]
    pub fn svid(&self) -> &Arc<Svid> {
        &self.svid
    }

    /// Whom we trust.
    #[must_use]
    pub fn bundles(&self) -> &TrustBundles {
        self.verifier.bundles()
    }

    /// The time that certificates are judged by.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        self.verifier.clock()
    }

    pub(super) fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    pub(crate) fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    /// A configuration that admits `expected` alone, with no application protocol set.
    pub(crate) fn client_config(&self, expected: ExpectedPeer) -> ClientConfig {
        let mut config = self.client.clone();
        let verifier = ServerVerifier { verifier: Arc::clone(&self.verifier), expected };
        config.dangerous().set_certificate_verifier(Arc::new(verifier));
        config
    }

    /// An expired SVID proves nothing: refuse before the peer has to.
    pub(super) fn check_own_certificate(&self) -> Result<(), NoMutualTls> {
        let (now, not_after) = (self.clock().now().as_secs(), self.svid.facts().not_after);
        match now.checked_sub(not_after) {
            Some(ago_s @ 1..) => Err(NoMutualTls::OwnCertificateExpired { ago_s }),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("generation", &self.generation)
            .field("svid", &self.svid)
            .finish_non_exhaustive()
    }
}
