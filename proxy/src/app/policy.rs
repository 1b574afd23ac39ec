//! The policy in force, and how another takes its place: as a whole, or not at all.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portcullis_identity::Clock;

use crate::authz::InboundPolicy;
use crate::config::{Policy, PolicyWatch, Report};
use crate::drain::Drain;
use crate::latest::{Latest, Publisher, publish};
use crate::metrics::{Metrics, ReloadResult};
use crate::route::OutboundPolicy;

/// Bytes of a report that are kept for `status`. The log has the whole.
const MAX_REPORT: usize = 32 * 1024;

/// What everyone reads. Cheap to clone.
#[derive(Clone)]
pub(super) struct PolicyInForce {
    /// For connections to the app.
    pub(super) inbound: Latest<InboundPolicy>,
    /// For connections of the app.
    pub(super) outbound: Latest<OutboundPolicy>,
    record: Arc<Mutex<Record>>,
}

/// How the policy came to be what it is.
#[derive(Debug, Clone)]
pub(super) struct Record {
    /// 1 is that of the start.
    pub(super) generation: u64,
    /// Files and directories.
    pub(super) sources: Arc<[PathBuf]>,
    /// When it came into force, since the epoch.
    pub(super) loaded: Duration,
    /// Remarks on it.
    pub(super) warnings: Arc<[String]>,
    /// When the last reload failed (since the epoch) and why; `None` when it did not.
    pub(super) fault: Option<(Duration, Arc<str>)>,
}

/// Replaces the policy. There is one.
pub(super) struct Reloader {
    inbound: Publisher<InboundPolicy>,
    outbound: Publisher<OutboundPolicy>,
    record: Arc<Mutex<Record>>,
    metrics: Arc<Metrics>,
    clock: Clock,
}

/// Puts the first policy into force. `clock` is that of the machine: it says when.
pub(super) fn put_in_force(
    policy: Policy,
    sources: &[PathBuf],
    metrics: Arc<Metrics>,
    clock: Clock,
) -> (Reloader, PolicyInForce) {
    let warnings = said(&policy);
    let loaded = clock.now();
    let (inbound_publisher, inbound) = publish(policy.inbound);
    let (outbound_publisher, outbound) = publish(policy.outbound);
    let generation = inbound_publisher.generation();
    metrics.policy.in_force(generation, loaded);
    let record = Record { generation, sources: sources.into(), loaded, warnings, fault: None };
    let record = Arc::new(Mutex::new(record));
    let in_force = PolicyInForce { inbound, outbound, record: Arc::clone(&record) };
    let (inbound, outbound) = (inbound_publisher, outbound_publisher);
    (Reloader { inbound, outbound, record, metrics, clock }, in_force)
}

/// Logs the remarks on a policy, at each load.
fn said(policy: &Policy) -> Arc<[String]> {
    let warnings: Vec<String> = policy.warnings.iter().map(ToString::to_string).collect();
    warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    warnings.into()
}

impl PolicyInForce {
    /// How it came to be what it is.
    pub(super) fn record(&self) -> Record {
        lock(&self.record).clone()
    }
}

impl Reloader {
    /// Takes up what the watch brings, until the drain begins.
    pub(super) async fn run(self, mut watch: PolicyWatch, drain: Drain) {
        loop {
            tokio::select! {
                outcome = watch.next() => self.take(outcome),
                () = drain.begun() => return,
            }
        }
    }

    /// A policy without fault takes the place of the one in force; a report leaves that where it is.
    fn take(&self, outcome: Result<Policy, Report>) {
        match outcome {
            Ok(policy) => self.replace(policy),
            Err(report) => self.keep(&report),
        }
    }

    fn replace(&self, policy: Policy) {
        let (warnings, loaded) = (said(&policy), self.clock.now());
        self.inbound.replace(policy.inbound);
        self.outbound.replace(policy.outbound);
        let generation = self.inbound.generation();
        self.metrics.policy.reloaded(ReloadResult::ok);
        self.metrics.policy.in_force(generation, loaded);
        let mut record = lock(&self.record);
        *record = Record { generation, loaded, warnings, fault: None, sources: Arc::clone(&record.sources) };
        tracing::info!(generation, "policy reloaded");
    }

    fn keep(&self, report: &Report) {
        self.metrics.policy.reloaded(ReloadResult::fault);
        let mut text = report.to_string();
        let mut record = lock(&self.record);
        let generation = record.generation;
        tracing::error!(
            generation,
            "the policy files have faults and are not used; generation {generation} stays in force: {text}"
        );
        if text.len() > MAX_REPORT {
            text.truncate(text.floor_char_boundary(MAX_REPORT));
            text.push_str("\n... (the log has it all)");
        }
        record.fault = Some((self.clock.now(), text.into()));
    }
}

