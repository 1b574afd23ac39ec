//! Callers and servers that are gone at the worst moment: the places they had are free again, all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use portcullis_tests::callers::{Caller, pool, until};
use portcullis_tests::counting::Work;
use portcullis_tests::within;
use tokio::task::JoinSet;

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
        let (done, good, bad) =
            (AtomicBool::new(false), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        std::thread::scope(|scope| {
            let (calling, good_seen, bad_seen) = (&done, Arc::clone(&good), Arc::clone(&bad));
            let site = &site;
            let load = scope.spawn(move || {
                site.call(async || {
                    let stop = Arc::new(AtomicBool::new(false));
                    let mut callers = JoinSet::new();
                    for _ in 0..4 * MOST {
                        let (stop, good, bad) =
                            (Arc::clone(&stop), Arc::clone(&good_seen), Arc::clone(&bad_seen));
                        callers.spawn(async move {
                            let mut caller = Caller::new(to);
                            while !stop.load(Ordering::SeqCst) {
                                let is_good =
                                    caller.get("/?ms=5").await.is_ok_and(|answer| answer.word() == "200");
                                let counter = if is_good { &good } else { &bad };
                                counter.fetch_add(1, Ordering::SeqCst);
                            }
                        });
                    }
                    while !calling.load(Ordering::SeqCst) {
                        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                    }
                    stop.store(true, Ordering::SeqCst);
                    callers.join_all().await;
                });
            });
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
            done.store(true, Ordering::SeqCst);
            load.join().unwrap();
        });
        println!(
            "{KILLS} deaths: {} answered, {} failed",
            good.load(Ordering::SeqCst),
            bad.load(Ordering::SeqCst)
        );
        site.call(async || is_whole(PLAIN, to, &server, MOST).await);
    });
}
