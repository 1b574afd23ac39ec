//! No policy makes the examination panic, and what it prints is always whole.

use proptest::prelude::*;

use super::*;

const FILES: [&str; 5] = [
    include_str!("../../../../../examples/policy/sample/namespace-mtls-policy.yaml"),
    include_str!("../../../../../examples/policy/sample/destination-rule.yaml"),
    include_str!("../../../../../examples/policy/sample/virtual-service.yaml"),
    include_str!("../../../../../examples/policy/production/service-entry.yaml"),
    include_str!("../../../../../examples/policy/strict/peer-authentication.yaml"),
];
const WORDS: [&str; 18] = [
    "",
    "\n",
    "  ",
    "- ",
    ": ",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "8080",
    "65535",
    "*",
    "host: x",
    "labels: {}",
    "~",
    "mode: DISABLE",
    "selector: {matchLabels: {a: b}}",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_damaged_policy_is_examined_or_refused(
        chosen in prop::collection::vec(0..FILES.len(), 1..4),
        damage in prop::collection::vec((0_usize..1500, 0_usize..30, prop::sample::select(&WORDS[..])), 0..3),
        require in any::<bool>(),
    ) {
        let mut text: String = chosen.iter().map(|index| FILES[*index]).collect();
        for (at, length, word) in damage {
            let after = text.get(at + length..).unwrap_or_default().to_owned();
            let before = text.get(..at.min(text.len())).unwrap_or_default();
            text = format!("{before}{word}{after}");
        }
        let plans = if require { ExceptionPlans::Require } else { ExceptionPlans::Warn };
        match examine_text(&text, plans) {
            Ok(report) => {
                let (table, json) = (table(&report), json(&report));
                prop_assert!(table.contains("WORKLOAD"));
                prop_assert_eq!(json["rows"].as_array().unwrap().len(), report.rows.len());
                prop_assert_eq!(json["failures"].as_u64(), u64::try_from(report.failures()).ok());
                prop_assert!(!report.rows.is_empty());
            }
            Err(report) => prop_assert!(!report.faults().is_empty()),
        }
    }
}
