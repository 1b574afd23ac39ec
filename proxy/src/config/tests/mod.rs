//! What documents mean, and what is said of bad ones.

mod authorization;
mod bad;
mod bootstrap;
mod corpus;
mod inbound;
mod outbound;
mod properties;
mod routes;
mod sample;
mod services;
mod transport;

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use portcullis_identity::{TrustDomain, Workload};
use time::{OffsetDateTime, macros::datetime};

use super::*;

/// The moment of all tests but those of dates: 2026-11-23.
pub(super) fn now() -> Duration {
    at(datetime!(2026-11-23 12:00 UTC))
}

fn at(moment: OffsetDateTime) -> Duration {
    Duration::from_secs(u64::try_from(moment.unix_timestamp()).unwrap())
}

/// Service account `api` of namespace `production`, labels `app: api, version: VERSION`.
pub(super) fn scope(version: &str) -> PolicyScope {
    let trust_domain = TrustDomain::parse("cluster.local").unwrap();
    let labels = [("app", "api"), ("version", version)];
    PolicyScope {
        workload: Workload::new(&trust_domain, "production", "api").unwrap(),
        labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        root_namespace: "istio-system".to_owned(),
        exception_plans: ExceptionPlans::Warn,
    }
}

/// Loads one file of policy for a workload.
fn load_for(scope: &PolicyScope, yaml: &str) -> Result<Policy, Report> {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("policy.yaml"), yaml).unwrap();
    load_policy(&[directory.path().to_owned()], scope, now())
}

/// Loads one file of policy for `api` v1; it has no faults.
fn load(yaml: &str) -> Policy {
    load_for(&scope("v1"), yaml).unwrap_or_else(|report| panic!("{report}"))
}

fn warnings(policy: &Policy) -> Vec<String> {
    policy.warnings.iter().map(ToString::to_string).collect()
}

fn labels(labels: &[(&str, &str)]) -> BTreeMap<String, String> {
    labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}
