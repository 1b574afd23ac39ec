//! Policy files.

use std::fs;
use std::path::Path;

use portcullis_tests::mesh::curl;
use portcullis_tests::within;

use super::{BASE, IDENTITY, LIMIT, SOON, Site, Table, is_ready, mode};

const STRICT: &str = "apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: production}
spec: {mtls: {mode: STRICT}}
";

fn entry(name: &str, protocol: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: production}}
spec:
  hosts: [web.production.svc.cluster.local]
  resolution: STATIC
  ports: [{{number: 8443, name: x, protocol: {protocol}}}]
  endpoints: [{{address: 10.77.0.2}}]
"
    )
}

/// Writes a bootstrap file whose policy is the directory beside it.
fn prepare(dir: &Path) {
    fs::write(dir.join("portcullis.yaml"), format!("{BASE}policy: [policy]\n")).unwrap();
    fs::create_dir_all(dir.join("policy")).unwrap();
}

#[test]
fn a_policy_that_cannot_be_used_is_named_with_line_and_path() {
    within(LIMIT, || {
        let (site, mut table) = (Site::new(), Table::default());
        let another = STRICT.replace("default", "another");
        for (name, files, says) in [
            ("garbage", &[("a.yaml", "}{ not yaml".to_owned())][..], &["a.yaml:1:"][..]),
            ("another format", &[("a.yaml", "hello\n".to_owned())], &["a.yaml:1:"]),
            (
                "permissive",
                &[("a.yaml", STRICT.replace("STRICT", "PERMISSIVE"))],
                &["a.yaml:4:", "spec.mtls.mode", "PERMISSIVE"],
            ),
            (
                "two of one scope",
                &[("a.yaml", STRICT.to_owned()), ("b.yaml", another)],
                &["b.yaml:", "a.yaml:"],
            ),
            (
                "duplicates",
                &[("a.yaml", STRICT.to_owned()), ("b.yaml", STRICT.to_owned())],
                &["b.yaml:", "PeerAuthentication production/default is already defined at", "a.yaml:"],
            ),
            (
                "contradictory",
                &[("a.yaml", entry("one", "HTTP")), ("b.yaml", entry("two", "TCP"))],
                &["b.yaml:", "a.yaml:", "web.production.svc.cluster.local"],
            ),
            (
                "unknown field",
                &[("a.yaml", STRICT.replace("mtls:", "mtsl:"))],
                &["a.yaml:4:", "spec.mtsl: unknown field; did you mean mtls?"],
            ),
            (
                "faults everywhere",
                &[
                    ("a.yaml", STRICT.replace("STRICT", "PERMISSIVE")),
                    ("b.yml", "kind: [\n".to_owned()),
                    ("c.yaml", entry("three", "UDP")),
                ],
                &["a.yaml:4:", "b.yml:", "c.yaml:7:", "3 faults"],
            ),
        ] {
            let dir = site.own_dir(name);
            prepare(&dir);
            for (file, content) in files {
                fs::write(dir.join("policy").join(file), content).unwrap();
            }
            table.row(name, site.sidecar(&dir), 2, says);
        }
    });
}

#[test]
fn a_policy_that_cannot_be_read_is_named() {
    within(LIMIT, || {
        let (site, mut table) = (Site::new(), Table::default());
        let dir = site.own_dir("missing");
        fs::write(dir.join("portcullis.yaml"), format!("{BASE}policy: [policy]\n")).unwrap();
        table.row("missing", site.sidecar(&dir), 2, &["missing/policy: cannot be read: No such file"]);
        for (name, mode_of, what) in
            [("file", "policy/a.yaml", "policy/a.yaml"), ("directory", "policy", "policy")]
        {
            let dir = site.own_dir(name);
            prepare(&dir);
            fs::write(dir.join("policy/a.yaml"), STRICT).unwrap();
            mode(&dir.join(mode_of), 0o600);
            let says = format!("{}: cannot be read: Permission denied", dir.join(what).display());
            table.row(name, site.sidecar(&dir), 2, &[&says, "1 fault"]);
        }
        let dir = site.own_dir("argument");
        prepare(&dir);
        let command = site.sidecar(&dir).args(["--policy", "/nowhere/policy.yaml"]);
        table.row("argument", command, 2, &["/nowhere/policy.yaml: cannot be read: No such file"]);
    });
}

#[test]
fn no_policy_at_all_is_strict() {
    within(LIMIT, || {
        let site = Site::new();
        let authority = site.authority();
        let listener = "listeners: [{direction: inbound, bind: \"127.0.0.2:8080\", port: 8080, app: \"127.0.0.1:9000\"}]";
        for (name, files) in
            [("no file", &[][..]), ("empty", &[("a.yaml", "")]), ("comments", &[("b.yml", "# later\n")])]
        {
            let dir = site.own_dir(name);
            let token = authority.token(IDENTITY).unwrap();
            fs::create_dir(dir.join("policy")).unwrap();
            for (file, content) in files {
                fs::write(dir.join("policy").join(file), content).unwrap();
            }
            let more = format!("policy: [policy]\n{listener}\n");
            let sidecar = site.good_sidecar(&dir, &more, &token).spawn().unwrap();
            is_ready(&sidecar);
            let plaintext = curl(site.host.command("curl"), &["http://127.0.0.2:8080/"]);
            assert!(!plaintext.status.success(), "{name}: {}", plaintext.stdout);
            let refused = |line: &str| line.contains("built-in default (STRICT)");
            sidecar.wait_for_line(refused, SOON).unwrap();
            assert!(sidecar.terminate(SOON).unwrap().success(), "{name}");
        }
    });
}
