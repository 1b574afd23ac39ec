//! Fields that belong to one connection (RFC 9110, 7.6.1).

use http::header::{self, HeaderMap, HeaderName};

use crate::refusal::Refusal;

/// They never travel on.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// They make an HTTP/2 request malformed (RFC 9113, 8.2.2).
const NOT_IN_HTTP2: [HeaderName; 5] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Takes out what belongs to one connection, and whatever `Connection` lists.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let listed: Vec<HeaderName> = options(headers)
        .filter_map(|name| HeaderName::try_from(name).ok())
        // A client may not make a proxy drop what frames or addresses the message.
        .filter(|name| *name != header::HOST && *name != header::CONTENT_LENGTH)
        .collect();
    for name in HOP_BY_HOP.iter().chain(&listed) {
        headers.remove(name);
    }
}

/// Whether `Connection` has this option.
pub(super) fn lists(headers: &HeaderMap, option: &str) -> bool {
    options(headers).any(|listed| listed.eq_ignore_ascii_case(option))
}

fn options(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

/// What the HTTP/2 layer lets through and the next hop could read otherwise: fields of a connection, and blanks around
/// a value, which HTTP/1.1 does not count as part of it (RFC 9113, 8.2.1).
pub(super) fn refuse_in_http2(headers: &HeaderMap) -> Result<(), Refusal> {
    if NOT_IN_HTTP2.iter().any(|name| headers.contains_key(name)) {
        return Err(Refusal::BadRequest("a field of HTTP/1.1 connections in HTTP/2"));
    }
    if headers.get_all(header::TE).iter().any(|te| !te.as_bytes().eq_ignore_ascii_case(b"trailers")) {
        return Err(Refusal::BadRequest("TE in HTTP/2 may only say trailers"));
    }
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let mut values = headers.values().map(|value| value.as_bytes());
    if values.any(|value| blank(value.first()) || blank(value.last())) {
        return Err(Refusal::BadRequest("blanks around the value of a field in HTTP/2"));
    }
    Ok(())
}
