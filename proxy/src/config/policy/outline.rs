//! What is written, and where: names, selectors and hosts with their lines, for remarks on what a rule is for.
//!
//! What a policy *means* is the resolution's to say, and no decision is taken from here. A document with faults
//! is outlined as far as it can be read; its faults are reported by [`PolicySet::resolve`](super::PolicySet::resolve).

use std::collections::BTreeMap;
use std::fmt;

use super::host::HostPattern;
use crate::authz::RuleRef;
use crate::config::decode::{Entry, Node};
use crate::config::files::Documents;
use crate::config::report::{Faults, Place};
use crate::config::values;

/// Every resource of a policy, in the order of the files.
#[derive(Debug, Clone, Default)]
pub struct Outline {
    /// The resources of known kinds.
    pub resources: Vec<Outlined>,
}

/// One resource.
#[derive(Debug, Clone)]
pub struct Outlined {
    /// `KIND NAMESPACE/NAME`, as [`RuleRef::name`] has it.
    pub rule: String,
    /// Its namespace.
    pub namespace: String,
    /// Where its metadata stands.
    pub place: Place,
    /// What it says.
    pub spec: Spec,
}

/// Labels that workloads are selected by.
#[derive(Debug, Clone)]
pub struct Selector {
    /// All of them must be there.
    pub labels: BTreeMap<String, String>,
    /// Where they stand.
    pub place: Place,
}

/// What a resource says, as far as it is outlined.
#[derive(Debug, Clone)]
pub enum Spec {
    /// PeerAuthentication.
    PeerAuthentication {
        /// `None`: the whole namespace.
        selector: Option<Selector>,
        /// The ports of `portLevelMtls`.
        ports: BTreeMap<u16, Place>,
    },
    /// ServiceEntry.
    ServiceEntry {
        /// Its hosts.
        hosts: Vec<RuleHost>,
    },
    /// DestinationRule.
    DestinationRule {
        /// Whom it is for.
        host: RuleHost,
        /// Its subsets by name.
        subsets: Vec<(String, Selector)>,
        /// Each `tls.mode` of a port, or (`None`) of all ports.
        modes: Vec<(Option<u16>, Place)>,
    },
    /// VirtualService.
    VirtualService {
        /// Whom it is for.
        hosts: Vec<RuleHost>,
        /// The `sourceLabels` of its conditions.
        sources: Vec<Selector>,
    },
    /// AuthorizationPolicy.
    AuthorizationPolicy {
        /// `None`: the whole namespace.
        selector: Option<Selector>,
        /// `DENY`, `ALLOW` or `AUDIT`.
        action: String,
        /// Sources and operations of its rules; `None` when there is no rule.
        rules: Option<Vec<SourceRule>>,
    },
}

/// One source (`from`) or operation (`to`) of an AuthorizationPolicy's rule.
#[derive(Debug, Clone)]
pub struct SourceRule {
    /// Where it stands.
    pub place: Place,
    /// Values by field name, `principals` and `notPrincipals` alike, each with its place.
    pub values: BTreeMap<String, Vec<(String, Place)>>,
}

/// A host, or a family of hosts, that a resource names.
#[derive(Debug, Clone)]
pub struct RuleHost {
    pattern: HostPattern,
    /// Where it stands.
    pub place: Place,
}

impl RuleHost {
    /// Whether `host` is meant.
    #[must_use]
    pub fn fits(&self, host: &str) -> bool {
        self.pattern.closeness(host).is_some()
    }
}

impl fmt::Display for RuleHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pattern.fmt(f)
    }
}

impl Selector {
    /// Whether a workload with these labels is selected.
    #[must_use]
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}

impl Outline {
    pub(super) fn of(files: &[Documents]) -> Self {
        let documents =
            files.iter().flat_map(|file| file.documents.iter().map(|raw| Node::document(&file.file, raw)));
        Self { resources: documents.filter_map(|document| outlined(&document)).collect() }
    }

    /// The resource behind a decision.
    #[must_use]
    pub fn find(&self, rule: &RuleRef) -> Option<&Outlined> {
        self.resources.iter().find(|resource| resource.rule == rule.name())
    }
}

fn outlined(document: &Node<'_>) -> Option<Outlined> {
    let kind = text(&field(document, "kind")?)?;
    let metadata = field(document, "metadata")?;
    let name = text(&field(&metadata, "name")?)?;
    let namespace = text(&field(&metadata, "namespace")?)?;
    let spec = field(document, "spec");
    let spec = match kind.as_str() {
        "PeerAuthentication" => peer_authentication(&spec?),
        "ServiceEntry" => Spec::ServiceEntry { hosts: hosts(&field(&spec?, "hosts")?, &namespace) },
        "DestinationRule" => destination_rule(&spec?, &namespace)?,
        "VirtualService" => virtual_service(&spec?, &namespace)?,
        "AuthorizationPolicy" => authorization_policy(spec.as_ref()),
        _ => return None,
    };
    let rule = RuleRef::resource(&kind, &namespace, &name).name().to_owned();
    Some(Outlined { rule, namespace, place: metadata.place(), spec })
}

