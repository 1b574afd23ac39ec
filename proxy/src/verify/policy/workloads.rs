//! Whom a policy is examined for: workloads of bootstrap files, and those that the policy itself names.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use portcullis_identity::Workload;

use super::peers::port;
use super::{Assumptions, Resolved};
use crate::config::{Bootstrap, Direction, Outline, PolicyScope, Selector, Spec, service_namespace};
use crate::route::{Destination, Transport, TransportPlan};
use crate::tls::ExpectedPeer;

/// The service account of a workload of whom only the namespace is known. No PeerAuthentication asks for it.
const ANY_ACCOUNT: &str = "any";
/// A namespace that no policy speaks of, unless one does.
const ELSEWHERE: [&str; 2] = ["default", "portcullis-elsewhere"];

/// A workload, or all those of which the same is known.
#[derive(Debug, Clone)]
pub struct Subject {
    /// As it is shown.
    pub name: String,
    /// What the policy is resolved for.
    pub scope: PolicyScope,
    /// Ports that it is known to have.
    pub ports: BTreeSet<u16>,
    pub(super) kind: Kind,
}

/// How a workload became known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// By its bootstrap file.
    Given,
    /// As endpoints of this host.
    Declared { host: String },
    /// By the selector of a resource.
    Selected,
    /// By the `sourceLabels` of a route.
    Caller,
    /// As nobody in particular of a namespace.
    Any,
}

impl Subject {
    /// The workload of a bootstrap file. Behind interception it may have any port.
    #[must_use]
    pub fn given(bootstrap: &Bootstrap, file: &Path) -> Self {
        let scope = bootstrap.policy_scope();
        let ports = bootstrap.listeners.iter().filter_map(|listener| match &listener.direction {
            Direction::Inbound { port, .. } => Some(*port),
            Direction::Outbound { .. } => None,
        });
        let name = format!(
            "{}/{}{} ({})",
            scope.workload.namespace(),
            scope.workload.service_account(),
            Labels(&scope.labels),
            file.display()
        );
        Self { name, ports: ports.collect(), scope, kind: Kind::Given }
    }

    /// Whether it is said to exist, rather than made up for a rule that speaks of somebody like it.
    pub(super) fn is_declared(&self) -> bool {
        matches!(self.kind, Kind::Given | Kind::Declared { .. })
    }

    /// Host and labels of the endpoints that it stands for.
    pub(super) fn endpoint(&self) -> Option<(&str, &BTreeMap<String, String>)> {
        match &self.kind {
            Kind::Declared { host } => Some((host, &self.scope.labels)),
            Kind::Given | Kind::Selected | Kind::Caller | Kind::Any => None,
        }
    }

    pub(super) fn namespace(&self) -> &str {
        self.scope.workload.namespace()
    }

    fn new(name: String, namespace: &str, account: &str, with: &Assumptions, kind: Kind) -> Option<Self> {
        let scope = PolicyScope {
            workload: Workload::new(&with.trust_domain, namespace, account).ok()?,
            labels: BTreeMap::new(),
            root_namespace: with.root_namespace.clone(),
            exception_plans: with.exception_plans,
        };
        Some(Self { name, scope, ports: BTreeSet::new(), kind })
    }

    fn labelled(mut self, labels: &BTreeMap<String, String>) -> Self {
        self.name = format!("{}{}", self.name, Labels(labels));
        self.scope.labels = labels.clone();
        self
    }
}

/// ` [app=api, version=v1]`, or nothing.
struct Labels<'a>(&'a BTreeMap<String, String>);

impl fmt::Display for Labels<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.0.iter().map(|(key, value)| format!("{key}={value}")).collect();
        if texts.is_empty() { Ok(()) } else { write!(f, " [{}]", texts.join(", ")) }
    }
}

