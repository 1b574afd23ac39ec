//! What VirtualServices mean, field by field, after the load.

mod actions;
mod properties;

use std::sync::Arc;

use http::request::Parts;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{load, load_for, scope, warnings};
use crate::config::{Policy, PolicyScope};
use crate::route::testing::chi_square;
use crate::route::{Destination, Forward, HttpAction, HttpDecision, HttpRoute, HttpRules};

const HOST: &str = "api.production.svc.cluster.local";

/// `api` of the workload's own namespace (ports 80 HTTP, 81 undeclared, 5432 TCP, subsets v1 and v2), `old` with
/// the one port 8080, and `other` with two.
const SERVICES: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api, namespace: production}
spec: {hosts: [api.production.svc.cluster.local], addresses: [10.1.0.1], resolution: STATIC,
  ports: [{number: 80, name: http}, {number: 81, name: odd}, {number: 5432, name: db, protocol: TCP}],
  endpoints: [{address: 10.2.0.1, labels: {version: v1}}, {address: 10.2.0.2, labels: {version: v2}}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: old, namespace: production}
spec: {hosts: [old.production.svc.cluster.local], resolution: STATIC, ports: [{number: 8080, name: http}],
  endpoints: [{address: 10.2.0.3}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: other, namespace: production}
spec: {hosts: [other.production.svc.cluster.local], resolution: STATIC,
  ports: [{number: 80, name: http}, {number: 9, name: tcp-nine}], endpoints: [{address: 10.2.0.4}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: api, namespace: production}
spec: {host: api, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}
";

fn virtual_service(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: \
         production}}\nspec: {spec}\n"
    )
}

/// `api` under the VirtualService `{hosts: [api], SPEC}`.
fn api(spec: &str) -> Policy {
    load(&format!("{SERVICES}{}", virtual_service("api", &format!("{{hosts: [api], {spec}}}"))))
}

fn asked(policy: &Policy, port: u16) -> &Arc<Destination> {
    policy.outbound.destination_by_host(HOST, port).unwrap()
}

fn routes(policy: &Policy, port: u16) -> &[Arc<HttpRoute>] {
    match &asked(policy, port).routes {
        HttpRules::Ordered { routes, .. } => routes,
        HttpRules::Direct => panic!("no routes"),
    }
}

fn forward(route: &HttpRoute) -> &Forward {
    let HttpAction::Forward(forward) = &route.action else { panic!("{:?}", route.action) };
    forward
}

fn get(target: &str) -> Parts {
    let request = http::Request::builder().uri(target).header("host", "api");
    request.body(()).unwrap().into_parts().0
}

/// The rule and the destination of `GET TARGET` to port 80, or the reason why there is none.
fn served(policy: &Policy, target: &str) -> String {
    let decision = policy.outbound.route_http(asked(policy, 80), &get(target), |_| 0);
    match decision {
        Ok(HttpDecision::Direct(to)) => format!("direct {to}"),
        Ok(HttpDecision::Forward { route, destination, .. }) => {
            format!("{} to {destination}", route.rule.to_string().rsplit_once(' ').unwrap().1)
        }
        Ok(HttpDecision::Answer(route)) => format!("answered by {}", route.rule),
        Err(none) => none.label().to_owned(),
    }
}

#[test]
fn routes_are_tried_in_order() {
    let policy = api(
        "http: [
          {match: [{uri: {prefix: /v1}}], route: [{destination: {host: api, subset: v1}}]},
          {match: [{uri: {prefix: /v}}, {uri: {exact: /two}}], route: [{destination: {host: api, subset: v2}}]},
          {match: [{uri: {regex: '/o.d'}}], route: [{destination: {host: old}}]},
          {match: [{uri: {prefix: /o}}], route: [{destination: {host: other, port: {number: 80}}}]}]",
    );
    for (target, expected) in [
        ("/v1/x", format!("(http[0]) to {HOST}:80 subset v1")),
        ("/v2", format!("(http[1]) to {HOST}:80 subset v2")),
        ("/two", format!("(http[1]) to {HOST}:80 subset v2")),
        ("/old", "(http[2]) to old.production.svc.cluster.local:8080".to_owned()),
        ("/older", "(http[3]) to other.production.svc.cluster.local:80".to_owned()),
        ("/", "no_route".to_owned()),
    ] {
        assert_eq!(served(&policy, target), expected, "{target}");
    }
    assert!(warnings(&policy).is_empty(), "{:?}", warnings(&policy));
}

