//! Bad documents, each with every fault that must be found in it and no other. The tables are in `testdata`:
//! `=== name`, then `@ LINE PATH | PART OF THE MESSAGE` for each fault, then the document.

use std::fs;
use std::path::PathBuf;

use super::{load_for, now, scope};
use crate::config::{Report, load_bootstrap, load_policy};

/// A document and its faults as `(line, path, part of the message)`.
struct Case {
    name: String,
    faults: Vec<(usize, String, String)>,
    document: String,
}

fn cases(table: &str) -> Vec<Case> {
    let parse = |text: &str| {
        let (name, rest) = text.split_once('\n').unwrap();
        let mut case = Case { name: name.to_owned(), faults: Vec::new(), document: String::new() };
        for line in rest.lines() {
            if let Some(fault) = line.strip_prefix("@ ") {
                let (place, message) = fault.split_once(" | ").unwrap();
                let (number, path) = place.split_once(' ').unwrap();
                let path = if path == "-" { "" } else { path };
                case.faults.push((number.parse().unwrap(), path.to_owned(), message.to_owned()));
            } else if line == "%base" {
                let base =
                    "workload: {namespace: production, serviceAccount: api}\nca: {address: \"ca:8443\"}\n";
                case.document.push_str(base);
            } else if let Some(kind) = line.strip_prefix('%') {
                let head = "apiVersion: networking.istio.io/v1";
                let metadata = "metadata: {name: x, namespace: production}";
                case.document.push_str(&format!("{head}\nkind: {kind}\n{metadata}\n"));
            } else {
                case.document.push_str(line);
                case.document.push('\n');
            }
        }
        case
    };
    table.split("=== ").skip(1).map(parse).collect()
}

/// What of `report` was not expected, and what was expected and is not there.
fn differences(case: &Case, report: &Report, directory: &str) -> Vec<String> {
    let mut found: Vec<_> = report.faults().iter().collect();
    let mut wrong = Vec::new();
    for (line, path, message) in &case.faults {
        let matching = found.iter().position(|fault| {
            let text = fault.message().replace(directory, "");
            fault.place().line() == *line && fault.place().path() == path && text.contains(message.as_str())
        });
        match matching {
            Some(index) => drop(found.remove(index)),
            None => wrong.push(format!("{}: not found: {line} {path} {message}", case.name)),
        }
    }
    wrong.extend(found.iter().map(|fault| format!("{}: unexpected: {fault}", case.name)));
    wrong
}

