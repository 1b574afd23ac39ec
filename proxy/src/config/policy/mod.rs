//! The policy: Istio's shapes, resolved for one workload.

mod authorization_policy;
mod destination_rule;
mod exceptions;
mod host;
mod outbound;
mod outline;
mod own_ports;
mod peer_authentication;
pub mod reference;
mod resource;
mod selector;
mod service_entry;
mod virtual_service;
mod warning;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use portcullis_identity::Workload;

use super::decode::Node;
use super::files::{Documents, read_all};
use super::report::{Faults, Report};
use crate::authz::InboundPolicy;
use crate::route::OutboundPolicy;
use own_ports::OwnPorts;
use resource::Kind;

pub use host::service_namespace;
pub use outline::{Outline, Outlined, RuleHost, Selector, SourceRule, Spec};
pub use warning::{Opening, Warning};

/// What a plaintext exception needs to take effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExceptionPlans {
    /// Nothing: one without a plan takes effect, with a warning at every load.
    #[default]
    Warn,
    /// A plan: without one the port stays STRICT, and the egress is refused.
    Require,
}

/// For whom a policy is resolved.
#[derive(Debug, Clone)]
pub struct PolicyScope {
    /// Own identity.
    pub workload: Workload,
    /// Own labels.
    pub labels: BTreeMap<String, String>,
    /// The namespace whose policies hold for the whole mesh.
    pub root_namespace: String,
    /// What a plaintext exception needs.
    pub exception_plans: ExceptionPlans,
}

/// One generation of policy, resolved for one workload.
#[derive(Debug)]
pub struct Policy {
    /// What inbound ports ask of callers.
    pub inbound: Arc<InboundPolicy>,
    /// Where outbound connections may go.
    pub outbound: Arc<OutboundPolicy>,
    /// What an operator should know, to be logged at every load.
    pub warnings: Vec<Warning>,
    /// Files beside its own from which it was made: certificates and keys. Each once.
    pub files: Vec<PathBuf>,
}

/// Every resource that was read without fault.
#[derive(Default)]
struct Resources {
    peer_authentications: Vec<peer_authentication::PeerAuthentication>,
    authorization_policies: Vec<authorization_policy::AuthorizationPolicy>,
    service_entries: Vec<service_entry::ServiceEntry>,
    destination_rules: Vec<destination_rule::DestinationRule>,
    virtual_services: Vec<virtual_service::VirtualService>,
}

/// Reads the policy from files and directories (`*.yaml`, `*.yml`), all or nothing. `now` (since the epoch)
/// decides only on warnings: exceptions end by themselves later.
///
/// # Errors
/// Every fault found, in one [`Report`].
pub fn load_policy(sources: &[PathBuf], scope: &PolicyScope, now: Duration) -> Result<Policy, Report> {
    PolicySet::read(sources).resolve(scope, now)
}

/// All that a policy's files say, read once and resolved for as many workloads as one likes.
pub struct PolicySet {
    files: Vec<Documents>,
    resources: Resources,
    faults: Faults,
}

impl PolicySet {
    /// Reads files and directories (`*.yaml`, `*.yml`). Faults are kept, and reported by [`PolicySet::resolve`].
    #[must_use]
    pub fn read(sources: &[PathBuf]) -> Self {
        let mut set = Self { files: Vec::new(), resources: Resources::default(), faults: Faults::default() };
        set.files = read_all(sources, &mut set.faults);
        let mut names = BTreeMap::new();
        for file in &set.files {
            for raw in &file.documents {
                set.resources.read(&Node::document(&file.file, raw), &mut names, &mut set.faults);
            }
        }
        set
    }

    /// What the policy means for one workload at `now` (since the epoch).
    ///
    /// # Errors
    /// Every fault of the files, and of what they mean for this workload.
    pub fn resolve(&self, scope: &PolicyScope, now: Duration) -> Result<Policy, Report> {
        resolve(&self.resources, scope, now, self.faults.clone())
    }

    /// The half of [`PolicySet::resolve`] that says who may call the workload, with the warnings about it.
    ///
    /// # Errors
    /// Every fault of the files, and of what that half means for this workload.
    pub fn resolve_inbound(
        &self,
        scope: &PolicyScope,
        now: Duration,
    ) -> Result<(InboundPolicy, Vec<Warning>), Report> {
        let (mut warnings, mut faults) = (Vec::new(), self.faults.clone());
        let mut judge = exceptions::Judge { plans: scope.exception_plans, now, warnings: &mut warnings };
        let inbound = resolve_inbound(&self.resources, scope, &mut judge, &mut faults);
        faults.or_report(Some((inbound, warnings)))
    }

    /// What is written, and where.
    #[must_use]
    pub fn outline(&self) -> Outline {
        Outline::of(&self.files)
    }
}

fn resolve(
    resources: &Resources,
    scope: &PolicyScope,
    now: Duration,
    mut faults: Faults,
) -> Result<Policy, Report> {
    let mut warnings = Vec::new();
    let mut judge = exceptions::Judge { plans: scope.exception_plans, now, warnings: &mut warnings };
    let inbound = resolve_inbound(resources, scope, &mut judge, &mut faults);
    let outbound = outbound::resolve(resources, scope, &mut judge, &mut faults);
    let rules = resources.destination_rules.iter().filter(|rule| rule.is_for(scope));
    let files: BTreeSet<&Path> = rules.flat_map(destination_rule::DestinationRule::files).collect();
    let files = files.into_iter().map(Path::to_owned).collect();
    faults.or_report(Some(Policy {
        inbound: Arc::new(inbound),
        outbound: Arc::new(outbound),
        warnings,
        files,
    }))
}

fn resolve_inbound(
    resources: &Resources,
    scope: &PolicyScope,
    judge: &mut exceptions::Judge<'_>,
    faults: &mut Faults,
) -> InboundPolicy {
    let inbound = peer_authentication::resolve(&resources.peer_authentications, scope, judge, faults);
    let own_ports = OwnPorts::of_workload(&resources.service_entries, scope);
    let authorization =
        authorization_policy::resolve(&resources.authorization_policies, scope, &own_ports, faults);
    inbound.with_protocols(own_ports.protocols()).with_authorization(authorization)
}

impl Resources {
    /// Reads one document; `names` remembers where each resource stands.
    fn read(&mut self, document: &Node<'_>, names: &mut BTreeMap<String, String>, faults: &mut Faults) {
        let Some((kind, meta, spec)) = resource::read(document, faults) else { return };
        let rule = meta.rule.to_string();
        if let Some(first) = names.get(&rule) {
            faults.add(meta.place, format!("{rule} is already defined at {first}"));
            return;
        }
        names.insert(rule, meta.place.short());
        match kind {
            Kind::PeerAuthentication => {
                self.peer_authentications.extend(peer_authentication::read(meta, spec, faults));
            }
            Kind::AuthorizationPolicy => {
                self.authorization_policies.extend(authorization_policy::read(meta, spec, faults));
            }
            Kind::ServiceEntry => self.service_entries.extend(service_entry::read(meta, spec, faults)),
            Kind::DestinationRule => {
                self.destination_rules.extend(destination_rule::read(meta, spec, faults))
            }
            Kind::VirtualService => self.virtual_services.extend(virtual_service::read(meta, spec, faults)),
        }
    }
}
