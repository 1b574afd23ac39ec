//! AuthorizationPolicies, from their outline alone.

use std::fs;

use super::super::boundary::of;
use super::*;

/// What is said of one AuthorizationPolicy.
fn said(spec: &str) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let text = resource("AuthorizationPolicy", spec);
    fs::write(directory.path().join("policy.yaml"), text).unwrap();
    let outline = PolicySet::read(&[directory.path().to_owned()]).outline();
    let [resource] = outline.resources.as_slice() else { panic!("{outline:?}") };
    of(resource, "cluster.local")
        .iter()
        .map(|finding| format!("{}: {}", finding.check.label(), finding.what))
        .collect()
}

/// What is said of one AuthorizationPolicy in a mesh that has [`service`].
fn said_in_mesh(spec: &str) -> Vec<String> {
    let report = examined(&(service() + &resource("AuthorizationPolicy", spec)));
    report.findings.iter().map(|finding| format!("{}: {}", finding.check.label(), finding.what)).collect()
}

#[test]
fn what_does_not_load_for_a_declared_workload_is_reported() {
    let policy = "{selector: {matchLabels: {version: v2}}, rules: [{to: [{operation: {paths: [/x]}}]}]}";
    let examined =
        examine_text(&(service() + &resource("AuthorizationPolicy", policy)), ExceptionPlans::Warn);
    let report = examined.unwrap_err().to_string();
    assert!(
        report.contains("port 5432 of this workload carries TCP") && report.ends_with("1 fault"),
        "{report}"
    );
}

#[test]
fn ports_and_selectors_of_nobody_are_named() {
    for (spec, parts) in [
        ("{}", &[][..]),
        ("{selector: {matchLabels: {app: api}}, rules: [{to: [{operation: {ports: [\"8080\"]}}]}]}", &[]),
        (
            "{rules: [{to: [{operation: {ports: [\"8080\", \"80\"]}}]}]}",
            &["dead_port: AuthorizationPolicy production/x speaks of port 80,"],
        ),
        (
            "{selector: {matchLabels: {app: web}}}",
            &["dead_selector: the selector of AuthorizationPolicy production/x"],
        ),
    ] {
        let said = said_in_mesh(spec);
        assert_eq!(said.len(), parts.len(), "{spec}: {said:?}");
        assert!(said.iter().zip(parts).all(|(said, part)| said.starts_with(part)), "{spec}: {said:?}");
    }
}

#[test]
fn policies_that_can_match_are_left_alone() {
    for spec in [
        "{}",
        "{action: ALLOW}",
        "{action: DENY, rules: [{}]}",
        "{rules: [{from: [{source: {principals: [cluster.local/ns/a/sa/b, \"*\", \"*/sa/b\"]}}]}]}",
        "{rules: [{from: [{source: {principals: [\"cluster.local/*\"], notPrincipals: [cluster.local/ns/a/sa/b]}}]}]}",
        "{rules: [{to: [{operation: {methods: [GET, POST], notMethods: [GET]}}]}]}",
        "{selector: {matchLabels: {app: api}}, rules: [{to: [{operation: {ports: [\"80\"]}}]}]}",
    ] {
        assert_eq!(said(spec), Vec::<String>::new(), "{spec}");
    }
}

#[test]
fn principals_of_other_trust_domains_are_named() {
    let said = said(
        "{rules: [{from: [{source: {principals: [other.example/ns/a/sa/b, cluster.local/ns/a/sa/b]}}]}]}",
    );
    assert_eq!(said.len(), 1);
    assert!(
        said[0].starts_with("foreign_principal: ") && said[0].contains("trust domain other.example"),
        "{said:?}"
    );
}

#[test]
fn what_cannot_match_is_named() {
    for (spec, part) in [
        ("{action: DENY}", "has action DENY and no rules"),
        ("{action: AUDIT, rules: []}", "has action AUDIT and no rules"),
        (
            "{rules: [{to: [{operation: {methods: [GET], notMethods: [GET]}}]}]}",
            "everything in methods is also excluded by notMethods",
        ),
        (
            "{rules: [{from: [{source: {namespaces: [a], notNamespaces: [\"*\"]}}]}]}",
            "excluded by notNamespaces",
        ),
        (
            "{rules: [{from: [{source: {ipBlocks: [10.0.0.0/8], notIpBlocks: [10.0.0.0/8]}}]}]}",
            "excluded by notIpBlocks",
        ),
    ] {
        let said = said(spec);
        assert_eq!(said.len(), 1, "{spec}: {said:?}");
        assert!(said[0].starts_with("never_matches: ") && said[0].contains(part), "{spec}: {said:?}");
    }
}
