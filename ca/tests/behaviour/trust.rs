//! Who may connect, and how trust bundles reach them.

use std::sync::Arc;
use std::time::Duration;

use portcullis_ca::{Lives, RequestedKey};
use portcullis_identity::{TrustBundle, TrustDomain};
use rcgen::{KeyPair, PublicKeyData};
use rustls::version::{TLS12, TLS13};
use rustls::{ALL_VERSIONS, ClientConfig, HandshakeKind};
use rustls_pki_types::{PrivatePkcs8KeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tonic::Code;

use crate::fixture::{DAY, DEADLINE, Fixture, eventually};

#[tokio::test]
async fn an_expired_svid_cannot_connect() {
    let ca = Fixture::start().await;
    let held = ca.join("api").await;
    ca.advance(DAY).await;
    ca.client().renew(&held).await.expect("its last second still counts");
    ca.advance(Duration::from_secs(1)).await;
    assert!(ca.client().renew(&held).await.is_err());
    let fresh = ca.join("api").await;
    ca.client().renew(&fresh).await.expect("a new token heals it");
}

#[tokio::test]
async fn an_svid_that_expires_on_an_open_connection_is_refused() {
    let ca = Fixture::start().await;
    let held = ca.join("api").await;
    let mut client = ca.client().connect(Some(&held)).await.unwrap();
    client.issue(KeyPair::generate().unwrap(), "").await.unwrap();
    ca.clock.advance(DAY + Duration::from_secs(1));
    let error = client.issue(KeyPair::generate().unwrap(), "").await.err().unwrap();
    assert_eq!(error.code(), Code::Unauthenticated, "{error}");
    let error = client.watch(0).await.err().unwrap();
    assert_eq!(error.code(), Code::Unauthenticated, "{error}");
}

#[tokio::test]
async fn an_svid_of_another_authority_cannot_connect() {
    let ca = Fixture::start().await;
    let other = Fixture::start().await;
    let foreign = other.join("api").await;
    other.client().renew(&foreign).await.expect("it is good at home");
    assert!(ca.client().renew(&foreign).await.is_err());
    // Its own leaf under our intermediate does not make a chain either.
    let mut grafted = other.join("api").await;
    grafted.chain[1] = ca.join("api").await.chain[1].clone();
    assert!(ca.client().renew(&grafted).await.is_err());
}

#[tokio::test]
async fn a_chain_without_its_intermediate_or_with_too_many_cannot_connect() {
    let ca = Fixture::start().await;
    let mut held = ca.join("api").await;
    let intermediate = held.chain.pop().unwrap();
    assert!(ca.client().renew(&held).await.is_err());
    held.chain.push(intermediate.clone());
    ca.client().renew(&held).await.expect("the whole chain is good");
    held.chain.extend(std::iter::repeat_n(intermediate, 100));
    assert!(ca.client().renew(&held).await.is_err());
}

#[tokio::test]
async fn a_client_that_pins_another_root_does_not_send_its_token() {
    let ca = Fixture::start().await;
    let token = ca.token("api").await;
    let mut client = ca.client();
    client.root = *Fixture::start().await.token("x").await.root();
    assert!(client.join(&token).await.is_err());
    assert_eq!(ca.rows("SELECT identity FROM tokens WHERE used_at IS NOT NULL").await.len(), 0);
    client.root = *token.root();
    client.join(&token).await.unwrap();
}

#[tokio::test]
async fn the_bundle_comes_at_once_and_again_when_the_roots_change() {
    let ca = Fixture::start().await;
    let held = ca.join("api").await;
    let mut client = ca.client().connect(Some(&held)).await.unwrap();
    let mut bundles = client.watch(held.bundle.generation).await.unwrap();
    let first = timeout(DEADLINE, bundles.message()).await.unwrap().unwrap().unwrap();
    assert_eq!(first, held.bundle);
    let trust_domain = TrustDomain::parse(&first.trust_domain).unwrap();
    let read = TrustBundle::from_jwks(trust_domain.clone(), &first.jwks).unwrap();
    assert_eq!(read.roots(), [ca.authority.root().clone()]);

    // Another root is staged in the store, as an operator's command would.
    let other = Fixture::start().await;
    let staged = "INSERT INTO authorities VALUES ('x', 'root', 'staged', unhex('CERT'), x'00', 9999999999)";
    let hex: String = other.authority.root().iter().map(|byte| format!("{byte:02x}")).collect();
    crate::fixture::execute(&ca.store, &staged.replace("CERT", &hex)).await;
    crate::fixture::execute(&ca.store, "UPDATE meta SET bundle_generation = 2").await;
    let second = timeout(DEADLINE, bundles.message()).await.unwrap().unwrap().unwrap();
    assert_eq!(second.generation, 2);
    let read = TrustBundle::from_jwks(trust_domain, &second.jwks).unwrap();
    assert_eq!(read.roots().len(), 2);

    client.watch(second.generation).await.unwrap();
    let acknowledged = "SELECT identity || ' ' || generation FROM acknowledgements";
    assert_eq!(ca.rows(acknowledged).await, [format!("{} 2", held.facts.id)]);
}

#[tokio::test]
async fn the_bundle_is_for_verified_svids_alone() {
    let ca = Fixture::start().await;
    let error = ca.client().connect(None).await.unwrap().watch(0).await.err().unwrap();
    assert_eq!(error.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn watchers_are_told_when_the_authority_goes_down() {
    let ca = Fixture::start().await;
    let held = ca.join("api").await;
    let mut bundles = ca.client().connect(Some(&held)).await.unwrap().watch(1).await.unwrap();
    timeout(DEADLINE, bundles.message()).await.unwrap().unwrap().unwrap();
    let ca = ca.restart().await;
    let error = timeout(DEADLINE, bundles.message()).await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    ca.client().renew(&held).await.expect("what was issued before the restart is good after it");
}

#[tokio::test]
async fn a_restart_keeps_the_authorities() {
    let ca = Fixture::start().await;
    let held = ca.join("api").await;
    let unused = ca.token("other").await;
    let before = ca.rows("SELECT id FROM authorities ORDER BY id").await;
    let ca = ca.restart().await;
    assert_eq!(ca.rows("SELECT id FROM authorities ORDER BY id").await, before);
    let renewed = ca.client().renew(&held).await.unwrap();
    assert_eq!(renewed.chain[1], held.chain[1]);
    ca.client().join(&unused).await.expect("tokens survive too");
}

#[tokio::test]
async fn the_server_renews_its_own_certificate_in_place() {
    let ca = Fixture::start().await;
    let own = "SELECT serial FROM leaves WHERE identity LIKE '%/sa/portcullis-ca'";
    eventually("a first certificate", async || ca.rows(own).await.len() == 1).await;
    ca.clock.advance(DAY / 2);
    eventually("a second certificate", async || ca.rows(own).await.len() == 2).await;
    ca.advance(DAY / 2 + Duration::from_secs(1)).await;
    ca.join("api").await;
}

#[tokio::test]
async fn a_connection_ends_with_the_svid_it_was_opened_with() {
    let lives = Lives::new(Duration::from_secs(3), DAY, DAY).unwrap();
    let ca = Fixture::start_with(lives).await;
    let held = ca.join("api").await;
    let mut bundles = ca.client().connect(Some(&held)).await.unwrap().watch(1).await.unwrap();
    timeout(DEADLINE, bundles.message()).await.unwrap().unwrap().unwrap();
    // The clock stands, so that only the connection's own timer can end it.
    let ended = timeout(DEADLINE, bundles.message()).await.expect("it ends");
    assert!(ended.is_err(), "cut off, not finished");
    ca.client().renew(&held).await.expect("by the authority's clock the SVID is still good");
}

#[tokio::test]
async fn connections_that_say_nothing_or_nonsense_are_closed_and_harm_nobody() {
    let ca = Fixture::start().await;
    let address = ca.client().address;
    let mut silent = TcpStream::connect(&address).await.unwrap();
    for nonsense in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0x16, 3, 1, 0xff, 0xff], &[0; 20_000]] {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        // The server may close before it has read everything.
        let _ = stream.write_all(nonsense).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("it is closed");
    }
    ca.join("api").await;
    let mut answer = Vec::new();
    timeout(DEADLINE, silent.read_to_end(&mut answer)).await.expect("closed after 10 s").unwrap();
    assert!(answer.is_empty());
}

#[tokio::test]
async fn a_client_cannot_acknowledge_what_there_is_not_yet() {
    let ca = Fixture::start().await;
    let held = ca.join("api").await;
    let mut client = ca.client().connect(Some(&held)).await.unwrap();
    client.watch(u64::MAX).await.unwrap();
    assert_eq!(ca.rows("SELECT CAST(generation AS TEXT) FROM acknowledgements").await, ["1"]);
}

#[tokio::test]
async fn no_session_is_ever_resumed() {
    let ca = Fixture::start().await;
    let client = ca.client();
    // A server with the library's defaults and the authority's name: what resumption looks like.
    let key = KeyPair::generate().unwrap();
    let requested = RequestedKey::from_public_key(&key.subject_public_key_info()).unwrap();
    let mut chain = ca.authority.issue_to(ca.authority.own(), &requested).await.unwrap().chain;
    chain.push(ca.authority.root().clone());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config =
        rustls::ServerConfig::builder_with_provider(provider).with_protocol_versions(ALL_VERSIONS).unwrap();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let mut config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let lenient = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let mut stream = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
            stream.write_all(b"hello").await.unwrap();
            stream.flush().await.unwrap();
        }
    });
    for version in [&TLS13, &TLS12] {
        let config = Arc::new(client.tls(None, &[version]));
        assert_eq!(two_handshakes(&lenient, config).await, [HandshakeKind::Full, HandshakeKind::Resumed]);
        let config = Arc::new(client.tls(None, &[version]));
        assert_eq!(two_handshakes(&client.address, config).await, [HandshakeKind::Full, HandshakeKind::Full]);
    }
}

/// How two connections in a row with one client configuration came about.
async fn two_handshakes(address: &str, config: Arc<ClientConfig>) -> Vec<HandshakeKind> {
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("portcullis-ca").unwrap();
        let mut stream = TlsConnector::from(Arc::clone(&config)).connect(name, stream).await.unwrap();
        // Tickets come before the first bytes of the application.
        let mut byte = [0];
        timeout(DEADLINE, stream.read_exact(&mut byte)).await.unwrap().unwrap();
        match stream.get_ref().1.handshake_kind().unwrap() {
            // Another key exchange than the client guessed: still the whole proof.
            HandshakeKind::FullWithHelloRetryRequest => kinds.push(HandshakeKind::Full),
            kind @ (HandshakeKind::Full | HandshakeKind::Resumed) => kinds.push(kind),
        }
    }
    kinds
}
