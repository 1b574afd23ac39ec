//! The conditions of a route: those on the workload, which are settled at load, and those on the request.

use std::collections::BTreeMap;

use ::http::HeaderName;

use super::values::name;
use super::{PolicyScope, read_gateways};
use crate::config::decode::{Entry, Fields, Node};
use crate::config::report::{Faults, quoted};
use crate::config::values::{dns_label, labels};
use crate::route::{HttpMatch, Reserved, SCHEME, TextMatch, UriMatch, ValueMatch};

const REFUSED: [(&str, &str); 1] = [("statPrefix", "metrics have names of their own: remove it")];
/// Fields of a connection: they are gone when routes are looked at.
const GONE: [&str; 9] = [
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// Methods that are in capitals (RFC 9110, 9.1: a method is case-sensitive).
const METHODS: [&str; 9] = ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];

/// Conditions on the workload and the port, all of which must hold.
#[derive(Default)]
pub(super) struct Conditions {
    source_labels: BTreeMap<String, String>,
    source_namespace: Option<String>,
    port: Option<u16>,
}

impl Conditions {
    fn hold(&self, scope: &PolicyScope, port: u16) -> bool {
        self.port.is_none_or(|wanted| wanted == port)
            && self.source_namespace.as_ref().is_none_or(|namespace| namespace == scope.workload.namespace())
            && self.source_labels.iter().all(|(key, value)| scope.labels.get(key) == Some(value))
    }

    pub(super) fn are_none(&self) -> bool {
        self.source_labels.is_empty() && self.source_namespace.is_none() && self.port.is_none()
    }
}

/// One alternative of a route as written.
pub(super) struct Alternative<M> {
    pub(super) conditions: Conditions,
    pub(super) request: M,
    /// Whether it is met by everything.
    pub(super) is_always: bool,
}

/// Alternatives of which one must be met; none: always.
pub(in crate::config::policy) struct Alternatives<M>(Vec<Alternative<M>>);

impl<M: Clone> Alternatives<M> {
    /// What is left of them for a workload that asks for `port`; `None`: the route is not for it.
    pub(in crate::config::policy) fn narrowed(&self, scope: &PolicyScope, port: u16) -> Option<Vec<M>> {
        let held = self.0.iter().filter(|alternative| alternative.conditions.hold(scope, port));
        let held: Vec<M> = held.map(|alternative| alternative.request.clone()).collect();
        (self.0.is_empty() || !held.is_empty()).then_some(held)
    }

    /// Whether every workload's every request meets them.
    pub(super) fn are_always(&self) -> bool {
        self.0.is_empty() || self.0.iter().any(|alternative| alternative.is_always)
    }

