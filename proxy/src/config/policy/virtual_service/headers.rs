//! Header operations.

use ::http::{HeaderName, HeaderValue};

use crate::config::decode::{Entry, Fields, Node};
use crate::config::report::{Faults, quoted};
use crate::route::{HeaderChanges, HeaderRules, Reserved};

/// Bytes of a value that a policy sets.
const MAX_VALUE: usize = 4096;

/// The field `headers` of a route or destination.
pub(super) fn read(fields: &mut Fields<'_>, faults: &mut Faults) -> HeaderRules {
    let node = fields.take("headers");
    let Some(mut fields) = node.and_then(|node| node.fields(faults)) else { return HeaderRules::default() };
    let mut changes = |name| fields.take(name).map(|node| read_changes(&node, faults)).unwrap_or_default();
    let rules = HeaderRules { request: changes("request"), response: changes("response") };
    fields.finish(&[], faults);
    rules
}

fn read_changes(node: &Node<'_>, faults: &mut Faults) -> HeaderChanges {
    let Some(mut fields) = node.fields(faults) else { return HeaderChanges::default() };
    let mut values = |name| fields.take(name).map(|node| read_values(&node, faults)).unwrap_or_default();
    let (set, add) = (values("set"), values("add"));
    let remove =
        fields.take("remove").map(|node| node.list(faults, |node, faults| node.parsed(faults, name)));
    fields.finish(&[], faults);
    HeaderChanges { set, add, remove: remove.unwrap_or_default() }
}

fn read_values(node: &Node<'_>, faults: &mut Faults) -> Vec<(HeaderName, HeaderValue)> {
    let mut all: Vec<(HeaderName, HeaderValue)> = Vec::new();
    for (Entry { key, place, value }, _) in node.text_map(faults) {
        let text = value.parsed(faults, self::value);
        match name(key) {
            Err(message) => faults.add(place, format!("{}: {message}", quoted(key))),
            Ok(name) if all.iter().any(|(other, _)| *other == name) => {
                faults.add(place, format!("{name} appears twice: letters of either case are the same"));
            }
            Ok(name) => all.extend(text.map(|text| (name, text))),
        }
    }
    all
}

/// A field that a policy may change.
fn name(text: &str) -> Result<HeaderName, String> {
    if matches!(text, ":authority" | ":path" | ":method" | ":scheme") {
        return Err("not a header: use rewrite".to_owned());
    }
    let name: HeaderName = text.parse().map_err(|_| "not a header name")?;
    Reserved::of(&name).map_or(Ok(name), |reserved| Err(format!("refused: {reserved}")))
}

/// Printable ASCII. A lone `%` begins an operator of Envoy's, such as `%DOWNSTREAM_REMOTE_ADDRESS%`.
fn value(text: &str) -> Result<HeaderValue, String> {
    let literal = text.replace("%%", "");
    if literal.contains('%') {
        return Err("not supported: operators between % signs; write %% for the sign itself".to_owned());
    }
    if text.len() > MAX_VALUE {
        return Err(format!("longer than {MAX_VALUE} bytes"));
    }
    if !text.bytes().all(|b| (b' '..=b'~').contains(&b)) || text.trim() != text {
        return Err("not a header value: printable ASCII, no space at either end".to_owned());
    }
    HeaderValue::try_from(text.replace("%%", "%")).map_err(|_| "not a header value".to_owned())
}
