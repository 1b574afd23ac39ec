//! The bootstrap file.

use std::fs;

use portcullis_tests::within;

use super::{BASE, Given, LIMIT, SOON, Site, Table, text};

#[test]
fn a_file_that_cannot_be_read_is_named() {
    within(LIMIT, || {
        let (site, mut table) = (Site::new(), Table::default());
        for (name, given, says) in [
            ("missing", Given::Nothing, "cannot be read: No such file"),
            ("empty", Given::bytes(""), "one YAML document, found 0"),
            ("comments", Given::bytes("# later\n"), "one YAML document, found 0"),
            ("two", Given::bytes(format!("{BASE}---\n{BASE}")), "one YAML document, found 2"),
            ("binary", Given::bytes(b"\x7fELF\0\x01"), "portcullis.yaml:1:5: not valid YAML"),
            ("not UTF-8", Given::bytes(b"a: \xe4\n"), "not UTF-8: see byte 3"),
            ("large", Given::bytes(vec![b'#'; (1 << 20) + 1]), "larger than 1024 KiB"),
            ("directory", Given::Directory, "not a regular file"),
            ("pipe", Given::Pipe, "not a regular file"),
            ("unreadable", Given::Unreadable, "cannot be read: Permission denied"),
        ] {
            let dir = site.own_dir(name);
            let file = dir.join("portcullis.yaml");
            given.put(&file);
            table.row(name, site.sidecar(&dir), 2, &[&text(&file), says, "1 fault"]);
        }
    });
}

/// Runs the sidecar with each of these at the end of a good file, which has two lines.
fn faults(rows: &[(&str, &[&str])]) {
    let (site, mut table) = (Site::new(), Table::default());
    for (row, (more, says)) in rows.iter().enumerate() {
        let dir = site.own_dir(&row.to_string());
        fs::write(dir.join("portcullis.yaml"), format!("{BASE}{more}")).unwrap();
        table.row(more, site.sidecar(&dir), 2, says);
        table.row(more, site.sidecar(&dir), 2, &[&text(&dir.join("portcullis.yaml")), "1 fault"]);
    }
}

#[test]
fn a_fault_is_named_with_its_line_and_path() {
    within(LIMIT, || {
        faults(&[
            ("limits: {connections: 7\n", &["yaml:4:1: limits: not valid YAML"]),
            ("limits:\n\tconnections: 7\n", &["yaml:4:"]),
            ("- a list\n", &["yaml:3:"]),
            ("statee: state\n", &["yaml:3:1: statee: unknown field; did you mean state?"]),
            ("trustDomain: Prod\n", &["yaml:3:14: trustDomain:", "'P'"]),
            ("limits: {drainTimeout: 2h}\n", &["yaml:3:", "limits.drainTimeout:", "between 1ms and 1h"]),
            ("exceptionPlans: never\n", &["yaml:3:", "exceptionPlans:", "write warn or require"]),
        ]);
    });
}

#[test]
fn ports_that_contradict_each_other_are_named() {
    const INBOUND: &str =
        "{direction: inbound, bind: \"127.0.0.2:8443\", port: 8443, app: \"127.0.0.1:9000\"}";
    within(LIMIT, || {
        faults(&[
            (
                &format!("listeners:\n- {INBOUND}\n- {INBOUND}\n"),
                &["yaml:5:", "listeners[1]: a second listener on 127.0.0.2:8443"],
            ),
            (
                "interception: {inbound: 15006, outbound: 15006}\n",
                &["port 15006 is used by both interception.inbound and interception.outbound"],
            ),
            (
                &format!("admin: 127.0.0.2:8443\nlisteners: [{INBOUND}]\n"),
                &["port 8443 is used by both admin and listeners[0].bind"],
            ),
            ("probes: 0.0.0.0:15090\n", &["port 15090 is used by both probes and metrics"]),
            (
                "listeners: [{direction: outbound, bind: \"127.0.0.1:9443\"}]\n",
                &["yaml:3:", "listeners[0]: destination is missing"],
            ),
            (
                &format!("listeners: [{}]\n", INBOUND.replace("port: 8443", "port: 0")),
                &["listeners[0].port", "1 to"],
            ),
            ("probes: 127.0.0.1:0\n", &["yaml:3:9: probes:", "port 0", "write the port"]),
            ("interception: {inbound: 0}\n", &["interception.inbound", "from 1 to 65535"]),
        ]);
    });
}

#[test]
fn every_fault_is_in_one_report_and_a_token_is_not_repeated() {
    within(LIMIT, || {
        let (site, mut table) = (Site::new(), Table::default());
        let dir = site.own_dir("all");
        let content = "workload: {namespace: Prod}\nca: {joinToken: pcj1.secret}\nstatee: x\n";
        fs::write(dir.join("portcullis.yaml"), content).unwrap();
        let command = site.sidecar(&dir).run(SOON).unwrap();
        assert!(!command.stderr.contains("pcj1"), "{}", command.stderr);
        let says = [
            "yaml:1:11: workload: serviceAccount is missing",
            "workload.namespace: ",
            "yaml:2:5: ca: address is missing",
            "ca.joinToken: a token does not belong in this file",
            "yaml:3:1: statee: unknown field; did you mean state?",
            "5 faults",
        ];
        table.finished("all", &command, 2, &says);
    });
}

#[test]
fn a_listener_for_a_service_that_nothing_declares_is_refused() {
    within(LIMIT, || {
        let (site, mut table) = (Site::new(), Table::default());
        let token = site.authority().token(super::IDENTITY).unwrap();
        let dir = site.own_dir("undeclared");
        let more =
            "listeners: [{direction: outbound, bind: \"127.0.0.1:9443\", destination: \"web.shop:80\"}]\n";
        let says = ["the listener on 127.0.0.1:9443", "web.shop", "ServiceEntry"];
        table.row("undeclared", site.good_sidecar(&dir, more, &token), 2, &says);
    });
}
