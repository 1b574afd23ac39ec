//! The one inner form, from requests good and bad.

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
    prepare_request(&mut forged, Connect::Refused).unwrap();
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
        assert!(
            prepare_request(&mut request(lines, target), Connect::Refused).is_err(),
            "{lines:?} {target}"
        );
    }
    let mut connect = request(&[("host", "a")], "a:443");
    *connect.method_mut() = Method::CONNECT;
    assert!(prepare_request(&mut connect, Connect::Refused).is_err());
}

#[test]
fn an_absolute_target_becomes_origin_form() {
    let mut absolute = request(&[("host", "A.example")], "http://a.example/path?q");
    prepare_request(&mut absolute, Connect::Refused).unwrap();
    assert_eq!(absolute.uri(), "/path?q");
    assert_eq!(absolute.headers()[header::HOST], "A.example");
}

#[test]
fn connection_cannot_drop_what_frames_the_message() {
    let mut headers = request(
        &[("connection", "host, content-length, x-a"), ("host", "a"), ("content-length", "3"), ("x-a", "b")],
        "/",
    )
    .headers()
    .clone();
    strip_hop_by_hop(&mut headers);
    assert_eq!(headers.len(), 2);
}

/// As it comes out of the HTTP/2 layer.
fn request2(lines: &[(&str, &str)], target: &str) -> Request<()> {
    let mut request = request(lines, target);
    *request.version_mut() = Version::HTTP_2;
    request
}

fn prepared(mut request: Request<()>) -> Result<(Request<()>, Option<Upgrade>), Refusal> {
    prepare_request(&mut request, Connect::Refused).map(|upgrade| (request, upgrade))
}

#[test]
fn both_versions_come_to_one_form() {
    let fields = [("host", "api:80"), ("accept", "x")];
    let (one, _) = prepared(request(&fields, "/a?b")).unwrap();
    for other in [
        request2(&[("accept", "x")], "http://api:80/a?b"),
        request2(&[("host", "api:80"), ("accept", "x")], "http://api:80/a?b"),
        request2(&fields, "/a?b"),
        request(&fields, "http://api:80/a?b"),
    ] {
        let (other, upgrade) = prepared(other).unwrap();
        assert_eq!((one.uri(), one.version(), one.method()), (other.uri(), other.version(), other.method()));
        assert_eq!((one.headers(), upgrade), (other.headers(), None));
    }
    let (whole, _) = {
        let mut options = request(&[("host", "a")], "*");
        *options.method_mut() = Method::OPTIONS;
        prepared(options).unwrap()
    };
    assert_eq!(whole.uri().path(), "*");
}

#[test]
fn http2_that_http1_would_read_otherwise_is_refused() {
    let bad = |fields: &[(&str, &str)], target| prepared(request2(fields, target)).is_err();
    assert!(!bad(&[("te", "trailers"), ("a", "b")], "http://api/"), "control");
    for fields in [
        &[("connection", "close")][..],
        &[("keep-alive", "timeout=5")],
        &[("proxy-connection", "keep-alive")],
        &[("transfer-encoding", "chunked")],
        &[("upgrade", "websocket")],
        &[("te", "trailers, gzip")],
        &[("te", "gzip")],
        &[("a", " b")],
        &[("a", "b\t")],
        &[("host", "other")],
        &[("host", "api"), ("host", "api")],
        &[("host", "user@api")],
        &[("content-length", "4"), ("content-length", "5")],
        &[("content-length", "4, 4")],
        &[("content-length", "+4")],
        &[("content-length", "")],
    ] {
        assert!(bad(fields, "http://api/"), "{fields:?}");
    }
    for target in ["/", "http://user@api/", "*", "http://api"] {
        let refused = bad(&[], target);
        assert_eq!(refused, target != "http://api", "{target}");
    }
}

#[test]
fn a_host_is_a_host() {
    for host in ["api", "api:80", "10.0.0.1:80", "[::1]:80", "a-b.c_d"] {
        assert!(prepared(request(&[("host", host)], "/")).is_ok(), "{host}");
    }
    for host in ["", "user@api", "api/path", "a b", "a,b", "a:b:c", ":80", "a?b", "a#b"] {
        assert!(prepared(request(&[("host", host)], "/")).is_err(), "{host}");
    }
    for target in ["api:443", "*"] {
        assert!(prepared(request(&[("host", "api:443")], target)).is_err(), "{target} is for other methods");
    }
}

#[test]
fn te_survives_only_as_what_http2_may_say() {
    let (http2, _) = prepared(request2(&[("te", "trailers")], "http://api/")).unwrap();
    assert_eq!(http2.headers()[header::TE], "trailers");
    let (http1, _) = prepared(request(&[("host", "api"), ("te", "trailers")], "/")).unwrap();
    assert!(!http1.headers().contains_key(header::TE));
}

