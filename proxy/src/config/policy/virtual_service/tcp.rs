//! The fields of a TCP route.

use std::net::IpAddr;

use ipnet::IpNet;

use super::matching::{Alternative, Alternatives, read_conditions};
use super::targets::{TargetSpec, read_targets};
use crate::config::decode::Node;
use crate::config::report::Faults;
use crate::route::TcpMatch;

const REFUSED_IN_MATCH: [(&str, &str); 1] =
    [("sourceSubnet", "a sidecar has one workload: write sourceLabels or sourceNamespace")];

/// One TCP route as written.
pub(in crate::config::policy) struct TcpSpec {
    /// `tcp[0]`.
    pub(in crate::config::policy) label: String,
    pub(in crate::config::policy) matches: Alternatives<TcpMatch>,
    pub(in crate::config::policy) targets: Vec<(TargetSpec, u32)>,
}

pub(super) fn read(node: &Node<'_>, label: &str, namespace: &str, faults: &mut Faults) -> Option<TcpSpec> {
    let mut fields = node.fields(faults)?;
    let matches = Alternatives::read(&mut fields, faults, read_match);
    let targets = fields.require("route", faults);
    let targets = targets.map(|node| read_targets(&node, namespace, faults, |_, _| ()));
    fields.finish(&[], faults);
    let targets = targets?.into_iter().map(|(target, (), weight)| (target, weight)).collect();
    Some(TcpSpec { label: label.to_owned(), matches, targets })
}

fn read_match(node: &Node<'_>, faults: &mut Faults) -> Option<Alternative<TcpMatch>> {
    let mut fields = node.fields(faults)?;
    if fields.is_finished() {
        node.fault(faults, "an empty condition: remove it, or write what a connection must have");
    }
    fields.refuse(&REFUSED_IN_MATCH, faults);
    let conditions = read_conditions(&mut fields, faults);
    let subnets = fields.take("destinationSubnets").map(|node| {
        if node.is_empty_list() {
            node.fault(faults, "an empty list matches nothing: remove it to match everything");
        }
        node.list(faults, |node, faults| node.parsed(faults, subnet))
    });
    fields.finish(&[], faults);
    let conditions = conditions?;
    let request = TcpMatch { destination_subnets: subnets.unwrap_or_default() };
    let is_always = conditions.are_none() && request.destination_subnets.is_empty();
    Some(Alternative { conditions, request, is_always })
}

/// `10.0.0.0/8`, or one address. IPv4 has one spelling: a connection's addresses are never IPv4-mapped.
fn subnet(text: &str) -> Result<IpNet, String> {
    let parsed = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    let subnet = parsed.ok_or("not a network: write an IP address, or one with the length of its prefix")?;
    if subnet.addr().to_canonical() == subnet.addr() {
        Ok(subnet.trunc())
    } else {
        Err(format!("never met: write {} as IPv4", subnet.addr().to_canonical()))
    }
}
