//! AuthorizationPolicy: who may ask the workload for what.

use std::fmt::Display;
use std::net::IpAddr;

use ipnet::IpNet;

use super::PolicyScope;
use super::own_ports::OwnPorts;
use super::resource::Meta;
use super::selector::Selector;
use crate::authz::{
    Action, Authorization, AuthorizationPolicy as Validated, AuthorizationRule, Condition, HostMatch, Listed,
    Operation, PathMatch, PrincipalMatch, ServiceAccount, Source, StringMatch,
};
use crate::config::decode::{Fields, Node};
use crate::config::report::{Faults, Place, quoted};
use crate::config::values::port;
use crate::route::AppProtocol;

mod condition;

const NO_TOKENS: &str = "tokens of requests are not checked here; use principals, which certificates prove";
const NO_REMOTE: &str =
    "X-Forwarded-For is what the caller writes; use ipBlocks, the address of the peer itself";
const NO_GATEWAYS: &str = "there are no gateways or waypoints; use selector";
const NO_PROVIDERS: &str = "nobody else is asked for decisions; use ALLOW, DENY or AUDIT";
const ONE_DOMAIN: &str = "peers of other trust domains are refused anyway; remove it";

/// One validated AuthorizationPolicy.
pub(super) struct AuthorizationPolicy {
    meta: Meta,
    selector: Selector,
    policy: Validated,
    http: Vec<HttpUse>,
}

/// Where a rule asks about requests, and of which ports.
struct HttpUse {
    field: &'static str,
    place: Place,
    ports: Listed<u16>,
    /// The rule's conditions on `destination.port`.
    conditions: Vec<Listed<u16>>,
}

impl HttpUse {
    fn touches(&self, port: u16) -> bool {
        let asks = |ports: &Listed<u16>| ports.is_met(|one| *one == port);
        asks(&self.ports) && self.conditions.iter().all(asks)
    }
}

pub(super) fn read(meta: Meta, mut spec: Fields<'_>, faults: &mut Faults) -> Option<AuthorizationPolicy> {
    let selector = Selector::take(&mut spec, faults);
    let action = spec.take("action").map_or(Some(Action::Allow), |node| read_action(&node, faults));
    for (field, reason) in
        [("provider", NO_PROVIDERS), ("targetRef", NO_GATEWAYS), ("targetRefs", NO_GATEWAYS)]
    {
        refuse(&mut spec, field, reason, faults);
    }
    let rules = spec.take("rules").map(|node| node.items(faults)).unwrap_or_default();
    spec.finish(&[], faults);
    let (mut read, mut http) = (Vec::new(), Vec::new());
    for (index, node) in rules.iter().enumerate() {
        let mut reader = RuleReader { meta: &meta, faults };
        read.extend(reader.rule(node, index, &mut http));
    }
    let policy = Validated { rule: meta.rule.clone(), action: action?, rules: read };
    Some(AuthorizationPolicy { meta, selector, policy, http })
}

fn read_action(node: &Node<'_>, faults: &mut Faults) -> Option<Action> {
    let text = node.text(faults)?;
    match text {
        "ALLOW" => return Some(Action::Allow),
        "DENY" => return Some(Action::Deny),
        "AUDIT" => return Some(Action::Audit),
        "CUSTOM" => node.fault(faults, format!("not supported: CUSTOM: {NO_PROVIDERS}")),
        other => {
            node.fault(faults, format!("{} is no action: write ALLOW, DENY or AUDIT", quoted(other)));
        }
    }
    None
}

/// A field of Istio's whose absence here has a reason.
fn refuse(fields: &mut Fields<'_>, name: &'static str, reason: &str, faults: &mut Faults) {
    if let Some(node) = fields.take(name) {
        node.fault(faults, format!("not supported: {name}: {reason}"));
    }
}

