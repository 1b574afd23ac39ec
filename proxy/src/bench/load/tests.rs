//! The generator against a server that does as it is told.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout};

use super::{Load, LoadError, Sent, offer};
use scripted::{Act, Scripted, read_head};

mod scripted;

/// Longest time for any of these tests.
const LIMIT: Duration = Duration::from_secs(60);
const MIB: usize = 1024 * 1024;

fn load(server: &Scripted, rate: u32, millis: u64) -> Load {
    Load {
        url: format!("http://{}/path", server.addr).parse().unwrap(),
        host: None,
        rate,
        warm_up: Duration::ZERO,
        seconds: Duration::from_millis(millis),
        give_up: Duration::from_secs(5),
        connections: 256,
    }
}

async fn send(load: &Load) -> Sent {
    let sent = timeout(LIMIT, offer(load, || ())).await.unwrap().unwrap();
    let counts = &sent.counts;
    assert_eq!(counts.succeeded + counts.refused() + counts.failed(), counts.due, "{counts:?}");
    assert_eq!(sent.histogram.len(), counts.succeeded, "each success has a latency");
    assert_eq!(sent.lateness.len(), counts.due - counts.unsent, "each request sent has a lateness");
    sent
}

fn named(counts: &[(&str, u64)]) -> BTreeMap<String, u64> {
    counts.iter().filter(|(_, n)| *n > 0).map(|(name, n)| ((*name).to_owned(), *n)).collect()
}

/// Whatever an answer can be, in turn.
fn of_all_kinds(seen: &scripted::Asked) -> Act {
    match seen.number % 9 {
        2 => Act::Answer("503 Service Unavailable\r\nx-portcullis-overflow: maxConnections"),
        4 => Act::Answer("503 Service Unavailable\r\nx-envoy-overloaded: true"),
        5 => Act::Answer("502 Bad Gateway"),
        6 => Act::Hang,
        7 => Act::Close(Duration::ZERO),
        8 => Act::Raw("HTTP/1.1 nonsense\r\n\r\n"),
        _ => Act::Answer("200 OK"),
    }
}

fn assert_counted_as_done(sent: &Sent, server: &Scripted) {
    let counts = &sent.counts;
    let done = |act: &str| server.done(act);
    assert_eq!(counts.succeeded, done("200 OK"));
    let (ours, envoys) = (
        done("503 Service Unavailable\r\nx-portcullis-overflow: maxConnections"),
        done("503 Service Unavailable\r\nx-envoy-overloaded: true"),
    );
    assert_eq!(counts.refused, named(&[("maxConnections", ours), ("unnamed", envoys)]));
    let failed = [
        ("status 502", done("502 Bad Gateway")),
        ("timeout", done("hang")),
        ("closed", done("close") - sent.resent),
        ("protocol", done("raw")),
    ];
    assert_eq!(counts.failed, named(&failed));
}

#[tokio::test]
async fn every_request_is_counted_once_as_what_became_of_it() {
    let server = Scripted::start(of_all_kinds);
    let load = Load { give_up: Duration::from_secs(1), ..load(&server, 450, 1000) };
    let sent = send(&load).await;
    assert_eq!((sent.counts.due, sent.counts.unsent), (450, 0));
    assert_counted_as_done(&sent, &server);
    assert_eq!(server.seen(), 450 + sent.resent, "each arrived once, or again on a fresh connection");
    assert!(sent.counts.failed.len() >= 3 && sent.counts.refused.len() == 2, "{:?}", sent.counts);
}

#[tokio::test]
async fn a_request_without_a_connection_is_counted_as_unsent() {
    let server = Scripted::start(of_all_kinds);
    let load = Load { give_up: Duration::from_secs(1), connections: 8, ..load(&server, 450, 1000) };
    let sent = send(&load).await;
    assert!(sent.counts.unsent > 0, "{:?}", sent.counts);
    assert_counted_as_done(&sent, &server);
    assert_eq!(server.seen(), 450 - sent.counts.unsent + sent.resent);
    assert!(server.most_open() <= 8, "{} connections", server.most_open());
}

#[tokio::test]
async fn a_server_that_does_not_listen_fails_every_request() {
    let server = Scripted::start(|_| Act::Answer("200 OK"));
    let load = load(&server, 100, 200);
    drop(server);
    assert_eq!(send(&load).await.counts.failed, named(&[("connect", 20)]));
}

