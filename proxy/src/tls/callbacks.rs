//! rustls' two verifier traits, answered by the one [`Verifier`].

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DistinguishedName, Error};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{ExpectedPeer, PeerDefect, Role, Verifier};

/// Asks clients for a certificate and admits any workload that has a bundle's word.
pub(super) struct ClientVerifier(pub(super) Arc<Verifier>);

/// Admits one server: the expected one.
pub(crate) struct ServerVerifier {
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) expected: ExpectedPeer,
}

/// What all certificate verifiers have in common: the proof of possession of the key is rustls' own.
macro_rules! signatures_by {
    ($this:ident => $algorithms:expr) => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &rustls_pki_types::CertificateDer<'_>,
            signature: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            let $this = self;
            rustls::crypto::verify_tls12_signature(message, certificate, signature, $algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &rustls_pki_types::CertificateDer<'_>,
            signature: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            let $this = self;
            rustls::crypto::verify_tls13_signature(message, certificate, signature, $algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            let $this = self;
            $algorithms.supported_schemes()
        }
    };
}
pub(crate) use signatures_by;

impl ClientCertVerifier for ClientVerifier {
    /// No hints: a workload has one certificate, and the names of our roots are nobody's business.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.0.verify(leaf, others, Role::Client)?;
        Ok(ClientCertVerified::assertion())
    }

    signatures_by!(this => this.0.algorithms());
}

impl ServerCertVerifier for ServerVerifier {
    /// The server name is for routing; who the server is, its SPIFFE ID says.
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let peer = self.verifier.verify(leaf, others, Role::Server)?;
        if !self.expected.admits(peer.id()) {
            let (found, expected) = (peer.id().clone(), self.expected.clone());
            return Err(PeerDefect::UnexpectedPeer { found, expected }.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    signatures_by!(this => this.verifier.algorithms());
}

impl fmt::Debug for ClientVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientVerifier")
    }
}

impl fmt::Debug for ServerVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerVerifier({})", self.expected)
    }
}
