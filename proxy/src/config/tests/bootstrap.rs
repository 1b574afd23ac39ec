//! What a bootstrap file means.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::labels;
use crate::config::{
    Admin, Bootstrap, Direction, ExceptionPlans, Interception, JoinToken, Limits, Listener, load_bootstrap,
};
use crate::tls::MinVersion;

fn load(yaml: &str) -> (Bootstrap, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bootstrap.yaml");
    fs::write(&path, yaml).unwrap();
    (load_bootstrap(&path).unwrap_or_else(|report| panic!("{report}")), directory)
}

#[test]
fn what_is_left_out_has_its_default() {
    let (bootstrap, _directory) = load(
        "workload: {namespace: production, serviceAccount: api}\nca: {address: \"ca.example.com:8443\"}\n",
    );
    assert_eq!(bootstrap.workload.to_string(), "spiffe://cluster.local/ns/production/sa/api");
    assert_eq!(bootstrap.root_namespace, "istio-system");
    assert_eq!((bootstrap.ca.address.as_str(), &bootstrap.ca.join_token), ("ca.example.com:8443", &None));
    assert_eq!((&bootstrap.state, bootstrap.policy.len(), bootstrap.listeners.len()), (&None, 0, 0));
    assert_eq!(bootstrap.exception_plans, ExceptionPlans::Warn);
    assert_eq!(bootstrap.interception, Some(Interception { inbound: 15006, outbound: 15001 }));
    assert_eq!(bootstrap.probes, "0.0.0.0:15021".parse().unwrap());
    assert_eq!(bootstrap.metrics, "0.0.0.0:15090".parse().unwrap());
    assert_eq!(bootstrap.admin, Admin::Tcp("127.0.0.1:15000".parse().unwrap()));
    assert_eq!(bootstrap.min_tls, MinVersion::Tls12);
    assert_eq!(bootstrap.limits, Limits::default());
}

#[test]
fn every_field_is_read() {
    let (bootstrap, directory) = load(
        "workload:
  namespace: production
  serviceAccount: api-service
  labels: {app: api-service, version: v1}
trustDomain: example.org
rootNamespace: mesh
ca:
  address: 10.77.0.1:8443
  joinToken: {file: secrets/join-token}
state: /var/lib/portcullis
policy: [policy, /etc/policy/more.yaml]
exceptionPlans: require
interception: none
listeners:
- {direction: inbound, bind: 127.0.0.2:8443, port: 8443, app: 127.0.0.1:9000}
- {direction: outbound, bind: 127.0.0.1:9443, destination: \"api-service.production.svc.cluster.local:8443\"}
probes: '[::1]:15021'
metrics: 127.0.0.1:15090
admin: unix:run/admin.sock
tls: {minVersion: \"1.3\"}
limits: {connections: 7, handshakeTimeout: 500ms, detectionTimeout: 1s, drainTimeout: 5m}
",
    );
    let in_directory = |path: &str| directory.path().join(path);
    let scope = bootstrap.policy_scope();
    assert_eq!(scope.workload.to_string(), "spiffe://example.org/ns/production/sa/api-service");
    assert_eq!(scope.labels, labels(&[("app", "api-service"), ("version", "v1")]));
    assert_eq!((scope.root_namespace.as_str(), scope.exception_plans), ("mesh", ExceptionPlans::Require));
    assert_eq!(bootstrap.ca.join_token, Some(JoinToken::File(in_directory("secrets/join-token"))));
    assert_eq!(bootstrap.state.as_deref(), Some(Path::new("/var/lib/portcullis")));
    assert_eq!(bootstrap.policy, [in_directory("policy"), "/etc/policy/more.yaml".into()]);
    assert_eq!(bootstrap.interception, None);
    let app = "127.0.0.1:9000".parse().unwrap();
    let host = "api-service.production.svc.cluster.local".to_owned();
    let inbound = Direction::Inbound { port: 8443, app };
    let outbound = Direction::Outbound { host, port: 8443 };
    let listener = |bind: &str, direction| Listener { bind: bind.parse().unwrap(), direction };
    assert_eq!(
        bootstrap.listeners,
        [listener("127.0.0.2:8443", inbound), listener("127.0.0.1:9443", outbound)]
    );
    assert_eq!(bootstrap.probes, "[::1]:15021".parse().unwrap());
    assert_eq!(bootstrap.admin, Admin::Unix(in_directory("run/admin.sock")));
    assert_eq!(bootstrap.min_tls, MinVersion::Tls13);
    let limits = Limits {
        connections: 7,
        handshake_timeout: Duration::from_millis(500),
        detection_timeout: Duration::from_secs(1),
        drain_timeout: Duration::from_secs(300),
    };
    assert_eq!(bootstrap.limits, limits);
}
