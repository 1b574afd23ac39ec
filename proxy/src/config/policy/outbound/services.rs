//! Which services this workload sees, and which addresses lead to them.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::super::destination_rule::{DestinationRule, Subset};
use super::super::service_entry::{ServiceEntry, ServicePort};
use super::{Key, Resolver};
use crate::config::report::{Faults, Place};
use crate::route::{DestinationId, Endpoint, EndpointAddr};

/// One port of one host, as a ServiceEntry declares it.
pub(super) struct Service<'a> {
    pub(super) entry: &'a ServiceEntry,
    pub(super) host: &'a str,
    pub(super) place: &'a Place,
    pub(super) port: &'a ServicePort,
}

impl Service<'_> {
    /// The servers, or those with the labels of a subset.
    pub(super) fn endpoints(&self, subset: Option<&Subset>) -> Vec<Endpoint> {
        let mut endpoints = self.entry.endpoints(self.port);
        if self.entry.are_hosts_the_servers() {
            endpoints.retain(
                |endpoint| matches!(&endpoint.addr, EndpointAddr::Name(name, _) if **name == *self.host),
            );
        }
        if let Some(subset) = subset {
            endpoints.retain(|endpoint| {
                subset.labels.iter().all(|(key, value)| endpoint.labels.get(key) == Some(value))
            });
        }
        endpoints
    }
}

impl<'a> Resolver<'a, '_> {
    /// All services that this workload sees in the order of the files, their keys taken in the same order.
    pub(super) fn services(&mut self) -> Vec<Service<'a>> {
        let mut services: Vec<Service<'a>> = Vec::new();
        let mut seen: HashMap<(&str, u16), String> = HashMap::new();
        let namespace = self.scope.workload.namespace();
        for entry in self.resources.service_entries.iter().filter(|entry| entry.is_for(namespace)) {
            for (host, place) in &entry.hosts {
                for port in &entry.ports {
                    if let Some(first) = seen.insert((host, port.number), place.short()) {
                        let message = format!("{host}:{} is already declared at {first}", port.number);
                        self.faults.add(place.clone(), message);
                        continue;
                    }
                    self.id(Key { service: services.len(), subset: None });
                    services.push(Service { entry, host, place, port });
                }
            }
        }
        services
    }

    /// The DestinationRule for a host: the namespace of the client first, then the service's, then the root; in each
    /// the closest host, and of two for one host the one with a selector.
    pub(super) fn rule(&self, service: &Service<'_>) -> Option<&'a DestinationRule> {
        let namespaces =
            [self.scope.workload.namespace(), &service.entry.meta.namespace, &self.scope.root_namespace];
        namespaces.into_iter().find_map(|namespace| {
            let rules = self.resources.destination_rules.iter();
            let rules = rules.filter(|rule| rule.meta.namespace == namespace && rule.is_for(self.scope));
            let fitting = rules.filter_map(|rule| Some((rule.host.closeness(service.host)?, rule)));
            fitting.max_by_key(|(closeness, rule)| (*closeness, rule.is_selective())).map(|(_, rule)| rule)
        })
    }
}

/// Every address that leads to a service.
///
/// `addresses` lead to their service, and so do the endpoints of a service that has none. The endpoints of a service
/// with `addresses` are a way to it only as long as no other service is there too: several may then share them, each
/// known by its own address. Anything else that leads to two is a fault.
pub(super) fn addresses(services: &[Service<'_>], faults: &mut Faults) -> HashMap<SocketAddr, DestinationId> {
    let mut addresses: HashMap<SocketAddr, DestinationId> = HashMap::new();
    let mut shared: HashMap<SocketAddr, Option<DestinationId>> = HashMap::new();
    for (index, service) in services.iter().enumerate() {
        let number = service.port.number;
        for (address, place) in &service.entry.addresses {
            claim(&mut addresses, services, (SocketAddr::new(*address, number), index, place), faults);
        }
        for address in service.endpoints(None).iter().filter_map(|endpoint| endpoint.addr.socket()) {
            if service.entry.addresses.is_empty() {
                claim(&mut addresses, services, (address, index, service.place), faults);
            } else {
                let own = Some(DestinationId(index));
                let first = shared.entry(address).or_insert(own);
                *first = first.filter(|first| Some(*first) == own);
            }
        }
    }
    for (address, id) in shared.into_iter().filter_map(|(address, id)| Some((address, id?))) {
        addresses.entry(address).or_insert(id);
    }
    addresses
}

fn claim(
    addresses: &mut HashMap<SocketAddr, DestinationId>,
    services: &[Service<'_>],
    (address, index, place): (SocketAddr, usize, &Place),
    faults: &mut Faults,
) {
    let first = *addresses.entry(address).or_insert(DestinationId(index));
    let (Some(own), Some(other)) = (services.get(index), services.get(first.0)) else { return };
    if first.0 != index {
        let message = format!(
            "{address} would mean both {}:{} ({}) and {}:{}: give each its own address",
            other.host,
            other.port.number,
            other.place.short(),
            own.host,
            own.port.number,
        );
        faults.add(place.clone(), message);
    }
}
