//! What a peer may do to an HTTP/2 connection, and what becomes of it.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use ::http::{Request, Response, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Frame as BodyFrame;
use hyper::service::service_fn;
use portcullis_identity::ManualClock;
use tokio::io::{AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;

use super::frames::*;
use super::*;
use crate::protocol::body::RequestBody;
use crate::protocol::client::{Connection, SendFailure};
use crate::protocol::http;
use crate::route::HttpVersion;

const LIMIT: Duration = Duration::from_secs(20);
const IDLE: Duration = Duration::from_secs(300);
const START: Duration = Duration::from_secs(1_000);
const PIPE: usize = 64 * 1024;

/// Content without end, counted as it is asked for.
struct Endless(Arc<AtomicUsize>);

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<BodyFrame<Bytes>, Infallible>>> {
        self.0.fetch_add(1024, Ordering::Relaxed);
        Poll::Ready(Some(Ok(BodyFrame::data(Bytes::from_static(&[b'a'; 1024])))))
    }
}

/// Whether a stream's service is still there.
struct Alive(Arc<AtomicUsize>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Server {
    client: DuplexStream,
    serving: JoinHandle<Ended>,
    /// Requests at the service now.
    alive: Arc<AtomicUsize>,
    /// Bytes of endless answers asked for.
    asked: Arc<AtomicUsize>,
    life: Lifetime,
    drain: Drain,
    hand: ManualClock,
}

/// Answers GET at once, PUT when its body has been read, PATCH without end, and anything else never.
fn serve_on(pipe: usize, ends: impl IntoIterator<Item = Duration>) -> Server {
    let (client, near) = duplex(pipe);
    let hand = ManualClock::at(START);
    let (life, drain) = (Lifetime::until(&hand.clock(), ends), Drain::new());
    let (alive, asked) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, asked_for) = (Arc::clone(&alive), Arc::clone(&asked));
    let service = service_fn(move |request: Request<Incoming>| {
        counted.fetch_add(1, Ordering::Relaxed);
        let (alive, asked) = (Alive(Arc::clone(&counted)), Arc::clone(&asked_for));
        async move {
            let _alive = alive;
            let body = match request.method().as_str() {
                "GET" => Either::Left(Full::from("good")),
                "PUT" => {
                    let whole = request.into_body().collect().await;
                    Either::Left(Full::from(whole.map(|body| body.to_bytes()).unwrap_or_default()))
                }
                "PATCH" => Either::Right(Endless(asked)),
                _ => std::future::pending().await,
            };
            Ok::<_, Infallible>(Response::new(body))
        }
    });
    let (for_life, for_drain) = (life.clone(), drain.clone());
    let serving = tokio::spawn(async move {
        http::serve(near, HttpVersion::Http2, service, IDLE, &for_life, &for_drain).await
    });
    Server { client, serving, alive, asked, life, drain, hand }
}

fn server() -> Server {
    serve_on(PIPE, [])
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, work).await.expect("an end in time")
}

/// Good requests on a new connection, one after the other.
async fn good_requests_pass() {
    let Server { client, .. } = server();
    let (mut connection, driver) = Connection::new(client, HttpVersion::Http2).await.unwrap();
    tokio::spawn(driver);
    for _ in 0..100 {
        let request = Request::get("/").header("host", "api").body(RequestBody::Empty).unwrap();
        let response = within(connection.send(request)).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "good");
    }
}

/// Writes all of `bytes` while reading, and finds the code of the GOAWAY that follows.
async fn goaway_after(server: Server, bytes: Vec<u8>) -> u32 {
    let Server { client, serving, alive, .. } = server;
    let (mut read_half, mut write_half) = tokio::io::split(client);
    let writing = tokio::spawn(async move {
        // Broken off where the server stops to read.
        let _ = write_half.write_all(&bytes).await;
        write_half
    });
    let goaway = within(find(&mut read_half, GOAWAY)).await.expect("a GOAWAY");
    // Read on: what cannot be written cannot end.
    while within(read(&mut read_half)).await.is_some() {}
    drop(read_half);
    drop(within(writing).await);
    assert!(matches!(within(serving).await.unwrap(), Ended::Broken(_)));
    tokio::task::yield_now().await;
    assert_eq!(alive.load(Ordering::Relaxed), 0, "no request outlives its connection");
    goaway.code()
}

