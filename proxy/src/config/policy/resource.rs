//! What all resources share: apiVersion, kind and metadata.

use std::collections::BTreeMap;
use std::time::Duration;

use super::destination_rule::up_to_a_day;
use super::exceptions::{Annotated, DOMAIN, QUEUE_TIMEOUT, read_plans};
use crate::authz::RuleRef;
use crate::config::decode::{Entry, Fields, Node};
use crate::config::report::{Faults, Place, quoted};
use crate::config::values::{dns_label, dns_name};

/// Both groups are taken for every kind.
const API_VERSIONS: [&str; 6] = [
    "security.istio.io/v1alpha3",
    "security.istio.io/v1beta1",
    "security.istio.io/v1",
    "networking.istio.io/v1alpha3",
    "networking.istio.io/v1beta1",
    "networking.istio.io/v1",
];

/// Kinds of Istio's that are known by name alone.
const UNSUPPORTED_KINDS: [&str; 10] = [
    "EnvoyFilter",
    "Gateway",
    "ProxyConfig",
    "RequestAuthentication",
    "Sidecar",
    "Telemetry",
    "TrafficExtension",
    "WasmPlugin",
    "WorkloadEntry",
    "WorkloadGroup",
];

/// What an API server adds to metadata; no part of the policy.
const SERVER_METADATA: [&str; 10] = [
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generation",
    "labels",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "uid",
];

/// Istio's annotation for a policy that is evaluated and not enforced.
const DRY_RUN: &str = "istio.io/dry-run";

/// The kinds of resource that a policy is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    PeerAuthentication,
    AuthorizationPolicy,
    ServiceEntry,
    DestinationRule,
    VirtualService,
}

impl Kind {
    const ALL: [(&'static str, Self); 5] = [
        ("PeerAuthentication", Self::PeerAuthentication),
        ("AuthorizationPolicy", Self::AuthorizationPolicy),
        ("ServiceEntry", Self::ServiceEntry),
        ("DestinationRule", Self::DestinationRule),
        ("VirtualService", Self::VirtualService),
    ];

    fn may_have_exceptions(self) -> bool {
        matches!(self, Self::PeerAuthentication | Self::DestinationRule)
    }
}

/// Name, namespace and plans of one resource.
pub(super) struct Meta {
    pub(super) namespace: String,
    pub(super) rule: RuleRef,
    /// Plans of plaintext exceptions by port.
    pub(super) plans: BTreeMap<u16, Annotated>,
    /// Of a DestinationRule.
    pub(super) queue_timeout: Option<Duration>,
    pub(super) place: Place,
}

/// The kind, metadata and spec of a document. Without a known kind the spec is not looked at: nobody knows
/// what belongs in it.
pub(super) fn read<'a>(document: &Node<'a>, faults: &mut Faults) -> Option<(Kind, Meta, Fields<'a>)> {
    let mut fields = document.fields(faults)?;
    let version = fields.require("apiVersion", faults);
    let kind = fields.require("kind", faults);
    let metadata = fields.require("metadata", faults);
    let spec = fields.take("spec");
    fields.ignore(&["status"]);
    let kind = kind.and_then(|kind| read_kind(&kind, faults));
    if kind.is_some() || version.is_none() {
        version.inspect(|version| check_version(version, faults));
        fields.finish(&[], faults);
    }
    let (name, kind) = kind?;
    let meta = metadata.and_then(|metadata| read_meta(&metadata, name, kind, faults));
    let Some(spec) = spec else {
        document.fault(faults, "spec is missing");
        return None;
    };
    let spec = spec.fields(faults)?;
    // The spec's own faults are worth finding even when the name is bad.
    let meta = meta.unwrap_or_else(|| Meta {
        namespace: String::new(),
        rule: RuleRef::resource(name, "?", &document.place().short()),
        plans: BTreeMap::new(),
        queue_timeout: None,
        place: document.place(),
    });
    Some((kind, meta, spec))
}

fn read_kind(node: &Node<'_>, faults: &mut Faults) -> Option<(&'static str, Kind)> {
    let text = node.text(faults)?;
    let known = Kind::ALL.into_iter().find(|(name, _)| *name == text);
    if known.is_none() {
        let kinds = Kind::ALL.map(|(name, _)| name).join(", ");
        let message = if UNSUPPORTED_KINDS.contains(&text) {
            format!("not supported: kind {text}; remove it, nothing is ignored silently (kinds: {kinds})")
        } else {
            format!("unknown kind {}; known kinds: {kinds}", quoted(text))
        };
        node.fault(faults, message);
    }
    known
}

fn check_version(node: &Node<'_>, faults: &mut Faults) {
    if let Some(text) = node.text(faults)
        && !API_VERSIONS.contains(&text)
    {
        node.fault(
            faults,
            format!("unknown apiVersion {}; known: {}", quoted(text), API_VERSIONS.join(", ")),
        );
    }
}

fn read_meta(node: &Node<'_>, kind_name: &str, kind: Kind, faults: &mut Faults) -> Option<Meta> {
    let mut fields = node.fields(faults)?;
    let name = fields.require("name", faults).and_then(|node| node.parsed(faults, dns_name));
    let namespace = fields.require("namespace", faults).and_then(|node| node.parsed(faults, dns_label));
    let annotations = fields.take("annotations");
    fields.ignore(&SERVER_METADATA);
    fields.finish(&[], faults);
    let (plans, queue_timeout) =
        annotations.map(|node| read_annotations(&node, kind, faults)).unwrap_or_default();
    let (name, namespace) = (name?, namespace?);
    let rule = RuleRef::resource(kind_name, &namespace, &name);
    Some(Meta { rule, namespace, plans, queue_timeout, place: node.place() })
}

/// The plans, and the queue timeout.
fn read_annotations(
    node: &Node<'_>,
    kind: Kind,
    faults: &mut Faults,
) -> (BTreeMap<u16, Annotated>, Option<Duration>) {
    let plans = read_plans(node, kind.may_have_exceptions(), faults);
    // A policy that its author does not want enforced yet must not be; left out in silence, it would be missed.
    let dry_run = node.entries(faults).into_iter().find(|entry| entry.key == DRY_RUN);
    if let Some(Entry { place, .. }) = dry_run {
        faults
            .add(place, format!("not supported: {DRY_RUN}; to record what would be met write action: AUDIT"));
    }
    (plans, read_queue_timeout(node, kind, faults))
}

/// How long a request waits for a connection: of one destination, so for a DestinationRule alone.
fn read_queue_timeout(node: &Node<'_>, kind: Kind, faults: &mut Faults) -> Option<Duration> {
    let is_it = |entry: &Entry<'_>| entry.key.strip_prefix(DOMAIN) == Some(QUEUE_TIMEOUT);
    let Entry { place, value, .. } = node.entries(faults).into_iter().find(is_it)?;
    if kind != Kind::DestinationRule {
        faults.add(place, "only a DestinationRule has a queue timeout: remove the annotation");
        return None;
    }
    value.duration(faults, up_to_a_day)
}