#[test]
fn the_closest_host_decides_and_an_unmatched_request_goes_nowhere_else() {
    let to = |name: &str, host: &str, prefix: &str| {
        let port = if name == "old" { 8080 } else { 80 };
        let matches = format!("[{{uri: {{prefix: {prefix}}}}}]");
        let route = format!("[{{destination: {{host: {name}, port: {{number: {port}}}}}}}]");
        let spec = format!("{{hosts: ['{host}'], http: [{{match: {matches}, route: {route}}}]}}");
        virtual_service(&format!("{name}-{}", host.len()), &spec)
    };
    let any = to("old", "*", "/");
    let suffix = to("other", "*.svc.cluster.local", "/");
    let longer = to("old", "*.production.svc.cluster.local", "/");
    let exact = to("api", "api", "/api");
    for (services, expected) in [
        (vec![&any], "(http[0]) to old.production.svc.cluster.local:8080"),
        (vec![&any, &suffix], "(http[0]) to other.production.svc.cluster.local:80"),
        (vec![&longer, &suffix], "(http[0]) to old.production.svc.cluster.local:8080"),
        // The exact one has no route for "/", and no wider one takes over.
        (vec![&any, &suffix, &exact], "no_route"),
        (vec![], "direct api.production.svc.cluster.local:80"),
    ] {
        let yaml: String = services.into_iter().map(String::as_str).collect();
        assert_eq!(served(&load(&format!("{SERVICES}{yaml}")), "/"), expected);
    }
    let elsewhere = virtual_service(
        "x",
        "{hosts: [old], http: [{route: [{destination: {host: api, port: {number: 80}}}]}]}",
    );
    let policy = load(&format!("{SERVICES}{elsewhere}"));
    assert_eq!(
        served(&policy, "/"),
        format!("direct {HOST}:80"),
        "a rule for another host is not for this one"
    );
    assert!(policy.outbound.destination_by_host("unknown.production.svc.cluster.local", 80).is_err());
}

#[test]
fn a_resource_is_seen_where_it_is_exported_to() {
    let exported = |name: &str, to: &str| {
        virtual_service(
            name,
            &format!("{{hosts: [api], exportTo: {to}, http: [{{route: [{{destination: {{host: old}}}}]}}]}}"),
        )
    };
    let seen = "(http[0]) to old.production.svc.cluster.local:8080".to_owned();
    let direct = format!("direct {HOST}:80");
    for (to, expected) in [
        ("['*']", &seen),
        ("['.']", &seen),
        ("[production]", &seen),
        ("[other, production]", &seen),
        ("[other]", &direct),
        ("[other, '*']", &seen),
    ] {
        let policy = load(&format!("{SERVICES}{}", exported("x", to)));
        assert_eq!(&served(&policy, "/"), expected, "{to}");
    }
    // Two for one host are a fault for those alone who see both.
    let both = format!("{SERVICES}{}{}", exported("x", "['.']"), exported("y", "[other]"));
    assert_eq!(served(&load(&both), "/"), seen);
    let both = format!("{SERVICES}{}{}", exported("x", "['.']"), exported("y", "['*']"));
    let report = load_for(&scope("v1"), &both).unwrap_err().to_string();
    assert!(report.contains("are for the same host: keep one VirtualService"), "{report}");
}

/// Labels, namespace and port are settled at the load; when no route is left nothing is reachable.
#[test]
fn routes_for_others_are_left_out() {
    let spec = "http: [
        {match: [{sourceLabels: {version: v2}, uri: {prefix: /a}}, {port: 81, uri: {prefix: /b}}],
          route: [{destination: {host: old}}]},
        {match: [{sourceNamespace: elsewhere}], route: [{destination: {host: other}}]}]";
    let yaml = format!("{SERVICES}{}", virtual_service("api", &format!("{{hosts: [api], {spec}}}")));
    for (version, port, expected) in
        [("v1", 80, None), ("v1", 81, Some(1)), ("v2", 80, Some(1)), ("v2", 81, Some(2))]
    {
        let policy = load_for(&scope(version), &yaml).unwrap();
        let found = routes(&policy, port);
        assert_eq!(found.first().map(|route| route.matches.len()), expected, "{version} {port}");
        assert!(found.len() <= 1, "the other namespace's route is never there");
        if expected.is_none() {
            let none = policy.outbound.route_http(asked(&policy, port), &get("/a"), |_| 0).unwrap_err();
            assert_eq!((none.label(), none.rule.name()), ("no_route", "VirtualService production/api"));
        }
    }
}

