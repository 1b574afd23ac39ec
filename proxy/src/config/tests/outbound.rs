//! What ServiceEntries, DestinationRules and VirtualServices mean together.

use std::time::Duration;

use time::macros::datetime;

use super::{at, labels, load, load_for, now, scope, warnings};
use crate::config::{ExceptionPlans, Policy, PolicyScope};
use crate::route::{AppProtocol, Destination, EndpointAddr, PoolLimits, Resolution, Transport};

/// A resource `KIND NAMESPACE/NAME`.
pub(super) fn resource(kind: &str, namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: \
         {namespace}}}\nspec: {spec}\n"
    )
}

/// `api` in namespace `backend`: ports 80 (HTTP, target 8080) and 5432 (TCP), two endpoints.
fn api() -> String {
    resource(
        "ServiceEntry",
        "backend",
        "api",
        "{hosts: [api.backend.svc.cluster.local], addresses: [10.1.0.1, 'fd00::1'], resolution: STATIC, ports: [
          {number: 80, name: http, targetPort: 8080}, {number: 5432, name: db, protocol: TCP}, {number: 9, name: odd}], endpoints: [
          {address: 10.2.0.1, labels: {version: v1}}, {address: 10.2.0.2, ports: {http: 8081}, labels: {version: v2}}]}",
    )
}

fn destination(policy: &Policy, address: &str) -> String {
    match policy.outbound.destination(address.parse().unwrap()) {
        Ok(found) => found.to_string(),
        Err(unknown) => format!("{}: {unknown}", unknown.label()),
    }
}

/// `api`'s port 80 under `rules`, for a client in namespace `production`.
fn port_80(rules: &str) -> (Policy, usize) {
    let policy = load(&format!("{}{rules}", api()));
    let index = policy.outbound.destinations().position(|d| d.port == 80 && d.subset.is_none()).unwrap();
    (policy, index)
}

fn with_port_80<T>(rules: &str, read: impl FnOnce(&Destination) -> T) -> T {
    let (policy, index) = port_80(rules);
    read(policy.outbound.destinations().nth(index).unwrap())
}

#[test]
fn a_destination_is_known_by_service_and_endpoint_addresses() {
    let policy = load(&api());
    let host = "api.backend.svc.cluster.local";
    for (address, expected) in [
        ("10.1.0.1:80", format!("{host}:80")),
        ("[fd00::1]:80", format!("{host}:80")),
        ("[::ffff:10.1.0.1]:80", format!("{host}:80")),
        ("10.2.0.1:8080", format!("{host}:80")),
        ("10.2.0.2:8081", format!("{host}:80")),
        ("10.2.0.1:5432", format!("{host}:5432")),
        ("10.2.0.2:8080", "unknown_address: 10.2.0.2:8080: no ServiceEntry declares it".to_owned()),
        ("10.2.0.1:80", "unknown_address: 10.2.0.1:80: no ServiceEntry declares it".to_owned()),
        ("10.1.0.1:443", "unknown_address: 10.1.0.1:443: no ServiceEntry declares it".to_owned()),
        ("192.0.2.1:80", "unknown_address: 192.0.2.1:80: no ServiceEntry declares it".to_owned()),
    ] {
        assert_eq!(destination(&policy, address), expected);
    }
    assert!(policy.outbound.destination_by_host(host, 5432).is_ok());
    let unknown = policy.outbound.destination_by_host(host, 81).unwrap_err();
    assert_eq!(
        (unknown.label(), unknown.to_string()),
        ("unknown_host", format!("{host}:81: no ServiceEntry declares it"))
    );
}

