//! What every setting of a ServiceEntry and a DestinationRule comes to: who sees it, what it inherits, how it is
//! reached.

use std::time::Duration;

use super::outbound::resource;
use super::{load, load_for, now, scope};
use crate::config::{Policy, PolicyScope};
use crate::route::{
    AppProtocol, Balancer, Destination, H2Upgrade, HttpVersion, OutlierDetection, Resolution, TcpKeepalive,
    Transport,
};

const HOST: &str = "api.backend.svc.cluster.local";

/// A ServiceEntry `api` in namespace `backend`; `more` overrides nothing and adds fields.
fn entry(ports: &str, more: &str) -> String {
    let spec = format!("{{hosts: [{HOST}], ports: {ports}{more}}}");
    resource("ServiceEntry", "backend", "api", &spec)
}

/// Two ports with two endpoints.
pub(super) fn api() -> String {
    entry(
        "[{number: 80, name: http}, {number: 81, name: http-b}]",
        ", resolution: STATIC, endpoints: [{address: 10.2.0.1, labels: {version: v1}}, {address: 10.2.0.2}]",
    )
}

pub(super) fn rule(namespace: &str, name: &str, spec: &str) -> String {
    resource("DestinationRule", namespace, name, spec)
}

/// Routes everything to the subset `v1`, so that it becomes a destination.
pub(super) fn to_subset() -> String {
    resource(
        "VirtualService",
        "backend",
        "api",
        "{hosts: [api], http: [{route: [{destination: {host: api, subset: v1}}]}]}",
    )
}

pub(super) fn found<'a>(policy: &'a Policy, port: u16, subset: Option<&str>) -> &'a Destination {
    let mut all = policy.outbound.destinations();
    all.find(|d| d.host == HOST && d.port == port && d.subset.as_deref() == subset).unwrap()
}

/// The endpoints as text, with the weight if it is not 1.
fn endpoints(destination: &Destination) -> Vec<String> {
    let one = |endpoint: &crate::route::Endpoint| {
        let addr = match &endpoint.addr {
            crate::route::EndpointAddr::Socket(addr) => addr.to_string(),
            crate::route::EndpointAddr::Name(name, port) => format!("{name}:{port}"),
        };
        if endpoint.weight == 1 { addr } else { format!("{addr} x{}", endpoint.weight) }
    };
    destination.endpoints.iter().map(one).collect()
}

#[test]
fn every_limit_is_read_and_0_is_none() {
    let full = "{host: api, trafficPolicy: {connectionPool: {
      tcp: {maxConnections: 1, connectTimeout: 2s, idleTimeout: 3s, maxConnectionDuration: 1m0.5s,
        tcpKeepalive: {probes: 5, time: 6s, interval: 7s}},
      http: {http1MaxPendingRequests: 8, http2MaxRequests: 9, maxRequestsPerConnection: 10, maxRetries: 11,
        idleTimeout: 12s, maxConcurrentStreams: 13}},
      portLevelSettings: [{port: {number: 81}, connectionPool: {
        tcp: {maxConnections: 0, idleTimeout: 0s, tcpKeepalive: {probes: 0}},
        http: {http1MaxPendingRequests: 0, http2MaxRequests: 0, maxRequestsPerConnection: 0, maxRetries: 0,
          maxConcurrentStreams: 0}}}]}}";
    let policy = load(&format!("{}{}", api(), rule("backend", "api", full)));
    let limits = found(&policy, 80, None).limits;
    let seconds = Duration::from_secs;
    assert_eq!(
        (limits.max_connections, limits.connect_timeout, limits.tcp_idle_timeout),
        (1, seconds(2), Some(seconds(3)))
    );
    assert_eq!(limits.max_connection_duration, Some(Duration::from_millis(60_500)));
    let keepalive = TcpKeepalive { probes: Some(5), time: Some(seconds(6)), interval: Some(seconds(7)) };
    assert_eq!(limits.tcp_keepalive, Some(keepalive));
    assert_eq!((limits.http1_max_pending_requests, limits.http2_max_requests), (8, 9));
    assert_eq!((limits.max_requests_per_connection, limits.max_retries), (10, 11));
    assert_eq!((limits.http_idle_timeout, limits.max_concurrent_streams), (Some(seconds(12)), 13));

    let lifted = found(&policy, 81, None).limits;
    assert_eq!((lifted.max_connections, lifted.http1_max_pending_requests), (u32::MAX, u32::MAX));
    assert_eq!((lifted.http2_max_requests, lifted.max_retries), (u32::MAX, u32::MAX));
    assert_eq!((lifted.max_requests_per_connection, lifted.max_concurrent_streams), (0, u32::MAX));
    assert_eq!((lifted.tcp_idle_timeout, lifted.tcp_keepalive), (None, Some(TcpKeepalive::default())));
    assert_eq!(
        (lifted.connect_timeout, lifted.http_idle_timeout),
        (seconds(2), Some(seconds(12))),
        "what is not written is inherited"
    );
}