fn lock(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::Path;

    use portcullis_identity::{ManualClock, TrustDomain, Workload};
    use tempfile::TempDir;
    use tokio::time::timeout;

    use super::*;
    use crate::config::{ExceptionPlans, PolicyScope, PolicySource};

    const PATIENCE: Duration = Duration::from_secs(8);
    const NOW: Duration = Duration::from_secs(1_800_000_000);

    fn write(directory: &Path, mode: &str) {
        let text = format!(
            "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
             metadata: {{name: default, namespace: production}}\n\
             spec: {{portLevelMtls: {{8080: {{mode: {mode}}}}}}}\n"
        );
        fs::write(directory.join("policy.yaml"), text).unwrap();
    }

    fn scope() -> PolicyScope {
        let trust_domain = TrustDomain::parse("cluster.local").unwrap();
        PolicyScope {
            workload: Workload::new(&trust_domain, "production", "api").unwrap(),
            labels: BTreeMap::new(),
            root_namespace: "istio-system".to_owned(),
            exception_plans: ExceptionPlans::Warn,
        }
    }

    fn loaded(directory: &Path, clock: &ManualClock) -> crate::config::Loaded {
        let source = PolicySource { paths: vec![directory.to_owned()], scope: scope(), clock: clock.clock() };
        source.load().unwrap_or_else(|report| panic!("{report}"))
    }

    /// Waits for a line of the metrics; the policy has been taken up or refused by then.
    async fn metric(metrics: &Metrics, wanted: &str) {
        let seen = async {
            while !metrics.encode().lines().any(|line| line == wanted) {
                tokio::task::yield_now().await;
            }
        };
        let seen = timeout(PATIENCE, seen).await;
        assert!(seen.is_ok(), "no {wanted} in\n{}", metrics.encode());
    }

    #[tokio::test]
    async fn a_bad_policy_leaves_the_last_good_one_and_a_good_one_replaces_it() {
        let directory = TempDir::new().unwrap();
        let clock = ManualClock::at(NOW);
        write(directory.path(), "DISABLE");
        let (policy, watch) = loaded(directory.path(), &clock).follow();
        let (metrics, drain) = (Arc::new(Metrics::new()), Drain::new());
        let sources = watch.paths().to_vec();
        let (reloader, in_force) = put_in_force(policy, &sources, Arc::clone(&metrics), clock.clock());
        drain.spawn(reloader.run(watch, drain.clone()));
        let mut changes = in_force.inbound.clone();
        let open = || in_force.inbound.load().mode(8080, NOW).is_plaintext();
        assert!(open() && in_force.record().warnings.len() == 1);
        metric(&metrics, "portcullis_policy_last_reload_successful 1").await;

        clock.advance(Duration::from_secs(60));
        write(directory.path(), "PERMISSIVE");
        metric(&metrics, r#"portcullis_policy_reloads_total{result="fault"} 1"#).await;
        metric(&metrics, "portcullis_policy_last_reload_successful 0").await;
        metric(&metrics, "portcullis_policy_generation 1").await;
        metric(&metrics, "portcullis_policy_last_good_seconds 1800000000.0").await;
        let record = in_force.record();
        let (at, report) = record.fault.unwrap();
        assert!(report.contains("policy.yaml:4:") && report.contains("1 fault"), "{report}");
        assert_eq!((at, record.loaded, record.generation), (NOW + Duration::from_secs(60), NOW, 1));
        assert!(open(), "the last good one stays");

        write(directory.path(), "STRICT");
        timeout(PATIENCE, changes.changed()).await.unwrap();
        assert!(!open(), "the new one is in force");
        metric(&metrics, "portcullis_policy_generation 2").await;
        metric(&metrics, "portcullis_policy_last_reload_successful 1").await;
        metric(&metrics, "portcullis_policy_last_good_seconds 1800000060.0").await;
        let record = in_force.record();
        assert!(record.fault.is_none() && record.warnings.is_empty());
        assert_eq!((record.generation, in_force.outbound.generation()), (2, 2));
        drain.finish(PATIENCE).await;
    }

    #[test]
    fn a_long_report_is_kept_in_part() {
        let directory = TempDir::new().unwrap();
        let clock = ManualClock::at(NOW);
        write(directory.path(), "STRICT");
        let (policy, _watch) = loaded(directory.path(), &clock).follow();
        let metrics = Arc::new(Metrics::new());
        let (reloader, in_force) = put_in_force(policy, &[], metrics, clock.clock());
        let faulty =
            (0..500).map(|n| format!("---\nkind: {n}{}\n", "\u{e9}".repeat(200))).collect::<String>();
        fs::write(directory.path().join("policy.yaml"), faulty).unwrap();
        let report = crate::config::load_policy(&[directory.path().to_owned()], &scope(), NOW).unwrap_err();
        assert!(report.to_string().len() > MAX_REPORT, "{}", report.to_string().len());
        reloader.take(Err(report));
        let (_, kept) = in_force.record().fault.unwrap();
        assert!(kept.len() < MAX_REPORT + 100 && kept.ends_with("(the log has it all)"));
    }
}