#[tokio::test]
async fn the_warm_up_is_sent_but_not_counted() {
    let server = Scripted::start(|_| Act::Answer("200 OK"));
    let load = Load { warm_up: Duration::from_millis(500), ..load(&server, 200, 300) };
    let (mut begun, start) = (None, Instant::now());
    let sent = timeout(LIMIT, offer(&load, || begun = Some(start.elapsed()))).await.unwrap().unwrap();
    assert_eq!((sent.counts.due, sent.counts.succeeded), (60, 60));
    assert_eq!(server.seen(), 160);
    assert!(begun.unwrap() >= load.warm_up, "{begun:?}");
}

#[tokio::test]
async fn the_request_is_for_the_url_and_the_host_given() {
    let server = Scripted::start(|asked| {
        let expected = asked.head.starts_with("GET /path?a=b HTTP/1.1\r\n")
            && asked.head.contains("host: api.example\r\n");
        Act::Answer(if expected { "200 OK" } else { "400 Bad Request" })
    });
    let url: http::Uri = format!("http://{}/path?a=b", server.addr).parse().unwrap();
    let named = Load { url: url.clone(), host: Some("api.example".to_owned()), ..load(&server, 10, 100) };
    assert_eq!(send(&named).await.counts.succeeded, 1);
    let unnamed = Load { url, ..load(&server, 10, 100) };
    assert_eq!(send(&unnamed).await.counts.succeeded, 0, "the control: the server tells the two apart");
}

#[tokio::test]
async fn load_that_makes_no_sense_is_refused() {
    let server = Scripted::start(|_| Act::Answer("200 OK"));
    let good = load(&server, 10, 100);
    let refused = |wrong: Load| async move { offer(&wrong, || ()).await.unwrap_err() };
    let url = "https://127.0.0.1/".parse().unwrap();
    assert!(matches!(refused(Load { url, ..good.clone() }).await, LoadError::Url(_)));
    let host = Some("a\nb".to_owned());
    assert!(matches!(refused(Load { host, ..good.clone() }).await, LoadError::Host(_)));
    for nothing in [
        Load { rate: 0, ..good.clone() },
        Load { seconds: Duration::ZERO, ..good.clone() },
        Load { give_up: Duration::ZERO, ..good.clone() },
        Load { connections: 0, ..good.clone() },
    ] {
        assert!(matches!(refused(nothing).await, LoadError::Nothing));
    }
    assert_eq!(send(&good).await.counts.succeeded, 1);
}

#[tokio::test]
async fn a_request_that_crossed_the_close_of_its_connection_is_sent_again_and_counted() {
    // Every connection is closed at its second request.
    let server = Scripted::start(|asked| match asked.on_connection {
        0 => Act::Answer("200 OK"),
        _ => Act::Close(Duration::ZERO),
    });
    let sent = send(&load(&server, 50, 1000)).await;
    assert_eq!((sent.counts.due, sent.counts.succeeded), (50, 50), "{:?}", sent.counts);
    assert!(sent.resent >= 10, "{}", sent.resent);
    assert_eq!(sent.resent, server.done("close"));
}

#[tokio::test]
async fn a_request_that_was_cut_off_is_a_failure() {
    // Long after it was sent, though on a kept connection.
    let server = Scripted::start(|asked| match asked.on_connection {
        0 => Act::Answer("200 OK"),
        _ => Act::Close(Duration::from_millis(200)),
    });
    let sent = send(&load(&server, 50, 1000)).await;
    assert!(server.done("close") >= 5);
    assert_eq!(sent.counts.failed, named(&[("closed", server.done("close"))]));
    // At once, but on a connection of its own.
    let server = Scripted::start(|_| Act::Close(Duration::ZERO));
    let sent = send(&load(&server, 50, 500)).await;
    assert_eq!((sent.counts.failed, sent.resent), (named(&[("closed", 25)]), 0));
    assert_eq!(server.seen(), 25);
    // In the middle of its answer.
    let server = Scripted::start(|asked| match asked.on_connection {
        0 => Act::Answer("200 OK"),
        _ => Act::Raw("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"),
    });
    let sent = send(&load(&server, 50, 500)).await;
    assert!(server.done("raw") >= 5);
    let cut = named(&[("closed", server.done("raw"))]);
    assert_eq!((sent.counts.failed, sent.resent), (cut, 0));
}

