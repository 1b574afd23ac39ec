//! Every certificate changes about every two seconds, under load, and nobody notices but who looks at serial numbers.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use portcullis::demo::lab::LabError;
use portcullis::demo::programs::Sidecar;
use portcullis::svid::IdentityWatch;
use portcullis::tls::Alpn;
use portcullis_tests::mesh::{HTTP, Pair};
use portcullis_tests::prober::{Probe, Prober};
use portcullis_tests::within;
use serde_json::{Value, json};

/// Without being asked for another.
const SECONDS: u64 = 20;
/// Requests per second.
const RATE: u32 = 500;
/// Renewed at a random 40-60 % of it, so every two seconds on average.
const LEAF_LIFE: &str = "4s";
/// The prober's own certificate, a handshake at this pace sees every one of the service's: none lasts under 1.2 s.
const PACE: Duration = Duration::from_millis(250);
/// More than this much memory above that after the first quarter is a leak. Buffers and log lines come and go.
const MOST_KIB_MORE: u64 = 16 * 1024;
/// The same for descriptors: each connection may for a moment have its successor beside it.
const MOST_DESCRIPTORS_MORE: usize = 32;

#[allow(clippy::disallowed_methods, reason = "`make soak` says how long in the environment")]
fn seconds() -> u64 {
    std::env::var("PORTCULLIS_SOAK_SECONDS").map_or(SECONDS, |text| text.parse().expect("seconds"))
}

#[test]
fn soak_with_a_new_certificate_every_two_seconds_fails_no_request() {
    let seconds = seconds();
    within(Duration::from_secs(seconds + 60), move || {
        let mut pair = Pair::start(LEAF_LIFE);
        let host = pair.mesh.host("prober");
        let prober = Prober::new(&pair.mesh, &host, "prober");
        let (service, done) = (pair.service(HTTP), AtomicBool::new(false));
        let (report, usage, serials) = std::thread::scope(|scope| {
            let probing = scope.spawn(|| prober.run(async |identity| probe(identity, service, &done).await));
            let loaded = load(&pair, seconds);
            // Before anything may fail: the prober would go on for ever.
            done.store(true, Ordering::SeqCst);
            let serials = probing.join().unwrap();
            let (report, usage) = loaded.unwrap();
            (report, usage, serials)
        });
        let report: Value = serde_json::from_str(&report).unwrap();
        let hashes = report["peers"].as_object().unwrap().len();
        let line = json!({
            "seconds": seconds, "sent": report["sent"], "failed": report["failed"], "late": report["late"],
            "serials": {"client": hashes, "service": serials.len()},
            "p50_us": report["p50_us"], "p99_us": report["p99_us"], "max_us": report["max_us"],
            "usage": usage.iter().map(Usage::to_json).collect::<Vec<_>>(),
        });
        println!("{line}");
        assert_eq!(report["failed"], 0, "{report}");
        assert_eq!(report["sent"], u64::from(RATE) * seconds);
        let wanted = usize::try_from(seconds * 10 / 24).unwrap();
        assert!(hashes >= wanted && serials.len() >= wanted, "under {wanted} serials: {line}");
        for usage in usage {
            usage.check();
        }
    });
}

/// The load's report, and what the two sidecars used meanwhile.
fn load(pair: &Pair, seconds: u64) -> Result<(String, [Usage; 2]), LabError> {
    let load = pair.load(RATE, seconds);
    let mut usage = [Usage::new("client", &pair.client), Usage::new("service", &pair.server)];
    loop {
        // A second without the report is a second to look at the sidecars.
        match load.wait_for_line(|line| line.ends_with('}'), Duration::from_secs(1)) {
            // With hundreds of peers it is longer than what is kept as one line.
            Ok(_) => return Ok((load.output().replace('\n', ""), usage)),
            Err(LabError::Late { .. }) => usage.iter_mut().for_each(Usage::look),
            Err(error) => return Err(error),
        }
    }
}

/// Serial numbers of the service's certificates, as a peer sees them in full handshakes.
async fn probe(identity: IdentityWatch, service: SocketAddr, done: &AtomicBool) -> BTreeSet<String> {
    let mut pace = tokio::time::interval(PACE);
    let mut serials = BTreeSet::new();
    while !done.load(Ordering::SeqCst) {
        pace.tick().await;
        let mut probe = Probe::connect(&identity, service, Alpn::Http1).await.unwrap();
        let answer = probe.get("/count").await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        serials.insert(probe.serial);
    }
    serials
}

/// Memory and descriptors of one sidecar, second by second.
struct Usage {
    who: &'static str,
    process: i32,
    kib: Vec<u64>,
    descriptors: Vec<usize>,
}

impl Usage {
    fn new(who: &'static str, sidecar: &Sidecar) -> Self {
        Self { who, process: sidecar.id().unwrap(), kib: Vec::new(), descriptors: Vec::new() }
    }

    fn look(&mut self) {
        let process = self.process;
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        self.kib.push(resident.split_whitespace().next().unwrap().parse().unwrap());
        self.descriptors.push(fs::read_dir(format!("/proc/{process}/fd")).unwrap().count());
    }

    /// The most in the first quarter, and the most in the last.
    fn ends<T: Ord + Copy>(samples: &[T]) -> (T, T) {
        let quarter = samples.len().div_ceil(4);
        let most = |samples: &[T]| *samples.iter().max().unwrap();
        (most(&samples[..quarter]), most(&samples[samples.len() - quarter..]))
    }

    fn to_json(&self) -> Value {
        let ((kib, kib_end), (fds, fds_end)) = (Self::ends(&self.kib), Self::ends(&self.descriptors));
        json!({"of": self.who, "rss_kib": [kib, kib_end], "descriptors": [fds, fds_end]})
    }

    fn check(&self) {
        let ((kib, kib_end), (fds, fds_end)) = (Self::ends(&self.kib), Self::ends(&self.descriptors));
        assert!(kib_end <= kib + MOST_KIB_MORE, "the {}'s memory grows: {:?} KiB", self.who, self.kib);
        assert!(fds_end <= fds + MOST_DESCRIPTORS_MORE, "{}: descriptors {:?}", self.who, self.descriptors);
    }
}
