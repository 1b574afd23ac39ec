//! What a proxy must take out of, and put into, the head of an HTTP/1.1 message (RFC 9110 and 9112).

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Uri, Version};
use portcullis_identity::SpiffeId;

use crate::refusal::Refusal;
use crate::tls::VerifiedPeer;

/// Istio's and Envoy's header for the verified peer.
pub const FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// Fields that belong to one connection and never travel on (RFC 9110, 7.6.1).
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Makes a request fit to travel on: one host, origin form, nothing that belongs to this connection, and no
/// identity that a client wrote itself.
///
/// # Errors
/// [`Refusal::BadRequest`] when the request could be read in two ways.
pub fn prepare_request<B>(request: &mut Request<B>) -> Result<(), Refusal> {
    if request.method() == Method::CONNECT {
        return Err(Refusal::BadRequest("CONNECT is not allowed"));
    }
    // Behind hyper, which leaves out a Content-Length that Transfer-Encoding overrides (RFC 9112, 6.3).
    if request.headers().contains_key(header::CONTENT_LENGTH)
        && request.headers().contains_key(header::TRANSFER_ENCODING)
    {
        return Err(Refusal::BadRequest("both Content-Length and Transfer-Encoding"));
    }
    check_host(request)?;
    if let Some(path) = request.uri().path_and_query().cloned() {
        *request.uri_mut() = Uri::from(path);
    }
    *request.version_mut() = Version::HTTP_11;
    strip_hop_by_hop(request.headers_mut());
    strip_identity(request.headers_mut());
    // Fields after the body could name an identity again, and some servers merge them with those before it
    // (RFC 9110, 6.5.1). Without this announcement hyper sends none.
    request.headers_mut().remove(header::TRAILER);
    Ok(())
}

/// One `Host`, and the same one as in an absolute request target (RFC 9112, 3.2 and 3.3).
fn check_host<B>(request: &mut Request<B>) -> Result<(), Refusal> {
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
        (None, _) if request.version() == Version::HTTP_11 => Err(Refusal::BadRequest("no Host")),
        (None, Some(authority)) => {
            let host = HeaderValue::try_from(authority).map_err(|_| Refusal::BadRequest("bad host"))?;
            request.headers_mut().insert(header::HOST, host);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Takes out what belongs to one connection, and whatever `Connection` lists.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let listed: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        // A client may not make a proxy drop what frames or addresses the message.
        .filter(|name| *name != header::HOST && *name != header::CONTENT_LENGTH)
        .collect();
    for name in HOP_BY_HOP.iter().chain(&listed) {
        headers.remove(name);
    }
}

/// Takes out every spelling of the identity header that an app might read as it: many frameworks turn `-` and
/// `_` into one another, and CGI (RFC 3875, 4.1.18) may turn every other sign into `_`.
fn strip_identity(headers: &mut HeaderMap) {
    let spelled: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            let dashed = name.as_str().replace(|sign: char| !sign.is_ascii_alphanumeric(), "-");
            dashed == FORWARDED_CLIENT_CERT.as_str()
        })
        .cloned()
        .collect();
    for name in spelled {
        headers.remove(name);
    }
}

/// Tells the app who called: `By=<own ID>;Hash=<SHA-256 of the peer's leaf>;URI=<peer's ID>`.
pub fn set_identity(headers: &mut HeaderMap, own: &SpiffeId, peer: &VerifiedPeer) {
    let text = format!("By={own};Hash={};URI={}", peer.fingerprint(), peer.id());
    // A SPIFFE ID is ASCII without separators, so this is always a header value.
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(FORWARDED_CLIENT_CERT, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(lines: &[(&str, &str)], target: &str) -> Request<()> {
        let mut builder = Request::builder().uri(target);
        for (name, value) in lines {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap()
    }

    #[test]
    fn an_identity_that_the_client_wrote_never_travels_on() {
        let mut forged = request(
            &[
                ("host", "a"),
                ("x-forwarded-client-cert", "URI=spiffe://cluster.local/ns/a/sa/admin"),
                ("X-Forwarded-Client-Cert", "twice"),
                ("x_forwarded_client_cert", "underscored"),
                ("x-forwarded_client-cert", "mixed"),
                ("x.forwarded!client|cert", "for CGI"),
                ("trailer", "x-forwarded-client-cert"),
                ("connection", "x-request-id, close"),
                ("x-request-id", "1"),
                ("te", "trailers"),
                ("upgrade", "h2c"),
                ("accept", "kept"),
            ],
            "/",
        );
        prepare_request(&mut forged).unwrap();
        let names: Vec<_> = forged.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["host", "accept"]);
    }

    #[test]
    fn a_request_that_reads_in_two_ways_is_refused() {
        for (lines, target) in [
            (&[][..], "/"),
            (&[("host", "a"), ("host", "b")], "/"),
            (&[("host", "a")], "http://b/"),
            (&[("host", "a"), ("content-length", "1"), ("transfer-encoding", "chunked")], "/"),
        ] {
            assert!(prepare_request(&mut request(lines, target)).is_err(), "{lines:?} {target}");
        }
        let mut connect = request(&[("host", "a")], "a:443");
        *connect.method_mut() = Method::CONNECT;
        assert!(prepare_request(&mut connect).is_err());
    }

    #[test]
    fn an_absolute_target_becomes_origin_form() {
        let mut absolute = request(&[("host", "A.example")], "http://a.example/path?q");
        prepare_request(&mut absolute).unwrap();
        assert_eq!(absolute.uri(), "/path?q");
        assert_eq!(absolute.headers()[header::HOST], "A.example");
    }

    #[test]
    fn connection_cannot_drop_what_frames_the_message() {
        let mut headers = request(
            &[
                ("connection", "host, content-length, x-a"),
                ("host", "a"),
                ("content-length", "3"),
                ("x-a", "b"),
            ],
            "/",
        )
        .headers()
        .clone();
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers.len(), 2);
    }
}