/// What does not fit is left out: its fault is reported elsewhere.
fn field<'a>(node: &Node<'a>, name: &'static str) -> Option<Node<'a>> {
    node.fields(&mut Faults::default())?.take(name)
}

fn text(node: &Node<'_>) -> Option<String> {
    node.text(&mut Faults::default()).map(str::to_owned)
}

fn items<'a>(node: Option<Node<'a>>) -> Vec<Node<'a>> {
    node.map(|node| node.items(&mut Faults::default())).unwrap_or_default()
}

fn selector(node: &Node<'_>) -> Selector {
    Selector { labels: values::labels(node, &mut Faults::default()), place: node.place() }
}

/// `selector: {matchLabels: ...}`.
fn match_labels(spec: &Node<'_>) -> Option<Selector> {
    field(spec, "selector").and_then(|node| field(&node, "matchLabels")).map(|node| selector(&node))
}

fn hosts(node: &Node<'_>, namespace: &str) -> Vec<RuleHost> {
    items(Some(node.clone())).iter().filter_map(|node| rule_host(node, namespace)).collect()
}

fn rule_host(node: &Node<'_>, namespace: &str) -> Option<RuleHost> {
    let pattern = HostPattern::parse(&text(node)?, namespace).ok()?;
    Some(RuleHost { pattern, place: node.place() })
}

fn peer_authentication(spec: &Node<'_>) -> Spec {
    let entries =
        field(spec, "portLevelMtls").map(|node| node.entries(&mut Faults::default())).unwrap_or_default();
    let ports =
        entries.into_iter().filter_map(|Entry { key, place, .. }| Some((values::port(key).ok()?, place)));
    Spec::PeerAuthentication { selector: match_labels(spec), ports: ports.collect() }
}

fn destination_rule(spec: &Node<'_>, namespace: &str) -> Option<Spec> {
    let host = rule_host(&field(spec, "host")?, namespace)?;
    let subsets = items(field(spec, "subsets"));
    let mut modes = Vec::new();
    for node in std::iter::once(spec).chain(&subsets) {
        let Some(policy) = field(node, "trafficPolicy") else { continue };
        modes.extend(mode(&policy).map(|place| (None, place)));
        for node in items(field(&policy, "portLevelSettings")) {
            let number = field(&node, "port").and_then(|port| field(&port, "number"));
            let number = number.and_then(|number| number.port(&mut Faults::default()));
            modes.extend(number.zip(mode(&node)).map(|(number, place)| (Some(number), place)));
        }
    }
    let subsets = subsets.iter().filter_map(|node| {
        let labels = field(node, "labels").unwrap_or_else(|| node.clone());
        let labels = if field(node, "labels").is_some() {
            selector(&labels)
        } else {
            Selector { labels: BTreeMap::new(), place: node.place() }
        };
        Some((text(&field(node, "name")?)?, labels))
    });
    Some(Spec::DestinationRule { host, subsets: subsets.collect(), modes })
}

/// Where `tls.mode` stands.
fn mode(settings: &Node<'_>) -> Option<Place> {
    field(settings, "tls").and_then(|tls| field(&tls, "mode")).map(|mode| mode.place())
}

fn virtual_service(spec: &Node<'_>, namespace: &str) -> Option<Spec> {
    let hosts = hosts(&field(spec, "hosts")?, namespace);
    let routes = ["http", "tcp"].into_iter().flat_map(|protocol| items(field(spec, protocol)));
    let conditions = routes.flat_map(|route| items(field(&route, "match")));
    let sources = conditions.filter_map(|condition| field(&condition, "sourceLabels"));
    Some(Spec::VirtualService { hosts, sources: sources.map(|node| selector(&node)).collect() })
}

fn authorization_policy(spec: Option<&Node<'_>>) -> Spec {
    let of = |name| spec.and_then(|spec| field(spec, name));
    let action = of("action").and_then(|node| text(&node)).unwrap_or_else(|| "ALLOW".to_owned());
    let rules = Some(items(of("rules"))).filter(|rules| !rules.is_empty()).map(|rules| {
        let parts = |rule: &Node<'_>, list, part| {
            let nodes = items(field(rule, list)).into_iter();
            nodes.filter_map(|node| Some(source_rule(&field(&node, part)?))).collect::<Vec<_>>()
        };
        rules
            .iter()
            .flat_map(|rule| [parts(rule, "from", "source"), parts(rule, "to", "operation")].concat())
            .collect()
    });
    Spec::AuthorizationPolicy { selector: spec.and_then(match_labels), action, rules }
}

fn source_rule(node: &Node<'_>) -> SourceRule {
    let entries = node.entries(&mut Faults::default()).into_iter();
    let values = entries.map(|Entry { key, value, .. }| {
        let texts = items(Some(value)).into_iter();
        (key.to_owned(), texts.filter_map(|node| Some((text(&node)?, node.place()))).collect())
    });
    SourceRule { place: node.place(), values: values.collect() }
}