#[test]
fn an_upgrade_is_one_protocol_that_is_not_http() {
    let asked = |fields: &[(&str, &str)]| {
        let (request, upgrade) = prepared(request(&[&[("host", "a")], fields].concat(), "/")).unwrap();
        assert!(!request.headers().contains_key(header::UPGRADE), "{fields:?}");
        upgrade
    };
    let to = |protocol: &'static str| Some(Upgrade::To(HeaderValue::from_static(protocol)));
    assert_eq!(asked(&[("connection", "Upgrade"), ("upgrade", "websocket")]), to("websocket"));
    assert_eq!(asked(&[("connection", "keep-alive, upgrade"), ("upgrade", "SPDY/3.1")]), to("SPDY/3.1"));
    assert_eq!(
        asked(&[("connection", "upgrade"), ("upgrade", "tcp"), ("content-length", "0")]),
        to("tcp"),
        "an empty body is none"
    );
    for fields in [
        &[("upgrade", "websocket")][..],
        &[("connection", "upgrade")],
        &[("connection", "upgrade"), ("upgrade", "h2c")],
        &[("connection", "upgrade"), ("upgrade", "H2C-14")],
        &[("connection", "upgrade"), ("upgrade", "TLS/1.0")],
        &[("connection", "upgrade"), ("upgrade", "H2C")],
        &[("connection", "upgrade"), ("upgrade", "HTTP/2.0")],
        &[("connection", "upgrade"), ("upgrade", "h2")],
        &[("connection", "upgrade"), ("upgrade", "websocket, h2c")],
        &[("connection", "upgrade"), ("upgrade", "websocket"), ("upgrade", "h2c")],
        &[("connection", "upgrade"), ("upgrade", "")],
        &[("connection", "upgrade"), ("upgrade", "h2c"), ("content-length", "4")],
    ] {
        assert_eq!(asked(fields), None, "{fields:?}");
    }
    for framing in [("content-length", "4"), ("content-length", "00"), ("transfer-encoding", "chunked")] {
        let fields = [("host", "a"), ("connection", "upgrade"), ("upgrade", "websocket"), framing];
        assert!(prepared(request(&fields, "/")).is_err(), "{framing:?}");
    }
    let mut old = request(&[("host", "a"), ("connection", "upgrade"), ("upgrade", "websocket")], "/");
    *old.version_mut() = Version::HTTP_10;
    assert_eq!(prepared(old).unwrap().1, None);
}

#[test]
fn connect_is_for_ports_declared_for_it_and_names_a_host_and_a_port() {
    let connect = |target: &str, fields: &[(&str, &str)], version: Version| {
        let mut request = request(fields, target);
        *request.method_mut() = Method::CONNECT;
        *request.version_mut() = version;
        prepare_request(&mut request, Connect::Declared).map(|upgrade| (request, upgrade))
    };
    let host = [("host", "other:443")];
    for (fields, version) in [(&host[..], Version::HTTP_11), (&[], Version::HTTP_2)] {
        let (request, upgrade) = connect("other:443", fields, version).unwrap();
        assert_eq!(upgrade, Some(Upgrade::Tunnel));
        assert_eq!(
            (request.uri().to_string().as_str(), &request.headers()[header::HOST]),
            ("other:443", &HeaderValue::from_static("other:443"))
        );
    }
    let length = [("host", "other:443"), ("content-length", "1")];
    for (target, fields) in [
        ("other", &[("host", "other")][..]),
        ("other:443", &[("host", "api:443")]),
        ("other:443", &[]),
        ("user@other:443", &[("host", "user@other:443")]),
        ("http://other:443/", &host),
        ("/", &host),
        ("other:443", &length),
    ] {
        assert!(connect(target, fields, Version::HTTP_11).is_err(), "{target} {fields:?}");
    }
}

#[test]
fn trailers_say_only_what_trailers_may() {
    let mut announced = HeaderMap::new();
    announced.append(header::TRAILER, HeaderValue::from_static("Grpc-Status, X-Forwarded-Client-Cert, host"));
    announced.append(header::TRAILER, HeaderValue::from_static("x_forwarded_client_cert, checksum, b@d"));
    prepare_response(&mut announced);
    assert_eq!(announced[header::TRAILER], "grpc-status, checksum");

    let names = [
        "grpc-status",
        "checksum",
        "host",
        "content-length",
        "transfer-encoding",
        "authorization",
        "x-forwarded-client-cert",
        "x_forwarded_client_cert",
        "x.forwarded!client|cert",
        "x-forwarded-for",
        "forwarded",
        "set-cookie",
        "trailer",
        "te",
        "connection",
        "upgrade",
        "proxy-authorization",
    ];
    let mut trailers: HeaderMap =
        names.iter().map(|name| (HeaderName::from_static(name), HeaderValue::from_static("1"))).collect();
    keep_safe(&mut trailers);
    let kept: Vec<_> = trailers.keys().map(HeaderName::as_str).collect();
    assert_eq!(kept, ["grpc-status", "checksum"]);
}
