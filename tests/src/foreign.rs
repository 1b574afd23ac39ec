//! Those who are not in the mesh and want in: any certificate, good or bad, and a TLS client that shows it.
#![allow(clippy::expect_used, reason = "a test that cannot be set up has failed, and says at what")]

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use portcullis::demo::lab::Host;
use portcullis_identity::Clock;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore, SignatureScheme, StreamOwned,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use time::OffsetDateTime;

const DAY: Duration = Duration::from_secs(86_400);
/// For any one answer of a peer.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// A root whose key is at hand; an authority can be started with it.
pub struct Root {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
    key: String,
}

/// A chain and its key, as a peer shows them.
pub struct Shown {
    /// The leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    pem: String,
}

/// So far from now; negative is past.
#[must_use]
pub fn from_now(seconds: i64) -> OffsetDateTime {
    let now = i64::try_from(Clock::system().now().as_secs()).expect("a date");
    OffsetDateTime::from_unix_timestamp(now + seconds).expect("a date")
}

/// What a good leaf looks like, to be spoiled.
///
/// # Panics
/// When `id` is no URI.
#[must_use]
pub fn leaf_params(id: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![uri(id)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.is_ca = IsCa::ExplicitNoCa;
    (params.not_before, params.not_after) = (from_now(-120), from_now(3600));
    params
}

/// A URI among the subject alternative names.
///
/// # Panics
/// When it is not ASCII.
#[must_use]
pub fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().expect("an ASCII URI"))
}

impl Root {
    /// A new one of the trust domain that the mesh has; `name` is its subject.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.subject_alt_names = vec![uri("spiffe://cluster.local")];
        let life = i64::try_from((DAY * 3650).as_secs()).expect("a life");
        (params.not_before, params.not_after) = (from_now(-86_400), from_now(life));
        let (certificate, pem) = (params.self_signed(&key).expect("a root"), key.serialize_pem());
        Self { issuer: Issuer::new(params, key), certificate, key: pem }
    }

    /// Writes certificate and key, and says where.
    ///
    /// # Panics
    /// When they cannot be written.
    #[must_use]
    pub fn files(&self, dir: &Path) -> [PathBuf; 2] {
        [("root.pem", &self.certificate.pem()), ("root.key", &self.key)].map(|(name, text)| {
            let path = dir.join(name);
            fs::write(&path, text).expect("a file");
            path
        })
    }

    /// For those who trust it.
    ///
    /// # Panics
    /// When rustls does not take it.
    #[must_use]
    pub fn store(&self) -> RootCertStore {
        let mut store = RootCertStore::empty();
        store.add(self.certificate.der().clone()).expect("a root");
        store
    }

    /// Signs a leaf. `intermediates` others, of this root as well, are shown with it.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn leaf(&self, params: &CertificateParams, intermediates: usize) -> Shown {
        let key = KeyPair::generate().expect("a key");
        let leaf = params.signed_by(&key, &self.issuer).expect("a leaf");
        let others = (0..intermediates).map(|number| {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, format!("intermediate {number}"));
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
            params.signed_by(&KeyPair::generate().expect("a key"), &self.issuer).expect("an intermediate")
        });
        Shown::new(std::iter::once(leaf).chain(others).collect(), &key)
    }
}

impl Shown {
    fn new(chain: Vec<rcgen::Certificate>, key: &KeyPair) -> Self {
        let pem = chain.iter().map(rcgen::Certificate::pem).collect::<String>() + &key.serialize_pem();
        let chain = chain.iter().map(|certificate| certificate.der().clone()).collect();
        Self { chain, key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(), pem }
    }

    /// A leaf that nobody vouches for but itself.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn self_signed(params: &CertificateParams) -> Self {
        let key = KeyPair::generate().expect("a key");
        Self::new(vec![params.self_signed(&key).expect("a leaf")], &key)
    }

    /// Chain and key in one file, as `curl`, `openssl` and Python take them.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn file(&self, dir: &Path, name: &str) -> String {
        let path = dir.join(name);
        fs::write(&path, &self.pem).expect("a file");
        path.display().to_string()
    }

    /// Chain and key without a look at them: a bad certificate must get as far as the other side.
    ///
    /// # Panics
    /// When the key is none.
    #[must_use]
    pub fn certified_key(&self) -> Arc<CertifiedKey> {
        let key = aws_lc_rs::sign::any_supported_type(&self.key).expect("a key");
        Arc::new(CertifiedKey::new(self.chain.clone(), key))
    }
}

/// The client's side of a handshake in which anything is shown and anything accepted.
///
/// # Panics
/// When rustls does not take the settings.
#[must_use]
pub fn handshake(shown: Option<&Shown>, alpn: &[&[u8]]) -> ClientConnection {
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone));
    let mut config = match shown {
        Some(shown) => {
            config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(shown.certified_key())))
        }
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    let name = ServerName::try_from("api-service.production.svc.cluster.local").expect("a name");
    ClientConnection::new(Arc::new(config), name).expect("a client")
}

/// A connection from a host, with a deadline on each read and write.
///
/// # Panics
/// When there is no connection.
#[must_use]
pub fn connect(host: &Host, to: SocketAddr) -> TcpStream {
    let stream = host.in_namespace(|| TcpStream::connect_timeout(&to, PATIENCE));
    let stream = stream.expect("the host's network").expect("a connection");
    stream.set_nodelay(true).expect("a socket");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
    stream
}

/// A TLS connection from a host; nothing has been sent yet.
#[must_use]
pub fn connect_tls(
    host: &Host,
    to: SocketAddr,
    shown: Option<&Shown>,
    alpn: &[&[u8]],
) -> StreamOwned<ClientConnection, TcpStream> {
    StreamOwned::new(handshake(shown, alpn), connect(host, to))
}

/// Sends bytes and reads what comes back until the other side has had enough, however it says so.
///
/// # Panics
/// When it does not within [`PATIENCE`].
pub fn say(mut stream: impl Read + Write, bytes: &[u8]) -> String {
    let mut got = Vec::new();
    let said = stream.write_all(bytes).and_then(|()| stream.flush());
    let heard = stream.read_to_end(&mut got);
    for end in [said, heard.map(drop)] {
        let late = matches!(&end, Err(error) if is_late(error));
        assert!(!late, "the connection was not ended after {:?}", String::from_utf8_lossy(&got));
    }
    String::from_utf8_lossy(&got).into_owned()
}

fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Takes any server for the right one.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
