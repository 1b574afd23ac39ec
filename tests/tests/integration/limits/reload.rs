//! A limit that is lowered while all of it is in use.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use portcullis_tests::callers::{Caller, PATIENCE, as_app};
use portcullis_tests::counting::{CountingServer, Work};
use portcullis_tests::mesh::metrics;
use portcullis_tests::within;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{DAY, LIMIT, POLICY, Service, Site};

const BEFORE: Service = Service::plaintext("shrinking", 9420, "{tcp: {maxConnections: 20}}");
const AFTER: Service = Service { pool: "{tcp: {maxConnections: 5}}", ..BEFORE };

/// On the test's thread: the condition must come true in time.
fn wait(what: &str, server: &CountingServer, ready: impl Fn() -> bool) {
    let begun = Instant::now();
    while !ready() {
        assert!(begun.elapsed() < PATIENCE, "{what}: {:?}", server.numbers());
        std::thread::yield_now();
    }
}

#[test]
fn a_lowered_limit_holds_as_soon_as_the_connections_in_use_have_ended() {
    within(LIMIT, || {
        let site = Site::start(DAY, &[BEFORE]);
        let server = site.serve(BEFORE, Work::Http);
        let (to, done) = (server.addr, Arc::new(AtomicBool::new(false)));
        let client = &site.pair.client.host;
        let (failed, during, after) = std::thread::scope(|scope| {
            let stop = Arc::clone(&done);
            let load = scope.spawn(move || {
                as_app(client, async || {
                    let mut callers = JoinSet::new();
                    for _ in 0..40 {
                        let stop = Arc::clone(&stop);
                        callers.spawn(async move {
                            let (mut caller, mut failed) = (Caller::new(to), Vec::new());
                            while !stop.load(Ordering::SeqCst) {
                                failed.extend(caller.succeed("/?ms=100", "").await.err());
                            }
                            failed
                        });
                    }
                    callers.join_all().await.concat()
                })
            });
            let enough = |more: u64| server.numbers().answered + more;
            let warm = enough(100);
            wait("a warm pool", &server, || server.numbers().answered >= warm);
            site.pair.mesh.replace_policy(POLICY, &Site::policy(&site.far, &[AFTER]));
            wait("the new policy", &server, || {
                metrics(client).lines().any(|line| line == "portcullis_policy_generation 2")
            });
            // By then whatever was in use at the reload has been answered and has ended.
            let ended = enough(200);
            wait("the end of the old connections", &server, || server.numbers().answered >= ended);
            let during = server.begin_peaks();
            let more = enough(200);
            wait("answers under the new limit", &server, || server.numbers().answered >= more);
            done.store(true, Ordering::SeqCst);
            (load.join().unwrap(), during, server.numbers())
        });
        println!("{} failed; in and before the change {during:?}; after it {after:?}", failed.len());
        assert!(failed.is_empty(), "{} failed: {}", failed.len(), failed[0]);
        assert_eq!(after.peak, 5, "{after:?}");
        // Never more than the greater of both, and that much there was.
        assert_eq!(during.peak, 20, "{during:?}");
    });
}
