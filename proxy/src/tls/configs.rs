//! rustls configurations: one provider, no resumption, client certificates always.
//!
//! A resumed session skips the certificate check, so that a peer would outlive its expiry or its denial.
//! Every configuration made here therefore stores no session, issues no ticket and takes no early data.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite as suite, kx_group as group};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, Error, ServerConfig, SupportedProtocolVersion};

use super::callbacks::ClientVerifier;
use super::{Alpn, Verifier};

/// Oldest TLS version spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MinVersion {
    /// TLS 1.2 and 1.3.
    #[default]
    Tls12,
    /// TLS 1.3 alone.
    Tls13,
}

static TLS12_AND_13: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];
static TLS13_ALONE: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS13];

impl MinVersion {
    fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        match self {
            Self::Tls12 => &TLS12_AND_13,
            Self::Tls13 => &TLS13_ALONE,
        }
    }
}

/// The cryptography of every handshake: hybrid post-quantum key exchange first, AEAD with forward secrecy
/// only. AES-128-GCM first: as safe here as AES-256 and faster.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            suite::TLS13_AES_128_GCM_SHA256,
            suite::TLS13_AES_256_GCM_SHA384,
            suite::TLS13_CHACHA20_POLY1305_SHA256,
            suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![group::X25519MLKEM768, group::X25519, group::SECP256R1, group::SECP384R1],
        ..aws_lc_rs::default_provider()
    })
}

/// The server's side of one identity.
pub(super) fn server(
    own: Arc<CertifiedKey>,
    verifier: Arc<Verifier>,
    provider: Arc<CryptoProvider>,
    min_version: MinVersion,
) -> Result<ServerConfig, Error> {
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(min_version.versions())?
        .with_client_cert_verifier(Arc::new(ClientVerifier(verifier)))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(own)));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config.ignore_client_order = true;
    // RFC 7627: without it a TLS 1.2 handshake's secret is not bound to the certificates (triple handshake).
    config.require_ems = true;
    config.alpn_protocols = [Alpn::Http2, Alpn::Http1].into_iter().filter_map(Alpn::wire).collect();
    Ok(config)
}

/// The client's side of one identity.
pub(super) fn client(
    own: Arc<CertifiedKey>,
    verifier: Arc<dyn ServerCertVerifier>,
    provider: Arc<CryptoProvider>,
    min_version: MinVersion,
) -> Result<ClientConfig, Error> {
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(min_version.versions())?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own)));
    Ok(without_memory(config))
}

/// A client that has no identity yet. `verifier` decides alone whom it talks to.
pub(crate) fn anonymous_client(
    verifier: Arc<dyn ServerCertVerifier>,
    provider: Arc<CryptoProvider>,
    min_version: MinVersion,
) -> Result<ClientConfig, Error> {
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(min_version.versions())?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(without_memory(config))
}

/// A client of a server outside of the mesh. `clock` tells whether the server's certificate is in date.
pub(super) fn egress(
    own: Option<Arc<SingleCertAndKey>>,
    verifier: Arc<dyn ServerCertVerifier>,
    provider: Arc<CryptoProvider>,
    min_version: MinVersion,
    clock: Arc<dyn TimeProvider>,
) -> Result<ClientConfig, Error> {
    let config = ClientConfig::builder_with_details(provider, clock)
        .with_protocol_versions(min_version.versions())?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let config = match own {
        Some(own) => config.with_client_cert_resolver(own),
        None => config.with_no_client_auth(),
    };
    Ok(without_memory(config))
}

fn without_memory(mut config: ClientConfig) -> ClientConfig {
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.require_ems = true;
    config
}
