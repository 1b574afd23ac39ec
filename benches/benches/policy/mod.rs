//! A policy of one file, loaded as a sidecar does.

use std::collections::BTreeMap;
use std::fs;

use portcullis::config::{ExceptionPlans, Policy, PolicyScope, PolicySource};
use portcullis_identity::{Clock, Workload};

/// What `text` means for a workload without labels.
pub(crate) fn load(text: &str, workload: Workload) -> Policy {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("policy.yaml"), text).unwrap();
    let scope = PolicyScope {
        workload,
        labels: BTreeMap::new(),
        root_namespace: "portcullis-system".to_owned(),
        exception_plans: ExceptionPlans::Require,
    };
    let source = PolicySource { paths: vec![directory.path().into()], scope, clock: Clock::system() };
    source.load().unwrap_or_else(|report| panic!("{report}")).policy
}
