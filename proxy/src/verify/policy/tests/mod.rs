//! What is found in a policy, and what is not.

mod authorization;
mod findings;
mod properties;
mod rows;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use time::macros::datetime;

use super::*;

/// 2026-11-23.
fn now() -> Duration {
    Duration::from_secs(u64::try_from(datetime!(2026-11-23 12:00 UTC).unix_timestamp()).unwrap())
}

fn assumptions(exception_plans: ExceptionPlans) -> Assumptions {
    Assumptions {
        trust_domain: "cluster.local".parse().unwrap(),
        root_namespace: "istio-system".to_owned(),
        exception_plans,
    }
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/policy").join(name)
}

/// Writes `yaml` as `policy.yaml` and examines it.
fn examine_text(yaml: &str, plans: ExceptionPlans) -> Result<Report, config::Report> {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("policy.yaml"), yaml).unwrap();
    examine(&[directory.path().to_owned()], &[], &assumptions(plans), now())
}

fn examined(yaml: &str) -> Report {
    examine_text(yaml, ExceptionPlans::Warn).unwrap_or_else(|report| panic!("{report}"))
}

/// `check line`, sorted as reported.
fn found(report: &Report) -> Vec<String> {
    let line = |finding: &Finding| finding.place.as_ref().map_or(0, config::Place::line);
    report.findings.iter().map(|finding| format!("{} {}", finding.check.label(), line(finding))).collect()
}

/// A document of policy in namespace `production`, named `x`.
fn resource(kind: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: x, namespace: production}}\nspec: {spec}\n---\n"
    )
}

/// Service `api`: port 80 is port 8080 of one endpoint v1 and one v2; 5432 is the same on both.
fn service() -> String {
    resource(
        "ServiceEntry",
        "{hosts: [api.production.svc.cluster.local], resolution: STATIC, ports: [{number: 80, name: http, targetPort: 8080}, \
         {number: 5432, name: tcp-db}], endpoints: [{address: 10.0.0.1, labels: {app: api, version: v1}}, \
         {address: 10.0.0.2, labels: {app: api, version: v2}}]}",
    )
}
