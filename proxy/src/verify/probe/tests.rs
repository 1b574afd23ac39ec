//! Attacks on servers of every kind: those that let something in must be found out, and ours lets nothing in.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use portcullis_identity::Clock;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, UnixTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::tls::testing::{Leaf, Mesh, leaf_params};
use crate::tls::{FirstBytes, MinVersion, first_bytes, provider, terminate};

const API: &str = "spiffe://cluster.local/ns/production/sa/api";
const SHORT: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_secs(20);
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// A server on a free port of this machine, stopped on drop.
struct Prey {
    addr: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Prey {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Prey {
    async fn new<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream));
            }
        });
        Self { addr, task }
    }

    fn target(&self, deadline: Duration) -> Target {
        let host = self.addr.ip().to_string();
        Target { host, port: self.addr.port(), sni: None, roots: None, deadline }
    }

    async fn attack(&self, deadline: Duration, clock: &Clock) -> Report {
        probe(&self.target(deadline), clock).await.unwrap()
    }
}

/// Names of the attempts with this verdict.
fn with(report: &Report, verdict: Verdict) -> Vec<&'static str> {
    report.attempts.iter().filter(|tried| tried.outcome.verdict == verdict).map(|tried| tried.name).collect()
}

fn how<'a>(report: &'a Report, name: &str) -> &'a str {
    let tried = report.attempts.iter().find(|tried| tried.name == name);
    &tried.unwrap_or_else(|| panic!("no attempt {name}")).outcome.how
}

const PLAINTEXT: [&str; 3] = ["plaintext_http1", "plaintext_http2", "plaintext_bytes"];
const NO_CERTIFICATE: [&str; 2] = ["tls13_no_certificate", "tls12_no_certificate"];
const FORGED: [&str; 8] = [
    "self_signed",
    "wrong_ca",
    "impostor_ca",
    "wrong_trust_domain",
    "expired",
    "not_yet_valid",
    "no_spiffe_id",
    "borrowed_certificate",
];

/// What the inbound side of a sidecar does before it looks at a request.
async fn sidecar(mesh: &Mesh, min_version: MinVersion) -> Prey {
    let identity = Arc::new(mesh.identity_with(API, min_version));
    Prey::new(move |stream| {
        let identity = Arc::clone(&identity);
        async move {
            if first_bytes(&stream, LONG).await.unwrap() != FirstBytes::TlsHandshake {
                return;
            }
            if let Ok(mut terminated) = terminate(stream, &identity, LONG).await {
                terminated.stream.write_all(ANSWER).await.unwrap();
            }
        }
    })
    .await
}

#[tokio::test]
async fn nothing_gets_into_a_strict_port() {
    let mesh = Mesh::new();
    let prey = sidecar(&mesh, MinVersion::Tls12).await;
    let report = prey.attack(LONG, &mesh.clock.clock()).await;
    let text = table(&report);
    assert_eq!(report.failures(), 0, "{text}");
    let refused = [&PLAINTEXT[..], &NO_CERTIFICATE, &FORGED, &["tls10", "tls11"]].concat();
    assert_eq!(with(&report, Verdict::Refused), refused, "{text}");
    assert_eq!(report.server.id.as_ref().map(ToString::to_string).as_deref(), Some(API));
    for version in [report.server.tls13, report.server.tls12] {
        let version = version.unwrap();
        assert!(version.spoken && version.asks, "{text}");
    }
    // The hello made by hand is a good one: what refuses it with an older version refuses the version.
    assert_eq!(how(&report, "tls12"), "the server agrees to TLS 1.2");
    assert_eq!(how(&report, "tls13_no_certificate"), "alert certificate_required");
    assert!(text.contains("nothing got in"), "{text}");
}

#[tokio::test]
async fn a_port_of_tls_1_3_alone_is_told() {
    let mesh = Mesh::new();
    let prey = sidecar(&mesh, MinVersion::Tls13).await;
    let report = prey.attack(LONG, &mesh.clock.clock()).await;
    assert_eq!(report.failures(), 0, "{}", table(&report));
    assert!(!report.server.tls12.unwrap().spoken);
    assert_eq!(how(&report, "tls12"), "alert protocol_version");
}

