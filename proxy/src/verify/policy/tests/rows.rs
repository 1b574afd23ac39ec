//! Which ports are shown, and with what.

use super::*;

/// `workload | port | mode | rule`.
fn rows(report: &Report) -> Vec<String> {
    let row = |row: &Row| format!("{} | {} | {} | {}", row.workload, row.port, row.mode.as_str(), row.rule);
    report.rows.iter().map(row).collect()
}

#[test]
fn no_policy_is_strict_everywhere() {
    let report = examined("");
    assert_eq!(rows(&report), ["any workload | every other port | STRICT | built-in default (STRICT)"]);
    assert!(report.findings.is_empty());
    assert!(table(&report).contains("STRICT everywhere"), "{}", table(&report));
}

#[test]
fn declared_workloads_have_a_row_for_each_port() {
    let open = resource(
        "PeerAuthentication",
        "{selector: {matchLabels: {version: v1}}, portLevelMtls: {8080: {mode: DISABLE}}}",
    );
    let report = examined(&(service() + &open));
    let strict = "built-in default (STRICT)";
    let [v1, v2] = ["production/api [app=api, version=v1]", "production/api [app=api, version=v2]"];
    let expected = [
        (v1, "5432", "STRICT", strict),
        (v1, "8080", "PLAINTEXT", "PeerAuthentication production/x"),
        (v1, "every other port", "STRICT", strict),
        (v2, "5432", "STRICT", strict),
        (v2, "8080", "STRICT", strict),
        (v2, "every other port", "STRICT", strict),
        ("any workload in production", "every other port", "STRICT", strict),
        ("any workload in another namespace", "every other port", "STRICT", strict),
    ];
    assert_eq!(rows(&report), expected.map(|(a, b, c, d)| format!("{a} | {b} | {c} | {d}")));
    assert!(!table(&report).contains("STRICT everywhere"));
}

#[test]
fn labels_that_only_a_selector_names_are_shown() {
    let open = resource(
        "PeerAuthentication",
        "{selector: {matchLabels: {app: web}}, portLevelMtls: {8080: {mode: DISABLE}}}",
    );
    let report = examined(&open);
    assert!(
        rows(&report).contains(
            &"any workload in production [app=web] | 8080 | PLAINTEXT | PeerAuthentication production/x"
                .to_owned()
        )
    );
    assert!(rows(&report).contains(
        &"any workload in production | every other port | STRICT | built-in default (STRICT)".to_owned()
    ));
}

#[test]
fn service_accounts_are_those_of_the_entry() {
    let entry = resource(
        "ServiceEntry",
        "{hosts: [db.example.com], addresses: [10.0.0.1], resolution: NONE, ports: [{number: 5432, name: tcp}], \
         subjectAltNames: [spiffe://cluster.local/ns/data/sa/db, spiffe://cluster.local/ns/data/sa/replica]}",
    );
    let report = examined(&entry);
    assert!(
        rows(&report)[0].starts_with("data (db.example.com) as db, replica | 5432 | STRICT"),
        "{:?}",
        rows(&report)
    );
}

#[test]
fn a_plan_is_shown_with_its_days() {
    let report = examine(&[example("strict")], &[], &assumptions(ExceptionPlans::Require), now()).unwrap();
    let row = report.rows.iter().find(|row| row.port == PortName::Own(8080)).unwrap();
    let exception = row.exception.as_ref().unwrap();
    assert_eq!((row.mode, exception.days_left), (PortMode::Plaintext, Some(219)));
    assert_eq!(exception.plan.as_ref().unwrap().owner, "payments team");
    assert!(table(&report).contains("payments team, until 2027-06-30: 219 days left"), "{}", table(&report));
    let json = json(&report);
    let row = json["rows"].as_array().unwrap().iter().find(|row| row["port"] == 8080).unwrap();
    assert_eq!(row["exception"]["expires"], "2027-06-30");
    assert_eq!(row["mode"], "PLAINTEXT");
}

#[test]
fn plaintext_to_a_service_has_a_row() {
    let rule = resource(
        "DestinationRule",
        "{host: api, trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: DISABLE}}]}}",
    );
    let report = examined(&(service() + &rule));
    let row = "any workload in production | to api.production.svc.cluster.local:80 | PLAINTEXT | DestinationRule production/x";
    assert!(rows(&report).contains(&row.to_owned()), "{:?}", rows(&report));
}

#[test]
fn a_bootstrap_file_chooses_whose_rows_are_shown() {
    let file = example("../portcullis.yaml");
    let bootstrap = config::load_bootstrap(&file).unwrap_or_else(|report| panic!("{report}"));
    let subject = Subject::given(&bootstrap, Path::new("portcullis.yaml"));
    let report =
        examine(&bootstrap.policy, &[subject], &assumptions(ExceptionPlans::Require), now()).unwrap();
    let ports: Vec<String> = report.rows.iter().map(|row| row.port.to_string()).collect();
    assert_eq!(ports, ["5432", "8080", "8443", "every other port"]);
    let name = "production/api-service [app=api-service, version=v1] (portcullis.yaml)";
    assert!(report.rows.iter().all(|row| row.workload == name));
    assert_eq!(report.failures(), 0);
}
