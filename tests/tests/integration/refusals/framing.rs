//! HTTP/1.1 that could be read in two ways, from a peer with a good certificate: refused, or made unambiguous.

use portcullis_tests::foreign::{connect_tls, say};
use portcullis_tests::recorder::Recorder;
use portcullis_tests::within;

use super::{FRIEND, LIMIT, Siege};

const HTTP1: &[&[u8]] = &[b"http/1.1"];
/// More than a sidecar reads at once.
const LONG: usize = 64 * 1024;
const SMUGGLED: &str =
    "GET /smuggled HTTP/1.1\r\nhost: api\r\nx-forwarded-client-cert: URI=spiffe://a/b\r\n\r\n";

/// Name, start line and fields, and the status they get.
fn ambiguous() -> Vec<(&'static str, String, &'static str)> {
    let post = |fields: &str| format!("POST / HTTP/1.1\r\nhost: api\r\n{fields}\r\n");
    let get = |target: &str, fields: &str| format!("GET {target} HTTP/1.1\r\n{fields}\r\n");
    vec![
        ("two lengths", post("content-length: 4\r\ncontent-length: 5\r\n"), "400"),
        ("a list of lengths", post("content-length: 4, 4\r\n"), "400"),
        ("a length with a sign", post("content-length: +4\r\n"), "400"),
        ("a hexadecimal length", post("content-length: 0x4\r\n"), "400"),
        ("chunked and then something", post("transfer-encoding: chunked, identity\r\n"), "400"),
        ("almost chunked", post("transfer-encoding: xchunked\r\n"), "400"),
        (
            "chunked before 1.1",
            "POST / HTTP/1.0\r\nhost: api\r\ntransfer-encoding: chunked\r\n\r\n".into(),
            "400",
        ),
        ("a space before the colon", post("content-length : 4\r\n"), "400"),
        ("a folded line", post("a: b\r\n\tc\r\n"), "400"),
        ("a NUL", post("a: b\0c\r\n"), "400"),
        ("a bare CR", post("a: b\rcontent-length: 4\r\n"), "400"),
        ("another absolute target", get("http://other/", "host: api\r\n"), "400"),
        ("two hosts", get("/", "host: api\r\nhost: other\r\n"), "400"),
        ("no host", get("/", ""), "400"),
        ("an empty host", get("/", "host:\r\n"), "400"),
        ("a user in the host", get("/", "host: user@api\r\n"), "400"),
        ("a list of hosts", get("/", "host: api, other\r\n"), "400"),
        ("an authority for a path", get("api:80", "host: api:80\r\n"), "400"),
        (
            "a body before an upgrade",
            post("connection: upgrade\r\nupgrade: websocket\r\ncontent-length: 4\r\n"),
            "400",
        ),
        (
            "chunks before an upgrade",
            post("connection: upgrade\r\nupgrade: tcp\r\ntransfer-encoding: chunked\r\n"),
            "400",
        ),
        ("CONNECT", "CONNECT other:443 HTTP/1.1\r\nhost: other:443\r\n\r\n".into(), "400"),
        ("a head of 160 KiB", get("/", &format!("host: api\r\na: {}\r\n", "a".repeat(160 * 1024))), "431"),
        ("200 fields", get("/", &format!("host: api\r\n{}", "a: b\r\n".repeat(200))), "431"),
    ]
}

#[test]
fn a_request_that_reads_in_two_ways_is_refused() {
    within(LIMIT, || {
        let siege = Siege::begin();
        let friend = siege.friend();
        let app = Recorder::start(&siege.pair.server.host, 7000, None);
        for (name, head, status) in ambiguous() {
            let attack = format!("{head}0\r\n\r\n{SMUGGLED}");
            let got = siege.refused("bad_request", &["bad request"], || {
                say(connect_tls(&siege.outsider, app.addr, Some(&friend), HTTP1), attack.as_bytes())
            });
            // With bytes still unread the end is a reset, which may overtake the answer.
            let overtaken = attack.len() > LONG && got.is_empty();
            assert!(overtaken || got.starts_with(&format!("HTTP/1.1 {status}")), "{name}: {got}");
            assert!(!app.heard().contains("smuggled"), "{name}: {}", app.heard());
        }
        assert_eq!(app.heard(), "");
        let good = b"GET /good HTTP/1.1\r\nhost: api\r\nconnection: close\r\n\r\n";
        let got = say(connect_tls(&siege.outsider, app.addr, Some(&friend), HTTP1), good);
        assert!(got.starts_with("HTTP/1.1 200") && app.heard().contains(&format!("URI={FRIEND}")), "{got}");
        siege.served();
    });
}

#[test]
fn what_is_let_through_reaches_the_app_in_one_reading() {
    within(LIMIT, || {
        let siege = Siege::begin();
        let friend = siege.friend();
        let tell = |port: u16, request: &str| {
            let app = Recorder::start(&siege.pair.server.host, port, None);
            let got = say(connect_tls(&siege.outsider, app.addr, Some(&friend), HTTP1), request.as_bytes());
            assert!(got.starts_with("HTTP/1.1 200"), "{request}\n{got}");
            // The recorder answers the head of a chunked request already.
            let end = if request.contains("chunked") { "0\r\n\r\n" } else { "" };
            (app.heard_until(end), got)
        };
        let close = "connection: close\r\n";
        for (port, fields) in [
            (7001, "content-length: 4\r\ntransfer-encoding: chunked\r\n"),
            (7002, "transfer-encoding: chunked\r\ncontent-length: 4\r\n"),
        ] {
            let both = format!("POST /both HTTP/1.1\r\nhost: api\r\n{close}{fields}\r\n0\r\n\r\n{SMUGGLED}");
            let (heard, _) = tell(port, &both);
            assert!(heard.contains("transfer-encoding: chunked"), "{heard}");
            assert!(!heard.contains("content-length") && !heard.contains("smuggled"), "{heard}");
        }
        let (heard, _) = tell(7003, &format!("GET /lf HTTP/1.1\nhost: api\n{close}\n").replace('\r', ""));
        assert_eq!(heard.matches('\n').count(), heard.matches("\r\n").count(), "{heard:?}");
        let upgrade = "upgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n";
        let listed = "connection: upgrade, http2-settings, close\r\n";
        let (heard, _) = tell(7004, &format!("GET /h2c HTTP/1.1\r\nhost: api\r\n{listed}{upgrade}\r\n"));
        assert!(!heard.contains("upgrade") && !heard.contains("http2-settings"), "{heard}");
        let one = "GET /pipelined HTTP/1.1\r\nhost: api\r\nx-forwarded-client-cert: URI=spiffe://a/b\r\n";
        let (heard, got) = tell(7005, &format!("{one}\r\n{one}\r\n{one}{close}\r\n"));
        assert_eq!(got.matches("HTTP/1.1 200").count(), 3, "{got}");
        assert_eq!(heard.matches(&format!("URI={FRIEND}")).count(), 3, "{heard}");
        assert!(!heard.contains("spiffe://a/b"), "{heard}");
        siege.served();
    });
}
