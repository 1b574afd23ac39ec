//! What a proxy must know of gRPC: who speaks it, and how a call is answered that goes no further.
//!
//! Source: "gRPC over HTTP2" (PROTOCOL-HTTP2.md), whose answer without messages is called Trailers-Only.

use std::fmt::Write;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;

/// The status of a call.
pub const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");
/// Longest `grpc-message`, in bytes before the encoding.
const LONGEST_MESSAGE: usize = 1024;

/// Whether a message is one of gRPC: `application/grpc`, alone or with a codec or parameters. gRPC-Web is not; it
/// speaks plain HTTP.
#[must_use]
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let media = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let begins =
        media.get(..CONTENT_TYPE.len()).is_some_and(|begin| begin.eq_ignore_ascii_case("application/grpc"));
    begins && matches!(media.as_bytes().get(CONTENT_TYPE.len()), None | Some(b'+' | b';' | b' '))
}

/// The status of a call that was answered without a message; elsewhere it is in the trailers.
#[must_use]
pub fn status_in_head<B>(response: &Response<B>) -> Option<u8> {
    if !is_grpc(response.headers()) {
        return None;
    }
    response.headers().get(STATUS)?.to_str().ok()?.parse().ok()
}

/// The answer to a call that goes no further: a head, which ends the call.
#[must_use]
pub fn trailers_only(status: u8, message: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, CONTENT_TYPE);
    headers.insert(STATUS, HeaderValue::from(u16::from(status)));
    // Percent-encoding leaves nothing that a header value could not have.
    if let Ok(message) = HeaderValue::try_from(encoded(message)) {
        headers.insert(MESSAGE, message);
    }
    response
}

/// The status that says to a gRPC caller what an HTTP status says to others.
#[must_use]
pub fn status_for(status: StatusCode) -> u8 {
    match status {
        StatusCode::BAD_REQUEST => 13,    // INTERNAL
        StatusCode::UNAUTHORIZED => 16,   // UNAUTHENTICATED
        StatusCode::FORBIDDEN => 7,       // PERMISSION_DENIED
        StatusCode::NOT_FOUND => 12,      // UNIMPLEMENTED
        StatusCode::GATEWAY_TIMEOUT => 4, // DEADLINE_EXCEEDED
        _ => 14,                          // UNAVAILABLE
    }
}

/// Printable ASCII without `%` as it is, every other byte as `%XX`.
fn encoded(message: &str) -> String {
    let mut text = String::with_capacity(message.len());
    for byte in message.bytes().take(LONGEST_MESSAGE) {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            text.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(content_type: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::try_from(content_type).unwrap())])
    }

    #[test]
    fn grpc_is_told_from_grpc_web_and_from_everything_else() {
        for grpc in
            ["application/grpc", "application/grpc+proto", "application/grpc;charset=x", "Application/GRPC"]
        {
            assert!(is_grpc(&headers(grpc)), "{grpc}");
        }
        for other in ["application/grpc-web", "application/grpcx", "application/json", "", "application/grp"]
        {
            assert!(!is_grpc(&headers(other)), "{other}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn the_message_is_percent_encoded_and_bounded() {
        let response = trailers_only(14, "50% of\nthe häuser");
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[STATUS], "14");
        assert_eq!(response.headers()[MESSAGE], "50%25 of%0Athe h%C3%A4user");
        let long = trailers_only(14, &"x".repeat(100_000));
        assert_eq!(long.headers()[MESSAGE].len(), LONGEST_MESSAGE);
    }

    #[test]
    fn a_status_is_read_from_the_head_of_grpc_answers_only() {
        assert_eq!(status_in_head(&trailers_only(8, "")), Some(8));
        let mut other = Response::new(());
        other.headers_mut().insert(STATUS, HeaderValue::from_static("8"));
        assert_eq!(status_in_head(&other), None);
    }
}