#[test]
fn the_balancer_and_outliers_are_inherited_as_a_block() {
    let balancers = [
        ("", Balancer::LeastRequest),
        ("{simple: ROUND_ROBIN}", Balancer::RoundRobin),
        ("{simple: LEAST_REQUEST}", Balancer::LeastRequest),
        ("{simple: LEAST_CONN}", Balancer::LeastRequest),
        ("{simple: UNSPECIFIED}", Balancer::LeastRequest),
        ("{simple: RANDOM}", Balancer::Random),
    ];
    for (text, expected) in balancers {
        let spec = format!("{{host: api, trafficPolicy: {{loadBalancer: {text}}}}}");
        let policy = load(&format!("{}{}", api(), rule("backend", "api", &spec)));
        assert_eq!(found(&policy, 80, None).balancer, expected, "{text}");
    }
    let spec = "{host: api, trafficPolicy: {loadBalancer: {simple: RANDOM}, outlierDetection: {
        consecutive5xxErrors: 3, consecutiveGatewayErrors: 2, interval: 1s, baseEjectionTime: 4s,
        maxEjectionPercent: 50, minHealthPercent: 20, splitExternalLocalOriginErrors: false},
      portLevelSettings: [{port: {number: 81}, loadBalancer: {simple: ROUND_ROBIN}, outlierDetection: {}}]},
      subsets: [{name: v1, labels: {version: v1}, trafficPolicy: {outlierDetection: {consecutive5xxErrors: 0}}}]}";
    let policy = load(&format!("{}{}{}", api(), rule("backend", "api", spec), to_subset()));
    let written = OutlierDetection {
        consecutive_5xx: Some(3),
        consecutive_gateway: Some(2),
        interval: Duration::from_secs(1),
        base_ejection: Duration::from_secs(4),
        max_ejection_percent: 50,
        min_health_percent: 20,
    };
    let default = OutlierDetection {
        consecutive_5xx: Some(5),
        consecutive_gateway: None,
        interval: Duration::from_secs(10),
        base_ejection: Duration::from_secs(30),
        max_ejection_percent: 10,
        min_health_percent: 0,
    };
    let shown = |port, subset| {
        let destination = found(&policy, port, subset);
        (destination.balancer, destination.outliers.clone())
    };
    assert_eq!(shown(80, None), (Balancer::Random, Some(written)));
    assert_eq!(shown(81, None), (Balancer::RoundRobin, Some(default)));
    assert_eq!(shown(80, Some("v1")), (Balancer::Random, None), "every count is switched off");
    assert_eq!(found(&load(&api()), 80, None).outliers, None);
}