/// How much of `flood`, repeated, a server takes that nobody reads from.
async fn taken_unread(io: &mut (impl AsyncWrite + Unpin), flood: &[u8], most: usize) -> usize {
    let mut taken = 0;
    while taken < most {
        match tokio::time::timeout(Duration::from_secs(1), io.write(flood)).await {
            Ok(Ok(written)) => taken += written,
            Ok(Err(_)) | Err(_) => break,
        }
    }
    taken
}

#[tokio::test(start_paused = true)]
async fn rapid_resets_end_the_connection_and_a_few_do_not() {
    let resets = |count: u32| {
        let reset = |n: u32| {
            let headers = frame(HEADERS, END_HEADERS | END_STREAM, n * 2 + 1, &request("GET"));
            [headers, frame(RST_STREAM, 0, n * 2 + 1, &8u32.to_be_bytes())].concat()
        };
        [hello(), (0..count).flat_map(reset).collect()].concat()
    };
    let mut few = server();
    let good = frame(HEADERS, END_HEADERS | END_STREAM, 101, &request("GET"));
    few.client.write_all(&[resets(10), good].concat()).await.unwrap();
    assert_eq!(within(find(&mut few.client, DATA)).await.unwrap().stream, 101, "control: ten are no attack");

    assert_eq!(goaway_after(server(), resets(2_000)).await, ENHANCE_YOUR_CALM);
    good_requests_pass().await;
}

#[tokio::test(start_paused = true)]
async fn resets_that_a_peer_provokes_end_the_connection() {
    // A window of which nothing is left to add makes this side reset the stream (RFC 9113, 6.9).
    let provoke = |n: u32| {
        let headers = frame(HEADERS, END_HEADERS | END_STREAM, n * 2 + 1, &request("LONG"));
        [headers, frame(WINDOW_UPDATE, 0, n * 2 + 1, &i32::MAX.to_be_bytes())].concat()
    };
    let attack = [hello(), (0..2_000).flat_map(provoke).collect()].concat();
    assert_eq!(goaway_after(server(), attack).await, ENHANCE_YOUR_CALM);
    good_requests_pass().await;
}

#[tokio::test(start_paused = true)]
async fn a_head_too_long_gets_431_and_the_connection_goes_on() {
    let mut server = server();
    let fields = [request("GET"), field("a", &"a".repeat(LONGEST_HEAD))].concat();
    let (first, rest) = fields.split_at(16_000);
    let mut attack = [hello(), frame(HEADERS, END_STREAM, 1, first)].concat();
    let parts: Vec<_> = rest.chunks(16_000).collect();
    for (n, part) in parts.iter().enumerate() {
        let flags = if n + 1 == parts.len() { END_HEADERS } else { 0 };
        attack.extend(frame(CONTINUATION, flags, 1, part));
    }
    attack.extend(frame(HEADERS, END_HEADERS | END_STREAM, 3, &request("GET")));
    server.client.write_all(&attack).await.unwrap();
    let refused = within(find(&mut server.client, HEADERS)).await.unwrap();
    // 431 as text or Huffman-coded (RFC 7541, B).
    let says = |text: &[u8]| refused.payload.windows(3).any(|window| window == text);
    assert!(says(b"431") || says(&[0x69, 0x90, 0xff]), "{refused:?}");
    assert_eq!(refused.stream, 1);
    let good = within(find(&mut server.client, DATA)).await.unwrap();
    assert_eq!((good.stream, &good.payload[..]), (3, &b"good"[..]));
    good_requests_pass().await;
}

#[tokio::test(start_paused = true)]
async fn a_head_that_never_ends_ends_the_connection() {
    let begin = [hello(), frame(HEADERS, END_STREAM, 1, &request("GET"))].concat();
    let flood = frame(CONTINUATION, 0, 1, &[]).repeat(10_000);
    assert_eq!(goaway_after(server(), [begin, flood].concat()).await, ENHANCE_YOUR_CALM);
    good_requests_pass().await;
}

