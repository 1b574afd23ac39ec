//! Fields after the body (RFC 9110, 6.5). Some servers merge them with those before it, so none may say there what it
//! may not say here: how the message is framed or routed, who calls, or what it may do.
//!
//! An HTTP/1.1 connection carries only those that `Trailer` announced, and answers' only to a caller that said
//! `TE: trailers`; HTTP/2 carries all.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::{dashed, is_identity};

/// RFC 9110, 6.5.1: framing, routing, request modifiers, authentication, and how the content is read.
const BEFORE_THE_BODY_ALONE: [HeaderName; 20] = [
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::CONNECTION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::EXPECT,
    header::HOST,
    header::MAX_FORWARDS,
    header::SET_COOKIE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::WWW_AUTHENTICATE,
    HeaderName::from_static("forwarded"),
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("http2-settings"),
];

/// Takes out of a message's trailers what may only stand before its body.
pub(in crate::protocol) fn keep_safe(trailers: &mut HeaderMap) {
    let unsafe_ones: Vec<HeaderName> = trailers.keys().filter(|name| !is_safe(name)).cloned().collect();
    for name in unsafe_ones {
        trailers.remove(name);
    }
}

/// Leaves in `Trailer` what may come. With nothing left there is none, and hyper sends none over HTTP/1.1.
pub(super) fn keep_safe_announced(headers: &mut HeaderMap) {
    let announced: Vec<HeaderName> = headers
        .get_all(header::TRAILER)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .filter(is_safe)
        .collect();
    headers.remove(header::TRAILER);
    let names: Vec<&str> = announced.iter().map(HeaderName::as_str).collect();
    if let Ok(value) = HeaderValue::try_from(names.join(", "))
        && !names.is_empty()
    {
        headers.insert(header::TRAILER, value);
    }
}

fn is_safe(name: &HeaderName) -> bool {
    let spelled = dashed(name);
    let is = |other: &HeaderName| spelled == other.as_str();
    let of_proxies = spelled.starts_with("x-forwarded-") || spelled.starts_with("proxy-");
    !is_identity(name) && !of_proxies && !BEFORE_THE_BODY_ALONE.iter().any(is)
}
