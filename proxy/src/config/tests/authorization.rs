//! Which AuthorizationPolicies hold for a workload, what they mean, and what its own ports carry.

use std::time::Duration;

use super::{load, load_for, scope};
use crate::authz::{Admitted, Caller, ConnectionFacts, PortMode, RuleRef, Verdict, admit};
use crate::config::Policy;
use crate::route::AppProtocol;

fn policy(name: &str, namespace: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, \
         namespace: {namespace}}}\nspec: {spec}\n"
    )
}

fn entry(name: &str, host: &str, ports: &str, more: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: \
         production}}\nspec: {{hosts: [{host}], addresses: [10.0.0.{}], ports: [{ports}], resolution: STATIC, \
         {more}}}\n",
        name.len(),
    )
}

/// A caller of port 80 through an exception, who has no identity.
fn caller(port: u16) -> Admitted {
    let client = crate::addr::ClientAddr::new(([10, 0, 0, 1], 40_000).into());
    let facts = ConnectionFacts { client, destination: ([10, 0, 0, 2], port).into(), port, sni: None };
    let exception = crate::authz::Exception { port, plan: None };
    let mode = PortMode::Plaintext { exception: exception.into(), rule: RuleRef::built_in() };
    admit(&mode, Caller::Plaintext, facts, scope("v1").workload.id().trust_domain()).unwrap()
}

fn names(policy: &Policy) -> Vec<String> {
    policy.inbound.authorization().policies().iter().map(|policy| policy.rule.name().to_owned()).collect()
}

fn decided(policy: &Policy, method: &str, path: &str, fields: &[(&str, &str)]) -> String {
    let mut request = http::Request::builder().method(method).uri(path).header("host", "api.example:8080");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let (head, ()) = request.body(()).unwrap().into_parts();
    match caller(80).request(&policy.inbound, &head) {
        Ok(permit) => format!("{} +{}", permit.rule(), permit.audits().len()),
        Err(denial) => denial.label().to_owned(),
    }
}

#[test]
fn the_policies_of_the_workload_its_namespace_and_the_mesh_hold_together() {
    let select = |labels: &str| format!("{{selector: {{matchLabels: {labels}}}, rules: [{{}}]}}");
    let yaml = [
        policy("mesh", "istio-system", "{rules: [{}]}"),
        policy("mesh-api", "istio-system", &select("{app: api}")),
        policy("mesh-web", "istio-system", &select("{app: web}")),
        policy("all", "production", "{}"),
        policy("own", "production", &select("{app: api, version: v1}")),
        policy("v2", "production", &select("{app: api, version: v2}")),
        policy("other", "staging", "{action: DENY, rules: [{}]}"),
        policy("other-api", "staging", &select("{app: api}")),
    ]
    .concat();
    let expected = ["istio-system/mesh", "istio-system/mesh-api", "production/all", "production/own"];
    assert_eq!(names(&load(&yaml)), expected.map(|name| format!("AuthorizationPolicy {name}")));
    assert_eq!(load("").inbound.authorization().policies().len(), 0);
}

#[test]
fn no_rules_and_a_rule_of_nothing_mean_what_istio_means() {
    let verdict = |spec: &str| caller(80).verdict(&load(&policy("x", "production", spec)).inbound);
    for (spec, expected) in [
        ("{}", Verdict::Denied),
        ("{action: ALLOW}", Verdict::Denied),
        ("{action: ALLOW, rules: []}", Verdict::Denied),
        ("{rules: [{}]}", Verdict::Permitted),
        ("{action: DENY}", Verdict::Permitted),
        ("{action: DENY, rules: []}", Verdict::Permitted),
        ("{action: DENY, rules: [{}]}", Verdict::Denied),
        ("{action: AUDIT}", Verdict::Permitted),
        ("{action: AUDIT, rules: [{}]}", Verdict::Permitted),
        // A caller without identity.
        ("{rules: [{from: [{source: {principals: [\"*\"]}}]}]}", Verdict::Denied),
        ("{action: DENY, rules: [{from: [{source: {notPrincipals: [\"*\"]}}]}]}", Verdict::Denied),
        ("{rules: [{from: [{source: {notNamespaces: [a]}}]}]}", Verdict::Permitted),
    ] {
        assert_eq!(verdict(spec), expected, "{spec}");
    }
}

