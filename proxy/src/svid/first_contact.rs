//! The first contact with the authority, when no bundle is held yet: the join token carries the root's hash.

use std::sync::Arc;

use portcullis_identity::{Clock, Fingerprint, JoinToken, TrustBundle, TrustBundles, TrustDomain};
use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::{CertificateError, ClientConfig, Error};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::tls::{
    ExpectedPeer, MinVersion, PeerDefect, ServerVerifier, Verifier, anonymous_client, provider, signatures_by,
};

/// A configuration that talks to one server: the authority whose root `token` names.
pub(super) fn client_config(
    token: &JoinToken,
    expected: ExpectedPeer,
    clock: &Clock,
    min_version: MinVersion,
) -> Result<ClientConfig, Error> {
    let provider = provider();
    let verifier = PinnedRoot {
        root: *token.root(),
        trust_domain: token.workload().id().trust_domain().clone(),
        expected,
        clock: clock.clone(),
        algorithms: provider.signature_verification_algorithms,
    };
    anonymous_client(Arc::new(verifier), provider, min_version)
}

/// Finds the pinned root among the certificates shown; from there on, it is the bundle that all else is
/// judged by.
#[derive(Debug)]
struct PinnedRoot {
    root: Fingerprint,
    trust_domain: TrustDomain,
    expected: ExpectedPeer,
    clock: Clock,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for PinnedRoot {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // A handful is all that the verifier takes, so no more are hashed either.
        let root = others.iter().take(8).find(|shown| Fingerprint::of(shown) == self.root);
        let root = root.ok_or(PeerDefect::WrongRoot { pinned: self.root })?.clone().into_owned();
        let bundle = TrustBundle::new(self.trust_domain.clone(), 0, vec![root])
            .map_err(|_| Error::from(CertificateError::BadEncoding))?;
        let mut bundles = TrustBundles::default();
        bundles.insert(bundle);
        let verifier = Verifier::new(bundles, self.algorithms, self.clock.clone())
            .map_err(|_| Error::from(CertificateError::BadEncoding))?;
        let server = ServerVerifier { verifier: Arc::new(verifier), expected: self.expected.clone() };
        server.verify_server_cert(leaf, others, server_name, ocsp_response, now)
    }

    signatures_by!(this => &this.algorithms);
}
