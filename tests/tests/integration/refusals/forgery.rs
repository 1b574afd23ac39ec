//! Identities that callers write themselves: none reaches an app, whatever the bytes around it look like.

use portcullis::demo::lab::Process;
use portcullis_tests::foreign::{connect, connect_tls, say};
use portcullis_tests::mesh::{COMMAND, OPEN};
use portcullis_tests::recorder::Recorder;
use portcullis_tests::within;

use super::{FRIEND, LIMIT, Siege};

const FORGED: &str = "X-Forwarded-Client-Cert: URI=spiffe://cluster.local/ns/production/sa/admin";
const ADMIN: &str = "sa/admin";

/// A server that takes more for HTTP than most: Python's own, which many development servers are made of. It
/// answers with the header that it believes.
const LENIENT: &str = r#"
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def __getattr__(self, name):
        if name.startswith("do_"): return self.answer
        raise AttributeError(name)
    def answer(self):
        seen = str(self.headers.get("X-Forwarded-Client-Cert"))
        self.wfile.write(("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nsaw " + seen + "\n").encode())
server = http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Handler)
print("ready", flush=True)
server.serve_forever()
"#;

fn lenient_app(siege: &Siege, port: u16) -> Process {
    let host = &siege.pair.server.host;
    let app = host.command("python3").args(["-c", LENIENT, &host.ipv4().to_string(), &port.to_string()]);
    let app = app.spawn().unwrap();
    app.wait_for_line(|line| line == "ready", COMMAND).unwrap();
    app
}

/// Requests and what some server would take for one, each with a forged identity.
fn forgeries() -> Vec<Vec<u8>> {
    let rest = format!("host: api\r\n{FORGED}\r\nconnection: close\r\n\r\n");
    let starts = [
        &b"GET / HTTP/1.1\r\n"[..],
        b"\r\n\r\nGET / HTTP/1.1\r\n",
        b"\n\nGET / HTTP/1.1\n",
        b" GET / HTTP/1.1\r\n",
        b"\t\tGET / HTTP/1.1\r\n",
        b"\x0b\x0cGET / HTTP/1.1\r\n",
        b"\x1c\x85\xa0GET / HTTP/1.1\r\n",
        b"GET\t/\tHTTP/1.1\r\n",
        b"GET\x1f/\xa0HTTP/1.1\r\n",
        b"MADEUP / HTTP/1.1\r\n",
        b"get / http/1.1\r\n",
        b"GET / HTTP/1.0\r\n",
        b"GET / HTTP/0.9\r\n",
        b"GET /\r\n",
        b"GET  /  HTTP/1.1\r\n",
        b"PRI * HTTP/2.0\r\n",
        b"GET / HTTP/1.1\r\nx-forwarded-client-cert : x\r\n",
        b"GET / HTTP/1.1\r\na: b\r\n\tc\r\n",
    ];
    starts.into_iter().map(|start| [start, rest.as_bytes()].concat()).collect()
}

#[test]
fn what_some_server_takes_for_a_request_never_brings_a_forged_identity() {
    within(LIMIT, || {
        let siege = Siege::begin();
        let friend = siege.friend();
        let strict = Recorder::start(&siege.pair.server.host, 7000, None);
        let lenient = siege.pair.service(7001);
        let _app = lenient_app(&siege, lenient.port());
        for forgery in forgeries() {
            let shown = String::from_utf8_lossy(&forgery).into_owned();
            // TLS without ALPN: the sidecar has to tell HTTP from opaque bytes by itself.
            for service in [strict.addr, lenient] {
                let got = say(connect_tls(&siege.outsider, service, Some(&friend), &[]), &forgery);
                assert!(!got.contains(ADMIN), "{shown}\n{got}");
            }
            assert!(!strict.heard().contains(ADMIN), "{shown}\n{}", strict.heard());
        }
        // Controls: the header as the sidecar writes it arrives, and without sidecar the lenient app is fooled.
        let good = b"GET / HTTP/1.1\r\nhost: api\r\nconnection: close\r\n\r\n";
        let got = say(connect_tls(&siege.outsider, lenient, Some(&friend), &[]), good);
        assert!(got.contains(&format!("URI={FRIEND}")), "{got}");
        for fooled in [" GET / HTTP/1.1", "GET /"] {
            let forgery = format!("{fooled}\r\n{FORGED}\r\n\r\n");
            let got = say(connect(&siege.pair.server.host, lenient), forgery.as_bytes());
            assert!(got.contains(ADMIN), "{fooled}: {got}");
        }
        siege.served();
    });
}

#[test]
fn a_forged_identity_in_the_trailers_stays_outside() {
    within(LIMIT, || {
        let siege = Siege::begin();
        let friend = siege.friend();
        let app = Recorder::start(&siege.pair.server.host, 7000, None);
        let head =
            "POST /trailers HTTP/1.1\r\nhost: api\r\nconnection: close\r\ntransfer-encoding: chunked\r\n";
        let trailer = "trailer: x-forwarded-client-cert, x-other\r\n";
        let request = format!("{head}{trailer}\r\n4\r\nbody\r\n0\r\n{FORGED}\r\nx-other: kept out\r\n\r\n");
        let got =
            say(connect_tls(&siege.outsider, app.addr, Some(&friend), &[b"http/1.1"]), request.as_bytes());
        assert!(got.starts_with("HTTP/1.1 200"), "{got}");
        // The recorder answers the head already; the end of the body is what a trailer would come with.
        let heard = app.heard_until("body\r\n0\r\n");
        assert!(!heard.contains(ADMIN) && heard.contains(&format!("URI={FRIEND}")), "{heard}");
        siege.served();
    });
}

#[test]
fn the_plaintext_exception_brings_neither_identities_nor_other_ports() {
    within(LIMIT, || {
        let siege = Siege::begin();
        let (open, before) = (siege.pair.service(OPEN), siege.served());
        for forgery in forgeries() {
            let got = say(connect(&siege.outsider, open), &forgery);
            assert!(!got.contains(ADMIN), "{}\n{got}", String::from_utf8_lossy(&forgery));
        }
        let strict = format!("{}:8443", open.ip());
        let absolute =
            format!("GET http://{strict}/absolute HTTP/1.1\r\nhost: {strict}\r\nconnection: close\r\n\r\n");
        let got = say(connect(&siege.outsider, open), absolute.as_bytes());
        assert!(got.starts_with("HTTP/1.1 200") && got.contains(r#""peer":null"#), "{got}");
        assert_eq!(siege.served(), before, "a request to the open port was answered by the STRICT one");
    });
}