#[test]
fn the_version_on_the_wire_follows_protocol_upgrade_and_client() {
    use HttpVersion::{Http1, Http2};
    let table = [
        // Protocol, settings, and the versions of an HTTP/1.1 and of an HTTP/2 client's requests.
        ("HTTP", "", Http1, Http1),
        ("HTTP", "h2UpgradePolicy: DEFAULT", Http1, Http1),
        ("HTTP", "h2UpgradePolicy: DO_NOT_UPGRADE", Http1, Http1),
        ("HTTP", "h2UpgradePolicy: UPGRADE", Http2, Http2),
        ("HTTP", "useClientProtocol: true", Http1, Http2),
        ("HTTP", "useClientProtocol: true, h2UpgradePolicy: UPGRADE", Http1, Http2),
        ("HTTP", "useClientProtocol: false", Http1, Http1),
        ("HTTP2", "", Http2, Http2),
        ("GRPC", "", Http2, Http2),
        ("GRPC-WEB", "", Http2, Http2),
        ("grpc", "h2UpgradePolicy: DO_NOT_UPGRADE", Http2, Http2),
        ("HTTP_PROXY", "h2UpgradePolicy: UPGRADE", Http1, Http1),
        ("", "", Http1, Http2),
        ("", "h2UpgradePolicy: UPGRADE", Http2, Http2),
    ];
    for (protocol, settings, of_1, of_2) in table {
        let protocol = if protocol.is_empty() { String::new() } else { format!(", protocol: {protocol}") };
        let service = entry(
            &format!("[{{number: 80, name: odd{protocol}}}]"),
            ", resolution: STATIC, endpoints: [{address: 10.2.0.1}]",
        );
        let spec = format!("{{host: api, trafficPolicy: {{connectionPool: {{http: {{{settings}}}}}}}}}");
        let policy = load(&format!("{service}{}", rule("backend", "api", &spec)));
        let destination = found(&policy, 80, None);
        let versions = (destination.wire_version(Http1), destination.wire_version(Http2));
        assert_eq!(versions, (of_1, of_2), "{protocol} {settings}");
    }
    let none = load(&api());
    assert_eq!(found(&none, 80, None).h2_upgrade, H2Upgrade::No);
}

#[test]
fn protocols_are_declared_in_every_way_of_istios() {
    for (name, protocol) in [
        ("http2-a", AppProtocol::Http2),
        ("grpc", AppProtocol::Http2),
        ("grpc-web", AppProtocol::Http2),
        ("grpc-web-a", AppProtocol::Http2),
        ("grpc-webs", AppProtocol::Http2),
        ("https-a", AppProtocol::Tcp),
        ("mongo", AppProtocol::Tcp),
        ("web-http", AppProtocol::Undeclared),
        ("http2x", AppProtocol::Undeclared),
    ] {
        let service = entry(&format!("[{{number: 80, name: {name}}}]"), ", resolution: DNS");
        assert_eq!(found(&load(&service), 80, None).protocol, protocol, "{name}");
    }
}

#[test]
fn names_are_looked_up_for_endpoints_or_for_the_hosts_themselves() {
    let ports = "[{number: 80, name: http, targetPort: 8080}, {number: 81, name: http-b}]";
    for (more, on_80, on_81) in [
        (", resolution: DNS", vec![format!("{HOST}:8080")], vec![format!("{HOST}:81")]),
        (", resolution: DNS, endpoints: []", vec![format!("{HOST}:8080")], vec![format!("{HOST}:81")]),
        (
            ", resolution: DNS, endpoints: [{address: one, ports: {http: 9}, weight: 3}, {address: two.b, weight: 0}, {address: 10.0.0.1}]",
            vec!["one:9 x3".to_owned(), "two.b:8080".to_owned(), "10.0.0.1:8080".to_owned()],
            vec!["one:81 x3".to_owned(), "two.b:81".to_owned(), "10.0.0.1:81".to_owned()],
        ),
        (
            ", resolution: DNS_ROUND_ROBIN, endpoints: [{address: one}]",
            vec!["one:8080".to_owned()],
            vec!["one:81".to_owned()],
        ),
    ] {
        let policy = load(&entry(ports, more));
        assert_eq!(found(&policy, 80, None).resolution, Resolution::Dns, "{more}");
        assert_eq!(endpoints(found(&policy, 80, None)), on_80, "{more}");
        assert_eq!(endpoints(found(&policy, 81, None)), on_81, "{more}");
    }
    let two =
        "{hosts: [a.backend.svc.x, b.backend.svc.x], ports: [{number: 80, name: http}], resolution: DNS}";
    let policy = load(&resource("ServiceEntry", "backend", "two", two));
    let each: Vec<_> = policy.outbound.destinations().map(|d| endpoints(d)).collect();
    assert_eq!(each, [["a.backend.svc.x:80"], ["b.backend.svc.x:80"]], "each host is its own server");
    let mut names: Vec<_> = policy.outbound.names().map(|(name, port)| format!("{name}:{port}")).collect();
    names.sort();
    assert_eq!(names, ["a.backend.svc.x:80", "b.backend.svc.x:80"]);
}

