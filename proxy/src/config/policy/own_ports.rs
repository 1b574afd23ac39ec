//! What the workload's own ports carry, as the ServiceEntries declare that can be its own.

use std::collections::BTreeMap;

use super::PolicyScope;
use super::host::service_namespace;
use super::service_entry::ServiceEntry;
use crate::authz::RuleRef;
use crate::route::{AppProtocol, EndpointAddr};

/// Protocols by the workload's port.
#[derive(Default)]
pub(super) struct OwnPorts(BTreeMap<u16, Declared>);

struct Declared {
    protocol: AppProtocol,
    /// The first ServiceEntry that speaks of the port.
    by: RuleRef,
}

impl OwnPorts {
    /// Gathers the ports. An entry can be the workload's own when clients would take the workload for it: by its
    /// `subjectAltNames`, or else by a Kubernetes name in the workload's namespace; of its endpoints count those whose
    /// labels the workload has. Entries that disagree about a port say nothing about it.
    pub(super) fn of_workload(entries: &[ServiceEntry], scope: &PolicyScope) -> Self {
        let mut ports: BTreeMap<u16, Declared> = BTreeMap::new();
        for entry in entries.iter().filter(|entry| can_be(entry, scope)) {
            for port in &entry.ports {
                let endpoints = entry.endpoints(port).into_iter();
                let own = endpoints.filter(|endpoint| {
                    endpoint.labels.iter().all(|(key, value)| scope.labels.get(key) == Some(value))
                });
                for endpoint in own {
                    let number = match endpoint.addr {
                        EndpointAddr::Socket(addr) => addr.port(),
                        EndpointAddr::Name(_, number) => number,
                    };
                    let first = Declared { protocol: port.protocol, by: entry.meta.rule.clone() };
                    let known = ports.entry(number).or_insert(first);
                    if known.protocol != port.protocol {
                        known.protocol = AppProtocol::Undeclared;
                    }
                }
            }
        }
        Self(ports)
    }

    /// The ports that carry `protocol`, and who says so.
    pub(super) fn of(&self, protocol: AppProtocol) -> impl Iterator<Item = (u16, &RuleRef)> {
        let ports = self.0.iter().filter(move |(_, declared)| declared.protocol == protocol);
        ports.map(|(port, declared)| (*port, &declared.by))
    }

    /// The protocol of each port.
    pub(super) fn protocols(&self) -> BTreeMap<u16, AppProtocol> {
        self.0.iter().map(|(port, declared)| (*port, declared.protocol)).collect()
    }
}

fn can_be(entry: &ServiceEntry, scope: &PolicyScope) -> bool {
    match &entry.subject_alt_names {
        Some(names) => names.contains(scope.workload.id()),
        None => {
            entry.hosts.iter().any(|(host, _)| service_namespace(host) == Some(scope.workload.namespace()))
        }
    }
}