#[test]
fn protocols_are_declared_by_field_or_name() {
    let policy = load(&api());
    let protocols: Vec<_> = policy.outbound.destinations().map(|d| (d.port, d.protocol)).collect();
    assert_eq!(protocols, [(80, AppProtocol::Http), (5432, AppProtocol::Tcp), (9, AppProtocol::Undeclared)]);
    for (name, protocol) in [
        ("http-api", AppProtocol::Http),
        ("tcp", AppProtocol::Tcp),
        ("redis-a", AppProtocol::Tcp),
        ("httpx", AppProtocol::Undeclared),
    ] {
        let spec = format!(
            "{{hosts: [a.b.svc.x], addresses: [10.0.0.1], resolution: NONE, ports: [{{number: 80, name: \
             {name}}}]}}"
        );
        let policy = load(&resource("ServiceEntry", "b", "a", &spec));
        let found = policy.outbound.destinations().next().unwrap();
        assert_eq!((found.protocol, found.resolution), (protocol, Resolution::Original), "{name}");
        assert_eq!(found.endpoints[0].addr, EndpointAddr::Socket("10.0.0.1:80".parse().unwrap()));
    }
}

#[test]
fn the_closest_host_in_the_first_namespace_with_a_rule_decides() {
    let host = "api.backend.svc.cluster.local";
    let rule = |namespace, host: &str, connections: u32| {
        let name = format!("r{connections}");
        resource(
            "DestinationRule",
            namespace,
            &name,
            &format!(
                "{{host: '{host}', trafficPolicy: {{connectionPool: {{tcp: {{maxConnections: \
                 {connections}}}}}}}}}"
            ),
        )
    };
    let table: &[(&[String], u32)] = &[
        (&[], u32::MAX),
        (&[rule("istio-system", host, 1)], 1),
        (&[rule("istio-system", host, 1), rule("backend", "*", 2)], 2),
        (&[rule("istio-system", host, 1), rule("backend", "api", 2), rule("production", "*.local", 3)], 3),
        (&[rule("other", host, 1)], u32::MAX),
        (
            &[
                rule("production", "*", 1),
                rule("production", "*.svc.cluster.local", 2),
                rule("production", "*.backend.svc.cluster.local", 3),
            ],
            3,
        ),
        (&[rule("production", "*.backend.svc.cluster.local", 1), rule("production", host, 2)], 2),
        (&[rule("production", "api", 1)], u32::MAX),
    ];
    for (rules, expected) in table {
        assert_eq!(with_port_80(&rules.concat(), |d| d.limits.max_connections), *expected, "{rules:?}");
    }
}

#[test]
fn narrower_settings_override_field_by_field() {
    let rules = resource(
        "DestinationRule",
        "backend",
        "api",
        "{host: api, trafficPolicy: {connectionPool: {tcp: {maxConnections: 1, connectTimeout: 2s}}, tls: {sni: all.example.com},
           portLevelSettings: [{port: {number: 80}, connectionPool: {tcp: {maxConnections: 3}, http: {http1MaxPendingRequests: 4}}}]},
          subsets: [{name: v1, labels: {version: v1}, trafficPolicy: {connectionPool: {tcp: {maxConnections: 5}},
            portLevelSettings: [{port: {number: 80}, connectionPool: {http: {http2MaxRequests: 6}}}]}}]}",
    ) + &resource("VirtualService", "backend", "api", "{hosts: [api], http: [{route: [{destination: \
        {host: api, subset: v1}}]}]}");
    let policy = load(&format!("{}{rules}", api()));
    let limits = |subset: Option<&str>, port| {
        policy
            .outbound
            .destinations()
            .find(|d| d.subset.as_deref() == subset && d.port == port)
            .unwrap()
            .limits
    };
    let default =
        PoolLimits { max_connections: 1, connect_timeout: Duration::from_secs(2), ..PoolLimits::default() };
    assert_eq!(limits(None, 5432), default);
    let port = PoolLimits { max_connections: 3, http1_max_pending_requests: 4, ..default };
    assert_eq!(limits(None, 80), port);
    let subset = policy.outbound.destinations().find(|d| d.subset.is_some() && d.port == 80).unwrap();
    assert_eq!(subset.limits, PoolLimits { max_connections: 5, http2_max_requests: 6, ..port });
    assert_eq!(subset.endpoints.len(), 1);
    assert_eq!(subset.endpoints[0].labels, labels(&[("version", "v1")]));
    let Transport::MutualTls { sni, .. } = subset.transport(now()).unwrap() else { panic!("plaintext") };
    assert_eq!(sni.to_str(), "all.example.com");
}