#[tokio::test(start_paused = true)]
async fn a_few_empty_data_frames_are_skipped_and_a_flood_ends_the_connection() {
    let begin = [hello(), frame(HEADERS, END_HEADERS, 1, &request("PUT"))].concat();
    let empty = |count| frame(DATA, 0, 1, &[]).repeat(count);
    let mut few = server();
    let end = frame(DATA, END_STREAM, 1, b"end");
    few.client.write_all(&[&begin[..], &empty(10), &end].concat()).await.unwrap();
    assert_eq!(within(find(&mut few.client, DATA)).await.unwrap().payload, b"end", "control");

    assert_eq!(goaway_after(server(), [begin, empty(50_000)].concat()).await, ENHANCE_YOUR_CALM);
    good_requests_pass().await;
}

#[tokio::test(start_paused = true)]
async fn who_asks_and_never_reads_is_not_read_from() {
    for (name, flood) in
        [("PING", frame(PING, 0, 0, &[0; 8])), ("SETTINGS", frame(SETTINGS, 0, 0, &[])), ("GET", Vec::new())]
    {
        let mut server = server();
        server.client.write_all(&hello()).await.unwrap();
        let flood = if flood.is_empty() {
            // Each answered with what nobody reads.
            (0..100_000u32)
                .flat_map(|n| frame(HEADERS, END_HEADERS | END_STREAM, n * 2 + 1, &request("GET")))
                .collect()
        } else {
            flood.repeat(1_000)
        };
        let taken = taken_unread(&mut server.client, &flood, 64 << 20).await;
        assert!(taken > PIPE / 2 && taken < 16 * PIPE, "{name}: {taken}");
    }
    good_requests_pass().await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_nobody_reads_fills_its_window_and_no_more() {
    let mut server = server();
    let begin = [hello(), frame(HEADERS, END_HEADERS, 1, &request("LONG"))].concat();
    server.client.write_all(&begin).await.unwrap();
    // The window is announced in the settings and in an update of the connection's.
    let announced = within(find(&mut server.client, SETTINGS)).await.unwrap().payload;
    let window = STREAM_WINDOW.to_be_bytes();
    assert!(
        announced.chunks(6).any(|setting| setting[..2] == [0, 4] && setting[2..] == window),
        "{announced:?}"
    );
    // A peer that goes beyond it is told so.
    let chunk = frame(DATA, 0, 1, &[b'a'; 16 * 1024]);
    let (mut read_half, mut write_half) = tokio::io::split(server.client);
    let writing = tokio::spawn(async move {
        for _ in 0..64 {
            if write_half.write_all(&chunk).await.is_err() {
                break;
            }
        }
        write_half
    });
    let reset = within(async {
        loop {
            match read(&mut read_half).await {
                Some(frame) if frame.kind == RST_STREAM || frame.kind == GOAWAY => return frame,
                Some(_) => {}
                None => panic!("neither a reset nor a GOAWAY"),
            }
        }
    })
    .await;
    let code = if reset.kind == GOAWAY {
        reset.code()
    } else {
        u32::from_be_bytes(reset.payload.try_into().unwrap())
    };
    assert_eq!(code, 3, "FLOW_CONTROL_ERROR");
    drop(writing);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_takes_is_asked_for_no_further() {
    let mut server = server();
    let no_window = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    let requests =
        (0..8u32).flat_map(|n| frame(HEADERS, END_HEADERS | END_STREAM, n * 2 + 1, &request("PATCH")));
    let attack: Vec<u8> = [PREFACE.to_vec(), no_window, requests.collect()].concat();
    server.client.write_all(&attack).await.unwrap();
    assert_eq!(within(find(&mut server.client, HEADERS)).await.unwrap().stream % 2, 1);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let asked = server.asked.load(Ordering::Relaxed);
    assert!(asked <= 8 * (SEND_BUFFER + PIPE), "{asked}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_requests_is_closed_in_order_and_one_with_a_request_is_not() {
    for method in [None, Some("LONG")] {
        let mut server = server();
        server.client.write_all(&hello()).await.unwrap();
        if let Some(method) = method {
            let request = frame(HEADERS, END_HEADERS | END_STREAM, 1, &request(method));
            server.client.write_all(&request).await.unwrap();
        }
        let goaway = async {
            loop {
                match read(&mut server.client).await {
                    Some(frame) if frame.kind == GOAWAY => return frame.code(),
                    // Whoever is there answers.
                    Some(ping) if ping.kind == PING => {
                        server
                            .client
                            .write_all(&super::frames::frame(PING, 1, 0, &ping.payload))
                            .await
                            .unwrap();
                    }
                    Some(_) => {}
                    None => panic!("an end without a word"),
                }
            }
        };
        let goaway = tokio::time::timeout(IDLE + Duration::from_secs(1), goaway).await.ok();
        assert_eq!(goaway, method.is_none().then_some(0));
        if method.is_none() {
            assert!(matches!(within(server.serving).await.unwrap(), Ended::Closed));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_says_nothing_at_all_is_let_go() {
    for said in [&b""[..], b"PRI * HTTP/2.0\r\n"] {
        let mut server = server();
        server.client.write_all(said).await.unwrap();
        let ended = tokio::time::timeout(IDLE + GOODBYE + Duration::from_secs(1), server.serving).await;
        assert!(matches!(ended.unwrap().unwrap(), Ended::Closed | Ended::Broken(_)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_no_ping_is_let_go_with_its_requests() {
    let mut server = server();
    let request = frame(HEADERS, END_HEADERS | END_STREAM, 1, &request("LONG"));
    server.client.write_all(&[hello(), request].concat()).await.unwrap();
    let started = tokio::time::Instant::now();
    drop(tokio::time::timeout(IDLE, server.serving).await.expect("an end in time").unwrap());
    assert!(started.elapsed() <= PING_INTERVAL + PING_TIMEOUT + Duration::from_secs(1));
    tokio::task::yield_now().await;
    assert_eq!(server.alive.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_proof_cuts_every_stream() {
    let mut server = serve_on(PIPE, [START + Duration::from_secs(60)]);
    let requests =
        (0..3u32).flat_map(|n| frame(HEADERS, END_HEADERS | END_STREAM, n * 2 + 1, &request("LONG")));
    server.client.write_all(&[hello(), requests.collect()].concat()).await.unwrap();
    within(find(&mut server.client, SETTINGS)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(server.alive.load(Ordering::Relaxed), 3);
    server.hand.set(START + Duration::from_secs(58));
    assert_eq!(within(find(&mut server.client, GOAWAY)).await.unwrap().code(), 0);
    server.hand.set(START + Duration::from_secs(60));
    assert!(matches!(within(server.serving).await.unwrap(), Ended::Expired));
    tokio::task::yield_now().await;
    assert_eq!(server.alive.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_drain_finishes_what_is_under_way_and_takes_nothing_new() {
    let Server { client, serving, drain, life, .. } = server();
    let (mut connection, driver) = Connection::new(client, HttpVersion::Http2).await.unwrap();
    tokio::spawn(driver);
    let put = Request::put("/").header("host", "api").body(RequestBody::Empty).unwrap();
    let mut other = connection.share().unwrap();
    assert_eq!(within(connection.send(put)).await.unwrap().status(), StatusCode::OK);
    let long = Request::post("/").header("host", "api").body(RequestBody::Empty).unwrap();
    let long = tokio::spawn(async move { other.send(long).await });
    let draining = tokio::spawn({
        let drain = drain.clone();
        async move { drain.finish(Duration::from_secs(3600)).await }
    });
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!serving.is_finished(), "a request is under way");
    let late = Request::get("/").header("host", "api").body(RequestBody::Empty).unwrap();
    let refused = within(connection.send(late)).await;
    assert!(matches!(refused, Err(SendFailure::Unsent(..))), "and no other is taken: {refused:?}");
    life.cut();
    assert!(matches!(within(serving).await.unwrap(), Ended::Expired));
    assert!(within(long).await.unwrap().is_err());
    drop(within(draining).await);
}
