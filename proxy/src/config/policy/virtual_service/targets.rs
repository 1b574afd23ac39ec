//! Destinations and their weights.

use super::super::destination_rule::read_port_number;
use super::super::host::full_name;
use crate::config::decode::{Fields, Node};
use crate::config::report::{Faults, Place};
use crate::config::values::dns_label;

/// Istio's numbers are signed.
const MAX_WEIGHT: u64 = 2_147_483_647;

/// One destination as written.
pub(in crate::config::policy) struct TargetSpec {
    pub(in crate::config::policy) host: String,
    pub(in crate::config::policy) subset: Option<String>,
    /// `None`: the only port that the host has, or else the port that was asked for.
    pub(in crate::config::policy) port: Option<u16>,
    pub(in crate::config::policy) place: Place,
}

/// The field `route`: each target with its weight and what `read` makes of its other fields.
pub(super) fn read_targets<T>(
    node: &Node<'_>,
    namespace: &str,
    faults: &mut Faults,
    read: impl Fn(&mut Fields<'_>, &mut Faults) -> T,
) -> Vec<(TargetSpec, T, u32)> {
    let items = node.items(faults);
    let alone = items.len() == 1;
    let mut targets = Vec::new();
    for item in &items {
        let Some(mut fields) = item.fields(faults) else { continue };
        let destination = fields.require("destination", faults);
        let destination = destination.and_then(|node| read_destination(&node, namespace, faults));
        let weight = read_weight(&mut fields, alone, faults);
        let rest = read(&mut fields, faults);
        fields.finish(&[], faults);
        if let (Some(destination), Some(weight)) = (destination, weight) {
            targets.push((destination, rest, weight));
        }
    }
    if node.is_empty_list() {
        node.fault(faults, "a route needs a destination");
    } else if targets.len() == items.len() && targets.iter().all(|(_, _, weight)| *weight == 0) {
        node.fault(faults, "all weights are 0: nothing would be reachable");
    }
    targets
}

/// A destination that stands alone gets everything, whatever its weight (as in Istio).
fn read_weight(fields: &mut Fields<'_>, alone: bool, faults: &mut Faults) -> Option<u32> {
    match (fields.take("weight"), alone) {
        (Some(node), _) => node.integer(faults, 0..=MAX_WEIGHT).map(|weight| if alone { 1 } else { weight }),
        (None, true) => Some(1),
        (None, false) => {
            let message = "weight is missing: with several destinations each needs one";
            fields.node().fault(faults, message);
            None
        }
    }
}

/// `{host: ..., subset: ..., port: {number: ...}}`.
pub(super) fn read_destination(node: &Node<'_>, namespace: &str, faults: &mut Faults) -> Option<TargetSpec> {
    let mut fields = node.fields(faults)?;
    let full = |text: &str| full_name(text, namespace);
    let host = fields.require("host", faults).and_then(|node| node.parsed(faults, full));
    let subset = fields.take("subset").map(|node| node.parsed(faults, dns_label));
    let port = fields.take("port").map(|node| read_port_number(&node, faults));
    fields.finish(&[], faults);
    Some(TargetSpec {
        host: host?,
        subset: subset.map_or(Some(None), |value| value.map(Some))?,
        port: port.map_or(Some(None), |value| value.map(Some))?,
        place: node.place(),
    })
}
