//! More than there is room for, all at once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use portcullis::demo::lab::Host;
use portcullis_identity::Clock;
use portcullis_tests::callers::{Caller, as_app, until};
use portcullis_tests::counting::{CountingServer, Work};
use portcullis_tests::mesh::{HTTP, Pair, metrics};
use portcullis_tests::within;
use serde_json::Value;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::{DAY, LIMIT};

const DESTINATION: &str = "api-service.production.svc.cluster.local:8443";
const OVERFLOW: &str = "http1MaxPendingRequests";
/// One and a half of what fits: the sample policy has maxConnections 100, http1MaxPendingRequests 50.
const ADMITTED: usize = 150;

/// An answer, how long after its request was sent it arrived, and when.
struct Outcome {
    answer: portcullis_tests::message::Message,
    took: Duration,
    at: Duration,
}

/// So many requests at once, over connections that the sidecar has accepted. `meanwhile` sees how
/// many have been refused.
fn burst(
    (host, to): (&Host, SocketAddr),
    how_many: usize,
    target: &'static str,
    meanwhile: impl AsyncFnOnce(&AtomicUsize) + Send,
) -> Vec<Outcome> {
    as_app(host, async || {
        let (begin, mut callers) = (Arc::new(Barrier::new(how_many + 1)), JoinSet::new());
        let refused = Arc::new(AtomicUsize::new(0));
        for _ in 0..how_many {
            let begin = Arc::clone(&begin);
            let refused = Arc::clone(&refused);
            let clock = Clock::system();
            callers.spawn(async move {
                let mut caller = Caller::new(to);
                caller.connect().await.unwrap();
                begin.wait().await;
                caller.send(target, "").await.unwrap();
                let sent = clock.now();
                let at = caller.arrival().await.unwrap();
                let answer = caller.answer().await.unwrap();
                if answer.word() != "200" {
                    refused.fetch_add(1, Ordering::SeqCst);
                }
                Outcome { answer, took: at.saturating_sub(sent), at }
            });
        }
        let open = format!("portcullis_connections_open{{direction=\"outbound\"}} {how_many}");
        let mut admin = Caller::new(([127, 0, 0, 1], 15000).into());
        until("connections that the sidecar has accepted", async || {
            let page = String::from_utf8(admin.get("/metrics").await.unwrap().body).unwrap();
            page.lines().any(|line| line == open).then_some(())
        })
        .await;
        begin.wait().await;
        meanwhile(&refused).await;
        callers.join_all().await
    })
}

/// How many were answered so.
fn with<'a>(outcomes: &'a [Outcome], status: &str) -> Vec<&'a Outcome> {
    outcomes.iter().filter(|outcome| outcome.answer.word() == status).collect()
}

#[test]
fn a_burst_that_fits_finds_a_cold_pool_and_succeeds() {
    within(LIMIT, || {
        let pair = Pair::start(DAY);
        let outcomes =
            burst((&pair.client.host, pair.service(HTTP)), ADMITTED, "/slow?ms=1000", async |_| {});
        let refused = outcomes.iter().find(|outcome| outcome.answer.word() != "200");
        assert!(refused.is_none(), "{:?}", refused.map(|outcome| &outcome.answer));
        let connections = r#"portcullis_connections_total{direction="inbound"} 100"#;
        let metrics = metrics(&pair.server.host);
        assert!(metrics.lines().any(|line| line == connections), "{metrics}");
    });
}

#[test]
fn the_limits_of_a_destination_rule_admit_exactly_what_they_say() {
    within(LIMIT, || {
        let pair = Pair::start(DAY);
        let to = pair.service(HTTP);
        let Pair { client, server, apps, mesh: _mesh } = pair;
        drop(apps);
        let app = CountingServer::start(&server.host, HTTP, Work::Http);
        for (round, pool) in [(1_u64, "cold"), (2, "warm")] {
            app.set_gate(false);
            // Nobody is answered before the last refusal, on a busy machine either: that would make room for one more.
            let outcomes = burst((&client.host, to), 1000, "/?hold", async |refused| {
                until("100 at the server, 50 who wait, and all others refused", async || {
                    let (under_way, refused) = (app.numbers().under_way, refused.load(Ordering::SeqCst));
                    (under_way == 100 && refused == 1000 - ADMITTED).then_some(())
                })
                .await;
                app.set_gate(true);
            });
            check(&outcomes, pool);
            let page = metrics(&client.host);
            let reason = format!(r#"portcullis_refusals_total{{direction="outbound",reason="{OVERFLOW}"}}"#);
            let counted = format!("{reason} {}", round * 850);
            assert!(page.lines().any(|line| line == counted), "{page}");
            assert_eq!(
                (app.numbers().answered, app.numbers().most_under_way),
                (round * 150, 100),
                "{pool} pool"
            );
        }
        let line = client.log().lines().any(|line| {
            line.contains("is at its limit http1MaxPendingRequests: 50") && line.contains("refused: app ")
        });
        assert!(line, "{}", client.log());
        // All connections there ever were.
        let connections = r#"portcullis_connections_total{direction="inbound"} 100"#;
        let page = metrics(&server.host);
        assert!(page.lines().any(|line| line == connections), "{page}");
        let good = as_app(&client.host, async || Caller::new(to).succeed("/hello", "").await);
        assert_eq!(good, Ok(()));
    });
}

/// 150 admitted and 850 refused, each of these before the first of those was answered, and with the limit named.
fn check(outcomes: &[Outcome], pool: &str) {
    let (admitted, refused) = (with(outcomes, "200"), with(outcomes, "503"));
    let mut times: Vec<_> = refused.iter().map(|outcome| outcome.took).collect();
    times.sort();
    println!(
        "{pool} pool: {} admitted; refused: {}, first {:?}, median {:?}, last {:?}",
        admitted.len(),
        refused.len(),
        times.first(),
        times.get(times.len() / 2),
        times.last()
    );
    assert_eq!((admitted.len(), refused.len()), (ADMITTED, 1000 - ADMITTED));
    let first_answer = admitted.iter().map(|outcome| outcome.at).min().unwrap();
    for outcome in refused {
        assert!(outcome.at < first_answer, "a refusal waited for {:?}", outcome.took);
        let answer = &outcome.answer;
        assert_eq!(answer.field("x-portcullis-overflow"), Some(OVERFLOW), "{answer:?}");
        assert_eq!(answer.field("x-envoy-overloaded"), Some("true"), "{answer:?}");
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        let told = (&body["refused"], &body["limit"], &body["value"], &body["destination"]);
        assert_eq!(told, (&OVERFLOW.into(), &OVERFLOW.into(), &50.into(), &DESTINATION.into()), "{body}");
    }
}