#[test]
fn secure_naming_takes_the_rules_names_then_the_entrys_then_the_namespace() {
    let expected =
        |yaml: &str| match load(yaml).outbound.destinations().next().unwrap().transport(now()).unwrap() {
            Transport::MutualTls { expected, .. } => expected.to_string(),
            Transport::Tls(_) | Transport::Plaintext { .. } => panic!("plaintext"),
        };
    let entry = |names: &str| {
        resource(
            "ServiceEntry",
            "backend",
            "api",
            &format!(
                "{{hosts: [api.backend.svc.cluster.local], addresses: [10.1.0.1], resolution: NONE, \
                 ports: [{{number: 80, name: http}}]{names}}}"
            ),
        )
    };
    let named = entry(", subjectAltNames: ['spiffe://cluster.local/ns/x/sa/entry']");
    let rule = resource(
        "DestinationRule",
        "backend",
        "api",
        "{host: api, trafficPolicy: {tls: {mode: ISTIO_MUTUAL, subjectAltNames: \
         ['spiffe://cluster.local/ns/x/sa/rule']}}}",
    );
    assert_eq!(expected(&entry("")), "spiffe://cluster.local/ns/backend/sa/*");
    assert_eq!(expected(&named), "spiffe://cluster.local/ns/x/sa/entry");
    assert_eq!(expected(&format!("{named}{rule}")), "spiffe://cluster.local/ns/x/sa/rule");
}

const PLAINTEXT_RULE: &str =
    "{host: api, trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: DISABLE}}]}}";

#[test]
fn plaintext_egress_without_a_plan_is_warned_about_or_refused() {
    let yaml = format!("{}{}", api(), resource("DestinationRule", "backend", "api", PLAINTEXT_RULE));
    let policy = load(&yaml);
    let plain = policy.outbound.destinations().find(|d| d.port == 80).unwrap();
    assert!(
        matches!(plain.transport(Duration::MAX), Ok(Transport::Plaintext { exception }) if !exception.is_justified())
    );
    let other = policy.outbound.destinations().find(|d| d.port == 5432).unwrap();
    assert!(matches!(other.transport(now()), Ok(Transport::MutualTls { .. })));
    assert_eq!(warnings(&policy).len(), 1);
    assert!(warnings(&policy)[0].contains("plaintext to api.backend.svc.cluster.local:80 without a plan"));

    let require = PolicyScope { exception_plans: ExceptionPlans::Require, ..scope("v1") };
    let policy = load_for(&require, &yaml).unwrap();
    let refused =
        policy.outbound.destinations().find(|d| d.port == 80).unwrap().transport(now()).unwrap_err();
    assert_eq!(refused.label(), "no_plan");
    assert!(refused.to_string().contains("portcullis.dev/exception-80"), "{refused}");
    assert!(warnings(&policy)[0].contains("which is refused"));
}

