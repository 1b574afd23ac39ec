//! ServiceEntries, DestinationRules and VirtualServices together: every destination of one client workload.

mod routes;
mod services;
mod transport;

use std::collections::{BTreeMap, HashMap};

use super::destination_rule::DestinationRule;
use super::exceptions::Judge;
use super::{PolicyScope, Resources};
use crate::authz::RuleRef;
use crate::config::report::{Faults, Place};
use crate::route::{Destination, DestinationId, HttpRules, OutboundPolicy, TcpRules};
use services::addresses;

pub(super) fn resolve(
    resources: &Resources,
    scope: &PolicyScope,
    judge: &mut Judge<'_>,
    faults: &mut Faults,
) -> OutboundPolicy {
    unique_rules(resources, scope, faults);
    routes::check(resources, scope, judge, faults);
    let mut resolver = Resolver { resources, scope, judge, faults, keys: Vec::new(), ids: HashMap::new() };
    let services = resolver.services();
    // Subsets get their positions behind the services, as routes name them.
    let routes: Vec<_> = services.iter().map(|service| resolver.routes(service, &services)).collect();
    let keys = std::mem::take(&mut resolver.keys);
    let mut routes = routes.into_iter();
    let built = keys.iter().filter_map(|key| {
        let service = services.get(key.service)?;
        let (http, tcp) = routes.next().unwrap_or((HttpRules::Direct, TcpRules::Direct));
        resolver.destination(service, key.subset.as_deref(), http, tcp)
    });
    let destinations: Vec<Destination> = built.collect();
    let addresses = addresses(&services, resolver.faults);
    OutboundPolicy::new(destinations, addresses)
}

/// Two rules for the same hosts would leave the choice to chance.
fn unique_rules(resources: &Resources, scope: &PolicyScope, faults: &mut Faults) {
    // A rule for single clients goes before one for all, and only two of a sort would be at odds.
    let key =
        |rule: &DestinationRule| format!("{}/{} {}", rule.meta.namespace, rule.host, rule.is_selective());
    let rules = resources.destination_rules.iter().filter(|rule| rule.is_for(scope));
    let rules = rules.map(|rule| (key(rule), &rule.meta.rule, &rule.host_place));
    let mut seen: BTreeMap<String, (&RuleRef, &Place)> = BTreeMap::new();
    for (host, rule, place) in rules {
        if let Some((first, first_place)) = seen.insert(host, (rule, place)) {
            let first_place = first_place.short();
            let message =
                format!("{rule} and {first} ({first_place}) are for the same host: keep one DestinationRule");
            faults.add(place.clone(), message);
        }
    }
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
    fn id(&mut self, key: Key) -> DestinationId {
        let keys = &mut self.keys;
        *self.ids.entry(key).or_insert_with_key(|key| {
            keys.push(key.clone());
            DestinationId(keys.len() - 1)
        })
    }
}
