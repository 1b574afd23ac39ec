//! The policy: Istio's shapes, resolved for one workload.

mod destination_rule;
mod exceptions;
mod host;
mod outbound;
mod peer_authentication;
mod resource;
mod service_entry;
mod virtual_service;
mod warning;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use portcullis_identity::Workload;

use super::decode::Node;
use super::files::read_all;
use super::report::{Faults, Report};
use crate::authz::InboundPolicy;
use crate::route::OutboundPolicy;
use resource::Kind;

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
}

/// Every resource that was read without fault.
#[derive(Default)]
struct Resources {
    peer_authentications: Vec<peer_authentication::PeerAuthentication>,
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
    let mut faults = Faults::default();
    let files = read_all(sources, &mut faults);
    let mut resources = Resources::default();
    let mut names = BTreeMap::new();
    for file in &files {
        for raw in &file.documents {
            resources.read(&Node::document(&file.file, raw), &mut names, &mut faults);
        }
    }
    let mut warnings = Vec::new();
    let mut judge = exceptions::Judge { plans: scope.exception_plans, now, warnings: &mut warnings };
    let inbound =
        peer_authentication::resolve(&resources.peer_authentications, scope, &mut judge, &mut faults);
    let outbound = outbound::resolve(&resources, scope, &mut judge, &mut faults);
    faults.or_report(Some(Policy { inbound: Arc::new(inbound), outbound: Arc::new(outbound), warnings }))
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
            Kind::ServiceEntry => self.service_entries.extend(service_entry::read(meta, spec, faults)),
            Kind::DestinationRule => {
                self.destination_rules.extend(destination_rule::read(meta, spec, faults))
            }
            Kind::VirtualService => self.virtual_services.extend(virtual_service::read(meta, spec, faults)),
        }
    }
}
