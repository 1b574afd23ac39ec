//! One policy for each check, and the policies without fault.

use super::*;

const PLAN: &str = "portcullis.dev/exception-8080";

/// A PeerAuthentication of one exception for 8080, with a plan that ends on this day.
fn planned(expires: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata:\n  name: x\n  namespace: production\n  \
         annotations: {{{PLAN}: \"reason=r; owner=o; expires={expires}\"}}\nspec:\n  portLevelMtls: {{8080: {{mode: DISABLE}}}}\n---\n"
    )
}

#[test]
fn the_examples_yield_what_is_true_of_them() {
    let of = |names: &[&str]| {
        let sources: Vec<PathBuf> = names.iter().map(|name| example(name)).collect();
        examine(&sources, &[], &assumptions(ExceptionPlans::Warn), now())
            .unwrap_or_else(|report| panic!("{report}"))
    };
    assert_eq!(found(&of(&["strict"])), Vec::<String>::new());
    assert_eq!(found(&of(&["production"])), Vec::<String>::new());
    // Alone the sample says nowhere that its service exists.
    assert_eq!(found(&of(&["sample"])), ["no_plan 13", "dead_rule 8", "dead_rule 9", "source_labels 13"]);
    let whole = of(&["sample", "production"]);
    assert_eq!(found(&whole), ["no_plan 13", "mutual_to_open 11", "source_labels 13"]);
    assert_eq!(whole.failures(), 1);
    assert_eq!(of(&["strict", "production"]).failures(), 0);
}

#[test]
fn good_policies_have_no_finding() {
    for yaml in [
        service(),
        service() + &resource("PeerAuthentication", "{mtls: {mode: STRICT}}"),
        service()
            + &resource("PeerAuthentication", "{selector: {matchLabels: {app: api}}, mtls: {mode: STRICT}}"),
        service() + &resource("DestinationRule", "{host: api, subsets: [{name: v1, labels: {version: v1}}]}"),
        service() + &resource("DestinationRule", "{host: \"*.svc.cluster.local\"}"),
        service()
            + &resource("VirtualService", "{hosts: [api], http: [{route: [{destination: {host: api}}]}]}"),
    ] {
        assert_eq!(found(&examined(&yaml)), Vec::<String>::new(), "{yaml}");
    }
}

#[test]
fn each_fault_is_found_where_it_stands() {
    let dead_port = "{portLevelMtls: {8080: {mode: STRICT}, 8081: {mode: STRICT}}}";
    let empty =
        "{host: api, subsets: [{name: v1, labels: {version: v1}}, {name: v3, labels: {version: v3}}]}";
    let plaintext =
        "{host: api, trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: DISABLE}}]}}";
    let routes = "{hosts: [nobody], http: [{route: [{destination: {host: api}}]}]}";
    for (spec, checks) in [
        (resource("PeerAuthentication", dead_port), &["dead_port 9"][..]),
        (
            resource("PeerAuthentication", "{selector: {matchLabels: {app: apy}}, mtls: {mode: STRICT}}"),
            &["dead_selector 9"],
        ),
        (resource("DestinationRule", empty), &["empty_subset 9"]),
        (resource("DestinationRule", "{host: apy}"), &["dead_rule 9"]),
        (resource("DestinationRule", "{host: \"*.example.com\"}"), &["dead_rule 9"]),
        (resource("VirtualService", routes), &["dead_rule 9"]),
        // Nobody planned it, and nobody takes it.
        (
            resource("DestinationRule", plaintext),
            &["no_plan 9", "not_mutual_to_strict 9", "not_mutual_to_strict 9"],
        ),
    ] {
        // The service's document has five lines.
        assert_eq!(found(&examined(&(service() + &spec))), checks, "{spec}");
    }
}

#[test]
fn tls_for_strangers_towards_a_strict_port_is_a_fault() {
    let simple = resource("DestinationRule", "{host: api, trafficPolicy: {tls: {mode: SIMPLE}}}");
    let report = examined(&(service() + &simple));
    assert_eq!(found(&report), ["not_mutual_to_strict 9"; 4]);
    assert!(report.findings[0].advice.contains("ISTIO_MUTUAL"));
}

#[test]
fn endpoints_found_by_name_are_workloads_too() {
    let entry = resource(
        "ServiceEntry",
        "{hosts: [web.production.svc.cluster.local], resolution: DNS, ports: [{number: 80, name: http, targetPort: 8080}], \
         endpoints: [{address: web.internal.example, labels: {app: web}}]}",
    );
    let rules = resource("PeerAuthentication", "{portLevelMtls: {8080: {mode: STRICT}, 80: {mode: STRICT}}}");
    let report = examined(&(entry + &rules));
    assert_eq!(found(&report), ["dead_port 9"]);
    assert!(report.rows.iter().any(|row| row.workload == "production/web [app=web]"));
}

#[test]
fn a_route_behind_one_without_conditions_is_found() {
    let to = "route: [{destination: {host: api}}]";
    let routes = resource(
        "VirtualService",
        &format!("{{hosts: [api], http: [{{{to}}}, {{match: [{{uri: {{exact: /x}}}}], {to}}}]}}"),
    );
    let report = examined(&(service() + &routes));
    assert_eq!(report.findings.len(), 1, "{}", table(&report));
    assert_eq!(report.failures(), 1);
}

#[test]
fn the_days_of_a_plan_decide() {
    for (expires, checks) in [
        ("2027-06-30", &[][..]),
        ("2026-12-07", &[]),
        ("2026-12-06", &["plan_ends_soon 8"]),
        ("2026-11-24", &["plan_ends_soon 8"]),
        ("2026-11-23", &["plan_over 8"]),
        ("2020-01-01", &["plan_over 8"]),
    ] {
        assert_eq!(found(&examined(&planned(expires))), checks, "{expires}");
    }
}

#[test]
fn where_plans_are_required_one_is_asked_for() {
    let open = resource("PeerAuthentication", "{portLevelMtls: {8080: {mode: DISABLE}}}");
    let report = examine_text(&open, ExceptionPlans::Require).unwrap();
    assert_eq!(found(&report), ["plan_required 4"]);
    assert!(report.rows.iter().all(|row| row.mode == PortMode::Strict));
    assert!(report.findings[0].advice.contains(PLAN), "{}", report.findings[0].advice);
}

#[test]
fn plaintext_on_both_sides_fits() {
    let client = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata:\n  name: x\n  namespace: production\n  annotations: \
         {portcullis.dev/exception-80: \"reason=r; owner=o; expires=2027-06-30\"}\nspec:\n  host: api\n  trafficPolicy: \
         {portLevelSettings: [{port: {number: 80}, tls: {mode: DISABLE}}]}\n---\n";
    let report = examined(&(service() + client + &planned("2027-06-30")));
    assert_eq!(found(&report), Vec::<String>::new());
    // One day later at the server than at the client, the client is refused.
    let report = examined(&(service() + client + &planned("2026-11-23")));
    assert_eq!(found(&report)[0], "not_mutual_to_strict 14");
}

#[test]
fn nothing_is_claimed_of_what_is_not_known() {
    // No workload is declared in this namespace, or some have no labels.
    let selector = resource(
        "PeerAuthentication",
        "{selector: {matchLabels: {app: x}}, portLevelMtls: {1: {mode: STRICT}}}",
    );
    assert_eq!(found(&examined(&selector)), Vec::<String>::new());
    let unlabelled = service().replace("labels: {app: api, version: v2}", "labels: {}");
    assert_eq!(found(&examined(&(unlabelled + &selector))), Vec::<String>::new());
}

#[test]
fn routes_by_source_labels_are_no_boundary_and_no_failure() {
    let routes = resource(
        "VirtualService",
        "{hosts: [api], http: [{match: [{sourceLabels: {version: v2}}], route: [{destination: {host: api}}]}]}",
    );
    let report = examined(&(service() + &routes));
    assert_eq!((found(&report), report.failures()), (vec!["source_labels 9".to_owned()], 0));
}

#[test]
fn a_policy_that_does_not_load_for_somebody_is_reported_whole() {
    // Only callers of version v2 take the first route.
    let routes = resource(
        "VirtualService",
        "{hosts: [api], http: [{match: [{sourceLabels: {version: v2}}], route: [{destination: {host: gone}}]}, \
         {route: [{destination: {host: api}}]}]}",
    );
    // Both hold for the endpoint v1.
    let two = resource("PeerAuthentication", "{selector: {matchLabels: {app: api}}, mtls: {mode: STRICT}}")
        + &resource("PeerAuthentication", "{selector: {matchLabels: {version: v1}}, mtls: {mode: STRICT}}")
            .replace("name: x", "name: y");
    let report = examine_text(&(service() + &routes), ExceptionPlans::Warn).unwrap_err().to_string();
    assert!(report.contains("no ServiceEntry declares gone.production"), "{report}");
    let report = examine_text(&(service() + &two), ExceptionPlans::Warn).unwrap_err().to_string();
    assert!(report.contains("both hold for this workload") && report.ends_with("1 fault"), "{report}");
    let report = examine_text("kind: X\n---\nkind: Y\n", ExceptionPlans::Warn).unwrap_err();
    assert_eq!(report.faults().len(), 2 * 3, "{report}");
}
