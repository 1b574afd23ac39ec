//! ServiceEntries, DestinationRules and VirtualServices together: every destination of one client workload.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use portcullis_identity::SpiffeId;
use rustls_pki_types::ServerName;

use super::destination_rule::{DestinationRule, Settings, Subset};
use super::exceptions::Judge;
use super::host::service_namespace;
use super::service_entry::{ServiceEntry, ServicePort};
use super::virtual_service::{RouteSpec, TargetSpec, VirtualService};
use super::warning::Opening;
use super::{PolicyScope, Resources};
use crate::authz::RuleRef;
use crate::config::report::{Faults, Place, quoted};
use crate::route::{Destination, DestinationId, Endpoint, OutboundPolicy, Route, RouteRules, TransportPlan};
use crate::tls::ExpectedPeer;

pub(super) fn resolve(
    resources: &Resources,
    scope: &PolicyScope,
    judge: &mut Judge<'_>,
    faults: &mut Faults,
) -> OutboundPolicy {
    unique_rules(resources, faults);
    let mut resolver = Resolver { resources, scope, judge, faults, keys: Vec::new(), ids: HashMap::new() };
    let services = resolver.services();
    // Subsets get their positions behind the services, as routes name them.
    let routes: Vec<_> = services.iter().map(|service| resolver.routes(service, &services)).collect();
    let keys = std::mem::take(&mut resolver.keys);
    let mut routes = routes.into_iter();
    let built = keys.iter().filter_map(|key| {
        let service = services.get(key.service)?;
        let (http, tcp) = routes.next().unwrap_or((RouteRules::Direct, RouteRules::Direct));
        resolver.destination(service, key.subset.as_deref(), http, tcp)
    });
    let destinations: Vec<Destination> = built.collect();
    let addresses = resolver.addresses(&services);
    OutboundPolicy::new(destinations, addresses)
}

/// Two rules for the same hosts would leave the choice to chance.
fn unique_rules(resources: &Resources, faults: &mut Faults) {
    let rules = resources.destination_rules.iter();
    let rules = rules
        .map(|rule| (format!("{}/{}", rule.meta.namespace, rule.host), &rule.meta.rule, &rule.host_place));
    let services = resources.virtual_services.iter();
    let services = services.flat_map(|service| {
        service.hosts.iter().map(|(host, place)| (host.to_string(), &service.meta.rule, place))
    });
    for (kind, named) in
        [("DestinationRule", rules.collect::<Vec<_>>()), ("VirtualService", services.collect())]
    {
        let mut seen: BTreeMap<String, (&RuleRef, &Place)> = BTreeMap::new();
        for (host, rule, place) in named {
            if let Some((first, first_place)) = seen.insert(host, (rule, place)) {
                let first_place = first_place.short();
                faults.add(
                    place.clone(),
                    format!("{rule} and {first} ({first_place}) are for the same host: keep one {kind}"),
                );
            }
        }
    }
}

/// One port of one host, as a ServiceEntry declares it.
struct Service<'a> {
    entry: &'a ServiceEntry,
    host: &'a str,
    place: &'a Place,
    port: &'a ServicePort,
}

/// What a destination is identified by: the service's position, and the subset.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    service: usize,
    subset: Option<String>,
}

struct Resolver<'a, 'j> {
    resources: &'a Resources,
    scope: &'a PolicyScope,
    judge: &'a mut Judge<'j>,
    faults: &'a mut Faults,
    keys: Vec<Key>,
    ids: HashMap<Key, DestinationId>,
}