#[tokio::test]
async fn the_servers_own_certificate_is_held_against_the_roots() {
    let mesh = Mesh::new();
    let prey = sidecar(&mesh, MinVersion::Tls12).await;
    for (root, good) in [(mesh.root.root_der(), true), (Mesh::new().root.root_der(), false)] {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let domain = "cluster.local".parse().unwrap();
        let bundle = portcullis_identity::TrustBundle::new(domain, 1, vec![root]).unwrap();
        file.write_all(bundle.to_jwks().as_bytes()).unwrap();
        let roots = Some(Roots::read(file.path()).unwrap());
        let target = Target { roots, ..prey.target(LONG) };
        let report = probe(&target, &mesh.clock.clock()).await.unwrap();
        assert_eq!(report.server.trusted.as_ref().map(Result::is_ok), Some(good), "{}", table(&report));
        assert_eq!(report.failures(), 0, "{}", table(&report));
    }
}

#[tokio::test]
async fn a_plaintext_server_is_found_out() {
    let prey = Prey::new(|mut stream| async move {
        let _ = stream.read(&mut [0; 100]).await;
        let _ = stream.write_all(ANSWER).await;
    })
    .await;
    let report = prey.attack(LONG, &Clock::system()).await;
    assert_eq!(with(&report, Verdict::GotIn), PLAINTEXT, "{}", table(&report));
    assert_eq!(how(&report, "plaintext_http1"), "plaintext: answered \"HTTP/1.1 200 OK\"");
    assert_eq!(report.failures(), 3);
    assert!(report.server.chain.is_empty());
}

#[tokio::test]
async fn a_server_that_speaks_first_is_found_out() {
    let prey = Prey::new(|mut stream| async move {
        let _ = stream.write_all(b"220 hi\r\n").await;
        let _ = stream.read(&mut [0; 100]).await;
    })
    .await;
    let report = prey.attack(LONG, &Clock::system()).await;
    assert_eq!(with(&report, Verdict::GotIn), PLAINTEXT, "{}", table(&report));
}

#[tokio::test]
async fn a_server_that_neither_answers_nor_refuses_proves_nothing() {
    let prey =
        Prey::new(|mut stream| async move { while stream.read(&mut [0; 100]).await.unwrap_or(0) > 0 {} })
            .await;
    let report = prey.attack(SHORT, &Clock::system()).await;
    assert_eq!(with(&report, Verdict::Unclear).len(), report.attempts.len(), "{}", table(&report));
    assert_eq!(report.failures(), report.attempts.len());
}

/// A TLS server that answers whoever comes through its handshake.
async fn tls_server(config: ServerConfig) -> Prey {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    Prey::new(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let _ = stream.read(&mut [0; 1000]).await;
            let _ = stream.write_all(ANSWER).await;
            let _ = stream.shutdown().await;
        }
    })
    .await
}

fn credential(leaf: &Leaf) -> (Vec<CertificateDer<'static>>, rustls_pki_types::PrivateKeyDer<'static>) {
    (leaf.chain.clone(), PrivatePkcs8KeyDer::from(leaf.key.serialize_der()).into())
}

fn builder() -> rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier> {
    ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap()
}

#[tokio::test]
async fn a_server_without_client_certificates_is_found_out() {
    let mesh = Mesh::new();
    let (chain, key) = credential(&mesh.intermediate.leaf(&leaf_params(API)));
    for protocols in [&[][..], &[b"h2".to_vec()], &[b"mqtt".to_vec()]] {
        let mut config =
            builder().with_no_client_auth().with_single_cert(chain.clone(), key.clone_key()).unwrap();
        config.alpn_protocols = protocols.to_vec();
        let report = tls_server(config).await.attack(LONG, &mesh.clock.clock()).await;
        let got_in = [&NO_CERTIFICATE[..], &FORGED].concat();
        assert_eq!(with(&report, Verdict::GotIn), got_in, "{}", table(&report));
        for version in [report.server.tls13, report.server.tls12] {
            assert_eq!(version, Some(server::Version { spoken: true, asks: false }));
        }
        assert!(
            table(&report).contains("TLS 1.3 does NOT ask for a client certificate"),
            "{}",
            table(&report)
        );
    }
}

