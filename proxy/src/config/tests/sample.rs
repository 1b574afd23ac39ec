//! The example policies load as they are, and mean what they say.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls_pki_types::ServerName;

use super::{labels, load_for, now, scope, warnings};
use crate::authz::PortMode;
use crate::config::{ExceptionPlans, Policy, PolicyScope, load_bootstrap, load_policy};
use crate::route::{AppProtocol, HttpRules, Transport};
use crate::tls::ExpectedPeer;

const HOST: &str = "api-service.production.svc.cluster.local";

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/policy").join(name)
}

fn sample(version: &str) -> Policy {
    load_policy(&[example("sample"), example("production")], &scope(version), now())
        .unwrap_or_else(|report| panic!("{report}"))
}

#[test]
fn the_bootstrap_example_loads_with_the_policies_it_names() {
    let bootstrap =
        load_bootstrap(&example("../portcullis.yaml")).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(bootstrap.exception_plans, ExceptionPlans::Require);
    let policy = load_policy(&bootstrap.policy, &bootstrap.policy_scope(), now());
    assert_eq!(policy.unwrap_or_else(|report| panic!("{report}")).outbound.destinations().count(), 3);
}

#[test]
fn the_sample_alone_loads() {
    let policy = load_policy(&[example("sample")], &scope("v1"), now()).unwrap();
    assert_eq!(policy.outbound.destinations().count(), 0, "it declares no service");
}

#[test]
fn the_sample_opens_port_8080_and_nothing_else() {
    let policy = sample("v1");
    for port in [1, 80, 443, 8079, 8081, 8443, 65535] {
        let PortMode::Strict { rule } = policy.inbound.mode(port, now()) else { panic!("{port} is open") };
        assert_eq!(rule.to_string(), "PeerAuthentication production/default");
    }
    let PortMode::Plaintext { exception, .. } = policy.inbound.mode(8080, now()) else {
        panic!("8080 is not open")
    };
    assert!(!exception.is_justified());
    assert_eq!(warnings(&policy).len(), 1);
    assert!(warnings(&policy)[0].contains("plaintext into port 8080 without a plan"));

    let require = PolicyScope { exception_plans: ExceptionPlans::Require, ..scope("v1") };
    let policy = load_policy(&[example("sample")], &require, now()).unwrap();
    assert!(matches!(policy.inbound.mode(8080, now()), PortMode::Strict { .. }));
}

#[test]
fn the_sample_sets_sni_and_limits() {
    let policy = sample("v1");
    for (port, protocol) in [(8443, AppProtocol::Http), (8080, AppProtocol::Http), (5432, AppProtocol::Tcp)] {
        let destination = policy.outbound.destination(format!("10.77.0.3:{port}").parse().unwrap()).unwrap();
        assert_eq!(
            (destination.host.as_str(), destination.port, destination.protocol),
            (HOST, port, protocol)
        );
        let Transport::MutualTls { sni, expected } = destination.transport(now()).unwrap() else {
            panic!("plaintext to {port}")
        };
        assert_eq!(sni, &ServerName::try_from(HOST).unwrap());
        let trust_domain = "cluster.local".parse().unwrap();
        assert_eq!(expected, &ExpectedPeer::AnyIn { trust_domain, namespace: "production".to_owned() });
        let limits = destination.limits;
        assert_eq!(limits.max_connections, 100);
        assert_eq!(limits.http1_max_pending_requests, 50);
        assert_eq!(limits.http2_max_requests, 1000);
        assert_eq!(limits.connect_timeout, Duration::from_secs(10));
        assert_eq!(destination.rule.to_string(), "DestinationRule production/api-service");
        assert_eq!(destination.endpoints[0].labels, labels(&[("app", "api-service"), ("version", "v1")]));
    }
}

#[test]
fn v2_clients_take_the_first_route_and_others_the_second() {
    for (version, first) in [("v2", "http[0]"), ("v1", "http[1]")] {
        let policy = sample(version);
        let asked = policy.outbound.destination_by_host(HOST, 8443).unwrap();
        let HttpRules::Ordered { routes, .. } = &asked.routes else { panic!("no routes") };
        assert_eq!(routes[0].rule.to_string(), format!("VirtualService production/api-service ({first})"));
        let (request, ()) = http::Request::new(()).into_parts();
        let served = policy.outbound.route_http(asked, &request, |_| 0).unwrap();
        let served = served.destination().unwrap();
        assert_eq!((served.host.as_str(), served.port), (HOST, 8443));
    }
}

#[test]
fn the_sample_without_its_second_route_serves_v2_alone() {
    let services = std::fs::read_to_string(example("production/service-entry.yaml")).unwrap();
    let routes = std::fs::read_to_string(example("sample/virtual-service.yaml")).unwrap();
    let first_alone = routes.rsplit_once("  - route:").unwrap().0;
    let yaml = format!("{services}{first_alone}");
    let (request, ()) = http::Request::new(()).into_parts();
    for (version, served) in [("v2", true), ("v1", false)] {
        let policy = load_for(&scope(version), &yaml).unwrap();
        let asked = policy.outbound.destination_by_host(HOST, 8443).unwrap();
        let routed = policy.outbound.route_http(asked, &request, |_| 0);
        assert_eq!(routed.is_ok(), served, "{version}");
        if let Err(none) = routed {
            assert!(none.to_string().contains("VirtualService production/api-service"), "{none}");
        }
    }
}

#[test]
fn the_strict_example_has_a_plan() {
    let require = PolicyScope { exception_plans: ExceptionPlans::Require, ..scope("v1") };
    let policy = load_policy(&[example("strict")], &require, now()).unwrap();
    assert!(policy.warnings.is_empty(), "{:?}", policy.warnings);
    assert!(
        matches!(policy.inbound.mode(8080, now()), PortMode::Plaintext { exception, .. } if exception.is_justified())
    );
}
