//! TLS towards servers outside of the mesh: they prove a DNS name, and get a certificate of ours only if one is
//! written for them.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use rustls::{CertificateError, ClientConfig, Error, InconsistentKeys, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use zeroize::Zeroizing;

use super::configs::{MinVersion, egress};
use super::{Alpn, provider, signatures_by};

/// Bytes of one PEM file; the roots of a whole system are a quarter of that.
const MAX_FILE: u64 = 1024 * 1024;

/// What a server outside of the mesh is asked for, and must prove. Two are equal when they ask for the same, prove
/// with the same certificate and trust the same roots.
pub struct EgressTls {
    sni: ServerName<'static>,
    config: Arc<ClientConfig>,
    /// SHA-256 of all that it was made from, but the private key: its certificate stands for it.
    content: [u8; 32],
}

/// Why a TLS setting cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EgressTlsError {
    /// A file that is not there, or not what it should be.
    #[error("{}: {what}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Nothing to judge a server by.
    #[error("the system has no root certificates ({what}): write caCertificates")]
    SystemRoots {
        /// Why there are none.
        what: String,
    },
}

impl EgressTls {
    /// Mode SIMPLE, and with `client` (certificate chain and key, both PEM) mode MUTUAL. The server must prove one
    /// of `names`, or `sni` when there are none, by a chain to `roots` (PEM), or to the system's roots. The files are
    /// read now, and not again.
    ///
    /// # Errors
    /// [`EgressTlsError`].
    pub fn new(
        sni: ServerName<'static>,
        names: Vec<ServerName<'static>>,
        roots: Option<&Path>,
        client: Option<(&Path, &Path)>,
    ) -> Result<Self, EgressTlsError> {
        Self::with_clock(sni, names, roots, client, Arc::new(DefaultTimeProvider))
    }

    fn with_clock(
        sni: ServerName<'static>,
        names: Vec<ServerName<'static>>,
        roots: Option<&Path>,
        client: Option<(&Path, &Path)>,
        clock: Arc<dyn TimeProvider>,
    ) -> Result<Self, EgressTlsError> {
        let provider = provider();
        let names = if names.is_empty() { vec![sni.clone()] } else { names };
        let trusted = match roots {
            Some(path) => certificates(path)?,
            None => system_roots()?,
        };
        let own = client.map(|(chain, key)| credential(chain, key, &provider)).transpose()?;

        let mut content = digest::Context::new(&digest::SHA256);
        let mut part = |bytes: &[u8]| {
            content.update(&bytes.len().to_be_bytes());
            content.update(bytes);
        };
        part(sni.to_str().as_bytes());
        part(names.iter().map(|name| name.to_str()).collect::<Vec<_>>().join(" ").as_bytes());
        part(&trusted.len().to_be_bytes());
        trusted.iter().chain(own.iter().flat_map(|own| &own.cert)).for_each(|one| part(one));
        let content = content.finish().as_ref().try_into().unwrap_or_default();

        let from = roots.map_or_else(|| PathBuf::from("the system's roots"), Path::to_owned);
        let faulty = |what: String| EgressTlsError::File { path: from.clone(), what };
        let inner = WebPkiServerVerifier::builder_with_provider(
            Arc::new(root_store(trusted, roots).map_err(faulty)?),
            Arc::clone(&provider),
        );
        let inner = inner.build().map_err(|error| faulty(error.to_string()))?;
        let verifier = Arc::new(AnyName { inner, names, provider: Arc::clone(&provider) });
        let own = own.map(|own| Arc::new(SingleCertAndKey::from(own)));
        let config = egress(own, verifier, provider, MinVersion::default(), clock)
            .map_err(|error| faulty(error.to_string()))?;
        Ok(Self { sni, config: Arc::new(config), content })
    }

    /// The name asked for.
    #[must_use]
    pub fn sni(&self) -> &ServerName<'static> {
        &self.sni
    }

    /// The configuration of a handshake that offers `alpn`, in order of preference; empty, or [`Alpn::None`] alone,
    /// offers no protocol.
    #[must_use]
    pub fn config_for(&self, alpn: &[Alpn]) -> Arc<ClientConfig> {
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols = alpn.iter().filter_map(|protocol| protocol.wire()).collect();
        Arc::new(config)
    }
}

