//! `portcullis verify policy`: which port of which workload lets what in and by whose word, and where a policy says
//! something other than its author meant. Pure: files and a moment in, a [`Report`] out.

mod boundary;
mod dead;
mod finding;
mod peers;
mod render;
mod rows;
#[cfg(test)]
mod tests;
mod workloads;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use portcullis_identity::TrustDomain;

pub use finding::{Check, Finding, Severity};
pub use render::{json, table};
pub use rows::{Opened, PortMode, PortName, Row};
pub use workloads::Subject;

use crate::authz::InboundPolicy;
use crate::config::{self, ExceptionPlans, Outline, Policy, PolicySet, Warning};
use crate::route::Destination;
use workloads::Kind;

/// What is assumed of workloads that only the policy names.
#[derive(Debug, Clone)]
pub struct Assumptions {
    /// The trust domain of the mesh.
    pub trust_domain: TrustDomain,
    /// The namespace whose policies hold for the whole mesh.
    pub root_namespace: String,
    /// What a plaintext exception needs.
    pub exception_plans: ExceptionPlans,
}

/// What there is to say of a policy that loads.
#[derive(Debug, Clone)]
pub struct Report {
    /// Every port, workload by workload.
    pub rows: Vec<Row>,
    /// Faults first, then warnings, then notes; each once.
    pub findings: Vec<Finding>,
}

impl Report {
    /// How many findings ask for a change; notes do not.
    #[must_use]
    pub fn failures(&self) -> usize {
        self.findings.iter().filter(|finding| finding.severity() != Severity::Note).count()
    }
}

/// A workload, and what the policy means for it.
struct Resolved {
    subject: Subject,
    inbound: InboundPolicy,
    /// What it may call; nothing for those that call as any workload of their namespace does. A mesh has as many
    /// destinations as workloads, and the product of both is more than anybody should wait for.
    destinations: Vec<Arc<Destination>>,
    warnings: Vec<Warning>,
}

/// What the checks look at.
struct Scene<'a> {
    outline: &'a Outline,
    /// Every workload, those of `declared` included.
    workloads: &'a [Resolved],
    /// The workload behind each set of labels that the endpoints of a host have.
    servers: BTreeMap<(&'a str, &'a Labels), &'a Resolved>,
    trust_domain: &'a TrustDomain,
    root_namespace: &'a str,
    now: Duration,
}

type Labels = BTreeMap<String, String>;

impl<'a> Scene<'a> {
    fn new(outline: &'a Outline, workloads: &'a [Resolved], with: &'a Assumptions, now: Duration) -> Self {
        let servers = workloads.iter().filter_map(|workload| Some((workload.subject.endpoint()?, workload)));
        Self {
            outline,
            workloads,
            servers: servers.collect(),
            trust_domain: &with.trust_domain,
            root_namespace: &with.root_namespace,
            now,
        }
    }

    /// Workloads that a ServiceEntry or a bootstrap file says there are.
    fn declared(&self) -> impl Iterator<Item = &Resolved> {
        self.workloads.iter().filter(|workload| workload.subject.is_declared())
    }
}

/// Examines the policy in `sources` at `now` (since the epoch). Rows are made for `given`, or when there are none
/// for every workload that the policy names.
///
/// # Errors
/// Every fault of a policy that does not load for one of the workloads.
pub fn examine(
    sources: &[PathBuf],
    given: &[Subject],
    assumptions: &Assumptions,
    now: Duration,
) -> Result<Report, config::Report> {
    let set = PolicySet::read(sources);
    let outline = set.outline();
    let mut resolver = Resolver { set: &set, now, faults: None };
    let mut written = resolver.all(given.to_vec());
    written.extend(resolver.all(workloads::written(&outline, assumptions)));
    if let Some(report) = resolver.faults {
        return Err(report);
    }
    let declared =
        workloads::declared(written.iter().flat_map(|workload| &workload.destinations), assumptions);
    let mut workloads = resolver.all(declared);
    if let Some(report) = resolver.faults {
        return Err(report);
    }
    workloads::find_ports(&mut written, &workloads);
    workloads.extend(written);
    let scene = Scene::new(&outline, &workloads, assumptions, now);
    let mut findings = finding::of_warnings(&scene);
    findings.extend(peers::findings(&scene));
    findings.extend(dead::findings(&scene));
    findings.extend(boundary::findings(&scene));
    finding::sort(&mut findings);
    let shown = workloads.iter().filter(|workload| {
        if given.is_empty() { is_shown(workload, &workloads) } else { workload.subject.kind == Kind::Given }
    });
    let rows = shown.flat_map(|workload| rows::of(workload, &scene)).collect();
    Ok(Report { rows, findings })
}

/// Callers are there for their own half alone, and labels that a declared workload has are shown with it.
fn is_shown(workload: &Resolved, all: &[Resolved]) -> bool {
    let subject = &workload.subject;
    match &subject.kind {
        Kind::Caller => false,
        Kind::Selected => !all.iter().any(|other| {
            let other = &other.subject;
            let labels = &other.scope.labels;
            other.is_declared()
                && other.namespace() == subject.namespace()
                && subject.scope.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
        }),
        Kind::Given | Kind::Declared { .. } | Kind::Any => true,
    }
}

struct Resolver<'a> {
    set: &'a PolicySet,
    now: Duration,
    faults: Option<config::Report>,
}

impl Resolver<'_> {
    /// Those for whom the policy loads; the faults of the others are kept.
    fn all(&mut self, subjects: Vec<Subject>) -> Vec<Resolved> {
        let mut resolved = Vec::new();
        for subject in subjects {
            match self.one(subject) {
                Ok(workload) => resolved.push(workload),
                Err(report) => {
                    self.faults = Some(match self.faults.take() {
                        Some(before) => before.and(report),
                        None => report,
                    });
                }
            }
        }
        resolved
    }

    fn one(&self, subject: Subject) -> Result<Resolved, config::Report> {
        match &subject.kind {
            Kind::Declared { .. } | Kind::Selected => {
                let (inbound, warnings) = self.set.resolve_inbound(&subject.scope, self.now)?;
                Ok(Resolved { subject, inbound, destinations: Vec::new(), warnings })
            }
            Kind::Given | Kind::Caller | Kind::Any => {
                let Policy { inbound, outbound, warnings, .. } =
                    self.set.resolve(&subject.scope, self.now)?;
                let destinations = outbound.destinations().cloned().collect();
                Ok(Resolved { subject, inbound: (*inbound).clone(), destinations, warnings })
            }
        }
    }
}