#[tokio::test]
async fn a_connection_closed_between_requests_is_no_failure() {
    let server = Scripted::start(|_| Act::AnswerAndClose);
    let sent = send(&load(&server, 50, 1000)).await;
    assert_eq!((sent.counts.due, sent.counts.succeeded), (50, 50), "{:?}", sent.counts);
}

#[tokio::test]
async fn connections_are_kept_and_the_one_used_last_is_used_next() {
    let server = Scripted::start(|asked| match asked.number {
        0..5 => Act::AnswerAfter(Duration::from_millis(300)),
        _ => Act::Answer("200 OK"),
    });
    let sent = send(&load(&server, 20, 2000)).await;
    assert_eq!(sent.counts.succeeded, 40);
    // The first five are under way at once. Of the connections that they opened, one is enough for the others.
    let mut used = server.requests_by_connection();
    used.sort_unstable();
    assert_eq!(used.iter().sum::<u64>(), 40);
    assert!(used.len() <= 8 && *used.last().unwrap() >= 25, "{used:?}");
}

#[tokio::test]
async fn a_body_above_the_bound_is_a_failure() {
    for (length, succeeded) in [(64 * MIB, 1), (64 * MIB + 1, 0)] {
        let server = Scripted::start(move |_| Act::Body(length));
        let sent = send(&Load { give_up: Duration::from_secs(30), ..load(&server, 10, 100) }).await;
        assert_eq!(sent.counts.succeeded, succeeded);
        assert_eq!(sent.counts.failed, named(&[("body too long", 1 - succeeded)]));
    }
}

/// From the first request after a second on, nothing is answered for this long.
const STALL: Duration = Duration::from_millis(100);

fn stalls_once() -> Scripted {
    let first = Instant::now();
    let stall = std::sync::OnceLock::new();
    Scripted::start(move |_| {
        let now = Instant::now();
        if now < first + Duration::from_secs(1) {
            return Act::Answer("200 OK");
        }
        let end = *stall.get_or_init(|| now + STALL);
        Act::AnswerAfter(end.saturating_duration_since(now))
    })
}

#[tokio::test]
async fn a_stall_shows_in_the_tail_of_an_open_loop_and_not_of_a_closed_one() {
    // 1,000/s for 2 s: 100 of 2,000 requests are due in the stall, and wait 100, 99, .. 1 ms. So 20, 1 %, take more than
    // 80 ms. The median of three keeps the machine's own stalls out.
    let (mut open, mut closed) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let server = stalls_once();
        let sent = send(&load(&server, 1000, 2000)).await;
        assert_eq!(sent.counts.succeeded, 2000, "{:?}", sent.counts);
        let above = |millis: u64| {
            sent.histogram
                .iter_recorded()
                .filter(|step| step.value_iterated_to() > millis * 1000)
                .map(|step| step.count_at_value())
                .sum::<u64>()
        };
        let p99 = sent.histogram.value_at_quantile(0.99) / 1000;
        open.push((p99, above(50), sent.histogram.max() / 1000));
        let server = stalls_once();
        closed.push(timeout(LIMIT, closed_loop(&server, Duration::from_secs(2))).await.unwrap());
    }
    let median = |values: &mut Vec<u64>| {
        values.sort_unstable();
        values[values.len() / 2]
    };
    let p99 = median(&mut open.iter().map(|run| run.0).collect());
    let above_half = median(&mut open.iter().map(|run| run.1).collect());
    let longest = median(&mut open.iter().map(|run| run.2).collect());
    let shown = format!("open {open:?}, closed {closed:?}");
    assert!((75..=95).contains(&p99), "{shown}");
    assert!((47..=65).contains(&above_half), "{shown}");
    assert!((99..=125).contains(&longest), "{shown}");
    assert!(median(&mut closed) < 20, "{shown}");
}

/// The p99, in ms, that one client sees which sends a request each millisecond, or when the last one is answered.
async fn closed_loop(server: &Scripted, time: Duration) -> u64 {
    let mut stream = tokio::net::TcpStream::connect(server.addr).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut latencies = Vec::new();
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let start = Instant::now();
    while start.elapsed() < time {
        ticks.tick().await;
        let sent = Instant::now();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        read_head(&mut stream).await.unwrap();
        latencies.push(sent.elapsed());
    }
    latencies.sort_unstable();
    assert!(latencies.len() > 500 && *latencies.last().unwrap() >= STALL / 2, "the stall was seen once");
    u64::try_from(latencies[latencies.len() * 99 / 100].as_millis()).unwrap()
}