impl<'a> Resolver<'a, '_> {
    /// All services in the order of the files, their keys taken in the same order.
    fn services(&mut self) -> Vec<Service<'a>> {
        let mut services: Vec<Service<'a>> = Vec::new();
        let mut seen: HashMap<(&str, u16), String> = HashMap::new();
        for entry in &self.resources.service_entries {
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

    fn id(&mut self, key: Key) -> DestinationId {
        let keys = &mut self.keys;
        *self.ids.entry(key).or_insert_with_key(|key| {
            keys.push(key.clone());
            DestinationId(keys.len() - 1)
        })
    }

    /// Every address that leads to a service. One that leads to two is a fault.
    fn addresses(&mut self, services: &[Service<'a>]) -> HashMap<SocketAddr, DestinationId> {
        let mut addresses: HashMap<SocketAddr, DestinationId> = HashMap::new();
        for (index, service) in services.iter().enumerate() {
            let number = service.port.number;
            let own = service
                .entry
                .addresses
                .iter()
                .map(|(address, place)| (SocketAddr::new(*address, number), place));
            let endpoints = service.entry.endpoints(service.port);
            let endpoints = endpoints.iter().map(|endpoint| (endpoint.addr, service.place));
            for (address, place) in own.chain(endpoints) {
                let first = addresses.entry(address).or_insert(DestinationId(index));
                if let Some(other) = services.get(first.0)
                    && first.0 != index
                {
                    let message = format!(
                        "{address} would mean both {}:{} ({}) and {}:{number}: give each its own address",
                        other.host,
                        other.port.number,
                        other.place.short(),
                        service.host
                    );
                    self.faults.add(place.clone(), message);
                }
            }
        }
        addresses
    }

    /// The DestinationRule for a host: the namespace of the client first, then the service's, then the root.
    fn rule(&self, service: &Service<'_>) -> Option<&'a DestinationRule> {
        let namespaces =
            [self.scope.workload.namespace(), &service.entry.meta.namespace, &self.scope.root_namespace];
        namespaces.into_iter().find_map(|namespace| {
            let rules =
                self.resources.destination_rules.iter().filter(|rule| rule.meta.namespace == namespace);
            let fitting = rules.filter_map(|rule| Some((rule.host.closeness(service.host)?, rule)));
            fitting.max_by_key(|(closeness, _)| *closeness).map(|(_, rule)| rule)
        })
    }

    /// The HTTP and TCP routes of a service, from the VirtualService whose host fits closest.
    fn routes(&mut self, service: &Service<'a>, services: &[Service<'a>]) -> (RouteRules, RouteRules) {
        let all = self.resources.virtual_services.iter();
        let fitting = all.filter_map(|virtual_service| {
            let hosts = virtual_service.hosts.iter();
            Some((hosts.filter_map(|(host, _)| host.closeness(service.host)).max()?, virtual_service))
        });
        let Some((_, virtual_service)) = fitting.max_by_key(|(closeness, _)| *closeness) else {
            return (RouteRules::Direct, RouteRules::Direct);
        };
        let mut rules = |specs: &'a Option<Vec<RouteSpec>>| match specs {
            Some(specs) => self.ordered(virtual_service, specs, service, services),
            None => RouteRules::Direct,
        };
        (rules(&virtual_service.http), rules(&virtual_service.tcp))
    }

    fn ordered(
        &mut self,
        virtual_service: &VirtualService,
        specs: &[RouteSpec],
        service: &Service<'a>,
        services: &[Service<'a>],
    ) -> RouteRules {
        let rule = virtual_service.meta.rule.clone();
        let mut routes = Vec::new();
        for spec in specs.iter().filter(|spec| spec.applies(self.scope, service.port.number)) {
            let targets = spec.targets.iter();
            let targets =
                targets.filter_map(|target| Some((self.target(target, service, services)?, target.weight)));
            let name = rule.with_remark(&spec.label);
            routes.extend(Route::new(name, targets.collect()));
        }
        RouteRules::Ordered { rule, routes }
    }

    /// The destination that a route names; a fault if there is none.
    fn target(
        &mut self,
        target: &TargetSpec,
        asked: &Service<'a>,
        services: &[Service<'a>],
    ) -> Option<DestinationId> {
        let TargetSpec { host, subset, port, place, .. } = target;
        let number = port.unwrap_or(asked.port.number);
        let found = services.iter().position(|service| service.host == host && service.port.number == number);
        let Some((index, service)) = found.and_then(|index| Some((index, services.get(index)?))) else {
            self.faults.add(place.clone(), format!("no ServiceEntry declares {host}:{number}"));
            return None;
        };
        if let Some(name) = subset {
            let Some(subset) = self.rule(service).and_then(|rule| rule.subset(name)) else {
                let message = format!("no DestinationRule for {host} has the subset {}", quoted(name));
                self.faults.add(place.clone(), message);
                return None;
            };
            if endpoints(service, Some(subset)).is_empty() {
                let message = format!("no endpoint of {host} has the labels of the subset {}", quoted(name));
                self.faults.add(place.clone(), message);
            }
        }
        Some(self.id(Key { service: index, subset: subset.clone() }))
    }

    fn destination(
        &mut self,
        service: &Service<'a>,
        subset_name: Option<&str>,
        routes: RouteRules,
        tcp_routes: RouteRules,
    ) -> Option<Destination> {
        let rule = self.rule(service);
        let subset = subset_name.and_then(|name| rule?.subset(name));
        let port = service.port.number;
        let settings = rule.map(|rule| rule.settings(port, subset)).unwrap_or_default();
        Some(Destination {
            host: service.host.to_owned(),
            port,
            subset: subset_name.map(str::to_owned),
            protocol: service.port.protocol,
            resolution: service.entry.resolution,
            endpoints: endpoints(service, subset),
            limits: settings.limits(),
            routes,
            tcp_routes,
            rule: rule.map_or(&service.entry.meta, |rule| &rule.meta).rule.clone(),
            transport_plan: self.transport(service, rule, &settings)?,
        })
    }

    fn transport(
        &mut self,
        service: &Service<'_>,
        rule: Option<&DestinationRule>,
        settings: &Settings,
    ) -> Option<TransportPlan> {
        let sni = settings.sni.clone().or_else(|| ServerName::try_from(service.host.to_owned()).ok());
        let mutual_tls = sni.zip(self.expected_peer(service, settings));
        if let Some(rule) = rule.filter(|_| settings.is_plaintext()) {
            let port = service.port.number;
            let opening = Opening::Outbound { host: service.host.to_owned(), port };
            let exception = self.judge.judge(&rule.meta, port, opening);
            return Some(exception.map_or(TransportPlan::Refused, |exception| {
                TransportPlan::plaintext(exception, mutual_tls)
            }));
        }
        let Some((sni, expected)) = mutual_tls else {
            // Names that were written and are bad have their fault already.
            if subject_alt_names(service, settings).is_none() {
                let message = format!(
                    "nothing says who may answer for {}: write subjectAltNames (SPIFFE IDs) here or in a rule",
                    service.host
                );
                self.faults.add(service.place.clone(), message);
            }
            return None;
        };
        Some(TransportPlan::mutual_tls(sni, expected))
    }

    /// Secure naming: what the rule says, else the entry, else the namespace in a Kubernetes name.
    fn expected_peer(&self, service: &Service<'_>, settings: &Settings) -> Option<ExpectedPeer> {
        match subject_alt_names(service, settings) {
            Some(ids) => ExpectedPeer::one_of(ids.to_vec()),
            None => service_namespace(service.host).map(|namespace| ExpectedPeer::AnyIn {
                trust_domain: self.scope.workload.id().trust_domain().clone(),
                namespace: namespace.to_owned(),
            }),
        }
    }
}

fn subject_alt_names<'a>(service: &'a Service<'_>, settings: &'a Settings) -> Option<&'a [SpiffeId]> {
    settings.subject_alt_names.as_deref().or(service.entry.subject_alt_names.as_deref())
}

fn endpoints(service: &Service<'_>, subset: Option<&Subset>) -> Vec<Endpoint> {
    let mut endpoints = service.entry.endpoints(service.port);
    if let Some(subset) = subset {
        endpoints.retain(|endpoint| {
            subset.labels.iter().all(|(key, value)| endpoint.labels.get(key) == Some(value))
        });
    }
    endpoints
}