#[test]
fn every_field_is_read_into_its_own_meaning() {
    for (rule, met) in [
        ("from: [{source: {ipBlocks: [10.0.0.0/8]}}]", true),
        ("from: [{source: {ipBlocks: [10.0.0.7/24]}}]", true),
        ("from: [{source: {ipBlocks: [10.0.0.2]}}]", false),
        ("from: [{source: {notIpBlocks: [10.0.0.1]}}]", false),
        ("from: [{source: {notPrincipals: [cluster.local/ns/a/sa/b]}}]", true),
        ("from: [{source: {serviceAccounts: [api]}}]", false),
        ("from: [{source: {notServiceAccounts: [a/api]}}]", true),
        ("to: [{operation: {ports: [\"80\"]}}]", true),
        ("to: [{operation: {notPorts: [\"80\"]}}]", false),
        ("to: [{operation: {methods: [GET, \"P*\"]}}]", true),
        ("to: [{operation: {notMethods: [GET]}}]", false),
        ("to: [{operation: {paths: [\"/a/{*}\"]}}]", true),
        ("to: [{operation: {notPaths: [\"/a*\"]}}]", false),
        ("to: [{operation: {hosts: [API.example]}}]", true),
        ("to: [{operation: {notHosts: [\"*.example\"]}}]", false),
        ("when: [{key: source.ip, values: [10.0.0.1]}]", true),
        ("when: [{key: source.namespace, notValues: [a]}]", true),
        ("when: [{key: source.principal, values: [\"*\"]}]", false),
        ("when: [{key: source.serviceAccount, notValues: [api]}]", true),
        ("when: [{key: destination.ip, values: [10.0.0.2]}]", true),
        ("when: [{key: destination.port, values: [\"81\"]}]", false),
        ("when: [{key: connection.sni, values: [\"*\"]}]", false),
        ("when: [{key: \"request.headers[X-Role]\", values: [admin]}]", true),
        ("when: [{key: \"request.headers[X-Role]\", notValues: [\"ad*\"]}]", false),
    ] {
        let loaded = load(&policy("x", "production", &format!("{{rules: [{{{rule}}}]}}")));
        let expected = if met { "AuthorizationPolicy production/x (rules[0]) +0" } else { "not_allowed" };
        assert_eq!(decided(&loaded, "GET", "/a/b", &[("x-role", "admin")]), expected, "{rule}");
    }
}

#[test]
fn policies_add_up_and_each_decision_names_its_rule() {
    let loaded = load(
        &[
            policy("read", "production", "{rules: [{to: [{operation: {methods: [GET]}}]}]}"),
            policy(
                "write",
                "production",
                "{rules: [{to: [{operation: {methods: [PUT]}}]}, {to: [{operation: {paths: [/form]}}]}]}",
            ),
            policy(
                "admin",
                "production",
                "{action: DENY, rules: [{to: [{operation: {paths: [\"/admin*\"]}}]}]}",
            ),
            policy("log", "production", "{action: AUDIT, rules: [{to: [{operation: {methods: [PUT]}}]}]}"),
        ]
        .concat(),
    );
    for (method, path, expected) in [
        ("GET", "/", "AuthorizationPolicy production/read (rules[0]) +0"),
        ("PUT", "/", "AuthorizationPolicy production/write (rules[0]) +1"),
        ("POST", "/form", "AuthorizationPolicy production/write (rules[1]) +0"),
        ("POST", "/", "not_allowed"),
        ("GET", "/admin", "denied_by_policy"),
        ("GET", "/x/..//admin/a", "denied_by_policy"),
        ("GET", "/%2fadmin", "ambiguous_path"),
    ] {
        assert_eq!(decided(&loaded, method, path, &[]), expected, "{method} {path}");
    }
}

