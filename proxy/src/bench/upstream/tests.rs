//! The upstream against plain clients, with times as the kernel sees them.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::{LatencyModel, MAX_BODY, Running, Service};
use crate::bench::load::{Load, offer};

/// Longest time for any of these tests.
const LIMIT: Duration = Duration::from_secs(60);

fn start(latency: &str, concurrency: Option<u32>) -> Arc<Running> {
    let service = Service { latency: latency.parse().unwrap(), concurrency, body: 10 };
    Arc::new(Running::start(&service, (Ipv4Addr::LOCALHOST, 0).into()).unwrap())
}

/// An HTTP/1.1 connection.
struct Client(http1::SendRequest<Full<Bytes>>);

impl Client {
    async fn connect(upstream: &Running) -> Self {
        let stream = TcpStream::connect(upstream.addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    async fn ask(&mut self, body: Bytes) -> (StatusCode, Bytes) {
        let request = Request::post("/").header("host", "a").body(Full::new(body)).unwrap();
        self.0.ready().await.unwrap();
        let response = self.0.send_request(request).await.unwrap();
        let status = response.status();
        (status, response.into_body().collect().await.unwrap().to_bytes())
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(10), waiting).await.unwrap_or_else(|_| panic!("not within 10 s: {what}"));
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

#[tokio::test]
async fn the_mean_time_is_the_nominal_one() {
    for nominal in [1.0_f64, 5.0, 20.0] {
        let upstream = start(&format!("{nominal}ms"), None);
        let mut client = Client::connect(&upstream).await;
        // Rounds of a few requests each, so that a stall of the machine spoils only one of them.
        let mut means = Vec::new();
        for _ in 0..15 {
            upstream.measure();
            for _ in 0..10 {
                timeout(LIMIT, client.ask(Bytes::new())).await.unwrap();
            }
            assert_eq!(upstream.seen().answered, 10);
            means.push(upstream.seen().mean);
        }
        let mean = median(&mut means);
        // Waking up takes its time whatever the nominal one is: 60 us, twice that when not optimised, more on a busy machine.
        let most = (nominal * 1.1).max(nominal + 0.4);
        assert!((nominal..most).contains(&mean), "{mean} ms for {nominal} ms: {means:?}");
    }
}

#[tokio::test]
async fn requests_beyond_the_concurrency_wait_first_in_first_out() {
    let upstream = start("40ms", Some(1));
    let ended = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut asking = JoinSet::new();
    for number in 0..8_u64 {
        let mut client = Client::connect(&upstream).await;
        let ended = ended.clone();
        asking.spawn(async move {
            client.ask(Bytes::new()).await;
            ended.lock().unwrap().push(number);
        });
        // The next one is sent only when this one has arrived; the first is still under way then.
        until("it has arrived", || upstream.seen().peak_requests > number || upstream.seen().answered > 0)
            .await;
    }
    assert_eq!(upstream.seen().peak_requests, 8, "all were there before the first was answered");
    timeout(LIMIT, asking.join_all()).await.unwrap();
    assert_eq!(*ended.lock().unwrap(), (0..8).collect::<Vec<_>>());
}

/// The times, in ms and in order, after which as many requests were answered that were sent at once.
async fn all_at_once(upstream: &Arc<Running>, requests: usize) -> Vec<f64> {
    let barrier = Arc::new(Barrier::new(requests));
    let mut asking = JoinSet::new();
    for _ in 0..requests {
        let mut client = Client::connect(upstream).await;
        let barrier = barrier.clone();
        asking.spawn(async move {
            barrier.wait().await;
            let sent = Instant::now();
            client.ask(Bytes::new()).await;
            sent.elapsed().as_secs_f64() * 1000.0
        });
    }
    let mut times = timeout(LIMIT, asking.join_all()).await.unwrap();
    times.sort_unstable_by(f64::total_cmp);
    times
}

#[tokio::test]
async fn as_many_requests_are_worked_on_at_a_time_as_there_are_slots() {
    let upstream = start("50ms", Some(3));
    let times = all_at_once(&upstream, 9).await;
    for (number, time) in times.iter().enumerate() {
        let round = f64::from(u32::try_from(number / 3).unwrap() + 1);
        // Not sooner than with three slots, but for what passes between this clock and the upstream's; and not as late as
        // with two, where the third would wait.
        assert!((round * 50.0 - 10.0..round * 50.0 + 40.0).contains(time), "request {number}: {times:?}");
    }
    let control = all_at_once(&start("50ms", None), 9).await;
    assert!(control[8] < 90.0, "the control: without a bound none waits: {control:?}");
}

#[tokio::test]
async fn slots_lose_no_capacity_between_requests() {
    // One slot of 1 ms serves 1,000/s, however late the answers are written. As long as others wait, that is: a stall
    // of the machine that is longer than their work is lost, so the best round counts.
    let upstream = start("1ms", Some(1));
    let mut clients = Vec::new();
    for _ in 0..16 {
        clients.push(Client::connect(&upstream).await);
    }
    let mut rates = Vec::new();
    for _ in 0..5 {
        let (begun, mut asking) = (Instant::now(), JoinSet::new());
        for mut client in std::mem::take(&mut clients) {
            asking.spawn(async move {
                for _ in 0..25 {
                    client.ask(Bytes::new()).await;
                }
                client
            });
        }
        clients = timeout(LIMIT, asking.join_all()).await.unwrap();
        rates.push(400.0 / begun.elapsed().as_secs_f64());
    }
    rates.sort_unstable_by(f64::total_cmp);
    assert!((950.0..=1001.0).contains(&rates[4]), "{rates:?}");
}

#[tokio::test]
async fn peaks_are_exact_and_begin_anew() {
    let upstream = start("100ms", None);
    let times = all_at_once(&upstream, 20).await;
    assert_eq!(times.len(), 20);
    assert_eq!((upstream.seen().peak_requests, upstream.seen().answered), (20, 20));
    assert_eq!(upstream.peak_connections(), 20);
    until("all have left", || upstream.connections() == 0).await;
    upstream.measure();
    assert_eq!((upstream.seen().peak_requests, upstream.peak_connections()), (0, 0));
    all_at_once(&upstream, 3).await;
    assert_eq!((upstream.seen().peak_requests, upstream.seen().answered), (3, 3));
    assert_eq!(upstream.peak_connections(), 3);
}

#[tokio::test]
async fn a_measurement_begins_with_what_is_under_way() {
    let upstream = start("300ms", None);
    let mut client = Client::connect(&upstream).await;
    let asking = tokio::spawn(async move { client.ask(Bytes::new()).await });
    until("it has arrived", || upstream.seen().peak_requests == 1).await;
    upstream.measure();
    assert_eq!((upstream.seen().peak_requests, upstream.peak_connections()), (1, 1));
    timeout(LIMIT, asking).await.unwrap().unwrap();
    assert_eq!(upstream.seen().answered, 1);
}

#[tokio::test]
async fn a_connection_closed_before_the_next_is_opened_does_not_count_beside_it() {
    let upstream = start("0us", None);
    for _ in 0..300 {
        let stream = std::net::TcpStream::connect(upstream.addr).unwrap();
        drop(stream);
    }
    // They are accepted in their order, so when this one is seen all are.
    let one = std::net::TcpStream::connect(upstream.addr).unwrap();
    until("the last is seen", || upstream.peak_connections() > 0 && upstream.connections() == 1).await;
    assert_eq!(upstream.peak_connections(), 1);
    // The control: two that are open at once.
    let two = std::net::TcpStream::connect(upstream.addr).unwrap();
    until("both are seen", || upstream.peak_connections() == 2).await;
    drop((one, two));
}

#[tokio::test]
async fn http2_needs_one_connection_for_many_requests() {
    let upstream = start("200ms", None);
    let stream = TcpStream::connect(upstream.addr).await.unwrap();
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut asking = JoinSet::new();
    for _ in 0..50 {
        let mut sender = sender.clone();
        asking.spawn(async move {
            let request = Request::get("http://a/").body(Full::new(Bytes::new())).unwrap();
            let response = sender.send_request(request).await.unwrap();
            response.into_body().collect().await.unwrap().to_bytes().len()
        });
    }
    assert_eq!(timeout(LIMIT, asking.join_all()).await.unwrap(), [10; 50]);
    assert_eq!((upstream.peak_connections(), upstream.seen().peak_requests), (1, 50));
    assert_eq!(upstream.seen().answered, 50);
}

#[tokio::test]
async fn a_request_whose_client_leaves_is_under_way_no_longer_and_frees_its_slot() {
    let upstream = start("300ms", Some(1));
    for _ in 0..5 {
        let mut client = Client::connect(&upstream).await;
        upstream.measure();
        let asking = tokio::spawn(async move { client.ask(Bytes::new()).await });
        until("it has arrived", || upstream.seen().peak_requests == 1).await;
        asking.abort();
        until("it has left", || {
            upstream.measure();
            upstream.seen().peak_requests == 0
        })
        .await;
    }
    let sent = Instant::now();
    Client::connect(&upstream).await.ask(Bytes::new()).await;
    assert!(sent.elapsed() < Duration::from_millis(900), "{:?}", sent.elapsed());
    assert_eq!(upstream.seen().answered, 1);
}

#[tokio::test]
async fn a_request_with_too_long_a_body_is_turned_away() {
    let upstream = start("1ms", None);
    let most = usize::try_from(MAX_BODY).unwrap();
    let mut client = Client::connect(&upstream).await;
    let (status, body) = timeout(LIMIT, client.ask(vec![0; most].into())).await.unwrap();
    assert_eq!((status, body.len()), (StatusCode::OK, 10));
    let mut client = Client::connect(&upstream).await;
    let (status, _) = timeout(LIMIT, client.ask(vec![0; most + 1].into())).await.unwrap();
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(upstream.seen().answered, 1);
}

#[test]
fn a_service_that_cannot_be_is_refused() {
    let service = Service { latency: LatencyModel::Fixed(Duration::ZERO), concurrency: None, body: 0 };
    let start = |service: &Service| Running::start(service, (Ipv4Addr::LOCALHOST, 0).into());
    let no_slots = Service { concurrency: Some(0), ..service.clone() };
    assert!(start(&no_slots).unwrap_err().to_string().contains("concurrency 0"));
    let too_long = Service { body: MAX_BODY + 1, ..service.clone() };
    assert!(start(&too_long).unwrap_err().to_string().contains("16 MiB"));
    let running = start(&service).unwrap();
    assert!(Running::start(&service, running.addr).is_err(), "the address is taken");
    let addr = running.addr;
    drop(running);
    assert!(std::net::TcpStream::connect(addr).is_err(), "it ends when dropped");
}

#[tokio::test]
async fn requests_under_way_are_rate_times_time() {
    // Little's law: 1,000/s of 5 ms each are 5 under way, and more when the machine lets them take longer.
    for _ in 0..3 {
        let upstream = start("5ms", None);
        let load = Load {
            url: format!("http://{}/", upstream.addr).parse().unwrap(),
            host: None,
            rate: 1000,
            warm_up: Duration::from_millis(100),
            seconds: Duration::from_secs(1),
            give_up: Duration::from_secs(5),
            connections: 256,
        };
        let mut begun = None;
        let begin = || {
            upstream.measure();
            begun = Some(Instant::now());
        };
        let sent = timeout(LIMIT, offer(&load, begin)).await.unwrap().unwrap();
        let (requests, seen, time) = (upstream.mean_requests(), upstream.seen(), begun.unwrap().elapsed());
        assert_eq!(sent.counts.succeeded, 1000);
        // Those of the warm-up that were still under way when it began are among the answered.
        let answered = u32::try_from(seen.answered).unwrap();
        assert!((1000..1100).contains(&answered), "{answered}");
        let expected = f64::from(answered) / time.as_secs_f64() * seen.mean / 1000.0;
        let shown = format!("{requests} under way, {expected} expected: {answered} of {} ms each", seen.mean);
        assert!((requests / expected - 1.0).abs() < 0.05, "{shown}");
        assert!(seen.mean >= 5.0 && requests >= 4.75, "{shown}");
        // What the generator sees beyond that is the way there and back, and its own lateness.
        assert!(sent.latency.mean >= seen.mean * 0.98, "{shown}, {} ms there", sent.latency.mean);
    }
}
