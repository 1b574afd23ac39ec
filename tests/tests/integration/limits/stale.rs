//! A server that closes connections at the moment at which they are used again.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use portcullis_tests::callers::Caller;
use portcullis_tests::counting::{CountingServer, Work};
use portcullis_tests::within;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{DAY, LIMIT, Service, Site};

const READ: Service = Service::plaintext("read", 9501, "{}");
const WRITE: Service = Service::plaintext("write", 9502, "{}");
/// The server closes what is silent for so long.
const SILENCE: Duration = Duration::from_millis(50);
/// Between two requests: this and up to ten milliseconds.
const GAP: Duration = Duration::from_millis(45);
const CALLERS: u64 = 20;
const ROUNDS: u64 = 200;

/// All callers send at once, so that all connections are idle for as long as said. What failed: target and answer.
async fn race(server: &CountingServer, body: &'static str) -> Vec<(String, String)> {
    let (to, together) = (server.addr, Arc::new(Barrier::new(usize::try_from(CALLERS).unwrap())));
    let mut callers = JoinSet::new();
    for number in 0..CALLERS {
        let together = Arc::clone(&together);
        callers.spawn(async move {
            let (mut caller, mut failed) = (Caller::new(to), Vec::new());
            for round in 0..ROUNDS {
                // The pace is what is tested: a different one each time, spread evenly, the same in every run.
                let spread = Duration::from_micros((round * 7_919 + number * 373) % 10_000);
                timeout(LIMIT, together.wait()).await.unwrap();
                sleep(GAP + spread).await;
                let target = format!("/n/{number}/{round}");
                if let Err(why) = caller.succeed(&target, body).await {
                    failed.push((target, why));
                }
            }
            failed
        });
    }
    callers.join_all().await.into_iter().flatten().collect()
}

/// Runs the race, and says which requests failed. None reached the server twice that may not.
fn failures(service: Service, body: &'static str) -> Vec<(String, String)> {
    let site = Site::start(DAY, &[service]);
    let server = site.serve(service, Work::HttpClosing(SILENCE));
    let failed = site.call(async || race(&server, body).await);
    let (remembered, numbers) = (server.remembered(), server.numbers());
    let read: HashSet<&String> = remembered.iter().collect();
    let twice = remembered.len() - read.len();
    let unread = failed.iter().filter(|(target, _)| !read.contains(target)).count();
    println!(
        "{}: {} requests, {} failed, {unread} of them unread; {twice} read twice; {numbers:?}",
        service.name,
        CALLERS * ROUNDS,
        failed.len(),
    );
    assert!(body.is_empty() || twice == 0, "{twice} requests were sent twice");
    // Without connections that were closed meanwhile there was no race, and without others no reuse.
    assert!(numbers.accepted > CALLERS * 2 && numbers.accepted < CALLERS * ROUNDS, "{numbers:?}");
    failed
}

#[test]
fn no_request_fails_because_its_connection_was_closed_before_it() {
    within(LIMIT, || {
        let failed = failures(READ, "");
        assert!(failed.is_empty(), "{} of {}: {}", failed.len(), CALLERS * ROUNDS, failed[0].1);
    });
}

/// Without a look at the connection before each request, a good two per cent fail. What remains is an end that was on
/// its way to meet the request: it cannot be told from one that the server made after it had read it.
#[test]
fn a_request_that_may_not_be_sent_twice_seldom_fails_because_its_connection_was_closed() {
    within(LIMIT, || {
        let (failed, most) = (failures(WRITE, "once"), CALLERS * ROUNDS * 3 / 200);
        assert!(failed.len() as u64 <= most, "{} of {}: {}", failed.len(), CALLERS * ROUNDS, failed[0].1);
    });
}
