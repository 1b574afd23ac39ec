//! What PeerAuthentications mean together.

use std::time::Duration;

use time::macros::datetime;

use super::{at, load, load_for, now, scope, warnings};
use crate::authz::{InboundPolicy, PortMode};
use crate::config::ExceptionPlans;

const MESH: &str = "istio-system";

/// A PeerAuthentication in a namespace.
fn policy(name: &str, namespace: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: {name}, \
         namespace: {namespace}}}\nspec: {spec}\n"
    )
}

/// `STRICT by RULE` or `PLAINTEXT by RULE`.
fn mode(inbound: &InboundPolicy, port: u16, now: Duration) -> String {
    match inbound.mode(port, now) {
        PortMode::Strict { rule } => format!("STRICT by {rule}"),
        PortMode::Plaintext { rule, .. } => format!("PLAINTEXT by {rule}"),
    }
}

const OPEN: &str = "portLevelMtls: {80: {mode: DISABLE}}";
const STRICT: &str = "mtls: {mode: STRICT}";

fn mesh(spec: &str) -> String {
    policy("mesh", MESH, &format!("{{{spec}}}"))
}

fn namespace(spec: &str) -> String {
    policy("ns", "production", &format!("{{{spec}}}"))
}

fn workload(spec: &str) -> String {
    policy("wl", "production", &format!("{{selector: {{matchLabels: {{app: api}}}}, {spec}}}"))
}

/// Whether port 80 is open, and the name of the policy that says so.
fn assert_decided(policies: &[String], open: bool, by: &str) {
    let yaml = policies.concat();
    let loaded = load(&yaml);
    let decided = mode(&loaded.inbound, 80, now());
    assert_eq!(decided.starts_with("PLAINTEXT"), open, "{decided} by {yaml}");
    assert!(decided.ends_with(by), "{decided} by {yaml}");
    assert!(mode(&loaded.inbound, 81, now()).starts_with("STRICT"), "{yaml}");
    assert_eq!(loaded.warnings.len(), usize::from(open), "{yaml}");
}

#[test]
fn the_narrowest_policy_that_speaks_of_a_port_decides() {
    let built_in = "built-in default (STRICT)";
    let table: &[(&[String], bool, &str)] = &[
        (&[], false, built_in),
        (&[mesh("")], false, built_in),
        (&[mesh("mtls: {mode: UNSET}")], false, built_in),
        (&[mesh("mtls: {}")], false, built_in),
        (&[mesh(STRICT)], false, "istio-system/mesh"),
        (&[mesh(STRICT), namespace("")], false, "istio-system/mesh"),
        (&[mesh(STRICT), namespace(STRICT)], false, "production/ns"),
        (&[workload(STRICT), namespace(STRICT)], false, "production/wl"),
        (&[workload("mtls: {mode: UNSET}"), namespace(STRICT)], false, "production/ns"),
        (&[mesh(OPEN)], true, "istio-system/mesh"),
        (&[namespace(OPEN)], true, "production/ns"),
        (&[workload(OPEN)], true, "production/wl"),
        // The port wins over the mode beside it.
        (&[namespace(&format!("{STRICT}, {OPEN}"))], true, "production/ns"),
        (&[namespace("portLevelMtls: {\"80\": {mode: DISABLE}}")], true, "production/ns"),
    ];
    for (policies, open, by) in table {
        assert_decided(policies, *open, by);
    }
}

#[test]
fn a_narrower_strict_takes_back_what_a_wider_policy_opens_and_unset_does_not() {
    let table: &[(&[String], bool, &str)] = &[
        (&[mesh(OPEN), namespace(STRICT)], false, "production/ns"),
        (&[mesh(OPEN), namespace("")], true, "istio-system/mesh"),
        (&[namespace(OPEN), workload(STRICT)], false, "production/wl"),
        (&[namespace(OPEN), workload("portLevelMtls: {80: {mode: STRICT}}")], false, "production/wl"),
        (&[namespace(OPEN), workload("portLevelMtls: {80: {mode: UNSET}}")], true, "production/ns"),
        (&[namespace(OPEN), workload("portLevelMtls: {80: {}}")], true, "production/ns"),
        (
            &[namespace(OPEN), workload(&format!("{STRICT}, portLevelMtls: {{80: {{mode: UNSET}}}}"))],
            false,
            "production/wl",
        ),
    ];
    for (policies, open, by) in table {
        assert_decided(policies, *open, by);
    }
}