impl PartialEq for EgressTls {
    fn eq(&self, other: &Self) -> bool {
        self.content == other.content
    }
}

impl Eq for EgressTls {}

impl fmt::Debug for EgressTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let content: String = self.content.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        f.debug_struct("EgressTls").field("sni", &self.sni).field("content", &content).finish_non_exhaustive()
    }
}

/// A valid chain, for one of a few names. What the ClientHello asks for may be another: many servers, one name.
#[derive(Debug)]
struct AnyName {
    inner: Arc<WebPkiServerVerifier>,
    names: Vec<ServerName<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _asked_for: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let mut refused = Error::InvalidCertificate(CertificateError::NotValidForName);
        for name in &self.names {
            match self.inner.verify_server_cert(leaf, others, name, ocsp_response, now) {
                Ok(verified) => return Ok(verified),
                Err(error) => {
                    let other_name = is_about_the_name(&error);
                    refused = of_the_chain(error);
                    // The chain is the same for every name.
                    if !other_name {
                        break;
                    }
                }
            }
        }
        Err(refused)
    }

    signatures_by!(this => &this.provider.signature_verification_algorithms);
}

/// A root of the same name with another key is another root. The handshake's own bad signature is said elsewhere.
fn of_the_chain(error: Error) -> Error {
    if matches!(error, Error::InvalidCertificate(CertificateError::BadSignature)) {
        CertificateError::UnknownIssuer.into()
    } else {
        error
    }
}

fn is_about_the_name(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
        )
    )
}

fn system_roots() -> Result<Vec<CertificateDer<'static>>, EgressTlsError> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let what = found.errors.first().map_or_else(|| "none found".to_owned(), ToString::to_string);
        return Err(EgressTlsError::SystemRoots { what });
    }
    Ok(found.certs)
}

/// A root that is written by hand has to be a good one; of the system's, old ones that nobody can use are left out.
fn root_store(
    trusted: Vec<CertificateDer<'static>>,
    written: Option<&Path>,
) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    if written.is_none() {
        store.add_parsable_certificates(trusted);
        return Ok(store);
    }
    for root in trusted {
        store.add(root).map_err(|error| format!("not a root certificate: {error}"))?;
    }
    Ok(store)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, EgressTlsError> {
    let faulty = |what: String| EgressTlsError::File { path: path.to_owned(), what };
    let text = contents(path).map_err(faulty)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|error| faulty(format!("not PEM: {error}")))?;
    if found.is_empty() { Err(faulty("holds no CERTIFICATE in PEM".to_owned())) } else { Ok(found) }
}

fn credential(chain: &Path, key: &Path, provider: &CryptoProvider) -> Result<CertifiedKey, EgressTlsError> {
    let certificates = certificates(chain)?;
    let faulty = |what: String| EgressTlsError::File { path: key.to_owned(), what };
    let text = contents(key).map_err(faulty)?;
    let der =
        PrivateKeyDer::from_pem_slice(&text).map_err(|_| faulty("holds no PRIVATE KEY in PEM".to_owned()))?;
    CertifiedKey::from_der(certificates, der, provider).map_err(|error| {
        // Never the text of an error about a key: it might quote it.
        faulty(if matches!(error, Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) {
            format!("not the key of the certificate in {}", chain.display())
        } else {
            "not a key that can sign (ECDSA P-256 or P-384, Ed25519, or RSA)".to_owned()
        })
    })
}

/// A bounded read, wiped when it is dropped: the file may hold a key.
fn contents(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let unreadable = |error: io::Error| format!("cannot be read: {error}");
    // Opening a pipe would block.
    if !path.metadata().map_err(unreadable)?.is_file() {
        return Err("cannot be read: not a regular file".to_owned());
    }
    let mut bytes = Zeroizing::new(Vec::new());
    File::open(path).map_err(unreadable)?.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(format!("larger than {} KiB", MAX_FILE / 1024));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