#[test]
fn names_to_look_up_are_listed_once() {
    let service = entry(
        "[{number: 80, name: http}, {number: 81, name: http-b, targetPort: 80}]",
        ", resolution: DNS, endpoints: [{address: one, labels: {version: v1}}, {address: one}]",
    );
    let subset = rule("backend", "api", "{host: api, subsets: [{name: v1, labels: {version: v1}}]}");
    let policy = load(&format!("{service}{subset}{}", to_subset()));
    let names: Vec<_> = policy.outbound.names().map(|(name, port)| (&**name, port)).collect();
    assert_eq!(names, [("one", 80)]);
    assert_eq!(load(&api()).outbound.names().count(), 0);
}

#[test]
fn services_that_share_an_endpoint_are_told_apart_by_their_addresses() {
    let service = |name: &str, more: &str| {
        let spec = format!(
            "{{hosts: [{name}.backend.svc.x], ports: [{{number: 80, name: http}}], resolution: STATIC, endpoints: \
             [{{address: 10.2.0.1}}]{more}}}"
        );
        resource("ServiceEntry", "backend", name, &spec)
    };
    let reached = |yaml: &str, address: &str| {
        let policy = load(yaml);
        policy.outbound.destination(address.parse().unwrap()).map(|found| found.host.clone()).ok()
    };
    let (a, b) = (service("a", ", addresses: [10.1.0.1]"), service("b", ", addresses: [10.1.0.2]"));
    let both = format!("{a}{b}");
    assert_eq!(reached(&both, "10.1.0.1:80").unwrap(), "a.backend.svc.x");
    assert_eq!(reached(&both, "10.1.0.2:80").unwrap(), "b.backend.svc.x");
    assert_eq!(reached(&both, "10.2.0.1:80"), None, "nobody can say whose endpoint is meant");
    assert_eq!(reached(&a, "10.2.0.1:80").unwrap(), "a.backend.svc.x", "alone it is no question");
    let plain = service("c", "");
    assert_eq!(reached(&format!("{both}{plain}"), "10.2.0.1:80").unwrap(), "c.backend.svc.x");
    let report = load_for(&scope("v1"), &format!("{plain}{}", service("d", ""))).unwrap_err().to_string();
    assert!(report.contains("10.2.0.1:80 would mean both c.backend.svc.x:80"), "{report}");
}

