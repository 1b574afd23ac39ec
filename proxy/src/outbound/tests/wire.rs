use std::collections::HashMap;
use std::net::SocketAddr;

use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::server::Server;
use crate::outbound::testing::{Bed, destination, get, post, within};
use crate::route::{AppProtocol, OutboundPolicy};

fn bed(api: SocketAddr, protocol: AppProtocol) -> Bed {
    let mut only = destination("api", 80, &[api]);
    only.protocol = protocol;
    Bed::new(OutboundPolicy::new(vec![only], HashMap::new()))
}

/// Grants every upgrade to `echo`, says "hello" at once, and then says back what it hears.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let head = head(&mut stream).await;
                assert!(head.to_ascii_lowercase().contains("upgrade: echo"), "{head}");
                let granted =
                    b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\nhello";
                stream.write_all(granted).await.unwrap();
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    addr
}

async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

const UPGRADE: &[u8] = b"GET / HTTP/1.1\r\nhost: api\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";

#[tokio::test]
async fn an_upgraded_connection_carries_bytes_both_ways_to_the_end() {
    let bed = bed(echo().await, AppProtocol::Http);
    within(async {
        let mut app = TcpStream::connect(bed.addr).await.unwrap();
        app.write_all(UPGRADE).await.unwrap();
        let head = head(&mut app).await.to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 101") && head.contains("upgrade: echo"), "{head}");
        let mut hello = [0; 5];
        app.read_exact(&mut hello).await.unwrap();
        assert_eq!(&hello, b"hello");
        for turn in 0..100_u8 {
            let mut heard = [0; 1000];
            app.write_all(&[turn; 1000]).await.unwrap();
            app.read_exact(&mut heard).await.unwrap();
            assert_eq!(heard, [turn; 1000]);
        }
        app.shutdown().await.unwrap();
        assert_eq!(app.read_to_end(&mut Vec::new()).await.unwrap(), 0);
    })
    .await;
}

#[tokio::test]
async fn an_upgrade_towards_http2_and_a_connect_where_none_is_declared_are_refused() {
    for (protocol, request, status) in [
        (AppProtocol::Http2, UPGRADE, "http/1.1 502"),
        (AppProtocol::Http, b"CONNECT api:443 HTTP/1.1\r\nhost: api:443\r\n\r\n", "http/1.1 4"),
    ] {
        let api = Server::named("api").await;
        let bed = bed(api.addr, protocol);
        within(async {
            let mut app = TcpStream::connect(bed.addr).await.unwrap();
            app.write_all(request).await.unwrap();
            let head = head(&mut app).await.to_ascii_lowercase();
            assert!(head.starts_with(status), "{head}");
        })
        .await;
        assert!(api.seen().is_empty());
    }
}

#[tokio::test]
async fn an_app_that_speaks_http2_is_answered_by_a_service_that_speaks_http1() {
    let api = Server::named("api").await;
    let bed = bed(api.addr, AppProtocol::Http);
    let response = bed.ask_http2(post("over http2")).await;
    assert_eq!((response.status(), response.body().as_ref()), (StatusCode::OK, &b"api"[..]));
    assert_eq!(response.version(), http::Version::HTTP_2);
    let seen = api.seen();
    assert_eq!((seen[0].header("host"), seen[0].body.as_ref()), ("api", &b"over http2"[..]));
}

#[tokio::test]
async fn bytes_that_are_no_http_are_carried_as_they_are() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let bed = bed(listener.local_addr().unwrap(), AppProtocol::Undeclared);
    within(async {
        let mut app = TcpStream::connect(bed.addr).await.unwrap();
        app.write_all(b"\x00\x01 not http\n").await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let mut heard = [0; 12];
        server.read_exact(&mut heard).await.unwrap();
        server.write_all(b"right").await.unwrap();
        drop(server);
        let mut answer = String::new();
        app.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "right");
    })
    .await;
}

#[tokio::test]
async fn without_rules_a_get_is_retried_as_istio_does_by_default() {
    let api = Server::with(503).await;
    let response = bed(api.addr, AppProtocol::Http).ask(get("/")).await;
    assert_eq!((response.status(), api.seen().len()), (StatusCode::SERVICE_UNAVAILABLE, 3));
}

#[tokio::test]
async fn a_declared_proxy_is_asked_for_tunnels() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let bed = bed(listener.local_addr().unwrap(), AppProtocol::HttpProxy);
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(head(&mut stream).await.starts_with("CONNECT far.example:443 HTTP/1.1\r\n"));
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    });
    within(async {
        let mut app = TcpStream::connect(bed.addr).await.unwrap();
        app.write_all(b"CONNECT far.example:443 HTTP/1.1\r\nhost: far.example:443\r\n\r\n").await.unwrap();
        let head = head(&mut app).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        app.write_all(b"through").await.unwrap();
        let mut heard = [0; 7];
        app.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"through");
    })
    .await;
}

#[tokio::test]
async fn an_app_that_speaks_http1_is_answered_by_a_service_that_speaks_http2() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let bed = bed(listener.local_addr().unwrap(), AppProtocol::Http2);
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let service =
            hyper::service::service_fn(|request: http::Request<hyper::body::Incoming>| async move {
                let seen = format!("{:?} {} {}", request.version(), request.method(), request.uri());
                let body = http_body_util::BodyExt::collect(request.into_body()).await?.to_bytes();
                let seen = [seen.as_bytes(), b" ", &body].concat();
                Ok::<_, hyper::Error>(http::Response::new(http_body_util::Full::new(bytes::Bytes::from(
                    seen,
                ))))
            });
        let io = hyper_util::rt::TokioIo::new(stream);
        let executor = hyper_util::rt::TokioExecutor::new();
        let _ = hyper::server::conn::http2::Builder::new(executor).serve_connection(io, service).await;
    });
    let response = bed.ask(post("over http1")).await;
    assert_eq!((response.status(), response.version()), (StatusCode::OK, http::Version::HTTP_11));
    assert_eq!(response.body(), "HTTP/2.0 POST http://api/ over http1");
}

#[tokio::test]
async fn a_post_goes_to_another_server_when_the_first_takes_no_connection() {
    let (gone, api) = (super::server::nobody().await, Server::named("api").await);
    let mut only = destination("api", 80, &[gone, api.addr]);
    only.protocol = AppProtocol::Http;
    let bed = Bed::new(OutboundPolicy::new(vec![only], HashMap::new()));
    for _ in 0..6 {
        assert_eq!(bed.ask(post("x")).await.status(), StatusCode::OK);
    }
    assert_eq!(api.seen().len(), 6);
}
