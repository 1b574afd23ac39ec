//! PeerAuthentication: which ports are STRICT, and which are plaintext by exception.

use std::collections::BTreeMap;

use super::PolicyScope;
use super::exceptions::Judge;
use super::resource::Meta;
use super::selector::Selector;
use super::warning::Opening;
use crate::authz::{InboundPolicy, Plan, PortRule, RuleRef};
use crate::config::decode::{Entry, Fields, Node};
use crate::config::report::{Faults, quoted};
use crate::config::values::port;

const PERMISSIVE: &str =
    "PERMISSIVE is refused: it lets plaintext in beside mutual TLS, and nobody sees which is used";
const EXCEPTION: &str = "open single ports with portLevelMtls: {PORT: {mode: DISABLE}} and the annotation \
    portcullis.dev/exception-PORT: \"reason=...; owner=...; expires=YYYY-MM-DD\"";

/// One validated PeerAuthentication.
pub(super) struct PeerAuthentication {
    meta: Meta,
    selector: Selector,
    mode: Mode,
    ports: BTreeMap<u16, PortLevel>,
}

/// What a policy says of all ports. There is no third: plaintext is by port alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Unset,
    Strict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PortLevel {
    Mode(Mode),
    Disable,
}

pub(super) fn read(meta: Meta, mut spec: Fields<'_>, faults: &mut Faults) -> Option<PeerAuthentication> {
    let selector = Selector::take(&mut spec, faults);
    let mode = spec.take("mtls").map_or(Some(Mode::Unset), |node| read_mode(&node, faults));
    let mut ports = BTreeMap::new();
    for Entry { key, place, value } in
        spec.take("portLevelMtls").map(|node| node.entries(faults)).unwrap_or_default()
    {
        match port(key) {
            Ok(number) => {
                if let Some(level) = read_port_level(&value, number, faults) {
                    ports.insert(number, level);
                }
            }
            Err(message) => faults.add(place, format!("{}: {message}", quoted(key))),
        }
    }
    spec.finish(&[], faults);
    meta.check_plans(|port| ports.get(&port) == Some(&PortLevel::Disable), faults);
    Some(PeerAuthentication { meta, selector, mode: mode?, ports })
}

/// `{mode: ...}` as text, with its place. An absent mode is UNSET.
fn mode_word<'a>(node: &Node<'a>, faults: &mut Faults) -> Option<(Node<'a>, &'a str)> {
    let mut fields = node.fields(faults)?;
    let mode = fields.take("mode");
    fields.finish(&[], faults);
    let Some(mode) = mode else { return Some((node.clone(), "UNSET")) };
    let text = mode.text(faults)?;
    Some((mode, text))
}

fn read_mode(node: &Node<'_>, faults: &mut Faults) -> Option<Mode> {
    let (node, text) = mode_word(node, faults)?;
    match text {
        "UNSET" => return Some(Mode::Unset),
        "STRICT" => return Some(Mode::Strict),
        "PERMISSIVE" => node.fault(faults, format!("{PERMISSIVE}; write STRICT, or {EXCEPTION}")),
        "DISABLE" => node
            .fault(faults, format!("DISABLE of all ports at once is refused; write STRICT, and {EXCEPTION}")),
        other => node.fault(faults, format!("{} is not a mode: write STRICT or UNSET", quoted(other))),
    }
    None
}

fn read_port_level(node: &Node<'_>, port: u16, faults: &mut Faults) -> Option<PortLevel> {
    let (node, text) = mode_word(node, faults)?;
    match text {
        "UNSET" => return Some(PortLevel::Mode(Mode::Unset)),
        "STRICT" => return Some(PortLevel::Mode(Mode::Strict)),
        "DISABLE" => return Some(PortLevel::Disable),
        "PERMISSIVE" => node.fault(
            faults,
            format!("{PERMISSIVE}; write STRICT, or DISABLE and the annotation {}", Plan::annotation(port)),
        ),
        other => {
            node.fault(faults, format!("{} is not a mode: write STRICT, DISABLE or UNSET", quoted(other)))
        }
    }
    None
}

/// From the widest to the narrowest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Mesh,
    Namespace,
    Workload,
}

impl PeerAuthentication {
    /// At which level it holds for the workload, if it does.
    fn level(&self, scope: &PolicyScope) -> Option<Level> {
        let own = self.meta.namespace == scope.workload.namespace();
        if self.selector.is_set() {
            return (own && self.selector.selects(&scope.labels)).then_some(Level::Workload);
        }
        if self.meta.namespace == scope.root_namespace {
            return Some(Level::Mesh);
        }
        own.then_some(Level::Namespace)
    }
}

/// What all policies together mean for the workload: mesh < namespace < workload, port over all ports.
pub(super) fn resolve(
    policies: &[PeerAuthentication],
    scope: &PolicyScope,
    judge: &mut Judge<'_>,
    faults: &mut Faults,
) -> InboundPolicy {
    let mut levels: BTreeMap<Level, &PeerAuthentication> = BTreeMap::new();
    for policy in policies {
        let Some(level) = policy.level(scope) else { continue };
        if let Some(first) = levels.insert(level, policy) {
            let (first, second) = (&first.meta, &policy.meta);
            faults.add(
                second.place.clone(),
                format!(
                    "{} and {} ({}) both hold for this workload, at the same level: merge them",
                    second.rule,
                    first.rule,
                    first.place.short()
                ),
            );
        }
    }
    let narrowest_first: Vec<&PeerAuthentication> = levels.into_values().rev().collect();
    let default = narrowest_first.iter().find(|policy| policy.mode == Mode::Strict);
    let default = default.map_or_else(RuleRef::built_in, |policy| policy.meta.rule.clone());
    let ports = narrowest_first.iter().flat_map(|policy| policy.ports.keys().copied());
    let ports = ports.map(|port| (port, resolve_port(port, &narrowest_first, judge))).collect();
    InboundPolicy::new(default, ports)
}

/// The narrowest policy that decides on the port, by itself or with all its ports.
fn resolve_port(port: u16, narrowest_first: &[&PeerAuthentication], judge: &mut Judge<'_>) -> PortRule {
    for policy in narrowest_first {
        let rule = &policy.meta.rule;
        match (policy.ports.get(&port), policy.mode) {
            (Some(PortLevel::Disable), _) => {
                let opened = judge.judge(&policy.meta, port, Opening::Inbound { port });
                return opened.map_or_else(
                    || PortRule::Strict(rule.with_remark(&needs_plan(port))),
                    |exception| PortRule::Plaintext(exception, rule.clone()),
                );
            }
            (Some(PortLevel::Mode(Mode::Strict)), _) | (_, Mode::Strict) => {
                return PortRule::Strict(rule.clone());
            }
            (Some(PortLevel::Mode(Mode::Unset)) | None, Mode::Unset) => {}
        }
    }
    PortRule::Strict(RuleRef::built_in())
}

fn needs_plan(port: u16) -> String {
    format!("its plaintext exception needs a plan: add the annotation {}", Plan::annotation(port))
}