#[test]
fn every_condition_of_a_request_is_read() {
    let policy = api(
        "gateways: [mesh], http: [{name: all of it, match: [{name: first, uri: {prefix: /API}, ignoreUriCase: true,
          scheme: {exact: http}, method: {regex: GET|HEAD}, authority: {prefix: ap}, headers: {end-user: {exact:
          jason}, X-Any: {}}, withoutHeaders: {x-not: {}}, queryParams: {q: {regex: '[0-9]+'}}, port: 80,
          sourceLabels: {app: api}, sourceNamespace: production, gateways: [mesh]}],
          route: [{destination: {host: api}}]}]",
    );
    let route = &routes(&policy, 80)[0];
    assert_eq!(route.rule.to_string(), "VirtualService production/api (http[0] all of it)");
    let request = |target: &str, fields: &[(&str, &str)]| {
        let mut head = get(target);
        for (name, value) in fields {
            let name: http::HeaderName = name.parse().unwrap();
            head.headers.insert(name, value.parse().unwrap());
        }
        head
    };
    let fields = [("end-user", "jason"), ("x-any", "")];
    assert!(route.is_met(&request("/api/x?q=1", &fields)));
    for (target, fields) in [
        ("/ap?q=1", &fields[..]),
        ("/api?q=a", &fields),
        ("/api", &fields),
        ("/api?q=1", &fields[..1]),
        ("/api?q=1", &[("end-user", "x"), ("x-any", "")]),
        ("/api?q=1", &[("end-user", "jason"), ("x-any", ""), ("x-not", "")]),
        ("/api?q=1", &[("end-user", "jason"), ("x-any", ""), ("host", "other")]),
    ] {
        assert!(!route.is_met(&request(target, fields)), "{target} {fields:?}");
    }
    let mut post = request("/api?q=1", &fields);
    post.method = http::Method::POST;
    assert!(!route.is_met(&post));
}

#[test]
fn targets_have_subsets_ports_weights_and_headers() {
    let policy = api(
        "http: [{headers: {request: {set: {x-route: '100%%'}, add: {x-more: a}, remove: [X-Gone]}}, route: [
          {destination: {host: api, subset: v1}, weight: 90, headers: {response: {set: {x-version: v1}}}},
          {destination: {host: other, port: {number: 80}}, weight: 10}]}]",
    );
    let route = &routes(&policy, 80)[0];
    let changes = &route.headers.request;
    assert_eq!((changes.set[0].0.as_str(), changes.set[0].1.to_str().unwrap()), ("x-route", "100%"));
    assert_eq!((changes.add[0].0.as_str(), changes.remove[0].as_str()), ("x-more", "x-gone"));
    let targets = &forward(route).targets;
    assert_eq!(targets.total(), 100);
    let (first, last) = (targets.pick(0).unwrap(), targets.pick(99).unwrap());
    assert_eq!(policy.outbound.get(first.id).unwrap().to_string(), format!("{HOST}:80 subset v1"));
    assert_eq!(first.headers.response.set[0].0.as_str(), "x-version");
    assert_eq!(policy.outbound.get(last.id).unwrap().to_string(), "other.production.svc.cluster.local:80");
    assert!(last.headers.response.is_empty());
}

#[test]
fn a_hundred_thousand_requests_are_split_by_weight() {
    let policy = api(
        "http: [{route: [{destination: {host: api, subset: v1}, weight: 25}, {destination: {host: api, subset: \
         v2}, weight: 75}]}]",
    );
    let (asked, request) = (asked(&policy, 80), get("/"));
    let statistic = |mut roll: Box<dyn FnMut(u64) -> u64>| {
        let mut first = 0;
        for _ in 0..100_000 {
            let served = policy.outbound.route_http(asked, &request, &mut roll).unwrap();
            first += u32::from(served.destination().unwrap().subset.as_deref() == Some("v1"));
        }
        chi_square(&[first, 100_000 - first], &[25, 75])
    };
    // One degree of freedom, one seed in a thousand beyond.
    const CRITICAL: f64 = 10.83;
    let mut rng = StdRng::seed_from_u64(7);
    let fair = statistic(Box::new(move |total| rng.random_range(0..total)));
    assert!(fair < CRITICAL, "{fair}");
    let mut rng = StdRng::seed_from_u64(7);
    let skewed = statistic(Box::new(move |total| rng.random_range(0..total).saturating_sub(1)));
    assert!(skewed > CRITICAL, "the control: {skewed}");
}

