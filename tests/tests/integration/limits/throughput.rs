//! As many connections as there may be, and as many answers as they can carry.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use portcullis_tests::callers::{Caller, as_app, until};
use portcullis_tests::counting::{CountingServer, Numbers, Work, established};
use portcullis_tests::within;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{DAY, Service, Site};

const CALLERS: u64 = 400;
/// Of all limits together, without being asked for another number.
const REQUESTS: u64 = 7_000;
/// Of what the limit allows by Little's law: the server's requests under way = rate x time in it. Without optimisation a
/// sidecar takes long enough from one request to the next to be seen beside it.
const SHARE: f64 = if cfg!(debug_assertions) { 0.85 } else { 0.95 };

/// Limit, what the server takes for an answer, and the share of all requests.
struct Case {
    service: Service,
    limit: u64,
    ms: u64,
    share: u64,
}

/// The times are so long that the limit is the bottleneck and not the processor, and so short that nobody of 400
/// waits for more than a queue's 15 s.
const CASES: [Case; 3] = [
    case(Service::plaintext("one", 9401, "{tcp: {maxConnections: 1}}"), 1, 30, 3),
    case(Service::plaintext("five", 9405, "{tcp: {maxConnections: 5}}"), 5, 30, 17),
    case(Service::plaintext("hundred", 9410, "{tcp: {maxConnections: 100}}"), 100, 250, 60),
];
const MUTUAL: Service = Service::mutual("mutual", 9420, "{tcp: {maxConnections: 5}}");
const LIFTED: Service = Service::plaintext("lifted", 9430, "{}");

const fn case(service: Service, limit: u64, ms: u64, share: u64) -> Case {
    Case { service, limit, ms, share }
}

#[allow(clippy::disallowed_methods, reason = "the length of the run is said in the environment")]
fn asked(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// All callers ask until `requests` have been asked; the server's numbers at the begin and the end of the time in
/// which it had all it can do, and that time.
async fn load(server: &CountingServer, ms: u64, requests: u64) -> (Numbers, Numbers, Duration) {
    let (to, taken, failed) = (server.addr, Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (taken, failed) = (Arc::clone(&taken), Arc::clone(&failed));
        callers.spawn(async move {
            let mut caller = Caller::new(to);
            while taken.fetch_add(1, Ordering::Relaxed) < requests {
                if let Err(why) = caller.succeed(&format!("/?ms={ms}"), "").await {
                    println!("{why}");
                    failed.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    // A long run has more than the patience of one condition: each step is one.
    let at = async |count: u64| loop {
        let before = server.numbers().answered;
        if before >= count {
            return (server.numbers(), Instant::now());
        }
        until("another answer", async || (server.numbers().answered > before).then_some(())).await;
    };
    let (begun, begin) = at(requests / 20).await;
    // The last callers have nobody behind them who waits.
    let (ended, end) = at(requests - requests.min(CALLERS) / 2).await;
    callers.join_all().await;
    assert_eq!(failed.load(Ordering::Relaxed), 0);
    assert_eq!(server.numbers().answered, requests, "each request is answered once");
    (begun, ended, end - begin)
}

#[test]
fn a_server_never_sees_a_connection_too_many_and_is_kept_as_busy_as_the_limit_allows() {
    let requests = asked("PORTCULLIS_LIMIT_REQUESTS", REQUESTS);
    // Optimised programs keep up with a server that answers so many times faster.
    let haste = asked("PORTCULLIS_LIMIT_HASTE", 1);
    let most = Duration::from_secs(150 + requests / 10);
    within(most, move || {
        let services: Vec<Service> = CASES.iter().map(|case| case.service).chain([LIFTED]).collect();
        let site = Site::start(DAY, &services);
        let mut slow = Vec::new();
        for Case { service, limit, ms, share } in &CASES {
            let server = site.serve(*service, Work::Http);
            let requests = (requests * share / 80).max(CALLERS + limit);
            let (begun, ended, took) = site.call(async || load(&server, ms / haste, requests).await);
            let answered = (ended.answered - begun.answered) as f64;
            let service = (ended.service - begun.service).as_secs_f64() / answered;
            let (rate, allowed) = (answered / took.as_secs_f64(), *limit as f64 / service);
            let seen = server.numbers();
            println!(
                "maxConnections {limit}: {requests} requests, peak {}, {} connections in all; {rate:.1}/s of {allowed:.1}/s \
                 ({:.1} %), service {:.2} ms, measured for {took:?}",
                seen.peak,
                seen.accepted,
                100.0 * rate / allowed,
                service * 1e3,
            );
            assert_eq!(seen.peak, *limit, "{seen:?}");
            assert_eq!(seen.most_under_way, *limit, "{seen:?}");
            if !(SHARE..=2.0 - SHARE).contains(&(rate / allowed)) {
                slow.push((*limit, rate, allowed));
            }
        }
        // The count goes above all of them when nothing holds it back.
        let server = site.serve(LIFTED, Work::Http);
        site.call(async || load(&server, 1000, CALLERS).await);
        println!("no limit: {:?}", server.numbers());
        assert!(server.numbers().peak > 100, "{:?}", server.numbers());
        assert!(slow.is_empty(), "less than {SHARE} of what the limit allows: {slow:?}");
    });
}

/// Connections to the server's sidecar, as the kernel of its host has them: of the client's sidecar, by way of the
/// relay.
fn inbound(site: &Site) -> usize {
    // The kernel writes an address as one number in its own byte order.
    let far = format!("{:08X}:", u32::from_ne_bytes(site.far.ipv4().octets()));
    let look = || established(|_, other| other.starts_with(&far)).unwrap();
    site.pair.server.host.in_namespace(look).unwrap()
}

#[test]
fn the_other_sidecar_sees_no_connection_too_many_either() {
    within(super::LIMIT, || {
        let site = Site::start(DAY, &[MUTUAL]);
        let (relay, app) = site.behind_relay(MUTUAL);
        let (to, done) = (relay.addr, AtomicBool::new(false));
        let most = std::thread::scope(|scope| {
            let looking = scope.spawn(|| {
                let (mut most, mut looks) = (0, 0);
                while !done.load(Ordering::SeqCst) {
                    (most, looks) = (most.max(inbound(&site)), looks + 1);
                }
                println!("{looks} looks at the kernel's table: at most {most} connections");
                most
            });
            let failed = as_app(&site.pair.client.host, async || {
                let mut callers = JoinSet::new();
                for _ in 0..CALLERS {
                    callers.spawn(async move {
                        Caller::new(to).get("/?ms=20").await.is_ok_and(|a| a.word() == "200")
                    });
                }
                callers.join_all().await.into_iter().filter(|good| !good).count()
            });
            done.store(true, Ordering::SeqCst);
            (looking.join().unwrap(), failed)
        });
        let (relayed, answered) = (relay.numbers(), app.numbers());
        println!("{relayed:?} {answered:?}");
        assert_eq!(most, (5, 0));
        assert_eq!((relayed.peak, answered.most_under_way, answered.answered), (5, 5, CALLERS));
    });
}