#[test]
fn exports_decide_who_sees_a_service_and_a_rule() {
    let table = [
        ("", true, true),
        (", exportTo: []", true, true),
        (", exportTo: ['*']", true, true),
        (", exportTo: ['.']", false, true),
        (", exportTo: [production]", true, false),
        (", exportTo: [other, '.']", false, true),
        (", exportTo: ['.', '*']", true, true),
    ];
    for (exports, production, backend) in table {
        let trust_domain = scope("v1").workload.id().trust_domain().clone();
        for (namespace, seen) in [("production", production), ("backend", backend)] {
            let workload = portcullis_identity::Workload::new(&trust_domain, namespace, "x").unwrap();
            let client = PolicyScope { workload, ..scope("v1") };
            let service = entry("[{number: 80, name: http}]", &format!(", resolution: DNS{exports}"));
            let policy = load_for(&client, &service).unwrap();
            assert_eq!(policy.outbound.destinations().count() == 1, seen, "{exports} {namespace}");
            let limit = format!(
                "{{host: api, trafficPolicy: {{connectionPool: {{tcp: {{maxConnections: 1}}}}}}{exports}}}"
            );
            let policy = load_for(&client, &format!("{}{}", api(), rule("backend", "api", &limit))).unwrap();
            assert_eq!(found(&policy, 80, None).limits.max_connections == 1, seen, "{exports} {namespace}");
        }
    }
}

#[test]
fn a_rule_with_a_selector_is_for_those_clients_and_goes_first() {
    let limit = |namespace, host: &str, name: &str, limit: u32, selector: &str| {
        let spec = format!(
            "{{host: '{host}', trafficPolicy: {{connectionPool: {{tcp: {{maxConnections: {limit}}}}}}}{selector}}}"
        );
        rule(namespace, name, &spec)
    };
    let v1 = ", workloadSelector: {matchLabels: {version: v1}}";
    let v2 = ", workloadSelector: {matchLabels: {version: v2}}";
    let own = "production";
    let table = [
        (vec![limit(own, HOST, "a", 1, v1)], 1, u32::MAX),
        (vec![limit(own, HOST, "a", 1, v1), limit(own, HOST, "b", 2, "")], 1, 2),
        (vec![limit(own, HOST, "a", 1, ""), limit(own, HOST, "b", 2, v1)], 2, 1),
        (vec![limit(own, HOST, "a", 1, v1), limit(own, HOST, "b", 2, v2)], 1, 2),
        (vec![limit("backend", HOST, "a", 1, v1)], u32::MAX, u32::MAX),
        (vec![limit(own, HOST, "a", 1, ""), limit(own, "*", "b", 2, v1)], 1, 1),
    ];
    for (rules, of_v1, of_v2) in table {
        for (version, expected) in [("v1", of_v1), ("v2", of_v2)] {
            let policy = load_for(&scope(version), &format!("{}{}", api(), rules.concat())).unwrap();
            assert_eq!(found(&policy, 80, None).limits.max_connections, expected, "{version} {rules:?}");
        }
    }
}

#[test]
fn service_accounts_of_endpoints_narrow_down_who_may_answer() {
    let expected = |more: &str, rules: &str| {
        let service =
            entry("[{number: 80, name: http}]", &format!(", resolution: STATIC, endpoints: {more}"));
        let policy = load(&format!("{service}{rules}"));
        match found(&policy, 80, None).transport(now()).unwrap() {
            Transport::MutualTls { expected, .. } => expected.to_string(),
            Transport::Tls(_) | Transport::Plaintext { .. } => panic!("not mutual"),
        }
    };
    let one = "[{address: 10.0.0.1, serviceAccount: a}, {address: 10.0.0.2, serviceAccount: a}]";
    assert_eq!(expected(one, ""), "spiffe://cluster.local/ns/backend/sa/a");
    assert_eq!(expected("[{address: 10.0.0.1}]", ""), "spiffe://cluster.local/ns/backend/sa/*");
    let two = "[{address: 10.0.0.1, serviceAccount: b}, {address: 10.0.0.2, serviceAccount: a}]";
    let both = expected(two, "");
    assert!(both.contains("/sa/a") && both.contains("/sa/b"), "{both}");
    let names =
        "{host: api, trafficPolicy: {tls: {subjectAltNames: ['spiffe://cluster.local/ns/x/sa/rule']}}}";
    assert_eq!(expected(one, &rule("backend", "api", names)), "spiffe://cluster.local/ns/x/sa/rule");
}