#[test]
fn tcp_routes_go_by_network_and_port() {
    let policy = api("tcp: [
          {match: [{destinationSubnets: [10.1.0.0/16, 'fd00::/8'], sourceLabels: {version: v1}}],
            route: [{destination: {host: api, subset: v1}}]},
          {match: [{port: 81}, {destinationSubnets: [192.0.2.1]}], route: [{destination: {host: other, port: \
         {number: 9}}}]},
          {match: [{sourceLabels: {version: v2}}], route: [{destination: {host: api, subset: v2}}]}]");
    for (port, original, expected) in [
        (5432, Some("10.1.0.1:5432"), Some(format!("{HOST}:5432 subset v1"))),
        (5432, Some("[::ffff:10.1.9.9]:5432"), Some(format!("{HOST}:5432 subset v1"))),
        (5432, Some("[fd00::1]:5432"), Some(format!("{HOST}:5432 subset v1"))),
        (5432, Some("192.0.2.1:5432"), Some("other.production.svc.cluster.local:9".to_owned())),
        (5432, Some("192.0.2.2:5432"), None),
        (5432, None, None),
        (81, None, Some("other.production.svc.cluster.local:9".to_owned())),
    ] {
        let original = original.map(|text| text.parse().unwrap());
        let routed = policy.outbound.route_tcp(asked(&policy, port), original, |_| 0);
        assert_eq!(routed.ok().map(|to| to.to_string()), expected, "{port} {original:?}");
    }
}

/// The rules of one protocol need no destinations for the ports of the other, and never let anything through.
#[test]
fn http_rules_are_not_for_tcp_ports() {
    let policy = api(
        "http: [{route: [{destination: {host: old}}]}], tcp: [{route: [{destination: {host: other, port: \
         {number: 9}}}]}]",
    );
    assert!(policy.outbound.route_http(asked(&policy, 5432), &get("/"), |_| 0).is_err());
    assert!(policy.outbound.route_tcp(asked(&policy, 80), None, |_| 0).is_err());
    let odd = asked(&policy, 81);
    assert!(policy.outbound.route_http(odd, &get("/"), |_| 0).is_ok());
    assert_eq!(policy.outbound.route_tcp(odd, None, |_| 0).unwrap().port, 9);
}

#[test]
fn without_a_port_the_only_one_is_meant_or_else_the_one_asked_for() {
    let policy = api("http: [{route: [{destination: {host: old}}]}]");
    for port in [80, 81] {
        let served = policy.outbound.route_http(asked(&policy, port), &get("/"), |_| 0).unwrap();
        assert_eq!(served.destination().unwrap().port, 8080);
    }
    let other = virtual_service("api", "{hosts: [api], http: [{route: [{destination: {host: other}}]}]}");
    let report = load_for(&scope("v1"), &format!("{SERVICES}{other}")).unwrap_err().to_string();
    assert!(report.contains("no ServiceEntry declares other.production.svc.cluster.local:81"), "{report}");
    assert_eq!(report.matches("no ServiceEntry").count(), 1, "80 is there, 5432 is no HTTP: {report}");
}

#[test]
fn a_route_that_is_never_reached_is_warned_about() {
    let policy = api(
        "http: [{match: [{uri: {prefix: /a}}], route: [{destination: {host: api}}]}, {match: [{gateways: [mesh]}], \
         route: [{destination: {host: api}}]}, {name: late, route: [{destination: {host: old}}]}]",
    );
    assert_eq!(
        warnings(&policy),
        [
            "VirtualService production/api (http[2] late) is never reached: VirtualService production/api (http[1]) \
          comes first and has no conditions; change their order"
        ]
    );
    let elsewhere: PolicyScope = PolicyScope { labels: [].into(), ..scope("v1") };
    let labelled = "{hosts: [api], http: [{match: [{sourceLabels: {app: api}}], route: [{destination: {host: \
                    api}}]}, {route: [{destination: {host: old}}]}]}";
    let yaml = format!("{SERVICES}{}", virtual_service("api", labelled));
    for scope in [scope("v1"), elsewhere] {
        assert!(load_for(&scope, &yaml).unwrap().warnings.is_empty(), "others reach it");
    }
}
