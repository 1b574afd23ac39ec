//! `portcullis verify` as it is called: exit codes, what it prints, and a real pair under attack.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use portcullis_tests::mesh::{COMMAND, ECHO, GREETING, HTTP, OPEN, Pair, file, target_dir};
use portcullis_tests::within;
use serde_json::Value;
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(120);
const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");

fn verify(arguments: &[&str]) -> (i32, String, String) {
    let command = Command::new(target_dir().join("portcullis")).arg("verify").args(arguments).output();
    let Output { status, stdout, stderr } = command.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

fn example(name: &str) -> String {
    Path::new(EXAMPLES).join(name).display().to_string()
}

#[test]
fn a_policy_s_findings_are_the_exit_code() {
    within(LIMIT, || {
        let [sample, services] = ["policy/sample", "policy/production"].map(example);
        let strict = example("policy/strict/peer-authentication.yaml");
        let bootstrap = example("portcullis.yaml");
        let (code, table, stderr) = verify(&["policy", &sample, &services]);
        assert_eq!(code, 1, "{table}{stderr}");
        assert!(table.contains("namespace-mtls-policy.yaml:13 spec.portLevelMtls.8080"), "{table}");
        assert!(table.trim_end().ends_with("1 fault, 0 warnings, 2 notes") && stderr.is_empty(), "{table}");
        assert!(!table.contains('\u{1b}'), "colours");

        let (code, json, _) = verify(&["policy", &sample, &services, "--output", "json"]);
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!((code, &json["failures"]), (1, &Value::from(1)));
        assert_eq!(json["findings"][0]["check"], "no_plan");
        assert_eq!(json["findings"][0]["line"], 13);

        // The example's plan with an end that no run of this test sees.
        let dir = TempDir::new().unwrap();
        let text = std::fs::read_to_string(strict).unwrap().replace("2027-06-30", "2999-12-31");
        let strict = file(dir.path(), "strict.yaml", text.as_bytes()).display().to_string();
        for good in [&["policy", &strict][..], &["policy", &strict, &services, "--workload", &bootstrap]] {
            let (code, table, stderr) = verify(good);
            assert_eq!(code, 0, "{table}{stderr}");
            assert!(table.contains("payments team, until 2999-12-31: "), "{table}");
        }
        let (code, table, _) = verify(&["policy", &sample, &services, "--exception-plans", "require"]);
        assert!(code == 1 && table.contains("STRICT everywhere"), "{table}");
    });
}

#[test]
fn a_policy_that_does_not_load_is_code_2_with_all_its_faults() {
    within(LIMIT, || {
        let dir = TempDir::new().unwrap();
        let text = std::fs::read_to_string(example("policy/strict/peer-authentication.yaml")).unwrap();
        let _ = file(dir.path(), "a.yaml", text.replace("mode: STRICT", "mode: PERMISSIVE").as_bytes());
        let _ = file(dir.path(), "b.yaml", b"kind: [\n");
        let path = dir.path().display().to_string();
        let (code, stdout, stderr) = verify(&["policy", &path]);
        assert_eq!((code, stdout.as_str()), (2, ""));
        for part in ["a.yaml:", "PERMISSIVE is refused", "b.yaml:", "faults"] {
            assert!(stderr.contains(part), "no {part:?} in {stderr}");
        }
        for (arguments, part) in [
            (&["policy", "/nowhere/policy"][..], "/nowhere/policy: cannot be read"),
            (&["policy", &path, "--workload", "/nowhere/bootstrap.yaml"], "/nowhere/bootstrap.yaml"),
            (&["policy"], "PATH"),
            (&["probe", "nothing"], "HOST:PORT"),
            (&["probe", "127.0.0.1:0"], "from 1 to 65535"),
            (&["probe", "127.0.0.1:1", "--deadline", "0s"], "--deadline"),
            (&["probe", "127.0.0.1:1", "--ca-bundle", "/nowhere/ca.pem"], "/nowhere/ca.pem"),
            // Nothing listens on the TCP port multiplexer's port here.
            (&["probe", "127.0.0.1:1"], "127.0.0.1:1 cannot be reached"),
        ] {
            let (code, stdout, stderr) = verify(arguments);
            assert_eq!((code, stdout.as_str()), (2, ""), "{arguments:?}: {stderr}");
            assert!(stderr.contains(part), "{arguments:?}: {stderr}");
        }
    });
}

#[test]
fn help_tells_exit_codes_and_json() {
    within(LIMIT, || {
        for command in ["policy", "probe"] {
            let (code, help, _) = verify(&[command, "--help"]);
            assert_eq!(code, 0);
            for part in ["Exit code: 0", "JSON: {", "--output"] {
                assert!(help.contains(part), "{command}: no {part:?} in\n{help}");
            }
        }
    });
}

#[test]
fn a_running_pair_lets_nothing_in_but_by_exception() {
    within(LIMIT, || {
        let mut pair = Pair::start("24h");
        let outsider = pair.mesh.host("outsider");
        let address = pair.server.host.ipv4();
        let attack = |port: u16| {
            let target = format!("{address}:{port}");
            let probe = outsider.command(&pair.mesh.programs.portcullis);
            let done = probe.args(["verify", "probe", &target, "--output", "json"]).run(COMMAND * 2).unwrap();
            let report: Value = serde_json::from_str(&done.stdout)
                .unwrap_or_else(|error| panic!("{error}: {}{}", done.stdout, done.stderr));
            (done.status.code(), report)
        };
        for port in [HTTP, ECHO, GREETING] {
            let (code, report) = attack(port);
            assert_eq!((code, &report["failures"]), (Some(0), &Value::from(0)), "{port}: {report:#}");
            assert_eq!(report["server"]["id"], "spiffe://cluster.local/ns/production/sa/api-service");
            assert_eq!(report["server"]["tls13"]["asks_for_certificate"], true);
        }
        // The controls: a port that the policy opens, and the one that tells of the sidecar's health.
        for port in [OPEN, 15021] {
            let (code, report) = attack(port);
            assert_eq!(code, Some(1), "{port}: {report:#}");
            let first = &report["attempts"][0];
            assert_eq!((&first["name"], &first["verdict"]), (&"plaintext_http1".into(), &"got_in".into()));
        }
        // After all of that the service serves its callers.
        let answer = pair.curl(&["--fail", &format!("http://{}/hello", pair.service(HTTP))]);
        assert!(answer.status.success(), "{}", answer.stderr);
    });
}
