//! Where a request is for: one host, and a target that every server splits alike.

use http::header::{self, HeaderValue};
use http::uri::Authority;
use http::{Method, Request, Uri, Version};

use super::Connect;
use crate::refusal::Refusal;

/// One `Host`, a valid one, and the same as in the request target: that of an absolute one (RFC 9112, 3.2) or
/// `:authority` (RFC 9113, 8.3.1).
pub(super) fn check_host<B>(request: &mut Request<B>) -> Result<(), Refusal> {
    let authority = request.uri().authority().map(|authority| authority.as_str().to_owned());
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (first, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err(Refusal::BadRequest("more than one Host"));
    }
    match (first, authority) {
        (Some(host), Some(authority)) if !host.as_bytes().eq_ignore_ascii_case(authority.as_bytes()) => {
            Err(Refusal::BadRequest("Host is not the host of the request target"))
        }
        (Some(host), _) => check_authority(host.as_bytes()),
        (None, Some(authority)) if request.version() != Version::HTTP_11 => {
            check_authority(authority.as_bytes())?;
            let host = HeaderValue::try_from(authority).map_err(|_| Refusal::BadRequest("bad host"))?;
            request.headers_mut().insert(header::HOST, host);
            Ok(())
        }
        (None, _) => Err(Refusal::BadRequest("no Host")),
    }
}

/// A host with or without port. Signs that a URI allows and no name has (RFC 3986, 3.2.2: `,`, `%`) are refused, and
/// a user before it: what some take for the host, others do not.
fn check_authority(host: &[u8]) -> Result<(), Refusal> {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~:[]".contains(byte);
    match Authority::try_from(host) {
        Ok(authority) if host.iter().all(is_plain) && !authority.host().is_empty() => Ok(()),
        _ => Err(Refusal::BadRequest("bad host")),
    }
}

/// Path and query alone; `*` for OPTIONS (RFC 9112, 3.2).
pub(super) fn to_origin_form<B>(request: &mut Request<B>) -> Result<(), Refusal> {
    let Some(path) = request.uri().path_and_query().cloned() else {
        return Err(Refusal::BadRequest("the request target has no path"));
    };
    let is_whole_server = path.as_str() == "*" && request.method() == Method::OPTIONS;
    if !path.as_str().starts_with('/') && !is_whole_server {
        return Err(Refusal::BadRequest("the request target has no path"));
    }
    // Where HTTP/1.1 would end the target, or the line.
    if path.as_str().bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return Err(Refusal::BadRequest("a control character or blank in the path"));
    }
    *request.uri_mut() = Uri::from(path);
    Ok(())
}

/// CONNECT, behind [`check_host`]: host and port as the target, and no body, which would be the tunnel's first bytes to one side
/// and not to the other (RFC 9110, 9.3.6).
pub(super) fn check_tunnel<B>(request: &Request<B>, connect: Connect) -> Result<(), Refusal> {
    if connect == Connect::Refused {
        return Err(Refusal::BadRequest("CONNECT is not allowed: the port is not declared as HTTP_PROXY"));
    }
    let uri = request.uri();
    let has_port = uri.authority().is_some_and(|authority| authority.port_u16().is_some());
    if !has_port || uri.scheme().is_some() || uri.path_and_query().is_some() {
        return Err(Refusal::BadRequest("CONNECT takes a host and a port"));
    }
    let headers = request.headers();
    if headers.contains_key(header::CONTENT_LENGTH) || headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(Refusal::BadRequest("a body before a tunnel"));
    }
    Ok(())
}
