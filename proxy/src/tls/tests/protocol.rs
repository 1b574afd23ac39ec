//! Peers that break the protocol, or speak another.

use rustls::HandshakeKind;
use rustls::client::Resumption;
use rustls::server::NoClientAuth;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

use super::super::testing::leaf_params;
use super::*;

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let mesh = Mesh::new();
    let api = mesh.identity(API);
    for versions in [&BOTH as MinVersionOf, &OLD] {
        assert_eq!(label(call(foreign_client(None, versions), &api).await), "no_client_certificate");
    }
}

#[tokio::test]
async fn a_server_that_does_not_ask_who_we_are_is_refused() {
    let mesh = Mesh::new();
    let (ours, leaf) = (mesh.identity(WEB), mesh.intermediate.leaf(&leaf_params(API)));
    for versions in [&BOTH as MinVersionOf, &OLD] {
        let builder =
            ServerConfig::builder_with_provider(provider()).with_protocol_versions(versions).unwrap();
        let config =
            builder.with_client_cert_verifier(Arc::new(NoClientAuth)).with_cert_resolver(credential(&leaf));
        assert_eq!(label(serve(config, &ours, &expecting(API)).await), "not_mutual");
    }
}

#[tokio::test]
async fn an_attempt_to_resume_gets_a_full_handshake() {
    let mesh = Mesh::new();
    let (api, leaf) = (mesh.identity(API), mesh.intermediate.leaf(&leaf_params(WEB)));
    for versions in [&BOTH as MinVersionOf, &OLD] {
        let mut config = foreign_client(Some(&leaf), versions);
        config.resumption = Resumption::in_memory_sessions(8);
        config.enable_early_data = true;
        let kind = second_handshake((*api.server_config()).clone(), config).await;
        assert!(matches!(kind, Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest)));
    }
}

/// How the second connection of a client that remembers begins.
async fn second_handshake(server: ServerConfig, client: ClientConfig) -> Option<HandshakeKind> {
    let (server, client) = (Arc::new(server), Arc::new(client));
    let mut kind = None;
    for _ in 0..2 {
        let (near, far) = duplex(64 * 1024);
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::clone(&server));
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(&client));
        let (far, near) = tokio::join!(acceptor.accept(far), connector.connect(sni(), near));
        let (mut far, mut near) = (far.unwrap(), near.unwrap());
        // Tickets come with the first bytes.
        far.write_all(b"x").await.unwrap();
        near.read_u8().await.unwrap();
        kind = near.get_ref().1.handshake_kind();
    }
    kind
}

#[tokio::test]
async fn our_client_never_resumes() {
    let mesh = Mesh::new();
    let (ours, leaf) = (mesh.identity(WEB), mesh.intermediate.leaf(&leaf_params(API)));
    let mut server = foreign_server(&leaf, &ours);
    server.session_storage = rustls::server::ServerSessionMemoryCache::new(8);
    server.send_tls13_tickets = 2;
    for versions in [&BOTH as MinVersionOf, &OLD] {
        let client = foreign_client(Some(&leaf), versions);
        let kind = second_handshake(server.clone(), client).await;
        assert_eq!(kind, Some(HandshakeKind::Resumed), "control: this server does resume");
    }
    let kind = second_handshake(server.clone(), ours.client_config(expecting(API))).await;
    assert_ne!(kind, Some(HandshakeKind::Resumed));
    for _ in 0..3 {
        let originated = serve(server.clone(), &ours, &expecting(API)).await.unwrap();
        assert_ne!(originated.stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
    }
}

#[tokio::test]
async fn tls_1_2_can_be_switched_off() {
    let mesh = Mesh::new();
    let leaf = mesh.intermediate.leaf(&leaf_params(WEB));
    let strict = mesh.identity_with(API, MinVersion::Tls13);
    assert_eq!(label(call(foreign_client(Some(&leaf), &OLD), &strict).await), "tls_version");
    assert_eq!(label(call(foreign_client(Some(&leaf), &BOTH), &strict).await), "ok");
    assert_eq!(label(call(foreign_client(Some(&leaf), &OLD), &mesh.identity(API)).await), "ok");

    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&OLD).unwrap();
    let old = builder.with_client_cert_verifier(Arc::new(NoClientAuth)).with_cert_resolver(credential(&leaf));
    assert_eq!(label(serve(old, &strict, &expecting(WEB)).await), "tls_version");
}