#[test]
fn policies_for_others_change_nothing() {
    let selecting = |namespace: &str, labels: &str| {
        policy("x", namespace, &format!("{{selector: {{matchLabels: {labels}}}, {OPEN}}}"))
    };
    let strict = format!("{{{STRICT}}}");
    for policies in [
        vec![policy("x", "other", &format!("{{{OPEN}}}"))],
        vec![selecting("production", "{app: web}")],
        vec![selecting("production", "{app: api, zone: a}")],
        // With a selector, a policy of the root namespace is for the workloads there.
        vec![selecting(MESH, "{app: api}")],
        vec![policy("x", "other", &strict), policy("y", "other", &strict)],
    ] {
        assert_decided(&policies, false, "built-in default (STRICT)");
    }
}

fn with_plan(expires: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata:\n  name: default\n  \
         namespace: production\n  annotations: {{portcullis.dev/exception-80: \"owner=ops; reason=old \
         client; expires={expires}\"}}\nspec: {{portLevelMtls: {{80: {{mode: DISABLE}}}}}}\n"
    )
}

#[test]
fn a_planned_exception_closes_by_itself() {
    for plans in [ExceptionPlans::Warn, ExceptionPlans::Require] {
        let policy = load_for(
            &crate::config::PolicyScope { exception_plans: plans, ..scope("v1") },
            &with_plan("2027-03-01"),
        )
        .unwrap();
        assert!(policy.warnings.is_empty());
        assert!(
            policy.inbound.exceptions().all(|exception| exception.is_justified() && exception.port == 80)
        );
        let before = mode(&policy.inbound, 80, at(datetime!(2027-02-28 23:59:59 UTC)));
        let after = mode(&policy.inbound, 80, at(datetime!(2027-03-01 0:00 UTC)));
        assert_eq!(before, "PLAINTEXT by PeerAuthentication production/default");
        assert_eq!(
            after,
            "STRICT by PeerAuthentication production/default (the plan of its plaintext exception is over)"
        );
    }
}

#[test]
fn plans_near_their_end_are_warned_about() {
    let rule = "PeerAuthentication production/default";
    for (expires, expected) in [
        ("2026-12-07", vec![]),
        (
            "2026-12-06",
            vec![format!(
                "{rule}: the exception for plaintext into port 80 ends in 13 days (old client, owner \
                 ops, until 2026-12-06)"
            )],
        ),
        (
            "2026-11-24",
            vec![format!(
                "{rule}: the exception for plaintext into port 80 ends in 1 day (old client, owner ops, \
                 until 2026-11-24)"
            )],
        ),
        (
            "2026-11-23",
            vec![format!(
                "{rule}: the exception for plaintext into port 80 is over (old client, owner ops, until \
                 2026-11-23); remove it"
            )],
        ),
        (
            "2020-01-01",
            vec![format!(
                "{rule}: the exception for plaintext into port 80 is over (old client, owner ops, until \
                 2020-01-01); remove it"
            )],
        ),
    ] {
        assert_eq!(warnings(&load(&with_plan(expires))), expected, "{expires}");
    }
}

#[test]
fn without_a_plan_the_setting_decides() {
    let yaml = policy("default", "production", "{portLevelMtls: {8080: {mode: DISABLE}}}");
    let to_write = "portcullis.dev/exception-8080: \"reason=...; owner=...; expires=YYYY-MM-DD\"";

    let warn = load(&yaml);
    assert!(mode(&warn.inbound, 8080, Duration::MAX).starts_with("PLAINTEXT"), "it never ends");
    assert!(warn.inbound.exceptions().all(|exception| !exception.is_justified()));
    assert_eq!(
        warnings(&warn),
        [format!(
            "PeerAuthentication production/default allows plaintext into port 8080 without a plan: add \
             the annotation {to_write}"
        )]
    );

    let require = crate::config::PolicyScope { exception_plans: ExceptionPlans::Require, ..scope("v1") };
    let require = load_for(&require, &yaml).unwrap();
    assert_eq!(
        mode(&require.inbound, 8080, now()),
        format!(
            "STRICT by PeerAuthentication production/default (its plaintext exception needs a plan: add \
             the annotation {to_write})"
        )
    );
    assert_eq!(require.inbound.exceptions().count(), 0);
    assert_eq!(
        warnings(&require),
        [format!(
            "PeerAuthentication production/default asks for plaintext into port 8080 without a plan, \
             which is refused: add the annotation {to_write}"
        )]
    );
}
