//! Connections that end at the moment that they are used again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::outbound::testing::{Bed, forward, get, mark, post, route};
use crate::route::HttpAction;

/// Answers so many requests on each connection; the next one it reads whole, says `word` and closes.
struct Closing {
    bed: Bed,
    seen: Arc<AtomicUsize>,
    accepted: Arc<AtomicUsize>,
}

impl Closing {
    async fn after(answered: usize, word: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (seen, accepted): (Arc<AtomicUsize>, Arc<AtomicUsize>) = Default::default();
        let (seeing, accepting) = (Arc::clone(&seen), Arc::clone(&accepted));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                accepting.fetch_add(1, Ordering::SeqCst);
                let seen = Arc::clone(&seeing);
                tokio::spawn(async move {
                    for number in 0.. {
                        if read_request(&mut stream).await.is_none() {
                            return;
                        }
                        seen.fetch_add(1, Ordering::SeqCst);
                        if number == answered {
                            let _ = stream.write_all(word.as_bytes()).await;
                            return;
                        }
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
                    }
                });
            }
        });
        // A route without retries.
        let bed = Bed::routed(addr, route(HttpAction::Forward(forward(&[(0, 1)]))));
        Self { bed, seen, accepted }
    }

    /// The status of one request, and what was seen of it: requests and new connections.
    async fn ask(&self, request: Request<Full<Bytes>>) -> (u16, usize, usize) {
        let counts = || (self.seen.load(Ordering::SeqCst), self.accepted.load(Ordering::SeqCst));
        let before = counts();
        let status = self.bed.ask(request).await.status().as_u16();
        let after = counts();
        (status, after.0 - before.0, after.1 - before.1)
    }
}

/// Head and body of known length.
async fn read_request(stream: &mut TcpStream) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).await.ok().map(|_| ())
}

fn with_method(method: Method, mut request: Request<Full<Bytes>>) -> Request<Full<Bytes>> {
    *request.method_mut() = method;
    request
}

#[tokio::test]
async fn a_request_that_may_be_repeated_is_sent_again_when_the_connection_it_reused_ended_without_a_word() {
    for request in [get("/"), with_method(Method::PUT, post("a body")), with_method(Method::DELETE, get("/"))]
    {
        let api = Closing::after(1, "").await;
        assert_eq!(api.ask(get("/")).await, (200, 1, 1));
        assert_eq!(api.ask(request).await, (200, 2, 1), "once on the old connection, once on a new one");
        api.bed.counted("portcullis_retries_total{outcome=\"stale\"} 1").await;
    }
}

#[tokio::test]
async fn a_post_is_never_sent_twice() {
    let api = Closing::after(1, "").await;
    assert_eq!(api.ask(get("/")).await, (200, 1, 1));
    let response = api.bed.ask(post("order")).await;
    assert_eq!(
        (response.status(), mark(&response, "x-portcullis-refused")),
        (StatusCode::BAD_GATEWAY, "upstream_broken")
    );
    assert_eq!(api.seen.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn on_a_fresh_connection_nothing_is_sent_twice() {
    let api = Closing::after(0, "").await;
    assert_eq!(api.ask(get("/")).await, (502, 1, 1));
}

#[tokio::test]
async fn an_answer_that_began_is_no_reason_to_ask_again() {
    let api = Closing::after(1, "HTTP/1.1 2").await;
    assert_eq!(api.ask(get("/")).await, (200, 1, 1));
    assert_eq!(api.ask(get("/")).await, (502, 1, 0));
}
