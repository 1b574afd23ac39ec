//! The table and the readers say the same: every row is tried.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::*;
use crate::config::tests::{now, scope};
use crate::config::{Report, load_policy};

/// The kinds whose rows are tried.
const TRIED: &[&str] =
    &["PeerAuthentication", "AuthorizationPolicy", "ServiceEntry", "DestinationRule", "VirtualService"];

/// A row's document, and the path at which its fault would lie.
struct Probe {
    document: String,
    place: String,
}

/// `a[].KEY.b: VALUE` as nested flow maps around the value, one element in each list.
fn probe(kind: &Kind, field: &Field) -> Probe {
    let (path, value) = match field.path.split_once(": ") {
        Some((path, value)) => (path, value),
        None => (field.path, field.example),
    };
    let (mut spec, mut closing, mut place) = (String::new(), String::new(), "spec".to_owned());
    for segment in path.split('.') {
        let name = segment.trim_end_matches("[]");
        let key = if name == "PORT" { "8080" } else { name };
        spec.push_str(&format!("{{{key}: "));
        place.push_str(&format!(".{key}"));
        closing.insert(0, '}');
        if segment.ends_with("[]") {
            spec.push('[');
            place.push_str("[0]");
            closing.insert(0, ']');
        }
    }
    let head = "apiVersion: networking.istio.io/v1";
    let kind = kind.name;
    let document = format!(
        "{head}\nkind: {kind}\nmetadata: {{name: x, namespace: production}}\nspec: {spec}{value}{closing}\n"
    );
    Probe { document, place }
}

/// What is said about the row's document, as path and message.
fn said(probe: &Probe) -> Vec<(String, String)> {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("policy.yaml"), &probe.document).unwrap();
    let loaded = load_policy(&[directory.path().to_owned()], &scope("v1"), now());
    let faults = loaded.err().map(|report: Report| report.faults().to_vec()).unwrap_or_default();
    faults.iter().map(|fault| (fault.place().path().to_owned(), fault.message().to_owned())).collect()
}

fn tried() -> impl Iterator<Item = (Kind, &'static Field)> {
    let kinds = KINDS.into_iter().filter(|kind| TRIED.contains(&kind.name));
    kinds.flat_map(|kind| kind.fields.iter().map(move |field| (kind, field)))
}

#[test]
fn every_refused_field_is_refused_at_its_place() {
    let mut wrong = Vec::new();
    for (kind, field) in tried().filter(|(_, field)| field.status == Status::Refused) {
        let probe = probe(&kind, field);
        let refuses = |message: &String| message.contains("not supported") || message.contains("refused");
        let said = said(&probe);
        if !said.iter().any(|(place, message)| *place == probe.place && refuses(message)) {
            wrong.push(format!("{} {}: {said:?}", kind.name, field.path));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether a reader does not know a field of the document, or does not take the row's value. That other fields are
/// missing does not count.
fn is_unknown(probe: &Probe, place: &str, message: &str) -> bool {
    let misfits = ["expected", "is not known", "not a", "refused"];
    message.contains("unknown field")
        || message.contains("not supported")
        || (probe.place.starts_with(place) && message.contains("expected"))
        || (place.starts_with(&probe.place) && misfits.iter().any(|part| message.contains(part)))
}

#[test]
fn every_other_field_is_known() {
    let mut wrong = Vec::new();
    for (kind, field) in tried().filter(|(_, field)| field.status != Status::Refused) {
        let probe = probe(&kind, field);
        let said = said(&probe);
        if said.iter().any(|(place, message)| is_unknown(&probe, place, message)) {
            wrong.push(format!("{} {}: {said:?}", kind.name, field.path));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Without this a misspelt path in the table would pass as one that nobody complains about.
#[test]
fn a_row_that_no_reader_knows_is_noticed() {
    let kind = destination_rule::KIND;
    for path in ["trafficPolice", "trafficPolice.tls", "trafficPolicy.tls.modus", "subsets[].labels[].a"] {
        let probe = probe(&kind, &supported(path, "a", ""));
        let said = said(&probe);
        assert!(said.iter().any(|(place, message)| is_unknown(&probe, place, message)), "{path}: {said:?}");
    }
}

#[test]
fn no_row_appears_twice_and_each_says_something() {
    for kind in KINDS {
        let mut seen = BTreeSet::new();
        for Field { path, words, .. } in kind.fields {
            assert!(seen.insert(path), "{} {path} appears twice", kind.name);
            assert!(words.ends_with('.') && !words.contains('\n'), "{} {path}: {words}", kind.name);
        }
    }
}

/// `UPDATE_POLICY_MD=1 cargo test -p portcullis --lib policy_md` writes the file anew.
#[test]
#[allow(clippy::disallowed_methods, reason = "asked for by hand, to write a file and not to decide a test")]
fn policy_md_is_what_the_table_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/POLICY.md");
    if std::env::var_os("UPDATE_POLICY_MD").is_some() {
        fs::write(&path, markdown()).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == markdown(),
        "docs/POLICY.md is out of date: UPDATE_POLICY_MD=1 cargo test -p portcullis --lib policy_md"
    );
}