#[tokio::test]
async fn application_protocols_are_ours_or_none() {
    let mesh = Mesh::new();
    let (api, leaf) = (mesh.identity(API), mesh.intermediate.leaf(&leaf_params(WEB)));
    let with = |protocols: &[&str]| {
        let mut config = foreign_client(Some(&leaf), &BOTH);
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    };
    assert_eq!(call(with(&["h2", "http/1.1"]), &api).await.unwrap().alpn, Alpn::Http2);
    assert_eq!(call(with(&["http/1.1"]), &api).await.unwrap().alpn, Alpn::Http1);
    assert_eq!(call(with(&[]), &api).await.unwrap().alpn, Alpn::None);
    assert_eq!(label(call(with(&["gopher"]), &api).await), "no_common_alpn");
}

#[tokio::test]
async fn plaintext_from_the_server_before_the_handshake_ends_it() {
    let mesh = Mesh::new();
    let web = mesh.identity(WEB);
    for bytes in ["HTTP/1.1 400 Bad Request\r\n\r\n", "220 smtp.example ESMTP\r\n", "\0\0\0\0\0\0\0\0"] {
        let (near, mut far) = duplex(64 * 1024);
        far.write_all(bytes.as_bytes()).await.unwrap();
        let ended = originate(near, &web, &sni(), &expecting(API), &[], LONG).await;
        assert_eq!(label(ended), "not_tls", "{bytes:?}");
    }
}

#[tokio::test]
async fn plaintext_from_the_client_is_named() {
    let mesh = Mesh::new();
    let api = mesh.identity(API);
    for bytes in ["GET / HTTP/1.1\r\nHost: api\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "hello\r\n"] {
        let (mut near, far) = duplex(64 * 1024);
        near.write_all(bytes.as_bytes()).await.unwrap();
        assert_eq!(label(terminate(far, &api, LONG).await), "not_tls", "{bytes:?}");
    }
}

#[tokio::test]
async fn a_peer_that_leaves_or_stays_silent_is_named() {
    let mesh = Mesh::new();
    let api = mesh.identity(API);
    let (near, far) = duplex(1024);
    drop(near);
    assert_eq!(label(terminate(far, &api, LONG).await), "closed");
    tokio::time::pause();
    let (_near, far) = duplex(1024);
    assert_eq!(label(terminate(far, &api, LONG).await), "handshake_timeout");
    let (near, _far) = duplex(64 * 1024);
    assert_eq!(label(originate(near, &api, &sni(), &expecting(API), &[], LONG).await), "handshake_timeout");
}

#[tokio::test]
async fn an_expired_identity_neither_calls_nor_answers() {
    let mesh = Mesh::new();
    let api = mesh.identity(API);
    mesh.clock.advance(Duration::from_secs(3600));
    assert!(api.check_own_certificate().is_ok(), "NotAfter is the last good second");
    mesh.clock.advance(Duration::from_secs(1));
    let (near, far) = duplex(1024);
    assert_eq!(label(terminate(far, &api, LONG).await), "own_certificate_expired");
    assert_eq!(
        label(originate(near, &api, &sni(), &expecting(API), &[], LONG).await),
        "own_certificate_expired"
    );
}