#[test]
fn every_fault_of_a_bad_policy_is_found_at_its_place() {
    let tables = [include_str!("../testdata/bad-policy.txt"), include_str!("../testdata/bad-routes.txt")];
    let cases: Vec<Case> = tables.into_iter().flat_map(cases).collect();
    let mut wrong = Vec::new();
    for case in &cases {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("policy.yaml"), &case.document).unwrap();
        match load_policy(&[directory.path().to_owned()], &scope("v1"), now()) {
            Ok(_) => wrong.push(format!("{}: it loads", case.name)),
            Err(report) => {
                wrong.extend(differences(case, &report, &format!("{}/", directory.path().display())));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cases.len() >= 60, "{} cases", cases.len());
}

#[test]
fn every_fault_of_a_bad_bootstrap_file_is_found_at_its_place() {
    let mut wrong = Vec::new();
    for case in &cases(include_str!("../testdata/bad-bootstrap.txt")) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bootstrap.yaml");
        fs::write(&path, &case.document).unwrap();
        match load_bootstrap(&path) {
            Ok(_) => wrong.push(format!("{}: it loads", case.name)),
            Err(report) => wrong.extend(differences(case, &report, "")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_token_written_into_the_file_is_not_repeated_in_the_report() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bootstrap.yaml");
    fs::write(&path, "ca: {address: \"ca:1\", joinToken: pcj1.secret}\n").unwrap();
    let report = load_bootstrap(&path).unwrap_err().to_string();
    assert!(report.contains("a token does not belong") && !report.contains("pcj1"), "{report}");
}

#[test]
fn faults_of_several_files_are_sorted_by_file_and_line() {
    let directory = tempfile::tempdir().unwrap();
    let bad = "apiVersion: v1\nkind: X\n";
    fs::write(directory.path().join("b.yaml"), format!("{bad}---\n{bad}")).unwrap();
    fs::write(directory.path().join("a.yml"), bad).unwrap();
    fs::write(directory.path().join("ignored.txt"), bad).unwrap();
    fs::write(directory.path().join(".hidden.yaml"), bad).unwrap();
    let report = load_policy(&[directory.path().to_owned()], &scope("v1"), now()).unwrap_err();
    let places: Vec<_> =
        report.faults().iter().map(|f| (f.place().file().to_owned(), f.place().line())).collect();
    assert_eq!(
        report.faults().iter().filter(|f| f.message().contains("unknown kind")).count(),
        3,
        "{report}"
    );
    assert!(places.is_sorted() && places[0].0.ends_with("a.yml"), "{report}");
    assert!(report.to_string().lines().last().unwrap().ends_with("faults"), "{report}");
}

#[test]
fn files_that_cannot_be_read_are_faults() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("latin1.yaml"), b"a: \xe4").unwrap();
    fs::write(path("large.yaml"), vec![b'#'; 1024 * 1024 + 1]).unwrap();
    fs::write(path("fits.yaml"), vec![b'#'; 1024 * 1024]).unwrap();
    nix::unistd::mkfifo(&path("pipe.yaml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let sources = [directory.path().to_owned(), path("missing.yaml")];
    let report = load_policy(&sources, &scope("v1"), now()).unwrap_err().to_string();
    for part in [
        "latin1.yaml: not UTF-8",
        "large.yaml: larger than 1024 KiB",
        "pipe.yaml: cannot be read: not a regular file",
        "missing.yaml: cannot be read",
        "4 faults",
    ] {
        assert!(report.contains(part), "{part}: {report}");
    }
}

#[test]
fn nothing_at_all_is_a_policy() {
    let directory = tempfile::tempdir().unwrap();
    for sources in [vec![], vec![directory.path().to_owned()]] {
        let policy = load_policy(&sources, &scope("v1"), now()).unwrap();
        assert_eq!(policy.outbound.destinations().count(), 0);
        assert_eq!(policy.inbound.exceptions().count(), 0);
    }
    let missing: PathBuf = directory.path().join("absent");
    assert!(load_policy(&[missing], &scope("v1"), now()).is_err());
}

#[test]
fn a_file_named_twice_is_read_once() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("policy.yaml");
    fs::write(
        &file,
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: x, \
        namespace: production}\nspec: {}\n",
    )
    .unwrap();
    load_policy(&[directory.path().to_owned(), file], &scope("v1"), now()).unwrap();
}

/// A mounted ConfigMap is a directory of links into the hidden directory of the current generation.
#[test]
fn a_config_map_is_read_through_its_links() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::create_dir(path("..2026_11_23")).unwrap();
    fs::write(path("..2026_11_23/policy.yaml"), "kind: X\n").unwrap();
    std::os::unix::fs::symlink("..2026_11_23", path("..data")).unwrap();
    std::os::unix::fs::symlink("..data/policy.yaml", path("policy.yaml")).unwrap();
    let report = load_policy(&[directory.path().to_owned()], &scope("v1"), now()).unwrap_err();
    let kinds = report.faults().iter().filter(|fault| fault.message().contains("unknown kind"));
    assert_eq!(kinds.count(), 1, "{report}");
}

#[test]
fn messages_hold_no_control_characters() {
    let report = load_for(&scope("v1"), "kind: \"a\\n\\e[31mb\"\n\"k\\ney\": 1\n").unwrap_err();
    let text = report.to_string();
    assert_eq!(text.lines().count(), report.faults().len() + 1, "{text}");
    assert!(!text.contains('\u{1b}') && text.contains("a\\n\\u{1b}[31mb"), "{text}");
}
