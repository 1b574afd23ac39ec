//! Handshakes with servers outside of the mesh, over an in-memory pipe, and what is said of bad files.

use std::time::Duration;

use rcgen::{CertificateParams, SanType};
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::super::testing::{Ca, Leaf, NOW, ca_params, leaf_params, pem};
use super::super::{EgressOriginated, NoMutualTls, originate_egress};
use super::*;

const LONG: Duration = Duration::from_secs(20);
const HOST: &str = "api.example.com";

/// A clock that stands at a moment since the epoch.
#[derive(Debug)]
struct At(Duration);

impl TimeProvider for At {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(self.0))
    }
}

fn name(text: &str) -> ServerName<'static> {
    ServerName::try_from(text.to_owned()).unwrap()
}

fn public_ca() -> Ca {
    let mut params = ca_params("a public authority");
    params.subject_alt_names.clear();
    Ca::root(params)
}

fn server_params(host: &str) -> CertificateParams {
    let mut params = leaf_params("spiffe://unused/x");
    params.subject_alt_names = vec![SanType::DnsName(host.try_into().unwrap())];
    params
}

/// Files of one test.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn roots(&self, ca: &Ca) -> PathBuf {
        self.write("ca.pem", &pem(&[ca.root_der()]))
    }

    /// The certificate and the key of a client.
    fn client(&self, leaf: &Leaf) -> (PathBuf, PathBuf) {
        (self.write("client.pem", &pem(&leaf.chain)), self.write("client.key", &leaf.key.serialize_pem()))
    }
}

