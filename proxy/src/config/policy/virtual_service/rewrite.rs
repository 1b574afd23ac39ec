//! Rewrites of the path and the authority.

use ::http::HeaderValue;
use ::http::uri::Authority;

use super::super::host::full_name;
use crate::config::decode::Node;
use crate::config::report::Faults;
use crate::route::{Rewrite, UriRewrite, is_path};

/// The field `rewrite` of a route.
pub(super) fn read(node: &Node<'_>, faults: &mut Faults) -> Option<Rewrite> {
    let mut fields = node.fields(faults)?;
    let (uri, regex) = (fields.take("uri"), fields.take("uriRegexRewrite"));
    let authority = fields.take("authority");
    if uri.is_none() && regex.is_none() && authority.is_none() && fields.is_finished() {
        node.fault(faults, "says nothing: write uri, uriRegexRewrite or authority");
    }
    if let (Some(_), Some(regex)) = (&uri, &regex) {
        regex.fault(faults, "uri and uriRegexRewrite are two rewrites of one path: keep one");
    }
    let replaced = uri.and_then(|node| node.parsed(faults, path)).map(UriRewrite::Replace);
    let regex = regex.and_then(|node| read_regex(&node, faults));
    let authority = authority.and_then(|node| node.parsed(faults, authority_value));
    fields.finish(&[], faults);
    Some(Rewrite { uri: replaced.or(regex), authority })
}

fn read_regex(node: &Node<'_>, faults: &mut Faults) -> Option<UriRewrite> {
    let mut fields = node.fields(faults)?;
    let (expression, replacement) = (fields.require("match", faults), fields.require("rewrite", faults));
    fields.finish(&[], faults);
    let (expression, replacement) = (expression?, replacement?);
    let text = expression.text(faults)?;
    if text.is_empty() {
        expression.fault(faults, "an empty expression: write what is to be replaced");
        return None;
    }
    let with = replacement.text(faults)?;
    match UriRewrite::regex(text, with) {
        Ok(rewrite) => Some(rewrite),
        Err(error) => {
            let at = if error.is_of_replacement() { &replacement } else { &expression };
            at.fault(faults, error.to_string());
            None
        }
    }
}

/// A path without query.
pub(super) fn path(text: &str) -> Result<String, String> {
    if text.is_ascii() && is_path(text) {
        Ok(text.to_owned())
    } else {
        Err("not a path: begin with \"/\", no \"?\", no \"#\", no space, ASCII, \"%\" with two digits"
            .to_owned())
    }
}

fn authority_value(text: &str) -> Result<HeaderValue, String> {
    let checked = authority(text)?;
    HeaderValue::try_from(checked).map_err(|_| "not a host".to_owned())
}

/// A host with or without port.
pub(super) fn authority(text: &str) -> Result<String, String> {
    const HELP: &str = "not a host: write name, name:8080 or [::1]:8080";
    let parsed: Authority = text.parse().map_err(|_| HELP)?;
    let port = text.strip_prefix(parsed.host()).ok_or(HELP)?;
    let has_port = port.is_empty() || parsed.port_u16().is_some_and(|number| port == format!(":{number}"));
    let host = parsed.host();
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match inner {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.parse::<std::net::Ipv4Addr>().is_ok() || full_name(host, "x").is_ok(),
    };
    if has_port && is_host { Ok(text.to_owned()) } else { Err(HELP.to_owned()) }
}
