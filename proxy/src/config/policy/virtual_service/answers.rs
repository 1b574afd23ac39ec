//! Answers that no app gives: redirects and direct responses.

use ::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::rewrite::{authority, path};
use crate::config::decode::{Fields, Node};
use crate::config::report::Faults;
use crate::route::{DirectResponse, Redirect, RedirectPort};

/// Bytes of a direct response. Istio allows a mebibyte; a page larger than this belongs to a server.
const MAX_BODY: usize = 64 * 1024;

/// A redirect, whose port may be that of the service.
pub(in crate::config::policy) struct RedirectSpec {
    redirect: Redirect,
    port_of_request: bool,
}

impl RedirectSpec {
    /// The redirect of requests to the service's `port`.
    pub(in crate::config::policy) fn of(&self, port: u16) -> Redirect {
        let mut redirect = self.redirect.clone();
        if self.port_of_request {
            redirect.port = RedirectPort::Number(port);
        }
        redirect
    }
}

/// The field `redirect` of a route.
pub(super) fn read_redirect(node: &Node<'_>, faults: &mut Faults) -> Option<RedirectSpec> {
    let mut fields = node.fields(faults)?;
    if fields.is_finished() {
        node.fault(faults, "leads back to itself: write uri, authority, port or scheme");
    }
    let code = fields.take("redirectCode").map(|node| read_code(&node, faults));
    let uri = fields.take("uri").map(|node| node.parsed(faults, path_and_query));
    let scheme = fields.take("scheme").map(|node| node.word(faults, &[("http", "http"), ("https", "https")]));
    let authority_node = fields.take("authority");
    let authority = authority_node.as_ref().map(|node| node.parsed(faults, authority));
    let port = read_port(&mut fields, faults);
    fields.finish(&[], faults);
    let (port, port_of_request) = port?;
    let has_port = |text: &String| text.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
    if let (Some(node), Some(Some(authority))) = (&authority_node, &authority)
        && has_port(authority)
        && (port != RedirectPort::AsAsked || port_of_request)
    {
        node.fault(faults, "has a port, and so has the redirect: keep one");
    }
    let redirect = Redirect {
        status: code.unwrap_or(Some(StatusCode::MOVED_PERMANENTLY))?,
        uri: uri.map_or(Some(None), |value| value.map(Some))?,
        authority: authority.map_or(Some(None), |value| value.map(Some))?,
        scheme: scheme.map_or(Some(None), |value| value.map(|scheme| Some(scheme.to_owned())))?,
        port,
    };
    Some(RedirectSpec { redirect, port_of_request })
}

fn read_code(node: &Node<'_>, faults: &mut Faults) -> Option<StatusCode> {
    let code: u16 = node.integer(faults, 301..=308)?;
    if !matches!(code, 301 | 302 | 303 | 307 | 308) {
        node.fault(faults, "not a redirect: write 301, 302, 303, 307 or 308");
    }
    StatusCode::from_u16(code).ok()
}

/// `port` or `derivePort`, and whether it is the port that the request was sent to.
fn read_port(fields: &mut Fields<'_>, faults: &mut Faults) -> Option<(RedirectPort, bool)> {
    match (fields.take("port"), fields.take("derivePort")) {
        (Some(port), None) => port.port(faults).map(|port| (RedirectPort::Number(port), false)),
        (None, Some(derive)) => {
            let words = [("FROM_PROTOCOL_DEFAULT", false), ("FROM_REQUEST_PORT", true)];
            derive.word(faults, &words).map(|of_request| (RedirectPort::OfScheme, of_request))
        }
        (None, None) => Some((RedirectPort::AsAsked, false)),
        (Some(_), Some(derive)) => {
            derive.fault(faults, "port and derivePort are two ports: keep one");
            None
        }
    }
}

fn path_and_query(text: &str) -> Result<String, String> {
    let (before, query) = text.split_once('?').unwrap_or((text, ""));
    path(before)?;
    // A query may have what a path may have, and "?" (RFC 3986, 3.4).
    path(&format!("/{}", query.replace('?', ""))).map_err(|_| "not a query: no space, no \"#\", ASCII")?;
    // A host of its own behind the host: some clients go there.
    if before.starts_with("//") { Err("begin with one \"/\"".to_owned()) } else { Ok(text.to_owned()) }
}

/// The field `directResponse` of a route.
pub(super) fn read_direct(node: &Node<'_>, faults: &mut Faults) -> Option<DirectResponse> {
    let mut fields = node.fields(faults)?;
    let status: Option<u16> =
        fields.require("status", faults).and_then(|node| node.integer(faults, 200..=599));
    let body = fields.take("body").map(|node| (node.place(), read_body(&node, faults)));
    fields.finish(&[], faults);
    let status = StatusCode::from_u16(status?).ok()?;
    // RFC 9110, 15.3.5, 15.3.6 and 15.4.5: they have no content.
    if let Some((place, Some(body))) = &body
        && matches!(status.as_u16(), 204 | 205 | 304)
        && !body.is_empty()
    {
        faults.add(place.clone(), format!("an answer with status {} has no body", status.as_u16()));
    }
    Some(DirectResponse { status, body: body.map_or(Some(Bytes::new()), |(_, body)| body)? })
}

/// `{string: ...}` or `{bytes: BASE64}`.
fn read_body(node: &Node<'_>, faults: &mut Faults) -> Option<Bytes> {
    let mut fields = node.fields(faults)?;
    let (string, bytes) = (fields.take("string"), fields.take("bytes"));
    let nothing_else = fields.is_finished();
    fields.finish(&[], faults);
    let body = match (string, bytes) {
        (Some(string), None) => Bytes::from(string.text(faults)?.to_owned()),
        (None, Some(bytes)) => {
            let decode = |text: &str| STANDARD.decode(text).map_err(|_| "not base64 (RFC 4648, 4)");
            Bytes::from(bytes.parsed(faults, decode)?)
        }
        (None, None) if !nothing_else => return None,
        _ => {
            node.fault(faults, "write one of string and bytes");
            return None;
        }
    };
    if body.len() > MAX_BODY {
        node.fault(faults, format!("{} bytes long, the limit is {MAX_BODY}", body.len()));
    }
    Some(body)
}
