//! `when`: one attribute and its values.

use http::HeaderName;

use super::{NO_REMOTE, NO_TOKENS, ip_block, listed};
use crate::authz::{Condition, HostMatch, PrincipalMatch, ServiceAccount, Source, StringMatch};
use crate::config::decode::{Fields, Node};
use crate::config::policy::resource::Meta;
use crate::config::report::{Faults, quoted};
use crate::config::values::port;

const VALUES: (&str, &str) = ("values", "notValues");
const NO_LABELS: &str =
    "it needs labels signed into certificates, and these carry none; use source.principal";
const NO_FILTERS: &str = "there are no Envoy filters here";
const HEADER: &str = "request.headers[";

/// The attributes that Istio has and that are refused, by how they begin.
const REFUSED: [(&str, &str); 5] = [
    ("request.auth.", NO_TOKENS),
    ("remote.ip", NO_REMOTE),
    ("source.labels[", NO_LABELS),
    ("experimental.envoy.filters.", NO_FILTERS),
    ("experimental.", NO_FILTERS),
];

/// Reads `{key: ..., values: [...], notValues: [...]}`.
pub(super) fn read(node: &Node<'_>, meta: &Meta, faults: &mut Faults) -> Option<Condition> {
    let mut fields = node.fields(faults)?;
    let key_node = fields.require("key", faults);
    let key = key_node.as_ref().and_then(|node| node.text(faults));
    let lists = [fields.has(VALUES.0), fields.has(VALUES.1)];
    let condition = match (&key_node, key) {
        (Some(node), Some(key)) => attribute(node, key, &mut fields, meta, faults),
        _ => None,
    };
    if condition.is_none() {
        // Without its attribute nobody knows what the values should be.
        fields.ignore(&[VALUES.0, VALUES.1]);
    }
    if lists == [false, false] {
        node.fault(faults, "asks for nothing: write values or notValues");
    }
    fields.finish(&[], faults);
    condition
}

fn attribute(
    node: &Node<'_>,
    key: &str,
    fields: &mut Fields<'_>,
    meta: &Meta,
    faults: &mut Faults,
) -> Option<Condition> {
    let own = meta.namespace.as_str();
    if let Some(name) = key.strip_prefix(HEADER).and_then(|rest| rest.strip_suffix(']')) {
        return match header_name(name) {
            Ok(name) => Some(Condition::Header(name, listed(fields, VALUES, faults, StringMatch::parse))),
            Err(message) => {
                node.fault(faults, format!("{}: {message}", quoted(name)));
                None
            }
        };
    }
    let source = match key {
        "source.ip" => Source { ip_blocks: listed(fields, VALUES, faults, ip_block), ..Source::default() },
        "source.namespace" => {
            Source { namespaces: listed(fields, VALUES, faults, StringMatch::parse), ..Source::default() }
        }
        "source.principal" => {
            Source { principals: listed(fields, VALUES, faults, PrincipalMatch::parse), ..Source::default() }
        }
        "source.serviceAccount" => {
            let parse = |text: &str| ServiceAccount::parse(text, own);
            Source { service_accounts: listed(fields, VALUES, faults, parse), ..Source::default() }
        }
        "destination.ip" => return Some(Condition::DestinationIp(listed(fields, VALUES, faults, ip_block))),
        "destination.port" => return Some(Condition::DestinationPort(listed(fields, VALUES, faults, port))),
        "connection.sni" => return Some(Condition::Sni(listed(fields, VALUES, faults, HostMatch::parse))),
        other => {
            node.fault(faults, unknown(other));
            return None;
        }
    };
    Some(Condition::Source(source))
}

fn unknown(key: &str) -> String {
    match REFUSED.into_iter().find(|(start, _)| key.starts_with(start)) {
        Some((_, reason)) => format!("not supported: {}: {reason}", quoted(key)),
        None => format!(
            "{} is no attribute; known: request.headers[NAME], source.ip, source.namespace, source.principal, \
             source.serviceAccount, destination.ip, destination.port, connection.sni",
            quoted(key)
        ),
    }
}

/// Istio takes the pseudo-fields of HTTP/2 here; the parts of a request have fields of their own in an operation.
fn header_name(text: &str) -> Result<HeaderName, &'static str> {
    match text {
        ":method" => Err("not supported: write methods of an operation"),
        ":path" => Err("not supported: write paths of an operation"),
        ":authority" => Err("not supported: write hosts of an operation"),
        _ => HeaderName::from_bytes(text.as_bytes()).map_err(|_| "not the name of a header field"),
    }
}
