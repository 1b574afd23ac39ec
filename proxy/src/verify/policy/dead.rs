//! Rules for what is not there: mostly typing errors, and now and then an exception that outlived its service.
//!
//! A mesh is known from its ServiceEntries and from the bootstrap files given. Where they say too little to tell,
//! nothing is claimed.

use std::collections::{BTreeMap, BTreeSet};

use super::{Check, Finding, Labels, Resolved, Scene};
use crate::config::{Outlined, Place, RuleHost, Selector, SourceRule, Spec};

/// Ports named in one message.
const MAX_SHOWN: usize = 12;

/// Rules, subsets, selectors and ports that nothing corresponds to.
pub(super) fn findings(scene: &Scene<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let endpoints = endpoints(scene);
    for resource in &scene.outline.resources {
        match &resource.spec {
            Spec::PeerAuthentication { selector, ports } => {
                findings.extend(dead_selector(scene, resource, selector.as_ref()));
                findings.extend(dead_ports(scene, resource, selector.as_ref(), ports));
            }
            Spec::AuthorizationPolicy { selector, rules, .. } => {
                findings.extend(dead_selector(scene, resource, selector.as_ref()));
                let ports = rules.iter().flatten().flat_map(asked_ports).collect();
                findings.extend(dead_ports(scene, resource, selector.as_ref(), &ports));
            }
            Spec::DestinationRule { host, subsets, .. } => {
                match dead_host(scene, resource, "DestinationRule", host) {
                    Some(dead) => findings.push(dead),
                    None => findings.extend(empty_subsets(&endpoints, resource, host, subsets)),
                }
            }
            Spec::VirtualService { hosts, .. } => {
                findings.extend(
                    hosts.iter().filter_map(|host| dead_host(scene, resource, "VirtualService", host)),
                );
            }
            Spec::ServiceEntry { .. } => {}
        }
    }
    findings
}

fn finding(check: Check, resource: &Outlined, place: &Place, what: String, advice: String) -> Finding {
    Finding { check, rule: resource.rule.clone(), place: Some(place.clone()), what, advice }
}

fn dead_host(scene: &Scene<'_>, resource: &Outlined, kind: &str, host: &RuleHost) -> Option<Finding> {
    let mut services = scene.outline.resources.iter().filter_map(|other| match &other.spec {
        Spec::ServiceEntry { hosts } => Some(hosts),
        Spec::PeerAuthentication { .. }
        | Spec::DestinationRule { .. }
        | Spec::VirtualService { .. }
        | Spec::AuthorizationPolicy { .. } => None,
    });
    let known = services.any(|hosts| hosts.iter().any(|service| host.fits(&service.to_string())));
    let what = format!(
        "{} is for {host}, and no ServiceEntry declares such a host: it has no effect",
        resource.rule
    );
    let advice = format!("correct the host, declare it in a ServiceEntry, or remove the {kind}");
    (!known).then(|| finding(Check::DeadRule, resource, &host.place, what, advice))
}

/// The labels of every host's endpoints.
fn endpoints<'a>(scene: &'a Scene<'_>) -> BTreeMap<&'a str, BTreeSet<&'a Labels>> {
    let mut endpoints: BTreeMap<&str, BTreeSet<&Labels>> = BTreeMap::new();
    for destination in scene.workloads.iter().flat_map(|workload| &workload.destinations) {
        // A subset has some of its service's endpoints.
        if destination.subset.is_none() {
            let known = endpoints.entry(&destination.host).or_default();
            known.extend(destination.endpoints.iter().map(|endpoint| &endpoint.labels));
        }
    }
    endpoints
}