async fn byte_by_byte(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    while let Ok(byte) = from.read_u8().await {
        to.write_u8(byte).await.unwrap();
        // Lets the far end read each byte alone.
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_handshake_may_come_byte_by_byte() {
    let mesh = Mesh::new();
    let (api, web) = (mesh.identity(API), mesh.identity(WEB));
    let ((near, one), (two, far)) = (duplex(64 * 1024), duplex(64 * 1024));
    let ((one_in, one_out), (two_in, two_out)) = (tokio::io::split(one), tokio::io::split(two));
    let relays = [tokio::spawn(byte_by_byte(one_in, two_out)), tokio::spawn(byte_by_byte(two_in, one_out))];
    let (name, expected) = (sni(), expecting(API));
    let (server, client) =
        tokio::join!(terminate(far, &api, LONG), originate(near, &web, &name, &expected, &[], LONG));
    relays.iter().for_each(tokio::task::JoinHandle::abort);
    assert_eq!((label(server), label(client)), ("ok", "ok"));
}

/// Splits each record into records of one byte.
fn one_byte_records(mut flight: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let [kind, major, minor, high, low, rest @ ..] = flight {
        let (body, next) = rest.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        body.iter().for_each(|byte| out.extend([*kind, *major, *minor, 0, 1, *byte]));
        flight = next;
    }
    out
}

#[tokio::test]
async fn a_client_hello_in_one_byte_records_is_answered_or_refused_and_never_hangs() {
    let mesh = Mesh::new();
    let (api, leaf) = (mesh.identity(API), mesh.intermediate.leaf(&leaf_params(WEB)));
    let mut client =
        rustls::ClientConnection::new(Arc::new(foreign_client(Some(&leaf), &BOTH)), sni()).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    let (mut near, far) = duplex(64 * 1024);
    near.write_all(&one_byte_records(&hello)).await.unwrap();
    let client = async {
        let mut answer = vec![0; 16 * 1024];
        let length = near.read(&mut answer).await.unwrap();
        answer.truncate(length);
        drop(near);
        answer
    };
    let (ended, answer) = tokio::join!(terminate(far, &api, LONG), client);
    // A ServerHello record, or an alert record: no silence, no panic.
    assert!(matches!(answer.first(), Some(0x16 | 0x15)), "{:?}", answer.first());
    assert!(matches!(label(ended), "closed" | "protocol" | "io"));
}

#[tokio::test]
async fn a_server_s_refusal_is_the_client_s_first_read() {
    let (mesh, other) = (Mesh::new(), Mesh::new());
    let (web, leaf) = (mesh.identity(WEB), mesh.intermediate.leaf(&leaf_params(API)));
    let refusing = foreign_server(&leaf, &other.identity(API));
    let (near, far) = duplex(64 * 1024);
    let server = tokio::spawn(tokio_rustls::TlsAcceptor::from(Arc::new(refusing)).accept(far));
    let mut originated = originate(near, &web, &sni(), &expecting(API), &[], LONG).await.unwrap();
    let error = originated.stream.read(&mut [0]).await.unwrap_err();
    assert_eq!(NoMutualTls::of_io(error).label(), "refused_by_peer");
    assert!(server.await.unwrap().is_err());
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (near, listener.accept().await.unwrap().0)
}

#[tokio::test]
async fn first_bytes_are_told_and_left_where_they_are() {
    let cases: [(&[u8], FirstBytes); 5] = [
        (&[0x16, 3, 1, 0, 5], FirstBytes::TlsHandshake),
        (b"POST /x HTTP/1.1\r\n", FirstBytes::Http { method: "POST" }),
        (b"PRI * HTTP/2.0\r\n\r\n", FirstBytes::Http { method: "PRI" }),
        (b"GETTING", FirstBytes::Other),
        (&[0x80; 100], FirstBytes::Other),
    ];
    for (bytes, told) in cases {
        let (mut near, mut far) = pair().await;
        near.write_all(bytes).await.unwrap();
        assert_eq!(first_bytes(&far, LONG).await.unwrap(), told);
        let mut left = vec![0; bytes.len()];
        far.read_exact(&mut left).await.unwrap();
        assert_eq!(left, bytes);
    }
}

#[tokio::test]
async fn first_bytes_wait_for_more() {
    let (mut near, far) = pair().await;
    near.set_nodelay(true).unwrap();
    let teller = tokio::spawn(async move { first_bytes(&far, LONG).await });
    for byte in b"UPDATEREDIRECTREF" {
        near.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
        assert!(!teller.is_finished());
    }
    near.write_all(b" ").await.unwrap();
    assert_eq!(teller.await.unwrap().unwrap(), FirstBytes::Http { method: "UPDATEREDIRECTREF" });
}

#[tokio::test]
async fn waiting_for_more_first_bytes_leaves_the_thread_idle() {
    let (mut near, far) = pair().await;
    near.write_all(b"GE").await.unwrap();
    far.readable().await.unwrap();
    // Paused time moves by itself only while nothing runs: a busy wait would never come to the deadline.
    tokio::time::pause();
    let before = tokio::time::Instant::now();
    assert_eq!(first_bytes(&far, LONG).await.unwrap(), FirstBytes::Other);
    assert!(before.elapsed() >= LONG);
}

#[tokio::test]
async fn silence_closure_and_half_a_method_are_told_apart() {
    let short = Duration::from_millis(50);
    let (mut near, far) = pair().await;
    assert_eq!(first_bytes(&far, short).await.unwrap(), FirstBytes::Silent);
    near.write_all(b"GE").await.unwrap();
    assert_eq!(first_bytes(&far, short).await.unwrap(), FirstBytes::Other);
    let (near, far) = pair().await;
    drop(near);
    assert_eq!(first_bytes(&far, LONG).await.unwrap(), FirstBytes::Closed);
}

#[test]
fn too_few_bytes_tell_nothing() {
    for bytes in ["", "\x16", "G", "GE", "GET", "P", "PR", "PRI * HTTP/2.", "UN", "UNLOCK"] {
        assert_eq!(classify(bytes.as_bytes()), None, "{bytes:?}");
    }
    for bytes in ["\x16\x02", "\x17\x03", "get / ", "GETX", " GET", "\r\nGET / ", "PRI * HTTP/1.1", "\u{0}"] {
        assert_eq!(classify(bytes.as_bytes()), Some(FirstBytes::Other), "{bytes:?}");
    }
    assert_eq!(classify(b"GET "), Some(FirstBytes::Http { method: "GET" }));
}