    /// The field `match` of a route.
    pub(super) fn read(
        route: &mut Fields<'_>,
        faults: &mut Faults,
        read: fn(&Node<'_>, &mut Faults) -> Option<Alternative<M>>,
    ) -> Self {
        let Some(node) = route.take("match") else { return Self(Vec::new()) };
        if node.is_empty_list() {
            node.fault(faults, "an empty list matches nothing: remove it to match everything");
        }
        Self(node.list(faults, read))
    }
}

/// `sourceLabels`, `sourceNamespace`, `port` and `gateways`.
pub(super) fn read_conditions(fields: &mut Fields<'_>, faults: &mut Faults) -> Option<Conditions> {
    let source_labels = fields.take("sourceLabels").map(|node| labels(&node, faults));
    let source_namespace = fields.take("sourceNamespace").map(|node| node.parsed(faults, dns_label));
    let port = fields.take("port").map(|node| node.port(faults));
    fields.take("gateways").inspect(|node| read_gateways(node, faults));
    Some(Conditions {
        source_labels: source_labels.unwrap_or_default(),
        source_namespace: source_namespace.map_or(Some(None), |value| value.map(Some))?,
        port: port.map_or(Some(None), |value| value.map(Some))?,
    })
}

/// One alternative of an HTTP route.
pub(super) fn read_http(node: &Node<'_>, faults: &mut Faults) -> Option<Alternative<HttpMatch>> {
    let mut fields = node.fields(faults)?;
    if fields.is_finished() {
        node.fault(faults, "an empty condition: remove it, or write what a request must have");
    }
    fields.take("name").and_then(|node| node.parsed(faults, name));
    fields.refuse(&REFUSED, faults);
    let conditions = read_conditions(&mut fields, faults);
    let ignore_case = fields.take("ignoreUriCase").and_then(|node| node.boolean(faults)).unwrap_or(false);
    let uri = fields.take("uri").map(|node| read_uri(&node, faults));
    let scheme = fields.take("scheme").map(|node| read_scheme(&node, faults));
    let method = fields.take("method").map(|node| read_method(&node, faults));
    let authority = fields.take("authority").map(|node| read_text(&node, faults));
    let mut headers = |field| fields.take(field).map(|node| read_headers(&node, faults)).unwrap_or_default();
    let (with, without) = (headers("headers"), headers("withoutHeaders"));
    let query_params = fields.take("queryParams").map(|node| {
        let entries = node.entries(faults).into_iter();
        entries.filter_map(|entry| Some((entry.key.to_owned(), read_value(&entry.value, faults)?))).collect()
    });
    fields.finish(&[], faults);
    let conditions = conditions?;
    let request = HttpMatch {
        uri: uri.map_or(Some(None), |text| text.map(|text| Some(UriMatch { text, ignore_case })))?,
        scheme: scheme.map_or(Some(None), |value| value.map(Some))?,
        method: method.map_or(Some(None), |value| value.map(Some))?,
        authority: authority.map_or(Some(None), |value| value.map(Some))?,
        headers: with,
        without_headers: without,
        query_params: query_params.unwrap_or_default(),
    };
    let is_always = conditions.are_none() && request.is_always();
    Some(Alternative { conditions, request, is_always })
}

/// `{exact: ...}`, `{prefix: ...}` or `{regex: ...}`.
fn read_text(node: &Node<'_>, faults: &mut Faults) -> Option<TextMatch> {
    let mut fields = node.fields(faults)?;
    let exact = fields.take("exact");
    let prefix = fields.take("prefix");
    let regex = fields.take("regex");
    let text = match (exact, prefix, regex) {
        (Some(node), None, None) => node.text(faults).map(|text| TextMatch::Exact(text.to_owned())),
        (None, Some(node), None) => {
            let text = node.text(faults);
            if text.is_some_and(str::is_empty) {
                node.fault(faults, "everything begins with nothing: write a prefix, or remove the condition");
            }
            text.map(|text| TextMatch::Prefix(text.to_owned()))
        }
        (None, None, Some(node)) => node.parsed(faults, TextMatch::regex),
        (None, None, None) if fields.is_finished() => {
            node.fault(faults, "says nothing: write exact, prefix or regex");
            None
        }
        (None, None, None) => None,
        _ => {
            node.fault(faults, "write one of exact, prefix and regex");
            None
        }
    };
    fields.finish(&[], faults);
    text
}

/// A condition on the path; one that no path can meet is a fault.
fn read_uri(node: &Node<'_>, faults: &mut Faults) -> Option<TextMatch> {
    let text = read_text(node, faults)?;
    match &text {
        TextMatch::Exact(path) | TextMatch::Prefix(path) => {
            if path.contains(['?', '#']) {
                let message = "never met: the path is compared without the query; write queryParams for that";
                node.fault(faults, message);
            } else if !path.is_empty() && !path.starts_with('/') && path != "*" {
                node.fault(faults, format!("never met: a path begins with \"/\", {} does not", quoted(path)));
            }
        }
        TextMatch::Regex(_) => {}
    }
    Some(text)
}

/// A condition on the scheme, which is one for all requests: one that it does not meet is a fault.
fn read_scheme(node: &Node<'_>, faults: &mut Faults) -> Option<TextMatch> {
    let text = read_text(node, faults)?;
    if !text.is_met(SCHEME) {
        let message =
            "never met: what an app sends in the clear is http; TLS of its own is no HTTP to a sidecar";
        node.fault(faults, message);
    }
    Some(text)
}

fn read_method(node: &Node<'_>, faults: &mut Faults) -> Option<TextMatch> {
    let text = read_text(node, faults)?;
    if let TextMatch::Exact(method) = &text
        && let Some(known) = METHODS.iter().find(|known| known.eq_ignore_ascii_case(method))
        && known != method
    {
        node.fault(faults, format!("never met: methods have capitals, write {known}"));
    }
    Some(text)
}

fn read_headers(node: &Node<'_>, faults: &mut Faults) -> Vec<(HeaderName, ValueMatch)> {
    let mut all: Vec<(HeaderName, ValueMatch)> = Vec::new();
    for Entry { key, place, value } in node.entries(faults) {
        let condition = read_value(&value, faults);
        match header(key) {
            Err(message) => faults.add(place, message),
            Ok(header) if all.iter().any(|(other, _)| *other == header) => {
                faults.add(place, format!("{header} appears twice: letters of either case are the same"));
            }
            Ok(header) => all.extend(condition.map(|condition| (header, condition))),
        }
    }
    all
}

/// A field that a request may still have when routes are looked at.
fn header(key: &str) -> Result<HeaderName, String> {
    if matches!(key, "uri" | "scheme" | "method" | "authority") {
        return Err(format!("not a header: write {key} beside headers"));
    }
    let header: HeaderName = key.parse().map_err(|_| format!("{} is not a header name", quoted(key)))?;
    if GONE.contains(&header.as_str()) {
        Err(format!(
            "not supported: a condition on {header}, which belongs to one connection and is taken out"
        ))
    } else if Reserved::of(&header) == Some(Reserved::Identity) {
        Err(format!("never there: {header} is taken out of every request, {}", Reserved::Identity))
    } else {
        Ok(header)
    }
}

/// `{}` asks whether it is there.
fn read_value(node: &Node<'_>, faults: &mut Faults) -> Option<ValueMatch> {
    if node.fields(faults)?.is_finished() {
        return Some(ValueMatch::Present);
    }
    read_text(node, faults).map(ValueMatch::Text)
}
