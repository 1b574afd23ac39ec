//! No input makes the loader panic, and no report grows without bound.

use proptest::prelude::*;

use super::{load_for, now, scope};
use crate::config::{load_bootstrap, load_policy};

const WORDS: &[&str] = &[
    "apiVersion: ",
    "security.istio.io/v1",
    "kind: ",
    "PeerAuthentication",
    "AuthorizationPolicy",
    "rules: ",
    "from: ",
    "source: ",
    "principals: ",
    "to: ",
    "operation: ",
    "paths: ",
    "when: ",
    "key: ",
    "DestinationRule",
    "ServiceEntry",
    "VirtualService",
    "metadata: ",
    "{name: x, namespace: production}",
    "spec: ",
    "mtls: ",
    "mode: ",
    "DISABLE",
    "portLevelMtls: ",
    "8080: ",
    "\n",
    "\n  ",
    "\n- ",
    "---\n",
    "{",
    "}",
    "[",
    "]",
    ", ",
    ": ",
    "&a ",
    "*a",
    "? ",
    "|\n",
    ">\n",
    "!t ",
    "%YAML 1.2\n",
    "#",
    "'",
    "\"",
    "\\x",
    "\t",
    "hosts: ",
    "[a.b]",
    "ports: ",
    "workload: ",
    "ca: ",
    "listeners: ",
    "<<: ",
    "~",
    "\u{feff}",
    "\u{0}",
    "ä",
    "\r",
    "...\n",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn no_words_make_the_loader_panic(words in prop::collection::vec(prop::sample::select(WORDS), 0..60)) {
        let text = words.concat();
        if let Err(report) = load_for(&scope("v1"), &text) {
            prop_assert!(!report.faults().is_empty());
        }
    }

    #[test]
    fn no_bytes_make_the_loader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("any.yaml");
        std::fs::write(&path, &bytes).unwrap();
        // What is neither a policy nor a bootstrap file is at most empty.
        prop_assert!(load_bootstrap(&path).is_err());
        let _ = load_policy(&[path], &scope("v1"), now());
    }

    #[test]
    fn a_damaged_policy_never_makes_the_loader_panic(
        at in 0_usize..600, length in 0_usize..40, word in prop::sample::select(WORDS),
    ) {
        let sample = include_str!("../../../../examples/policy/sample/virtual-service.yaml");
        let (before, _) = sample.split_at(at.min(sample.len()));
        let after = sample.get(at + length..).unwrap_or_default();
        let text = format!("{before}{word}{after}");
        let _ = load_for(&scope("v1"), &text);
    }
}

/// The largest file of every bad shape, within seconds even in a debug build.
#[test]
fn hostile_files_are_judged_in_bounded_time() {
    const SIZE: usize = 1024 * 1024;
    let shapes = [
        "[", "{", "- ", "? ", "a: ", "{a: ", "- - [", "&a ", "'", "\"\\", "x", "- x\n", "#", "a:\n", "? a\n",
        "- &a x\n", "--- a\n", "\t", "!", "|\n",
    ];
    for shape in shapes {
        let text = shape.repeat(SIZE / shape.len());
        let begun = tokio::time::Instant::now();
        let _ = load_for(&scope("v1"), &text);
        assert!(begun.elapsed().as_secs() < 20, "{shape:?} took {:?}", begun.elapsed());
    }
    let keys: String = (0..60_000).map(|n| format!("k{n}: 1\n")).collect();
    let report = load_for(&scope("v1"), &keys).unwrap_err();
    assert!(report.to_string().len() < SIZE, "a report is bounded");
}
