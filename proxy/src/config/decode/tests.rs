//! One document, and every fault in it.

use super::super::yaml::parse;
use super::*;

/// Runs `read` over a document and returns the report's lines.
fn faults_of(text: &str, read: impl FnOnce(&Node<'_>, &mut Faults)) -> String {
    let file = Arc::from("f");
    let mut faults = Faults::default();
    let documents = parse(&file, text, &mut faults);
    read(&Node::document(&file, &documents[0]), &mut faults);
    faults.or_report(Some(())).err().map(|report| report.to_string()).unwrap_or_default()
}

#[test]
fn all_faults_of_a_map_are_found_at_once() {
    let text = "service_account: a\nport: 70000\nname: 5\nsize: [1]\nhosts: b\ngateways: []\nzebra: 1\n";
    let report = faults_of(text, |node, faults| {
        let mut fields = node.fields(faults).unwrap();
        fields.require("serviceAccount", faults);
        fields.require("absent", faults);
        assert_eq!(fields.take("port").unwrap().port(faults), None);
        assert_eq!(fields.take("name").unwrap().text(faults), None);
        assert_eq!(fields.take("size").unwrap().integer::<u32>(faults, 0..=9), None);
        assert!(fields.take("hosts").unwrap().items(faults).is_empty());
        fields.finish(&["gateways"], faults);
    });
    assert_eq!(
        report,
        "f:1:1: absent is missing\n\
         f:1:1: service_account: unknown field; did you mean serviceAccount?\n\
         f:2:7: port: expected a whole number from 1 to 65535, found the bare value \"70000\"\n\
         f:3:7: name: expected text (write it in quotes: \"5\"), found the bare value \"5\"\n\
         f:4:7: size: expected a whole number from 0 to 9, found a list\n\
         f:5:8: hosts: expected a list, found the text \"b\"\n\
         f:6:1: gateways: not supported: gateways; remove it, nothing is ignored silently\n\
         f:7:1: zebra: unknown field; known here: absent, hosts, name, port, serviceAccount, size\n\
         8 faults"
    );
}

#[test]
fn quoted_numbers_are_text_and_bare_ones_are_not() {
    for (text, ok) in [
        ("a: \"1\"", true),
        ("a: 1", false),
        ("a: 1.0", false),
        ("a: true", false),
        ("a: v1", true),
        ("a: inf", true),
        ("a: |\n  1", true),
    ] {
        let report = faults_of(text, |node, faults| {
            node.fields(faults).unwrap().take("a").unwrap().text(faults);
        });
        assert_eq!(report.is_empty(), ok, "{text}: {report}");
    }
}

#[test]
fn numbers_are_decimal_and_in_range() {
    for (text, ok) in [
        ("1", true),
        ("65535", true),
        ("65536", false),
        ("0", false),
        ("-1", false),
        ("0x10", false),
        ("1.0", false),
        ("\"80\"", false),
        ("99999999999999999999999", false),
    ] {
        let report = faults_of(&format!("a: {text}"), |node, faults| {
            node.fields(faults).unwrap().take("a").unwrap().port(faults);
        });
        assert_eq!(report.is_empty(), ok, "{text}: {report}");
    }
}

#[test]
fn null_is_absent() {
    assert_eq!(
        faults_of("a:\nb: ~\n", |node, faults| {
            let mut fields = node.fields(faults).unwrap();
            assert!(fields.take("a").is_none() && fields.take("b").is_none());
            fields.finish(&[], faults);
        }),
        ""
    );
}
