use http::{HeaderMap, HeaderValue};

use super::*;

fn name(text: &str) -> HeaderName {
    text.parse().unwrap()
}

fn pair(field: &str, value: &str) -> (HeaderName, HeaderValue) {
    (name(field), value.parse().unwrap())
}

#[test]
fn first_remove_then_set_then_add() {
    let mut headers: HeaderMap =
        [pair("a", "1"), pair("b", "1"), pair("c", "1"), pair("keep", "1")].into_iter().collect();
    headers.append("b", HeaderValue::from_static("2"));
    let changes = HeaderChanges {
        remove: vec![name("a"), name("absent")],
        set: vec![pair("a", "set"), pair("b", "set"), pair("new", "set")],
        add: vec![pair("a", "added"), pair("c", "added"), pair("newer", "added")],
    };
    changes.apply(&mut headers);
    let mut lines: Vec<String> =
        headers.iter().map(|(name, value)| format!("{name}={}", value.to_str().unwrap())).collect();
    lines.sort();
    assert_eq!(lines, ["a=added", "a=set", "b=set", "c=1", "c=added", "keep=1", "new=set", "newer=added"]);
    assert!(HeaderChanges::default().is_empty() && !changes.is_empty());
}

#[test]
fn fields_that_frame_address_or_identify_are_reserved_in_every_spelling() {
    for (field, reserved) in [
        ("Host", Some(Reserved::Host)),
        ("content-length", Some(Reserved::Framing)),
        ("Content_Length", Some(Reserved::Framing)),
        ("transfer-encoding", Some(Reserved::Framing)),
        ("transfer.encoding", Some(Reserved::Framing)),
        ("connection", Some(Reserved::Framing)),
        ("proxy-connection", Some(Reserved::Framing)),
        ("keep-alive", Some(Reserved::Framing)),
        ("upgrade", Some(Reserved::Framing)),
        ("http2-settings", Some(Reserved::Framing)),
        ("te", Some(Reserved::Framing)),
        ("trailer", Some(Reserved::Framing)),
        ("expect", Some(Reserved::Framing)),
        ("X-Forwarded-Client-Cert", Some(Reserved::Identity)),
        ("x_forwarded_client_cert", Some(Reserved::Identity)),
        ("x-forwarded.client~cert", Some(Reserved::Identity)),
        ("x-portcullis-anything", Some(Reserved::Identity)),
        ("X_Portcullis_Peer", Some(Reserved::Identity)),
        ("x-forwarded-for", None),
        ("x-forwarded-client-certs", None),
        ("content-type", None),
        ("cookie", None),
        ("hosts", None),
        ("x-portculli", None),
    ] {
        assert_eq!(Reserved::of(&name(field)), reserved, "{field}");
    }
}
