use std::time::Duration;

use http::{HeaderValue, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::server::{Refuses, Server, answer, mute, nobody};
use crate::outbound::testing::{Bed, destination, forward, get, mark, post, route, within};
use crate::route::{HttpAction, OutboundPolicy, RetryPolicy};

const SHORT: Duration = Duration::from_millis(300);

fn bed(api: std::net::SocketAddr, timeout: Option<Duration>, attempts: u32) -> Bed {
    let mut forward = forward(&[(0, 1)]);
    forward.timeout = timeout;
    forward.retries = RetryPolicy { attempts, ..RetryPolicy::default() };
    Bed::routed(api, route(HttpAction::Forward(forward)))
}

#[tokio::test]
async fn a_service_that_says_nothing_is_a_504_in_time_with_the_reason() {
    let bed = bed(mute().await, Some(SHORT), 2);
    for request in [get("/"), post("body"), post(vec![7; 10_000_000])] {
        let started = Instant::now();
        let response = bed.ask(request).await;
        assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
        assert_eq!(response.headers()["x-portcullis-refused"], "timeout");
        let reason = String::from_utf8(response.into_body().to_vec()).unwrap();
        assert!(
            reason.contains("within 300 ms (timeout); VirtualService production/api (http[0])"),
            "{reason}"
        );
        assert!((SHORT..Duration::from_secs(10)).contains(&started.elapsed()), "{:?}", started.elapsed());
    }
}

#[tokio::test]
async fn a_grpc_app_is_told_in_trailers_alone() {
    let bed = bed(mute().await, Some(SHORT), 0);
    let mut call = post("");
    call.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc+proto"));
    let response = bed.ask_http2(call).await;
    assert_eq!((response.status(), mark(&response, "grpc-status")), (StatusCode::OK, "4"));
    assert!(response.headers()["grpc-message"].to_str().unwrap().contains("within 300 ms"));
}

#[tokio::test]
async fn an_answer_that_stops_half_way_is_broken_off_at_the_timeout_and_never_looks_whole() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n")
            .await
            .unwrap();
        std::future::pending::<()>().await;
    });
    let bed = bed(addr, Some(SHORT), 0);
    within(async {
        let mut app = TcpStream::connect(bed.addr).await.unwrap();
        app.write_all(b"GET / HTTP/1.1\r\nhost: api\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        // In order or by a reset: what counts is that the last chunk is missing.
        let _ = app.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("half"), "{answer}");
        assert!(!answer.ends_with("0\r\n\r\n"), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn a_get_is_asked_again_after_a_503_and_a_post_never() {
    let at_last = |number| answer(if number < 3 { 503 } else { 200 });
    let api = Server::start(at_last).await;
    let bed = bed(api.addr, None, 2);
    assert_eq!(bed.ask(get("/")).await.status(), StatusCode::OK);
    assert_eq!(api.seen().len(), 3);
    bed.counted("portcullis_retries_total{outcome=\"retried\"} 2").await;

    let api = Server::start(at_last).await;
    let response = self::bed(api.addr, None, 2).ask(post("x")).await;
    assert_eq!((response.status(), api.seen().len()), (StatusCode::SERVICE_UNAVAILABLE, 1));
    assert!(!response.headers().contains_key("x-portcullis-retries"));
}

#[tokio::test]
async fn a_post_that_the_service_says_it_did_not_take_is_sent_again_and_no_other() {
    for (how, status, sent) in [(Refuses::Unprocessed, 200, 2), (Refuses::HalfWay, 502, 1)] {
        let api = Server::refusing_first(how).await;
        let mut retries = RetryPolicy { attempts: 2, ..RetryPolicy::default() };
        retries.on.reset = true;
        let mut forward = forward(&[(0, 1)]);
        forward.retries = retries;
        let bed = Bed::routed(api.addr, route(HttpAction::Forward(forward)));
        let response = bed.ask_http2(post("a body")).await;
        let seen = api.seen();
        assert_eq!((response.status().as_u16(), seen.len()), (status, sent), "{how:?}");
        assert!(seen.iter().all(|seen| seen.body == "a body"), "each time the whole body");
        let retried =
            bed.outbound.metrics.encode().contains("portcullis_retries_total{outcome=\"retried\"} 1");
        assert_eq!(retried, sent == 2, "it is the loop that sends it again");
    }
}

#[tokio::test]
async fn a_put_is_sent_again_whole_while_its_body_is_small() {
    for (size, status, sent) in [(60_000, 200, 2), (1_000_000, 503, 1)] {
        let api = Server::start(|number| answer(if number < 2 { 503 } else { 200 })).await;
        let body: Vec<u8> = (0..size).map(|byte: usize| u8::try_from(byte % 251).unwrap()).collect();
        let mut request = post(body.clone());
        *request.method_mut() = http::Method::PUT;
        let response = bed(api.addr, None, 1).ask(request).await;
        let seen = api.seen();
        assert_eq!((response.status().as_u16(), seen.len()), (status, sent), "{size} bytes");
        assert!(seen.iter().all(|seen| seen.body == body), "each time the whole body");
        let mark =
            response.headers().get("x-portcullis-retries").map(|mark| mark.to_str().unwrap().to_owned());
        assert_eq!(mark.as_deref(), (sent == 1).then_some("body"));
    }
}

#[tokio::test]
async fn when_no_retry_is_left_the_answer_says_so() {
    let api = Server::with(503).await;
    let response = bed(api.addr, None, 1).ask(get("/")).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["x-portcullis-retries"], "exhausted");
    assert_eq!(response.body(), "503", "the service's own answer");
}

#[tokio::test]
async fn a_service_that_nobody_is_at_is_a_503_with_the_reason() {
    let response = bed(nobody().await, None, 0).ask(post("x")).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["x-portcullis-refused"], "upstream_unreachable");
}

#[tokio::test]
async fn a_service_that_no_policy_knows_is_refused_and_the_connection_closed() {
    let others = vec![destination("other", 80, &[nobody().await])];
    let bed = Bed::new(OutboundPolicy::new(others, std::collections::HashMap::new()));
    let response = bed.ask(get("/")).await;
    assert_eq!((response.status(), mark(&response, "connection")), (StatusCode::BAD_GATEWAY, "close"));
    assert_eq!(response.headers()["x-portcullis-refused"], "unknown_host");
}

#[tokio::test]
async fn an_app_that_sends_slowly_is_not_held_against_the_service() {
    let api = Server::named("api").await;
    let bed = bed(api.addr, Some(SHORT), 0);
    within(async {
        let mut app = TcpStream::connect(bed.addr).await.unwrap();
        app.write_all(b"POST / HTTP/1.1\r\nhost: api\r\nconnection: close\r\ncontent-length: 5\r\n\r\n")
            .await
            .unwrap();
        let started = Instant::now();
        for byte in b"slow!" {
            tokio::time::sleep(SHORT / 2).await;
            app.write_all(&[*byte]).await.unwrap();
        }
        assert!(started.elapsed() > SHORT * 2, "control: the route's timeout is long over");
        let mut answer = String::new();
        app.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    })
    .await;
    assert_eq!(api.seen()[0].body, "slow!");
}

#[tokio::test]
async fn an_answer_that_never_pauses_ends_at_the_timeout_too() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
        let chunk = [&b"10000\r\n"[..], &[b'x'; 0x10000], b"\r\n"].concat();
        while stream.write_all(&chunk).await.is_ok() {}
    });
    let bed = bed(addr, Some(SHORT), 0);
    within(async {
        let mut app = TcpStream::connect(bed.addr).await.unwrap();
        app.write_all(b"GET / HTTP/1.1\r\nhost: api\r\n\r\n").await.unwrap();
        let mut chunk = vec![0; 65_536];
        let started = Instant::now();
        while matches!(app.read(&mut chunk).await, Ok(read) if read > 0) {}
        assert!(started.elapsed() >= SHORT);
    })
    .await;
}
