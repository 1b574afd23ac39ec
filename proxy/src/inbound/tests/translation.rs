//! HTTP between versions, and what of a head and of trailers gets through.

use ::http::{StatusCode, header};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::*;

async fn http2_caller(client: TcpStream) -> http2::SendRequest<AnyBody> {
    let (sender, driver) = http2::handshake(TokioExecutor::new(), TokioIo::new(client)).await.unwrap();
    tokio::spawn(driver);
    sender
}

async fn text(response: Response<Incoming>) -> String {
    let whole = within(response.into_body().collect()).await.unwrap();
    String::from_utf8(whole.to_bytes().to_vec()).unwrap()
}

fn get(path: &str) -> ::http::request::Builder {
    Request::get(format!("http://api{path}"))
}

fn empty() -> AnyBody {
    with_trailers("", &[])
}

#[tokio::test]
async fn http2_reaches_an_app_that_speaks_http1_as_one_clean_request() {
    let (app, connections) = http_app(HttpVersion::Http1).await;
    let call = call(app, AppProtocol::Http, Alpn::Http2).await;
    let mut caller = http2_caller(call.client).await;
    let forged = get("/a?b")
        .header("x-forwarded-client-cert", "URI=spiffe://cluster.local/ns/a/sa/admin")
        .header("x_forwarded_client_cert", "twice")
        .header("te", "trailers")
        .body(Full::default().map_err(|never: Infallible| match never {}).boxed())
        .unwrap();
    let seen = text(within(caller.send_request(forged)).await.unwrap()).await;
    assert_eq!(seen, "GET /a?b HTTP/1.1\nhost: api\n");
    // A request under way has a connection of the app for itself, and one that is over leaves its own to the next.
    let waiting = caller.send_request(get("/wait").body(empty()).unwrap());
    let waiting = tokio::spawn(waiting);
    for _ in 0..20 {
        let next = within(caller.send_request(get("/next").body(empty()).unwrap())).await.unwrap();
        assert_eq!(next.status(), StatusCode::OK);
        drop(text(next).await);
    }
    assert!(connections.load(Ordering::Relaxed) <= 3);
    assert!(!waiting.is_finished());
}

#[tokio::test]
async fn http2_reaches_an_http2_app_over_one_connection_with_its_trailers() {
    let (app, connections) = http_app(HttpVersion::Http2).await;
    let call = call(app, AppProtocol::Undeclared, Alpn::Http2).await;
    let caller = http2_caller(call.client).await;
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let mut caller = caller.clone();
            tokio::spawn(async move {
                let fields =
                    [("checksum", "1"), ("x-forwarded-client-cert", "URI=spiffe://a/b"), ("host", "other")];
                let post = Request::post("http://api/echo").body(with_trailers("grpc", &fields)).unwrap();
                within(caller.send_request(post)).await.unwrap().into_body().collect().await.unwrap()
            })
        })
        .collect();
    for call in calls {
        let echoed = within(call).await.unwrap();
        let trailers = echoed.trailers().unwrap().clone();
        assert_eq!(echoed.to_bytes(), "grpc");
        assert_eq!((trailers.len(), &trailers["checksum"]), (1, &HeaderValue::from_static("1")));
    }
    assert_eq!(connections.load(Ordering::Relaxed), 2, "one to ask what it speaks, one for all requests");
    let mut caller = caller;
    let seen = text(
        within(caller.send_request(get("/x").header("te", "trailers").body(empty()).unwrap())).await.unwrap(),
    );
    let seen = seen.await;
    assert!(seen.starts_with("GET http://api/x HTTP/2.0\n") && seen.contains("te: trailers"), "{seen}");
}

#[tokio::test]
async fn an_undeclared_app_gets_http1_when_that_is_what_it_speaks() {
    let (app, _) = http_app(HttpVersion::Http1).await;
    let call = call(app, AppProtocol::Undeclared, Alpn::Http2).await;
    let mut caller = http2_caller(call.client).await;
    for _ in 0..3 {
        let seen = text(within(caller.send_request(get("/x").body(empty()).unwrap())).await.unwrap()).await;
        assert!(seen.starts_with("GET /x HTTP/1.1\n"), "{seen}");
    }
}

#[tokio::test]
async fn a_malformed_http2_request_is_refused_and_its_connection_goes_on() {
    let (app, connections) = http_app(HttpVersion::Http1).await;
    let call = call(app, AppProtocol::Http, Alpn::Http2).await;
    let mut caller = http2_caller(call.client).await;
    for bad in [
        get("/").header("host", "other").body(empty()).unwrap(),
        get("/").header("a", " blank").body(empty()).unwrap(),
        Request::get("http://user@api/").body(empty()).unwrap(),
        Request::connect("api:443").body(empty()).unwrap(),
    ] {
        let refused = within(caller.send_request(bad)).await.unwrap();
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
        assert!(text(refused).await.contains("bad_request"));
    }
    assert_eq!(connections.load(Ordering::Relaxed), 0, "the app hears nothing of it");
    let good = within(caller.send_request(get("/").body(empty()).unwrap())).await.unwrap();
    assert_eq!(good.status(), StatusCode::OK);
}