fn empty_subsets(
    endpoints: &BTreeMap<&str, BTreeSet<&Labels>>,
    resource: &Outlined,
    host: &RuleHost,
    subsets: &[(String, Selector)],
) -> Vec<Finding> {
    let endpoints: BTreeSet<&Labels> = endpoints
        .iter()
        .filter(|(name, _)| host.fits(name))
        .flat_map(|(_, labels)| labels.iter().copied())
        .collect();
    let empty =
        subsets.iter().filter(|(_, selector)| !endpoints.iter().any(|labels| selector.selects(labels)));
    empty
        .map(|(name, selector)| {
            let what = format!("the subset {name} of {} selects no endpoint of {host}", resource.rule);
            let advice =
                "correct its labels, give an endpoint of the ServiceEntry these labels, or remove the subset";
            finding(Check::EmptySubset, resource, &selector.place, what, advice.to_owned())
        })
        .collect()
}

/// Declared workloads that a resource can be about. `None` when they are not all known: none is declared at all,
/// or some without labels.
fn reach<'a>(
    scene: &'a Scene<'_>,
    resource: &Outlined,
    selector: Option<&Selector>,
) -> Option<Vec<&'a Resolved>> {
    // In the root namespace a PeerAuthentication with a selector is for that namespace alone, as in Istio.
    let everywhere = selector.is_none() || matches!(resource.spec, Spec::AuthorizationPolicy { .. });
    let mesh_wide = everywhere && resource.namespace == scene.root_namespace;
    let there: Vec<&Resolved> = scene
        .declared()
        .filter(|workload| mesh_wide || workload.subject.namespace() == resource.namespace)
        .collect();
    let unknown = |workload: &&Resolved| workload.subject.scope.labels.is_empty();
    if there.is_empty() || (selector.is_some() && there.iter().any(unknown)) {
        return None;
    }
    let selected = |workload: &&Resolved| {
        selector.is_none_or(|selector| selector.selects(&workload.subject.scope.labels))
    };
    Some(there.into_iter().filter(selected).collect())
}

fn dead_selector(scene: &Scene<'_>, resource: &Outlined, selector: Option<&Selector>) -> Option<Finding> {
    let selector = selector?;
    if !reach(scene, resource, Some(selector))?.is_empty() {
        return None;
    }
    let namespace = &resource.namespace;
    let what =
        format!("the selector of {} selects no workload that is declared in {namespace}", resource.rule);
    let advice = "correct the labels, or give the endpoints of the workload's ServiceEntry these labels";
    Some(finding(Check::DeadSelector, resource, &selector.place, what, advice.to_owned()))
}

fn dead_ports(
    scene: &Scene<'_>,
    resource: &Outlined,
    selector: Option<&Selector>,
    ports: &BTreeMap<u16, Place>,
) -> Vec<Finding> {
    let Some(reached) = reach(scene, resource, selector).filter(|reached| !reached.is_empty()) else {
        return Vec::new();
    };
    // A workload of a bootstrap file that no ServiceEntry declares may have any port.
    if reached.iter().any(|workload| workload.subject.ports.is_empty()) {
        return Vec::new();
    }
    let known: BTreeSet<u16> =
        reached.iter().flat_map(|workload| workload.subject.ports.iter().copied()).collect();
    let list = list(&known);
    let dead = ports.iter().filter(|(port, _)| !known.contains(port));
    dead.map(|(port, place)| {
        let what = format!(
            "{} speaks of port {port}, which no workload that it holds for declares ({list})",
            resource.rule
        );
        let advice =
            "correct the port (it is the workload's, not the service's), declare it, or remove the line";
        finding(Check::DeadPort, resource, place, what, advice.to_owned())
    })
    .collect()
}

/// The ports that an operation is about.
fn asked_ports(rule: &SourceRule) -> impl Iterator<Item = (u16, Place)> {
    let ports = rule.values.get("ports").into_iter().flatten();
    ports.filter_map(|(port, place)| Some((port.parse().ok()?, place.clone())))
}

fn list(ports: &BTreeSet<u16>) -> String {
    let shown: Vec<String> = ports.iter().take(MAX_SHOWN).map(u16::to_string).collect();
    let more = if ports.len() > MAX_SHOWN { ", ..." } else { "" };
    format!("{}{more}", shown.join(", "))
}