/// A list with its `not` twin. An empty one is a fault: it would ask for nothing where its author meant something.
fn listed<T, E: Display>(
    fields: &mut Fields<'_>,
    (any, none): (&'static str, &'static str),
    faults: &mut Faults,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Listed<T> {
    let mut list = |name| {
        let Some(node) = fields.take(name) else { return Vec::new() };
        if node.is_empty_list() {
            node.fault(faults, "an empty list asks for nothing: write what is meant, or remove the field");
        }
        node.list(faults, |node, faults| node.parsed(faults, &parse))
    };
    Listed { any: list(any), none: list(none) }
}

/// `10.0.0.1` or `10.0.0.0/8`. Bits beyond the length say nothing, as in Istio.
fn ip_block(text: &str) -> Result<IpNet, String> {
    let block = text.parse::<IpAddr>().map(IpNet::from).or_else(|_| text.parse::<IpNet>());
    match block {
        Ok(IpNet::V6(block)) if block.addr().to_ipv4_mapped().is_some() => {
            Err("write it as IPv4: an address has one spelling here".to_owned())
        }
        Ok(block) => Ok(block.trunc()),
        Err(_) => Err("not an address or a range of addresses: write 10.0.0.1 or 10.0.0.0/8".to_owned()),
    }
}

/// Reads the rules of one policy.
struct RuleReader<'a> {
    meta: &'a Meta,
    faults: &'a mut Faults,
}

impl RuleReader<'_> {
    fn rule(&mut self, node: &Node<'_>, index: usize, http: &mut Vec<HttpUse>) -> Option<AuthorizationRule> {
        let mut fields = node.fields(self.faults)?;
        let from = self.wrapped(&mut fields, "from", "source", Self::source);
        let to = self.wrapped(&mut fields, "to", "operation", Self::operation);
        let when: Vec<(Place, Condition)> = self
            .some_items(&mut fields, "when")
            .iter()
            .filter_map(|node| Some((node.place(), condition::read(node, self.meta, self.faults)?)))
            .collect();
        fields.finish(&[], self.faults);

        let conditions: Vec<Listed<u16>> = when
            .iter()
            .filter_map(|(_, condition)| match condition {
                Condition::DestinationPort(ports) => Some(ports.clone()),
                Condition::Source(_)
                | Condition::DestinationIp(_)
                | Condition::Sni(_)
                | Condition::Header(..) => None,
            })
            .collect();
        let anything = [(Operation::default(), None)];
        let operations = if to.is_empty() { &anything[..] } else { &to[..] };
        let header = when.iter().find(|(_, condition)| matches!(condition, Condition::Header(..)));
        for (operation, used) in operations {
            let header = header.map(|(place, _)| ("request.headers", place.clone()));
            http.extend(used.clone().or(header).map(|(field, place)| HttpUse {
                field,
                place,
                ports: operation.ports.clone(),
                conditions: conditions.clone(),
            }));
        }
        Some(AuthorizationRule {
            rule: self.meta.rule.with_remark(&format!("rules[{index}]")),
            from,
            to: to.into_iter().map(|(operation, _)| operation).collect(),
            when: when.into_iter().map(|(_, condition)| condition).collect(),
        })
    }

    /// The elements of a list that has to have some.
    fn some_items<'n>(&mut self, fields: &mut Fields<'n>, name: &'static str) -> Vec<Node<'n>> {
        let Some(node) = fields.take(name) else { return Vec::new() };
        if node.is_empty_list() {
            let message = format!("{name} must not be empty: write what is meant, or remove it to mean any");
            node.fault(self.faults, message);
        }
        node.items(self.faults)
    }

    /// A list of `{name: {...}}`. An element that asks for nothing is a fault: the rest of the list would say
    /// nothing beside it.
    fn wrapped<T>(
        &mut self,
        fields: &mut Fields<'_>,
        list: &'static str,
        name: &'static str,
        read: impl Fn(&mut Self, Fields<'_>) -> T,
    ) -> Vec<T> {
        let mut found = Vec::new();
        for item in self.some_items(fields, list) {
            let Some(mut outer) = item.fields(self.faults) else { continue };
            let inner = outer.require(name, self.faults);
            outer.finish(&[], self.faults);
            let Some(inner) = inner.and_then(|node| node.fields(self.faults)) else { continue };
            if inner.is_finished() {
                let message =
                    format!("asks for nothing: write a field of {name}, or remove {list} to mean any");
                inner.node().fault(self.faults, message);
            }
            found.push(read(self, inner));
        }
        found
    }

    fn source(&mut self, mut fields: Fields<'_>) -> Source {
        let own = self.meta.namespace.as_str();
        let faults = &mut *self.faults;
        let source = Source {
            principals: listed(&mut fields, ("principals", "notPrincipals"), faults, PrincipalMatch::parse),
            namespaces: listed(&mut fields, ("namespaces", "notNamespaces"), faults, StringMatch::parse),
            service_accounts: listed(
                &mut fields,
                ("serviceAccounts", "notServiceAccounts"),
                faults,
                |text| ServiceAccount::parse(text, own),
            ),
            ip_blocks: listed(&mut fields, ("ipBlocks", "notIpBlocks"), faults, ip_block),
        };
        for (field, reason) in [
            ("requestPrincipals", NO_TOKENS),
            ("notRequestPrincipals", NO_TOKENS),
            ("remoteIpBlocks", NO_REMOTE),
            ("notRemoteIpBlocks", NO_REMOTE),
            ("trustDomains", ONE_DOMAIN),
            ("notTrustDomains", ONE_DOMAIN),
        ] {
            refuse(&mut fields, field, reason, faults);
        }
        if source.service_accounts.is_set() && (source.principals.is_set() || source.namespaces.is_set()) {
            let message =
                "serviceAccounts names the namespace already: remove principals and namespaces beside it";
            fields.node().fault(faults, message);
        }
        fields.finish(&[], faults);
        source
    }

    /// An operation, and where it asks about requests first.
    fn operation(&mut self, mut fields: Fields<'_>) -> (Operation, Option<(&'static str, Place)>) {
        let faults = &mut *self.faults;
        let place = fields.node().place();
        let operation = Operation {
            ports: listed(&mut fields, ("ports", "notPorts"), faults, port),
            methods: listed(&mut fields, ("methods", "notMethods"), faults, StringMatch::parse),
            paths: listed(&mut fields, ("paths", "notPaths"), faults, PathMatch::parse),
            hosts: listed(&mut fields, ("hosts", "notHosts"), faults, HostMatch::parse),
        };
        fields.finish(&[], faults);
        let used = [
            ("methods", operation.methods.is_set()),
            ("paths", operation.paths.is_set()),
            ("hosts", operation.hosts.is_set()),
        ];
        let used = used.into_iter().find(|(_, is_set)| *is_set).map(|(field, _)| (field, place));
        (operation, used)
    }
}