#[tokio::test]
async fn http1_reaches_an_app_declared_as_http2() {
    let (app, _) = http_app(HttpVersion::Http2).await;
    let call = call(app, AppProtocol::Http2, Alpn::None).await;
    let got = call.says("GET /a HTTP/1.1\r\nhost: api\r\nconnection: close\r\n\r\n").await;
    assert!(got.starts_with("HTTP/1.1 200 OK\r\n") && got.contains("GET http://api/a HTTP/2.0"), "{got}");
}

#[tokio::test]
async fn prior_knowledge_is_heard_on_a_port_that_nobody_declared() {
    let (app, _) = http_app(HttpVersion::Http2).await;
    let call = call(app, AppProtocol::Undeclared, Alpn::None).await;
    let mut caller = http2_caller(call.client).await;
    let seen = text(within(caller.send_request(get("/x").body(empty()).unwrap())).await.unwrap()).await;
    assert!(seen.starts_with("GET http://api/x HTTP/2.0\n"), "{seen}");
}

#[tokio::test]
async fn http1_trailers_come_through_when_announced_and_asked_for() {
    let (app, _) = http_app(HttpVersion::Http1).await;
    let post = |te: &str| {
        format!(
            "POST /echo HTTP/1.1\r\nhost: api\r\nconnection: close\r\n{te}trailer: checksum, host\r\n\
             transfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nchecksum: 1\r\nhost: other\r\nunannounced: 1\r\n\r\n"
        )
    };
    // The app's own side of TE does not travel, so an app that heeds it sends none.
    for te in ["", "te: trailers\r\n"] {
        let call = call(app, AppProtocol::Undeclared, Alpn::None).await;
        let got = call.says(&post(te)).await;
        assert!(got.starts_with("HTTP/1.1 200 OK\r\n") && got.contains("body"), "{got}");
        assert!(!got.contains("other") && !got.contains("unannounced"), "{got}");
    }
}

#[tokio::test]
async fn a_get_may_have_a_body_of_unknown_length() {
    let (app, _) = http_app(HttpVersion::Http1).await;
    let call = call(app, AppProtocol::Undeclared, Alpn::None).await;
    let got = call
        .says("GET /echo HTTP/1.1\r\nhost: api\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n")
        .await;
    assert!(got.contains("body"), "{got}");
}

#[tokio::test]
async fn who_expects_a_100_gets_it_before_the_body() {
    let (app, _) = http_app(HttpVersion::Http1).await;
    let mut call = call(app, AppProtocol::Undeclared, Alpn::None).await;
    let head = "POST /echo HTTP/1.1\r\nhost: api\r\nexpect: 100-continue\r\ncontent-length: 4\r\nconnection: close\r\n\r\n";
    call.client.write_all(head.as_bytes()).await.unwrap();
    let word = read_until(&mut call.client, "\r\n\r\n").await;
    assert!(word.starts_with("HTTP/1.1 100 Continue"), "{word}");
    let got = call.says("body").await;
    assert!(got.starts_with("HTTP/1.1 200 OK") && got.ends_with("body"), "{got}");
}

#[tokio::test]
async fn a_head_request_gets_the_head() {
    let (app, _) = http_app(HttpVersion::Http1).await;
    let call = call(app, AppProtocol::Undeclared, Alpn::None).await;
    let got = call.says("HEAD /a HTTP/1.1\r\nhost: api\r\nconnection: close\r\n\r\n").await;
    assert!(got.starts_with("HTTP/1.1 200 OK") && got.ends_with("\r\n\r\n"), "{got}");
    assert!(got.to_lowercase().contains(header::CONTENT_LENGTH.as_str()), "{got}");
}

#[tokio::test]
async fn a_grpc_caller_is_refused_in_its_own_terms() {
    let (app, connections) = http_app(HttpVersion::Http2).await;
    let call = call(app, AppProtocol::Http2, Alpn::Http2).await;
    let mut caller = http2_caller(call.client).await;
    let bad = get("/").header("host", "other").header("content-type", "application/grpc");
    let refused = within(caller.send_request(bad.body(empty()).unwrap())).await.unwrap();
    assert_eq!(refused.status(), StatusCode::OK);
    assert_eq!(refused.headers()["grpc-status"], "13");
    assert_eq!(refused.headers()["x-portcullis-refused"], "bad_request");
    assert_eq!(connections.load(Ordering::Relaxed), 0);
}
