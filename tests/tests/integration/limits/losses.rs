//! Callers and servers that are gone at the worst moment: the places they had are free again, all of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use portcullis_tests::callers::{Caller, pool, until};
use portcullis_tests::counting::Work;
use portcullis_tests::within;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{DAY, LIMIT, Service, Site, is_whole, sent};

const MOST: usize = 5;
const PLAIN: Service = Service::plaintext("plain", 9405, "{tcp: {maxConnections: 5}}");
const MUTUAL: Service = Service::mutual("mutual", 9406, "{tcp: {maxConnections: 5}}");
const LEAVES: usize = 300;
const HANDSHAKES: usize = 100;
const KILLS: usize = 100;

#[test]
fn callers_that_leave_while_they_wait_or_are_served_take_no_place_with_them() {
    within(LIMIT, || {
        let site = Site::start(DAY, &[PLAIN]);
        let server = site.serve(PLAIN, Work::Http);
        let (to, destination) = (server.addr, PLAIN.destination());
        site.call(async || {
            for round in 0..LEAVES {
                server.set_gate(false);
                let served = sent(to, "/?hold", MOST).await;
                until("requests at the server", async || {
                    (server.numbers().under_way == MOST as u64).then_some(())
                })
                .await;
                let mut waiting = sent(to, "/?hold", 2 * MOST).await;
                until("requests that wait", async || {
                    (pool(&destination).await.waiting == 2 * MOST).then_some(())
                })
                .await;
                // Some who wait, then all who are served, or the other way round; the rest leaves in between.
                let some = waiting.split_off(round % (2 * MOST));
                if round % 2 == 0 {
                    drop(some);
                    drop(served);
                } else {
                    drop(served);
                    drop(some);
                }
                drop(waiting);
                is_whole(PLAIN, to, &server, MOST).await;
            }
        });
        let seen = server.numbers();
        println!("{LEAVES} rounds: {seen:?}");
        assert_eq!(seen.peak, MOST as u64, "{seen:?}");
    });
}

#[test]
fn callers_that_leave_during_a_handshake_take_no_place_with_them() {
    within(LIMIT, || {
        let site = Site::start(DAY, &[MUTUAL]);
        let (relay, app) = site.behind_relay(MUTUAL);
        let (to, destination) = (relay.addr, MUTUAL.destination());
        drop(relay);
        for _ in 0..HANDSHAKES {
            // A new relay has cut off all connections of the one before.
            let relay = site.serve(MUTUAL, Work::Relay(app.addr));
            relay.set_gate(false);
            site.call(async || {
                until("a pool without connections", async || {
                    (pool(&destination).await.connections == 0).then_some(())
                })
                .await;
                let dialling = sent(to, "/", MOST).await;
                until("handshakes", async || (relay.numbers().open == MOST as u64).then_some(())).await;
                let waiting = sent(to, "/", 3).await;
                until("all at the sidecar", async || (pool(&destination).await.active >= MOST).then_some(()))
                    .await;
                drop(dialling);
                drop(waiting);
                relay.set_gate(true);
                is_whole(MUTUAL, to, &app, MOST).await;
            });
            let seen = relay.numbers();
            assert!(seen.peak <= MOST as u64, "{seen:?}");
        }
    });
}

#[test]
fn a_server_that_dies_under_load_takes_no_place_with_it() {
    within(LIMIT, || {
        let site = Site::start(DAY, &[PLAIN]);
        let mut server = site.serve(PLAIN, Work::Http);
        let to = server.addr;
        let (good, bad) = std::thread::scope(|scope| {
            let ((enough, told), site) = (oneshot::channel(), &site);
            let load = scope.spawn(move || site.call(async move || load(to, told).await));
            for _ in 0..KILLS {
                // Under load means that it has answered some since it came up.
                let give_up = std::time::Duration::from_secs(30);
                let begun = tokio::time::Instant::now();
                while server.numbers().answered < 20 {
                    assert!(begun.elapsed() < give_up, "no answers: {:?}", server.numbers());
                    std::thread::yield_now();
                }
                assert!(server.numbers().peak <= MOST as u64, "{:?}", server.numbers());
                server.stop();
                server = site.serve(PLAIN, Work::Http);
            }
            drop(enough);
            load.join().unwrap()
        });
        println!("{KILLS} deaths: {good} answered, {bad} failed");
        site.call(async || is_whole(PLAIN, to, &server, MOST).await);
    });
}

/// Callers that ask one request after the other until `enough` is heard, or its sender is gone, as when the test has
/// failed. How many were answered with 200, and how many not.
async fn load(to: SocketAddr, enough: oneshot::Receiver<()>) -> (u64, u64) {
    let stop = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for _ in 0..4 * MOST {
        let stop = Arc::clone(&stop);
        callers.spawn(async move {
            let (mut caller, mut good, mut bad) = (Caller::new(to), 0, 0);
            while !stop.load(Ordering::SeqCst) {
                let is_good = caller.get("/?ms=5").await.is_ok_and(|answer| answer.word() == "200");
                if is_good {
                    good += 1;
                } else {
                    bad += 1;
                }
            }
            (good, bad)
        });
    }
    let _ = timeout(LIMIT, enough).await.expect("an end of the load in time");
    stop.store(true, Ordering::SeqCst);
    callers.join_all().await.into_iter().fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1))
}
