//! `selector`: the workloads that a security policy is for.

use std::collections::BTreeMap;

use crate::config::decode::{Fields, Node};
use crate::config::report::Faults;
use crate::config::values::labels;

/// The labels that a workload has to have. Absent: every workload in reach of the policy.
pub(super) struct Selector(Option<BTreeMap<String, String>>);

impl Selector {
    /// Takes the field out of a spec.
    pub(super) fn take(spec: &mut Fields<'_>, faults: &mut Faults) -> Self {
        Self(spec.take("selector").and_then(|node| match_labels(&node, faults)))
    }

    /// Whether it narrows the policy down at all.
    pub(super) fn is_set(&self) -> bool {
        self.0.is_some()
    }

    /// Whether a workload with these labels is meant.
    pub(super) fn selects(&self, own: &BTreeMap<String, String>) -> bool {
        self.0.iter().flatten().all(|(key, value)| own.get(key) == Some(value))
    }
}

fn match_labels(node: &Node<'_>, faults: &mut Faults) -> Option<BTreeMap<String, String>> {
    let mut fields = node.fields(faults)?;
    let selector = fields.take("matchLabels").map(|node| labels(&node, faults)).unwrap_or_default();
    fields.finish(&[], faults);
    if selector.is_empty() {
        node.fault(
            faults,
            "selects nothing in particular: write matchLabels, or remove it to mean the whole namespace",
        );
    }
    Some(selector)
}