fn server(leaf: &Leaf, clients: Option<&Ca>) -> ServerConfig {
    let builder = ServerConfig::builder_with_details(provider(), Arc::new(At(NOW)));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::try_from(leaf.key.serialize_der()).unwrap();
    let mut config = match clients {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            roots.add(ca.root_der()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    }
    .with_single_cert(leaf.chain.clone(), key)
    .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

/// What the server and the client saw of each other: the name asked for, whether the client showed a certificate, and
/// the protocol. The text of the client's error otherwise.
async fn meet(egress: &EgressTls, server: ServerConfig) -> Result<(String, bool, Alpn), String> {
    let (near, far) = duplex(64 * 1024);
    let served = tokio::spawn(async move {
        let mut stream = tokio_rustls::TlsAcceptor::from(Arc::new(server)).accept(far).await.ok()?;
        stream.write_all(b"!").await.ok()?;
        let connection = stream.get_ref().1;
        Some((connection.server_name()?.to_owned(), connection.peer_certificates().is_some()))
    });
    let originated = originate_egress(near, egress, &[Alpn::Http2, Alpn::Http1], LONG).await;
    let EgressOriginated { mut stream, alpn, not_after } =
        originated.map_err(|failure| failure.to_string())?;
    assert_eq!(not_after, NOW + Duration::from_secs(3600), "the end of its proof");
    // A server that refuses the client's certificate says so now.
    tokio::time::timeout(LONG, stream.read_u8())
        .await
        .unwrap()
        .map_err(|error| NoMutualTls::of_io(error).to_string())?;
    let (asked_for, shown) = served.await.unwrap().unwrap();
    Ok((asked_for, shown, alpn))
}

fn egress_at(now: Duration, sni: &str, names: &[&str], roots: &Path) -> EgressTls {
    let names = names.iter().map(|text| name(text)).collect();
    EgressTls::with_clock(name(sni), names, Some(roots), None, Arc::new(At(now))).unwrap()
}

#[tokio::test]
async fn a_server_that_proves_its_name_is_accepted() {
    let (ca, files) = (public_ca(), Files::new());
    let (leaf, roots) = (ca.leaf(&server_params(HOST)), files.roots(&ca));
    let met = meet(&egress_at(NOW, HOST, &[], &roots), server(&leaf, None)).await.unwrap();
    assert_eq!(met, (HOST.to_owned(), false, Alpn::Http2));
    let fronted = egress_at(NOW, "front.example.net", &["other.example.com", HOST], &roots);
    let met = meet(&fronted, server(&leaf, None)).await.unwrap();
    assert_eq!(met.0, "front.example.net", "the name asked for and the name proven are two things");
}

#[tokio::test]
async fn a_server_with_another_name_root_or_date_is_refused() {
    let (ca, other, files) = (public_ca(), public_ca(), Files::new());
    let (leaf, roots) = (ca.leaf(&server_params(HOST)), files.roots(&ca));
    let later = NOW + Duration::from_secs(2 * 3600);
    for (egress, leaf, part) in [
        (egress_at(NOW, "b.example.com", &[], &roots), &leaf, "not valid for name"),
        (egress_at(NOW, HOST, &["b.example.com", "c.example.com"], &roots), &leaf, "not valid for name"),
        (egress_at(later, HOST, &[], &roots), &leaf, "expired"),
        (egress_at(NOW, HOST, &[], &roots), &other.leaf(&server_params(HOST)), "UnknownIssuer"),
    ] {
        let refused = meet(&egress, server(leaf, None)).await.unwrap_err();
        assert!(refused.contains(part), "{part}: {refused}");
    }
    assert!(meet(&egress_at(NOW, HOST, &[], &roots), server(&leaf, None)).await.is_ok(), "control");
}

#[tokio::test]
async fn a_server_of_the_mesh_proves_no_dns_name() {
    let (ca, files) = (public_ca(), Files::new());
    let leaf = ca.leaf(&leaf_params("spiffe://cluster.local/ns/a/sa/b"));
    let refused = meet(&egress_at(NOW, HOST, &[], &files.roots(&ca)), server(&leaf, None)).await;
    assert!(refused.unwrap_err().contains("not valid for name"));
}

#[tokio::test]
async fn a_client_certificate_is_shown_only_if_it_is_written() {
    let (ca, clients, files) = (public_ca(), public_ca(), Files::new());
    let (leaf, roots) = (ca.leaf(&server_params(HOST)), files.roots(&ca));
    let (chain, key) = files.client(&clients.leaf(&server_params("client.example.com")));
    let at = || Arc::new(At(NOW));
    let mutual = EgressTls::with_clock(name(HOST), vec![], Some(&roots), Some((&chain, &key)), at()).unwrap();
    let simple = EgressTls::with_clock(name(HOST), vec![], Some(&roots), None, at()).unwrap();
    assert!(meet(&mutual, server(&leaf, Some(&clients))).await.unwrap().1);
    let refused = meet(&simple, server(&leaf, Some(&clients))).await.unwrap_err();
    assert!(refused.contains("CertificateRequired"), "{refused}");
    assert!(!meet(&mutual, server(&leaf, None)).await.unwrap().1, "a server that does not ask");
}

#[tokio::test]
async fn an_egress_never_resumes() {
    let (ca, files) = (public_ca(), Files::new());
    let (leaf, roots) = (ca.leaf(&server_params(HOST)), files.roots(&ca));
    let mut config = server(&leaf, None);
    config.session_storage = rustls::server::ServerSessionMemoryCache::new(8);
    config.send_tls13_tickets = 2;
    let egress = egress_at(NOW, HOST, &[], &roots);
    for _ in 0..2 {
        let (near, far) = duplex(64 * 1024);
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config.clone()));
        let (far, near) = tokio::join!(acceptor.accept(far), originate_egress(near, &egress, &[], LONG));
        let (EgressOriginated { stream: mut near, alpn, .. }, mut far) = (near.unwrap(), far.unwrap());
        // Tickets come with the first bytes.
        far.write_all(b"x").await.unwrap();
        near.read_u8().await.unwrap();
        assert_eq!(alpn, Alpn::None);
        assert_ne!(near.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Resumed));
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_given_up() {
    let (ca, files) = (public_ca(), Files::new());
    let (near, _far) = duplex(64);
    let egress = egress_at(NOW, HOST, &[], &files.roots(&ca));
    let failed = originate_egress(near, &egress, &[], LONG).await.err().unwrap();
    assert_eq!(failed.label(), "handshake_timeout");
}

#[test]
fn bad_files_are_named_with_what_is_wrong() {
    let (ca, files) = (public_ca(), Files::new());
    let (roots, text) = (files.roots(&ca), files.write("text.pem", "hello"));
    let (chain, key) = files.client(&ca.leaf(&server_params("a.b")));
    let other = files.write("other.key", &ca.leaf(&server_params("a.b")).key.serialize_pem());
    let large = files.write("large.pem", &"#".repeat(1024 * 1024 + 1));
    let missing = files.0.path().join("missing.pem");
    let broken = files.write("broken.pem", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n");
    let directory = files.0.path().to_owned();
    let table: [(&Path, (&Path, &Path), &str); 10] = [
        (&missing, (&chain, &key), "missing.pem: cannot be read"),
        (&directory, (&chain, &key), "cannot be read: not a regular file"),
        (&large, (&chain, &key), "large.pem: larger than 1024 KiB"),
        (&text, (&chain, &key), "text.pem: holds no CERTIFICATE in PEM"),
        (&broken, (&chain, &key), "broken.pem: not PEM"),
        (&key, (&chain, &key), "client.key: holds no CERTIFICATE in PEM"),
        (&roots, (&text, &key), "text.pem: holds no CERTIFICATE in PEM"),
        (&roots, (&chain, &text), "text.pem: holds no PRIVATE KEY in PEM"),
        (&roots, (&chain, &other), "other.key: not the key of the certificate in"),
        (&roots, (&chain, &missing), "missing.pem: cannot be read"),
    ];
    for (roots, client, part) in table {
        let error = EgressTls::new(name(HOST), vec![], Some(roots), Some(client)).unwrap_err().to_string();
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(EgressTls::new(name(HOST), vec![], Some(&roots), Some((&chain, &key))).is_ok(), "control");
}

#[test]
fn settings_are_equal_when_they_ask_and_trust_the_same() {
    let (ca, other, files) = (public_ca(), public_ca(), Files::new());
    let (roots, more) = (files.roots(&ca), files.write("more.pem", &pem(&[ca.root_der(), other.root_der()])));
    let (chain, key) = files.client(&ca.leaf(&server_params("a.b")));
    let make = |sni: &str, names: Vec<_>, roots: &Path, client| {
        EgressTls::new(name(sni), names, Some(roots), client).unwrap()
    };
    let plain = make(HOST, vec![], &roots, None);
    assert_eq!(plain, make(HOST, vec![name(HOST)], &roots, None));
    for different in [
        make("b.example.com", vec![name(HOST)], &roots, None),
        make(HOST, vec![name("b.example.com")], &roots, None),
        make(HOST, vec![], &more, None),
        make(HOST, vec![], &roots, Some((chain.as_path(), key.as_path()))),
    ] {
        assert_ne!(plain, different);
    }
}