#[tokio::test]
async fn a_server_that_takes_any_certificate_is_found_out() {
    let mesh = Mesh::new();
    let (chain, key) = credential(&mesh.intermediate.leaf(&leaf_params(API)));
    let config =
        builder().with_client_cert_verifier(Arc::new(Gullible)).with_single_cert(chain, key).unwrap();
    let report = tls_server(config).await.attack(LONG, &mesh.clock.clock()).await;
    assert_eq!(with(&report, Verdict::GotIn), FORGED, "{}", table(&report));
    assert!(report.attempts.iter().all(|tried| !FORGED.contains(&tried.name)
        || tried.outcome.how.starts_with("TLS 1.3: answered \"HTTP/1.1 200 OK\"")));
}

#[tokio::test]
async fn a_server_of_old_tls_is_found_out() {
    let prey = Prey::new(|mut stream| async move {
        let mut hello = [0; 11];
        let _ = stream.read_exact(&mut hello).await;
        // The beginning of a ServerHello with the version of the client, as OpenSSL 1.0 would answer.
        let _ = stream.write_all(&[0x16, 3, 1, 0, 74, 2, 0, 0, 70, hello[9], hello[10], 0, 0]).await;
        let _ = stream.read(&mut [0; 1000]).await;
    })
    .await;
    let report = prey.attack(SHORT, &Clock::system()).await;
    assert_eq!(how(&report, "tls10"), "the server agrees to TLS 1.0");
    assert_eq!(how(&report, "tls11"), "the server agrees to TLS 1.1");
    let got_in = with(&report, Verdict::GotIn);
    assert!(got_in.contains(&"tls10") && got_in.contains(&"tls11"), "{}", table(&report));
}

#[tokio::test]
async fn a_closed_port_is_not_probed() {
    let prey = Prey::new(|_| async {}).await;
    let target = prey.target(LONG);
    drop(prey);
    // The listener goes with its task: until then connections are taken.
    let ended = tokio::time::timeout(LONG, async {
        loop {
            match probe(&target, &Clock::system()).await {
                Err(CannotProbe::Unreachable { .. }) => return,
                _ => tokio::task::yield_now().await,
            }
        }
    });
    ended.await.unwrap();
}

#[tokio::test]
async fn json_has_every_attempt_and_a_verdict_of_a_closed_set() {
    let mesh = Mesh::new();
    let prey = sidecar(&mesh, MinVersion::Tls12).await;
    let json = json(&prey.attack(LONG, &mesh.clock.clock()).await);
    assert_eq!(json["failures"], 0);
    assert_eq!(json["server"]["id"], API);
    assert_eq!(json["server"]["tls13"]["asks_for_certificate"], true);
    assert_eq!(json["attempts"].as_array().unwrap().len(), 16);
    for attempt in json["attempts"].as_array().unwrap() {
        let verdict = attempt["verdict"].as_str().unwrap();
        assert!(["refused", "got_in", "unclear", "information"].contains(&verdict));
        assert!(attempt["ms"].is_u64() && attempt["how"].is_string() && attempt["what"].is_string());
    }
}

#[test]
fn a_file_without_roots_is_named() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"-----BEGIN NOTHING-----\n").unwrap();
    assert!(Roots::read(file.path()).unwrap_err().to_string().contains("holds no certificate"));
    let missing = Roots::read(std::path::Path::new("/nowhere/roots.pem")).unwrap_err().to_string();
    assert!(missing.starts_with("/nowhere/roots.pem: cannot be read"), "{missing}");
}

/// Asks for a certificate and believes it, signature and all.
#[derive(Debug)]
struct Gullible;

impl ClientCertVerifier for Gullible {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
