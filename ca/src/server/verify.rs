//! Client certificates: not demanded, since who joins has none; one that is shown must be a current SVID of ours.

use std::fmt;
use std::sync::Arc;

use portcullis_identity::{ChainVerifier, Clock, Role, TrustBundle, TrustBundles};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::sync::watch;

use crate::authority::Authority;

pub(super) struct SvidVerifier {
    bundle: watch::Receiver<Arc<TrustBundle>>,
    clock: Clock,
    algorithms: WebPkiSupportedAlgorithms,
}

impl SvidVerifier {
    pub(super) fn new(authority: &Authority, provider: &CryptoProvider) -> Self {
        Self {
            bundle: authority.watch_bundle(),
            clock: authority.clock().clone(),
            algorithms: provider.signature_verification_algorithms,
        }
    }

    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
    ) -> Result<(), CertificateError> {
        let mut bundles = TrustBundles::default();
        bundles.insert(TrustBundle::clone(&self.bundle.borrow()));
        let chains = ChainVerifier::new(bundles, self.algorithms.all);
        let chains = chains.map_err(|_| CertificateError::UnknownIssuer)?;
        match chains.verify(leaf, others, Role::Client, self.clock.unix_time()) {
            Ok(_) => Ok(()),
            Err(defect) => Err(CertificateError::Other(OtherError(Arc::new(defect)))),
        }
    }
}

impl ClientCertVerifier for SvidVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// Empty: a client with one SVID need not be told whose to choose, and names of roots are nobody's business.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(leaf, intermediates)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl fmt::Debug for SvidVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SvidVerifier")
    }
}