/// Those whom resources name: by selector, by `sourceLabels`, by their namespace, and everybody else.
pub(super) fn written(outline: &Outline, with: &Assumptions) -> Vec<Subject> {
    let mut subjects = Vec::new();
    let mut namespaces = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for resource in &outline.resources {
        let namespace = resource.namespace.as_str();
        namespaces.insert(namespace);
        let (selectors, kind): (Vec<&Selector>, Kind) = match &resource.spec {
            Spec::PeerAuthentication { selector, .. } | Spec::AuthorizationPolicy { selector, .. } => {
                (selector.iter().collect(), Kind::Selected)
            }
            Spec::VirtualService { sources, .. } => (sources.iter().collect(), Kind::Caller),
            Spec::ServiceEntry { .. } | Spec::DestinationRule { .. } => continue,
        };
        for selector in selectors {
            if !seen.insert((namespace, selector.labels.clone(), kind == Kind::Caller)) {
                continue;
            }
            let name = format!("any workload in {namespace}");
            let subject = Subject::new(name, namespace, ANY_ACCOUNT, with, kind.clone());
            subjects.extend(subject.map(|subject| subject.labelled(&selector.labels)));
        }
    }
    for namespace in &namespaces {
        let name = format!("any workload in {namespace}");
        subjects.extend(Subject::new(name, namespace, ANY_ACCOUNT, with, Kind::Any));
    }
    let elsewhere = ELSEWHERE.into_iter().find(|namespace| !namespaces.contains(namespace));
    let name = if namespaces.is_empty() { "any workload" } else { "any workload in another namespace" };
    subjects.extend(
        elsewhere
            .and_then(|namespace| Subject::new(name.to_owned(), namespace, ANY_ACCOUNT, with, Kind::Any)),
    );
    subjects
}

/// One workload for each set of labels that the endpoints of a host have.
pub(super) fn declared<'a>(
    destinations: impl Iterator<Item = &'a Arc<Destination>>,
    with: &Assumptions,
) -> Vec<Subject> {
    let mut found: BTreeMap<(String, BTreeMap<String, String>), Subject> = BTreeMap::new();
    for destination in destinations.filter(|destination| destination.subset.is_none()) {
        let Some((namespace, accounts)) = whose(destination, with) else { continue };
        for endpoint in &destination.endpoints {
            let key = (destination.host.clone(), endpoint.labels.clone());
            let subject = found.entry(key);
            let subject = match subject {
                std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
                std::collections::btree_map::Entry::Vacant(free) => {
                    let account = accounts.first().map_or(ANY_ACCOUNT, String::as_str);
                    let kind = Kind::Declared { host: destination.host.clone() };
                    let name = shown(destination, &namespace, &accounts);
                    let Some(subject) = Subject::new(name, &namespace, account, with, kind) else { continue };
                    free.insert(subject.labelled(&endpoint.labels))
                }
            };
            subject.ports.insert(port(&endpoint.addr));
        }
    }
    found.into_values().collect()
}

/// `production/api-service`, or with a host of another form `production (HOST)`; accounts where they are written.
fn shown(destination: &Destination, namespace: &str, accounts: &[String]) -> String {
    let name = match service_namespace(&destination.host) {
        Some(_) => format!("{namespace}/{}", destination.host.split('.').next().unwrap_or_default()),
        None => format!("{namespace} ({})", destination.host),
    };
    if accounts.is_empty() { name } else { format!("{name} as {}", accounts.join(", ")) }
}

/// Namespace and service accounts of those who answer for a destination, if they are of this mesh.
fn whose(destination: &Destination, with: &Assumptions) -> Option<(String, Vec<String>)> {
    let transport = match &destination.transport_plan {
        TransportPlan::MutualTls(transport) => Some(transport),
        TransportPlan::Plaintext { after, .. } => after.as_ref(),
        // Whom these ask for is no workload; but the host may be one's all the same.
        TransportPlan::Tls(_) | TransportPlan::Refused => None,
    };
    if let Some(Transport::MutualTls { expected: ExpectedPeer::OneOf(ids), .. }) = transport {
        let own = ids.iter().filter(|id| *id.trust_domain() == with.trust_domain);
        let workloads: Vec<Workload> = own.filter_map(|id| Workload::try_from(id.clone()).ok()).collect();
        let namespace = workloads.first()?.namespace().to_owned();
        let accounts = workloads.iter().filter(|workload| workload.namespace() == namespace);
        return Some((
            namespace.clone(),
            accounts.map(|workload| workload.service_account().to_owned()).collect(),
        ));
    }
    service_namespace(&destination.host).map(|namespace| (namespace.to_owned(), Vec::new()))
}

/// Gives workloads of bootstrap files the ports that ServiceEntries declare for them.
pub(super) fn find_ports(given: &mut [Resolved], declared: &[Resolved]) {
    for workload in given.iter_mut().filter(|workload| workload.subject.kind == Kind::Given) {
        let own = &workload.subject.scope;
        let same = declared.iter().filter(|other| {
            let other = &other.subject.scope;
            let labels = other.labels.iter().all(|(key, value)| own.labels.get(key) == Some(value));
            other.workload == own.workload
                || (other.workload.namespace() == own.workload.namespace()
                    && labels
                    && !other.labels.is_empty())
        });
        let ports: Vec<u16> = same.flat_map(|other| other.subject.ports.iter().copied()).collect();
        workload.subject.ports.extend(ports);
    }
}
