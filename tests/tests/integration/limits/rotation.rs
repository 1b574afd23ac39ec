//! Certificates that change every two seconds under pools in use.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use portcullis_tests::callers::Caller;
use portcullis_tests::within;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{LIMIT, Service, Site};

const LEAF_LIFE: &str = "4s";
const SECONDS: Duration = Duration::from_secs(15);
const SINGLE: Service = Service::mutual("single", 9405, "{tcp: {maxConnections: 5}}");
const SHARED: Service = Service::mutual(
    "shared",
    9402,
    "{tcp: {maxConnections: 2}, http: {h2UpgradePolicy: UPGRADE, maxConcurrentStreams: 10}}",
);

#[test]
fn new_certificates_fail_no_request_and_open_no_connection_too_many() {
    within(LIMIT, || {
        let site = Site::start(LEAF_LIFE, &[SINGLE, SHARED]);
        let services = [(SINGLE, 5), (SHARED, 2)].map(|(service, limit)| (site.behind_relay(service), limit));
        let answered = Arc::new(AtomicU64::new(0));
        let failed = site.call(async || {
            let (end, mut callers) = (Instant::now() + SECONDS, JoinSet::new());
            for ((relay, _), _) in &services {
                for _ in 0..12 {
                    let (to, answered) = (relay.addr, Arc::clone(&answered));
                    callers.spawn(async move {
                        let (mut caller, mut failed) = (Caller::new(to), Vec::new());
                        while Instant::now() < end {
                            match caller.succeed("/?ms=50", "").await {
                                Ok(()) => {
                                    answered.fetch_add(1, Ordering::Relaxed);
                                }
                                Err(why) => failed.push(why),
                            }
                        }
                        failed
                    });
                }
            }
            callers.join_all().await.concat()
        });
        println!("{} answered, {} failed", answered.load(Ordering::Relaxed), failed.len());
        for ((relay, app), limit) in &services {
            let (relayed, served) = (relay.numbers(), app.numbers());
            println!("limit {limit}: {relayed:?}; app {served:?}");
            assert!(relayed.peak <= *limit, "{relayed:?}");
            // Else it was no rotation.
            assert!(relayed.accepted >= 3 * limit, "{relayed:?}");
        }
        // Streams side by side: it was HTTP/2.
        assert!(services[1].0.1.numbers().most_under_way > 2, "{:?}", services[1].0.1.numbers());
        assert!(failed.is_empty(), "{} failed: {}", failed.len(), failed[0]);
    });
}