impl AuthorizationPolicy {
    /// Whether it holds for the workload. One of the root namespace does for every workload that it selects.
    fn is_for(&self, scope: &PolicyScope) -> bool {
        let in_reach =
            self.meta.namespace == scope.workload.namespace() || self.meta.namespace == scope.root_namespace;
        in_reach && self.selector.selects(&scope.labels)
    }
}

/// The policies that hold for the workload.
pub(super) fn resolve(
    policies: &[AuthorizationPolicy],
    scope: &PolicyScope,
    own_ports: &OwnPorts,
    faults: &mut Faults,
) -> Authorization {
    let own: Vec<&AuthorizationPolicy> = policies.iter().filter(|policy| policy.is_for(scope)).collect();
    for policy in &own {
        for used in &policy.http {
            for (port, declared) in own_ports.of(AppProtocol::Tcp).filter(|(port, _)| used.touches(*port)) {
                let message = format!(
                    "{} asks about requests ({}), and {declared} declares that port {port} of this workload \
                     carries TCP: name the ports that carry HTTP with ports, or leave this one out with notPorts",
                    policy.meta.rule, used.field,
                );
                faults.add(used.place.clone(), message);
            }
        }
    }
    Authorization::new(own.into_iter().map(|policy| policy.policy.clone()).collect())
}
