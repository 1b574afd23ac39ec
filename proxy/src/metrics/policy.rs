//! What Prometheus sees of policy reloads.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// What came of a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the variant's name is the label's value")]
pub enum ReloadResult {
    /// In force.
    ok,
    /// Not used, the one before stays.
    fault,
}

/// `{result}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReloadLabels {
    /// See [`ReloadResult`].
    pub result: ReloadResult,
}

/// Counters and gauges of the policy.
#[derive(Default)]
pub struct PolicyMetrics {
    /// Generation of the policy in force; 1 is that of the start.
    pub generation: Gauge,
    /// Reloads, by what came of them.
    pub reloads: Family<ReloadLabels, Counter>,
    /// 1 when the policy in force is what the files say, 0 when the last reload found faults.
    pub last_reload_successful: Gauge,
    /// When the policy in force was loaded, seconds since the epoch.
    pub last_good: Gauge<f64, AtomicU64>,
}

impl PolicyMetrics {
    pub(super) fn register(&self, r: &mut Registry) {
        let result = |result| self.reloads.get_or_create_owned(&ReloadLabels { result });
        // Both are there from the start, so that a first fault is a rise.
        let _ = [ReloadResult::ok, ReloadResult::fault].map(result);
        r.register("policy_generation", "Generation of the policy in force", self.generation.clone());
        r.register("policy_reloads", "Policy reloads, by what came of them", self.reloads.clone());
        r.register(
            "policy_last_reload_successful",
            "1 when the policy in force is what the files say",
            self.last_reload_successful.clone(),
        );
        r.register_with_unit(
            "policy_last_good",
            "When the policy in force was loaded, since the Unix epoch",
            Unit::Seconds,
            self.last_good.clone(),
        );
    }

    /// A policy has come into force at `now` (since the epoch).
    pub fn in_force(&self, generation: u64, now: std::time::Duration) {
        self.generation.set(i64::try_from(generation).unwrap_or(i64::MAX));
        self.last_reload_successful.set(1);
        self.last_good.set(now.as_secs_f64());
    }

    /// Counts a reload.
    pub fn reloaded(&self, result: ReloadResult) {
        self.reloads.get_or_create(&ReloadLabels { result }).inc();
        self.last_reload_successful.set(i64::from(result == ReloadResult::ok));
    }
}
