//! A setting as a policy is what our own configuration reads: exactly these limits, and nothing else.

use std::fs;

use portcullis_identity::{TrustDomain, Workload};

use super::*;
use crate::config::{ExceptionPlans, Policy, PolicyScope, load_policy};
use crate::route::PoolLimits;

const HOST: &str = "api.backend.svc.cluster.local";

/// The rule beside a ServiceEntry of its host, as a client in another namespace sees them.
fn loaded(yaml: &str) -> Policy {
    let entry = format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: api, namespace: backend}}\nspec: {{hosts: \
         [{HOST}], resolution: STATIC, ports: [{{number: 80, name: http}}], endpoints: [{{address: 10.2.0.1}}]}}\n---\n"
    );
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("policy.yaml"), entry + yaml).unwrap();
    let trust_domain = TrustDomain::parse("cluster.local").unwrap();
    let scope = PolicyScope {
        workload: Workload::new(&trust_domain, "production", "client").unwrap(),
        labels: BTreeMap::new(),
        root_namespace: "istio-system".to_owned(),
        exception_plans: ExceptionPlans::Warn,
    };
    let policy = load_policy(&[directory.path().to_owned()], &scope, Duration::from_secs(1_700_000_000));
    policy.unwrap_or_else(|report| panic!("{report}\n{yaml}"))
}

fn limits_in(yaml: &str) -> PoolLimits {
    let policy = loaded(yaml);
    let warnings: Vec<String> = policy.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings, [""; 0]);
    let mut destinations = policy.outbound.destinations();
    destinations.find(|destination| destination.host == HOST && destination.port == 80).unwrap().limits
}

/// Every combination of limits that are set and not.
#[test]
fn exactly_the_limits_that_are_set_are_in_force() {
    for set in 0..8_u32 {
        let value = |bit: u32, value: u32| (set & (1 << bit) != 0).then_some(value);
        let limits =
            Limits { max_connections: value(0, 7), max_pending: value(1, 70), max_requests: value(2, 700) };
        let default = PoolLimits::default();
        let expected = PoolLimits {
            max_connections: limits.max_connections.unwrap_or(default.max_connections),
            http1_max_pending_requests: limits.max_pending.unwrap_or(default.http1_max_pending_requests),
            http2_max_requests: limits.max_requests.unwrap_or(default.http2_max_requests),
            ..default
        };
        assert_eq!(limits_in(&destination_rule_yaml(&limits, HOST, "backend")), expected, "{limits:?}");
    }
}

#[test]
fn a_limit_that_is_not_set_leaves_no_block() {
    let yaml = |limits: Limits| destination_rule_yaml(&limits, HOST, "backend");
    let none = Limits { max_connections: None, max_pending: None, max_requests: None };
    let all = yaml(Limits { max_connections: Some(1), max_pending: Some(2), max_requests: Some(3) });
    for part in ["trafficPolicy:", "connectionPool:", "tcp:", "http:"] {
        assert!(all.contains(part), "{part}");
        assert!(!yaml(none).contains(part), "{part}");
    }
    assert!(!yaml(Limits { max_connections: Some(1), ..none }).contains("http:"));
    assert!(!yaml(Limits { max_pending: Some(1), ..none }).contains("tcp:"));
}

/// What YAML would read as something else is quoted, and a name is one that Kubernetes takes.
#[test]
fn any_host_and_namespace_stay_what_they_are() {
    for (host, namespace, lines) in [
        ("api.shop.svc.cluster.local", "shop", ["api-pool", "shop", "api.shop.svc.cluster.local"]),
        ("*.example.com", "on", ["pool", "\"on\"", "\"*.example.com\""]),
        ("-Odd_: \"x\".y", "1e3", ["oddx-pool", "\"1e3\"", "\"-Odd_: \\\"x\\\".y\""]),
    ] {
        let yaml = destination_rule_yaml(&limits(1, 2), host, namespace);
        let [name, namespace, host] = lines;
        let start = format!("metadata:\n  name: {name}\n  namespace: {namespace}\nspec:\n  host: {host}\n");
        assert!(yaml.contains(&start), "{start}\n{yaml}");
    }
}
