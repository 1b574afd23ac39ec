//! Policies as people write them for Istio, and what each must come to: files under `tests/policies`.
//!
//! What is expected stands in the file itself, in comments that begin with `#?`, so that the rest is plain Istio:
//!
//! ```text
//! #? as NAMESPACE/SERVICE_ACCOUNT [LABEL=VALUE ...]        for whom the policy is resolved, from here on
//! #? load -> TEXT                                          `ok`, or a part of the report that refuses the file
//! #? warns -> TEXT                                         a part of the warnings
//! #? METHOD HOST:PORT/PATH [HEADER:VALUE ...] -> EFFECTS   what is done with a request of the app
//! #? tcp HOST:PORT [to=IP] -> to DESTINATION               where a connection of the app goes
//! #? reach HOST:PORT [subset=NAME] -> TRANSPORT            how a destination is reached
//! #? limits HOST:PORT [subset=NAME] -> SETTINGS            what is set for its pool, and how an endpoint is chosen
//! #? port NUMBER -> MODE by RULE                           what an own port asks of callers
//! #? call FROM METHOD PATH [port=] [host=] [ip=] [sni=] [HEADER:VALUE ...] -> allow|deny by RULE
//! #? stream FROM [port=] [ip=] [sni=] -> allow|deny by RULE
//! ```
//!
//! `FROM` is `NAMESPACE/SERVICE_ACCOUNT` or `plaintext`. The right side may leave out the end of what is seen.

mod callers;
mod effects;
mod settings;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use portcullis_identity::{TrustDomain, Workload};

use super::{load_for, now, scope, warnings};
use crate::config::{Policy, PolicyScope};

/// There is one such file for each thing that is worth showing.
const AT_LEAST: usize = 60;

/// One line of what is expected.
struct Expected<'a> {
    line: usize,
    question: &'a str,
    answer: &'a str,
}

#[test]
fn every_policy_comes_to_what_its_file_says() {
    let files = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/policies"));
    let mut wrong = Vec::new();
    for file in &files {
        let text = fs::read_to_string(file).unwrap();
        let answered = check(&text, |line, question, seen, answer| {
            wrong.push(format!("{}:{line}: {question}\n  is   {seen}\n  not  {answer}", file.display()));
        });
        assert!(answered > 0, "{} expects nothing", file.display());
    }
    assert!(wrong.is_empty(), "{} wrong\n{}", wrong.len(), wrong.join("\n"));
    assert!(files.len() >= AT_LEAST, "{} files", files.len());
}

#[test]
fn a_wrong_expectation_is_seen() {
    let mut wrong = Vec::new();
    let text = "#? port 80 -> PLAINTEXT by whom\n#? call a/b GET / -> allow by\n#? call a/b GET / -> deny\n";
    let answered = check(text, |line, _, _, _| wrong.push(line));
    assert_eq!((answered, wrong), (3, vec![1, 3]));
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// Asks every question of a file, and tells how many there were.
fn check(text: &str, mut wrong: impl FnMut(usize, &str, &str, &str)) -> usize {
    let mut scope = scope_of("default/app");
    let mut answered = 0;
    for Expected { line, question, answer } in expectations(text) {
        if let Some(workload) = question.strip_prefix("as ") {
            scope = scope_of(workload);
            continue;
        }
        let seen = match (load_for(&scope, text), question) {
            (Ok(_), "load") => "ok".to_owned(),
            (Err(report), "load") => report.to_string(),
            (Err(report), _) => format!("not loaded: {report}"),
            (Ok(policy), question) => ask(&policy, question),
        };
        answered += 1;
        let fits = match question {
            "load" | "warns" => seen.contains(answer),
            _ => seen.starts_with(answer),
        };
        if !fits {
            wrong(line, question, &seen, answer);
        }
    }
    answered
}

fn expectations(text: &str) -> impl Iterator<Item = Expected<'_>> {
    text.lines().enumerate().filter_map(|(index, line)| {
        let expected = line.strip_prefix("#?")?.trim();
        let (question, answer) = expected.split_once(" -> ").unwrap_or((expected, ""));
        Some(Expected { line: index + 1, question: question.trim(), answer: answer.trim() })
    })
}

/// `NAMESPACE/SERVICE_ACCOUNT LABEL=VALUE ...`
fn scope_of(text: &str) -> PolicyScope {
    let mut words = text.split_whitespace();
    let (namespace, account) = words.next().unwrap().split_once('/').unwrap();
    let trust_domain = TrustDomain::parse("cluster.local").unwrap();
    PolicyScope {
        workload: Workload::new(&trust_domain, namespace, account).unwrap(),
        labels: words.map(|word| pair(word, '=')).collect(),
        ..scope("v1")
    }
}

fn ask(policy: &Policy, question: &str) -> String {
    let (kind, rest) = question.split_once(' ').unwrap_or((question, ""));
    match kind {
        "warns" => warnings(policy).join("; "),
        "reach" => settings::transport(policy, rest),
        "limits" => settings::limits(policy, rest),
        "tcp" => effects::of_connection(policy, rest),
        "port" => callers::mode(policy, rest.parse().unwrap()),
        "call" => callers::call(policy, rest),
        "stream" => callers::stream(policy, rest),
        method => effects::of_request(policy, method, rest),
    }
}

fn pair(word: &str, separator: char) -> (String, String) {
    let (key, value) = word.split_once(separator).unwrap_or_else(|| panic!("no {separator} in {word}"));
    (key.to_owned(), value.to_owned())
}

/// `KEY=VALUE` words, and the `HEADER:VALUE` words among them.
fn options<'a>(words: impl Iterator<Item = &'a str>) -> (BTreeMap<String, String>, Vec<(String, String)>) {
    let (mut options, mut headers) = (BTreeMap::new(), Vec::new());
    for word in words {
        match (word.find('='), word.find(':')) {
            (Some(equals), colon) if colon.is_none_or(|colon| equals < colon) => {
                options.extend([pair(word, '=')]);
            }
            _ => headers.push(pair(word, ':')),
        }
    }
    (options, headers)
}

/// `HOST:PORT`
fn host_and_port(text: &str) -> (&str, u16) {
    let (host, port) = text.rsplit_once(':').unwrap_or_else(|| panic!("no port in {text}"));
    (host, port.parse().unwrap())
}
