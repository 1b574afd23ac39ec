//! What a proxy must take out of, and put into, the head of an HTTP message (RFC 9110, 9112 and 9113).
//!
//! [`prepare_request`] gives every request one inner form, whichever version it came in: origin form, one `Host`,
//! nothing that belongs to its connection, no identity that a client wrote. Routing, authorization and the ways on
//! read that form alone.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Version};
use portcullis_identity::SpiffeId;

use super::upgrade::Upgrade;
use crate::refusal::Refusal;
use crate::tls::VerifiedPeer;

mod hop_by_hop;
mod target;
#[cfg(test)]
mod tests;
mod trailers;

pub use hop_by_hop::strip_hop_by_hop;
pub(super) use trailers::keep_safe;

/// Istio's and Envoy's header for the verified peer.
pub const FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// Whether CONNECT is one of the methods of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connect {
    /// The port is declared as that of an HTTP proxy.
    Declared,
    /// It is not: refused.
    Refused,
}

/// Makes a request fit to travel on, in the one inner form of the module's head; a CONNECT keeps its target. What
/// it asks its connection to become is taken out of the head, and put back by [`Upgrade::ask`].
///
/// # Errors
/// [`Refusal::BadRequest`] when the request could be read in two ways.
pub fn prepare_request<B>(request: &mut Request<B>, connect: Connect) -> Result<Option<Upgrade>, Refusal> {
    let version = request.version();
    if version == Version::HTTP_2 {
        hop_by_hop::refuse_in_http2(request.headers())?;
    }
    check_framing(request.headers())?;
    target::check_host(request)?;
    let upgrade = if request.method() == Method::CONNECT {
        target::check_tunnel(request, connect)?;
        Some(Upgrade::Tunnel)
    } else {
        target::to_origin_form(request)?;
        if version == Version::HTTP_11 { upgrade(request.headers())? } else { None }
    };
    *request.version_mut() = Version::HTTP_11;
    // In HTTP/2 it speaks of the request, not of the connection, and gRPC will not do without it.
    let takes_trailers = version == Version::HTTP_2 && request.headers().contains_key(header::TE);
    strip_hop_by_hop(request.headers_mut());
    if takes_trailers {
        request.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
    }
    strip_identity(request.headers_mut());
    trailers::keep_safe_announced(request.headers_mut());
    Ok(upgrade)
}

/// Makes the head of a response fit to travel on.
pub fn prepare_response(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers);
    trailers::keep_safe_announced(headers);
}

/// One way to tell where the body ends.
fn check_framing(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else { return Ok(()) };
    // Behind hyper, which leaves out a Content-Length that Transfer-Encoding overrides (RFC 9112, 6.3).
    if headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(Refusal::BadRequest("both Content-Length and Transfer-Encoding"));
    }
    if lengths.next().is_some() || !length.as_bytes().iter().all(u8::is_ascii_digit) || length.is_empty() {
        return Err(Refusal::BadRequest("Content-Length is not one number"));
    }
    Ok(())
}

/// What an HTTP/1.1 request asks its connection to become. One token or none: a choice is not offered on. HTTP/2 is
/// never upgraded to (RFC 9113, 3.1): behind it a connection could carry requests that nobody judges.
fn upgrade(headers: &HeaderMap) -> Result<Option<Upgrade>, Refusal> {
    let mut asked = headers.get_all(header::UPGRADE).iter();
    let (Some(protocol), None) = (asked.next(), asked.next()) else { return Ok(None) };
    if !hop_by_hop::lists(headers, "upgrade") || !is_protocol(protocol.as_bytes()) {
        return Ok(None);
    }
    let has_body = headers.contains_key(header::TRANSFER_ENCODING)
        || headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0");
    if has_body {
        // It would be read as the first bytes of the other protocol by one side and not by the other.
        return Err(Refusal::BadRequest("a body before an upgrade"));
    }
    Ok(Some(Upgrade::To(protocol.clone())))
}

/// A protocol's name with or without version (RFC 9110, 7.8), and none of HTTP's own, drafts of it (`h2c-14`) and TLS
/// (RFC 2817), in which the same HTTP would go on, included.
fn is_protocol(token: &[u8]) -> bool {
    let name = token.split(|byte| *byte == b'/').next().unwrap_or_default();
    let begins = |http: &&[u8]| name.get(..http.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(http));
    let is_http = [&b"http"[..], b"h2", b"h3", b"tls"].iter().any(begins);
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~/".contains(byte);
    !name.is_empty() && !is_http && token.iter().all(is_token)
}

/// Takes out every spelling of the identity header that an app might read as it.
fn strip_identity(headers: &mut HeaderMap) {
    let spelled: Vec<HeaderName> = headers.keys().filter(|name| is_identity(name)).cloned().collect();
    for name in spelled {
        headers.remove(name);
    }
}

fn is_identity(name: &HeaderName) -> bool {
    dashed(name) == FORWARDED_CLIENT_CERT.as_str()
}

/// Many frameworks turn `-` and `_` into one another, and CGI (RFC 3875, 4.1.18) may turn every other sign into `_`.
fn dashed(name: &HeaderName) -> String {
    name.as_str().replace(|sign: char| !sign.is_ascii_alphanumeric(), "-")
}

/// Tells the app who called: `By=<own ID>;Hash=<SHA-256 of the peer's leaf>;URI=<peer's ID>`.
pub fn set_identity(headers: &mut HeaderMap, own: &SpiffeId, peer: &VerifiedPeer) {
    let text = format!("By={own};Hash={};URI={}", peer.fingerprint(), peer.id());
    // A SPIFFE ID is ASCII without separators, so this is always a header value.
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(FORWARDED_CLIENT_CERT, value);
    }
}