#[test]
fn cluster_local_stands_for_the_own_trust_domain() {
    let source = "{rules: [{from: [{source: {principals: [cluster.local/ns/a/sa/b]}}]}]}";
    let mut renamed = scope("v1");
    let domain = portcullis_identity::TrustDomain::parse("example.org").unwrap();
    renamed.workload = portcullis_identity::Workload::new(&domain, "production", "api").unwrap();
    let loaded = load_for(&renamed, &policy("x", "production", source)).unwrap();
    let rules = &loaded.inbound.authorization().policies()[0].rules;
    let id = portcullis_identity::SpiffeId::parse("spiffe://example.org/ns/a/sa/b").unwrap();
    assert!(rules[0].from[0].principals.any[0].fits(&id));
}

#[test]
fn own_ports_carry_what_the_own_service_entries_declare() {
    const OWN: &str = "spiffe://cluster.local/ns/production/sa/api";
    let http = "{number: 80, targetPort: 8080, name: http, protocol: HTTP}";
    let tcp = "{number: 8080, name: tcp, protocol: TCP}";
    let api = "api.production.svc.cluster.local";
    let second = "endpoints: [{address: 10.1.0.2}]";
    let at = |more: &str| format!("endpoints: [{{address: 10.1.0.1{more}}}]");
    let other = format!("subjectAltNames: [\"{}\"]", OWN.replace("/api", "/web"));
    let (http1, tcp1, none) = (Some(AppProtocol::Http), Some(AppProtocol::Tcp), None);
    for (entries, declared) in [
        (vec![], none),
        (vec![entry("a", api, http, &at(""))], http1),
        (vec![entry("a", api, http, &at(", labels: {app: api}"))], http1),
        (vec![entry("a", api, http, &at(", labels: {app: web}"))], none),
        (vec![entry("a", api, http, &at(", ports: {http: 9000}"))], none),
        (vec![entry("a", "api.other.svc.cluster.local", http, &at(""))], none),
        (vec![entry("a", "api.example", tcp, &format!("{}, {other}", at("")))], none),
        (vec![entry("a", "api.example", tcp, &format!("{}, subjectAltNames: [\"{OWN}\"]", at("")))], tcp1),
        // Clients would not take the workload for it.
        (vec![entry("a", api, tcp, &format!("{}, {other}", at("")))], none),
        (vec![entry("a", api, http, &at("")), entry("bb", &format!("b{api}"), http, second)], http1),
        (
            vec![entry("a", api, http, &at("")), entry("bb", &format!("b{api}"), tcp, second)],
            Some(AppProtocol::Undeclared),
        ),
    ] {
        let yaml = entries.concat();
        let inbound = load(&yaml).inbound;
        assert_eq!(inbound.protocol(8080), declared.unwrap_or(AppProtocol::Undeclared), "{yaml}");
        assert_eq!(inbound.protocol(80), AppProtocol::Undeclared, "{yaml}");
        // Only a port that carries TCP for certain is a fault of a policy about requests.
        let asks = policy("x", "production", "{rules: [{to: [{operation: {methods: [GET]}}]}]}");
        let loaded = load_for(&scope("v1"), &(yaml.clone() + &asks));
        assert_eq!(loaded.is_err(), declared == tcp1, "{yaml}");
        let elsewhere = policy(
            "x",
            "production",
            "{rules: [{to: [{operation: {methods: [GET], notPorts: [\"8080\"]}}]}]}",
        );
        load(&(yaml + &elsewhere));
    }
}

#[test]
fn a_policy_for_others_may_ask_about_requests_on_a_port_that_carries_tcp_here() {
    let tcp = "{number: 8080, name: tcp, protocol: TCP}";
    let own = entry("a", "api.production.svc.cluster.local", tcp, "endpoints: [{address: 10.1.0.1}]");
    let web = "{selector: {matchLabels: {app: web}}, rules: [{to: [{operation: {methods: [GET]}}]}]}";
    let loaded = load(&(own + &policy("web", "production", web)));
    assert_eq!(loaded.inbound.authorization().policies().len(), 0);
    assert_eq!(loaded.inbound.protocol(8080), AppProtocol::Tcp);
    assert!(matches!(loaded.inbound.mode(8080, Duration::ZERO), PortMode::Strict { .. }));
}
