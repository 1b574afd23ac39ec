//! Join tokens at the sidecar: what cannot get better ends it, what can is waited for.

use std::fs;

use portcullis_tests::within;

use super::{BASE, Given, IDENTITY, LIMIT, SOON, Site, Table, is_ready};

const AGAIN: &str = "portcullis-ca token --identity spiffe://cluster.local/ns/production/sa/api";

#[test]
fn a_token_that_is_none_ends_the_sidecar() {
    within(LIMIT, || {
        let (site, mut table) = (Site::new(), Table::default());
        let authority = site.authority();
        let good = authority.token(IDENTITY).unwrap();
        let other = authority.token("spiffe://cluster.local/ns/production/sa/web").unwrap();
        let elsewhere = site.dir.path().join("elsewhere");
        let _foreign = site.running_ca(&elsewhere, 8444, &["--trust-domain", "elsewhere"]);
        let foreign =
            site.ca(&elsewhere, &["token", "--identity", &IDENTITY.replace("cluster.local", "elsewhere")]);
        let foreign = foreign.check(SOON).unwrap();
        let (head, tail) = good.as_bytes().split_at(40);
        let web = "it is for spiffe://cluster.local/ns/production/sa/web, this workload is";
        let there = "it is for spiffe://elsewhere/ns/production/sa/api, this workload is";
        for (name, given, says) in [
            ("missing", Given::Nothing, "No such file"),
            ("empty", Given::bytes(""), "a join token starts with pcj1."),
            ("garbled", Given::bytes([head, b"!", tail].concat()), "not base64url"),
            ("cut", Given::bytes(head), "join token"),
            ("binary", Given::bytes(b"\xff\xfe\x00"), "UTF-8"),
            ("large", Given::bytes(format!("pcj1.{}", "a".repeat(9000))), "the limit is 4096"),
            ("directory", Given::Directory, "not a regular file"),
            ("pipe", Given::Pipe, "not a regular file"),
            ("unreadable", Given::Unreadable, "Permission denied"),
            ("another's", Given::bytes(other), web),
            ("foreign", Given::bytes(foreign), there),
        ] {
            let dir = site.own_dir(name);
            fs::write(dir.join("portcullis.yaml"), BASE).unwrap();
            let file = dir.join("join-token");
            given.put(&file);
            let place = format!("join token file {}: ", file.display());
            table.row(name, site.sidecar(&dir), 2, &[&place, says, AGAIN]);
        }
        // Control: the token that the others were made from.
        let sidecar = site.good_sidecar(&site.own_dir("good"), "", &good).spawn().unwrap();
        is_ready(&sidecar);
    });
}

#[test]
fn no_token_and_no_state_is_one_message() {
    within(LIMIT, || {
        let (site, mut table) = (Site::new(), Table::default());
        let dir = site.own_dir("none");
        let base = BASE.replace(", joinToken: {file: join-token}", "");
        fs::write(dir.join("portcullis.yaml"), format!("{base}state: state\n")).unwrap();
        let says = ["no certificate in", "none/state", "no join token", AGAIN];
        table.row("neither", site.sidecar(&dir), 2, &says);
        fs::write(dir.join("portcullis.yaml"), BASE.replace("{file: join-token}", "{env: NO_TOKEN}"))
            .unwrap();
        table.row("no variable", site.sidecar(&dir), 2, &["ca.joinToken", "NO_TOKEN", "not found"]);
        let garbled = site.sidecar(&dir).env("NO_TOKEN", "pcj1.?");
        table.row("garbled variable", garbled, 2, &["the join token given: ", "not base64url", AGAIN]);
    });
}

#[test]
fn a_token_that_the_authority_refuses_ends_the_sidecar() {
    within(LIMIT, || {
        let (site, mut table) = (Site::new(), Table::default());
        let ca = site.dir.path().join("ca");
        let _authority = site.running_ca(&ca, 8443, &[]);
        let token =
            |ttl: &str| site.ca(&ca, &["token", "--identity", IDENTITY, "--ttl", ttl]).check(SOON).unwrap();
        let (used, short) = (token("10m"), token("1s"));
        let first = site.good_sidecar(&site.own_dir("first"), "", &used).spawn().unwrap();
        is_ready(&first);
        assert!(first.terminate(SOON).unwrap().success());
        let dir = site.own_dir("second");
        let place = format!(
            "join token file {}: the authority at 10.77.0.1:8443 refuses it: ",
            dir.join("join-token").display()
        );
        let says = [place.as_str(), "has been used for another key", AGAIN];
        table.row("used", site.good_sidecar(&dir, "state: state\n", &used), 2, &says);
        let outstanding = || {
            let status = site.ca(&ca, &["status", "--output", "json"]).check(SOON).unwrap();
            serde_json::from_str::<serde_json::Value>(&status).unwrap()["tokens_outstanding"].clone()
        };
        let mut asked = 0;
        while outstanding() != 0 {
            asked += 1;
            assert!(asked < 200, "a token of 1 s does not end");
        }
        let says = [place.as_str(), "has expired", AGAIN];
        table.row("expired", site.good_sidecar(&dir, "state: state\n", &short), 2, &says);
    });
}

#[test]
fn an_authority_that_is_away_or_another_is_waited_for_and_said() {
    within(LIMIT, || {
        let site = Site::new();
        let mut authority = site.authority();
        let token = authority.token(IDENTITY).unwrap();
        authority.kill();
        let sidecar = site.good_sidecar(&site.own_dir("sidecar"), "", &token).spawn().unwrap();
        let retried = |part: &'static str| {
            move |line: &str| {
                line.contains(part) && line.contains("retry_in_ms") && line.contains("no certificate")
            }
        };
        sidecar.wait_for_line(retried("no connection to the authority at 10.77.0.1:8443"), SOON).unwrap();
        let again = |line: &str| line.contains(r#""failures":2"#);
        sidecar.wait_for_line(again, SOON).unwrap();
        assert_eq!(site.readiness(), "503");
        // Whoever can answer at that address must not be able to end a sidecar.
        let other = site.running_ca(&site.dir.path().join("other"), 8443, &[]);
        sidecar.wait_for_line(retried("wrong address or wrong token"), LIMIT).unwrap();
        assert_eq!(site.readiness(), "503");
        drop(other);
        authority.start_again().unwrap();
        sidecar.wait_for_line(|line| line.contains(r#""message":"ready""#), LIMIT).unwrap();
        assert_eq!(site.readiness(), "200");
        assert!(sidecar.terminate(SOON).unwrap().success());
    });
}