#[test]
fn planned_plaintext_egress_ends_in_mutual_tls_or_in_a_refusal() {
    let rule = |host: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: r, \
             namespace: backend, annotations: {{portcullis.dev/exception-80: \"reason=r; owner=o; \
             expires=2027-03-01\"}}}}\nspec: {{host: {host}, trafficPolicy: {{tls: {{mode: DISABLE}}}}}}\n"
        )
    };
    let entry = |host: &str| {
        resource(
            "ServiceEntry",
            "backend",
            "api",
            &format!(
                "{{hosts: [{host}], addresses: [10.1.0.1], resolution: NONE, ports: [{{number: 80, \
                 name: http}}]}}"
            ),
        )
    };
    let (before, after) = (at(datetime!(2027-02-28 23:59:59 UTC)), at(datetime!(2027-03-01 0:00 UTC)));
    for (host, label) in
        [("api.backend.svc.cluster.local", None), ("legacy.example.com", Some("exception_over"))]
    {
        let policy = load(&format!("{}{}", entry(host), rule(host)));
        let destination = policy.outbound.destinations().next().unwrap();
        assert!(matches!(destination.transport(before), Ok(Transport::Plaintext { .. })), "{host}");
        match destination.transport(after) {
            Ok(transport) => {
                assert!(label.is_none() && matches!(transport, Transport::MutualTls { .. }), "{host}")
            }
            Err(over) => assert_eq!(Some(over.label()), label, "{host}"),
        }
    }
}

#[test]
fn the_first_route_whose_conditions_hold_serves() {
    let routes = |version: &str, matches: &str| {
        let yaml = format!(
            "{}{}",
            api(),
            resource("VirtualService", "backend", "api", &format!("{{hosts: \
                ['*.backend.svc.cluster.local'], http: [
              {{name: one, match: {matches}, route: [{{destination: {{host: api}}}}]}}, {{route: [{{destination: {{host: api, port: {{number: 9}}}}}}]}}]}}"))
        );
        let policy = load_for(&scope(version), &yaml).unwrap();
        let (request, ()) = http::Request::new(()).into_parts();
        let asked = policy.outbound.destination_by_host("api.backend.svc.cluster.local", 80).unwrap();
        policy.outbound.route_http(asked, &request, |_| 0).unwrap().destination().unwrap().port
    };
    for (matches, v1, v2) in [
        ("[{sourceLabels: {version: v2}}]", 9, 80),
        ("[{sourceLabels: {version: v2, app: web}}]", 9, 9),
        ("[{sourceLabels: {version: v2, app: api}}]", 9, 80),
        ("[{sourceLabels: {version: v2}}, {sourceLabels: {version: v1}}]", 80, 80),
        ("[{sourceNamespace: production}]", 80, 80),
        ("[{sourceNamespace: backend}]", 9, 9),
        ("[{port: 80}]", 80, 80),
        ("[{port: 81}]", 9, 9),
        ("[{port: 80, sourceLabels: {version: v2}}]", 9, 80),
        ("[{port: 81, sourceLabels: {version: v2}}, {port: 80, sourceNamespace: production}]", 80, 80),
    ] {
        assert_eq!((routes("v1", matches), routes("v2", matches)), (v1, v2), "{matches}");
    }
}

#[test]
fn the_closest_virtual_service_routes_and_tcp_has_rules_of_its_own() {
    let service = |name, host: &str, port| {
        resource(
            "VirtualService",
            "backend",
            name,
            &format!(
                "{{hosts: ['{host}'], tcp: [{{match: [{{port: 5432}}], route: [{{destination: {{host: \
                 api, port: {{number: {port}}}}}}}]}}]}}"
            ),
        )
    };
    let policy = load(&format!("{}{}{}", api(), service("any", "*", 9), service("api", "api", 80)));
    let host = "api.backend.svc.cluster.local";
    let asked = policy.outbound.destination_by_host(host, 5432).unwrap();
    assert_eq!(policy.outbound.route_tcp(asked, None, |_| 0).unwrap().port, 80);
    let (request, ()) = http::Request::new(()).into_parts();
    assert_eq!(
        policy.outbound.route_http(asked, &request, |_| 0).unwrap().destination().unwrap().port,
        5432,
        "HTTP has no rules here"
    );
    let other = policy.outbound.destination_by_host(host, 9).unwrap();
    let none = policy.outbound.route_tcp(other, None, |_| 0).unwrap_err();
    assert_eq!((none.label(), none.rule.name()), ("no_route", "VirtualService backend/api"));
}
