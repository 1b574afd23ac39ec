//! The routes of one service: the VirtualService whose host fits closest, narrowed down to this workload and port.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::exceptions::Judge;
use super::super::virtual_service::{ActionSpec, ForwardSpec, HttpSpec, TargetSpec, TcpSpec, VirtualService};
use super::super::warning::Warning;
use super::super::{PolicyScope, Resources};
use super::services::Service;
use super::{Key, Resolver};
use crate::authz::RuleRef;
use crate::config::report::{Faults, Place, quoted};
use crate::route::{
    AppProtocol, DestinationId, Forward, HttpAction, HttpRoute, HttpRules, HttpTarget, Mirror, Targets,
    TcpRoute, TcpRules,
};

/// Two VirtualServices for one host would leave the choice to chance; a route behind one without conditions is
/// worth a warning. Those that this workload does not see are not looked at.
pub(super) fn check(resources: &Resources, scope: &PolicyScope, judge: &mut Judge<'_>, faults: &mut Faults) {
    let mut seen: BTreeMap<String, (&RuleRef, &Place)> = BTreeMap::new();
    for service in resources.virtual_services.iter().filter(|service| service.is_visible(scope)) {
        let rule = &service.meta.rule;
        for (host, place) in &service.hosts {
            if let Some((first, first_place)) = seen.insert(host.to_string(), (rule, place)) {
                let first_place = first_place.short();
                let message = format!(
                    "{rule} and {first} ({first_place}) are for the same host: keep one VirtualService"
                );
                faults.add(place.clone(), message);
            }
        }
        let unreachable = service.unreachable().into_iter();
        judge.warnings.extend(unreachable.map(|(rule, by)| Warning::Unreachable { rule, by }));
    }
}

impl<'a> Resolver<'a, '_> {
    /// The HTTP and TCP routes of a service, from the VirtualService whose host fits closest.
    pub(super) fn routes(
        &mut self,
        service: &Service<'a>,
        services: &[Service<'a>],
    ) -> (HttpRules, TcpRules) {
        let Some(virtual_service) = self.virtual_service(service.host) else {
            return (HttpRules::Direct, TcpRules::Direct);
        };
        let rule = &virtual_service.meta.rule;
        // Rules for the other protocol than the port's are nobody's: their destinations need not have the port.
        let (is_http, is_tcp) = match service.port.protocol {
            AppProtocol::Http | AppProtocol::Http2 | AppProtocol::HttpProxy => (true, false),
            AppProtocol::Tcp => (false, true),
            AppProtocol::Undeclared => (true, true),
        };
        let http = virtual_service.http.as_ref().map_or(HttpRules::Direct, |specs| {
            let specs = specs.iter().filter(|_| is_http);
            let routes = specs.filter_map(|spec| self.http_route(rule, spec, service, services));
            HttpRules::Ordered { rule: rule.clone(), routes: routes.map(Arc::new).collect() }
        });
        let tcp = virtual_service.tcp.as_ref().map_or(TcpRules::Direct, |specs| {
            let specs = specs.iter().filter(|_| is_tcp);
            let routes = specs.filter_map(|spec| self.tcp_route(rule, spec, service, services));
            TcpRules::Ordered { rule: rule.clone(), routes: routes.collect() }
        });
        (http, tcp)
    }

    fn virtual_service(&self, host: &str) -> Option<&'a VirtualService> {
        let visible = self.resources.virtual_services.iter().filter(|service| service.is_visible(self.scope));
        let fitting = visible.filter_map(|service| {
            Some((service.hosts.iter().filter_map(|(pattern, _)| pattern.closeness(host)).max()?, service))
        });
        fitting.max_by_key(|(closeness, _)| *closeness).map(|(_, service)| service)
    }

    /// `None` when the route is not for this workload and port.
    fn http_route(
        &mut self,
        rule: &RuleRef,
        spec: &HttpSpec,
        service: &Service<'a>,
        services: &[Service<'a>],
    ) -> Option<HttpRoute> {
        let port = service.port.number;
        let matches = spec.matches.narrowed(self.scope, port)?;
        let action = match &spec.action {
            ActionSpec::Forward(forward) => HttpAction::Forward(self.forward(forward, service, services)?),
            ActionSpec::Redirect(redirect) => HttpAction::Redirect(redirect.of(port)),
            ActionSpec::Respond(response) => HttpAction::Respond(response.clone()),
        };
        Some(HttpRoute {
            rule: rule.with_remark(&spec.label),
            matches,
            fault: spec.fault.clone(),
            headers: spec.headers.clone(),
            action,
        })
    }

    fn forward(
        &mut self,
        spec: &ForwardSpec,
        service: &Service<'a>,
        services: &[Service<'a>],
    ) -> Option<Forward> {
        let targets = spec.targets.iter().filter_map(|(target, headers, weight)| {
            let id = self.target(target, service, services)?;
            Some((HttpTarget { id, headers: headers.clone() }, *weight))
        });
        let targets = Targets::new(targets.collect());
        let mirrors = spec.mirrors.iter().filter_map(|(target, share)| {
            Some(Mirror { id: self.target(target, service, services)?, share: *share })
        });
        let mirrors = mirrors.collect();
        Some(Forward {
            // None only after a fault: the weights were looked at when they were read.
            targets: targets?,
            timeout: spec.timeout,
            retries: spec.retries.clone(),
            rewrite: spec.rewrite.clone(),
            mirrors,
        })
    }

    fn tcp_route(
        &mut self,
        rule: &RuleRef,
        spec: &TcpSpec,
        service: &Service<'a>,
        services: &[Service<'a>],
    ) -> Option<TcpRoute> {
        let matches = spec.matches.narrowed(self.scope, service.port.number)?;
        let targets = spec.targets.iter();
        let targets =
            targets.filter_map(|(target, weight)| Some((self.target(target, service, services)?, *weight)));
        let targets = Targets::new(targets.collect())?;
        Some(TcpRoute { rule: rule.with_remark(&spec.label), matches, targets })
    }

    /// The destination that a route names; a fault if there is none. Without a port it is the only one that the
    /// host has, or else the one that was asked for (as in Istio).
    fn target(
        &mut self,
        target: &TargetSpec,
        asked: &Service<'a>,
        services: &[Service<'a>],
    ) -> Option<DestinationId> {
        let TargetSpec { host, subset, port, place } = target;
        let mut of_host = services.iter().filter(|service| service.host == host);
        let only = of_host.next().filter(|_| of_host.next().is_none());
        let number = port.unwrap_or(only.map_or(asked.port.number, |only| only.port.number));
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
            if service.endpoints(Some(subset)).is_empty() {
                let message = format!("no endpoint of {host} has the labels of the subset {}", quoted(name));
                self.faults.add(place.clone(), message);
            }
        }
        Some(self.id(Key { service: index, subset: subset.clone() }))
    }
}
