//! A client and a service under the sample policy: what gets through, and as whom.

use std::time::Duration;

use portcullis_tests::mesh::{ECHO, GREETING, HTTP, OPEN, Pair, file, metrics, status};
use portcullis_tests::within;

const LIMIT: Duration = Duration::from_secs(90);
const DAY: &str = "24h";

/// A TCP client in Python: sends `send`, closes its side, prints all that comes back.
const HALF_CLOSE: &str = r#"
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=15)
s.sendall(sys.argv[3].encode())
s.shutdown(socket.SHUT_WR)
got = b""
while chunk := s.recv(65536): got += chunk
print(got.decode())
"#;

/// A TCP client in Python that says nothing before it has been greeted.
const GREETED: &str = r#"
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=15)
line = s.makefile("rb").readline()
s.sendall(b"thanks\n")
print(line.decode().strip(), s.recv(100).decode().strip())
"#;

fn url(pair: &Pair, port: u16, path: &str) -> String {
    format!("http://{}{path}", pair.service(port))
}

#[test]
fn the_app_sees_who_called_and_no_identity_that_the_caller_wrote() {
    within(LIMIT, || {
        let pair = Pair::start(DAY);
        let forged = "x-forwarded-client-cert: URI=spiffe://cluster.local/ns/production/sa/admin";
        let underscored = "x_forwarded_client_cert: URI=spiffe://cluster.local/ns/production/sa/admin";
        let listed = "connection: x-forwarded-client-cert";
        let headers = ["-H", forged, "-H", underscored, "-H", listed];
        let url = url(&pair, HTTP, "/hello");
        let answer = pair.curl(&[&headers[..], &[&url]].concat());
        assert!(answer.status.success(), "{}", answer.stderr);
        let seen: serde_json::Value = serde_json::from_str(&answer.stdout).unwrap();
        let peer = seen["peer"].as_str().unwrap();
        assert!(peer.starts_with("By=spiffe://cluster.local/ns/production/sa/api-service;Hash="), "{peer}");
        assert!(peer.ends_with(";URI=spiffe://cluster.local/ns/production/sa/client"), "{peer}");
        assert!(!answer.stdout.contains("admin"), "{}", answer.stdout);
    });
}

#[test]
fn bodies_travel_whole_both_ways() {
    within(LIMIT, || {
        let pair = Pair::start(DAY);
        let bytes: Vec<u8> = (0u32..4_000_000).flat_map(|n| n.to_le_bytes()).collect();
        let sent = file(pair.mesh.dir(), "sent", &bytes).display().to_string();
        let got = file(pair.mesh.dir(), "got", b"");
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        std::fs::set_permissions(&got, open).unwrap();
        let data = format!("@{sent}");
        for framing in ["expect:", "transfer-encoding: chunked"] {
            let url = url(&pair, HTTP, "/echo");
            let output = got.display().to_string();
            let answer = pair.curl(&["-H", framing, "--data-binary", &data, "-o", &output, &url]);
            assert!(answer.status.success(), "{framing}: {}", answer.stderr);
            assert!(std::fs::read(&got).unwrap() == bytes, "{framing}: other bytes came back");
        }
    });
}

#[test]
fn head_and_expect_and_keepalive_work_as_without_a_sidecar() {
    within(LIMIT, || {
        let pair = Pair::start(DAY);
        let url = url(&pair, HTTP, "/hello");
        let head = pair.curl(&["--head", &url]);
        assert!(head.stdout.starts_with("HTTP/1.1 200"), "{}{}", head.stdout, head.stderr);
        let body = "a".repeat(2000);
        let expect = pair.curl(&["-H", "expect: 100-continue", "--data", &body, &url]);
        assert_eq!(expect.stdout, body + "\n", "{}", expect.stderr);
        // Two requests on one connection of the app: curl says how many it had to make.
        let twice = pair.curl(&["-o", "/dev/null", "-o", "/dev/null", "-w", "%{num_connects}\n", &url, &url]);
        assert_eq!(twice.stdout, "1\n0\n", "{}", twice.stderr);
    });
}

#[test]
fn opaque_tcp_keeps_half_closes_declared_or_not() {
    within(LIMIT, || {
        let pair = Pair::start(DAY);
        let text = "neither HTTP nor TLS\n".repeat(3000);
        let python = pair.as_app("python3").args(["-c", HALF_CLOSE]);
        let service = pair.service(ECHO);
        let python = python.args([&service.ip().to_string(), &service.port().to_string(), &text]);
        let echoed = python.check(Duration::from_secs(20)).unwrap();
        assert!(echoed.trim_end() == text.trim_end(), "{} bytes came back", echoed.len());
    });
}

#[test]
fn a_declared_server_may_speak_first() {
    within(LIMIT, || {
        let pair = Pair::start(DAY);
        let service = pair.service(GREETING);
        let python = pair.as_app("python3").args(["-c", GREETED]);
        let python = python.args([&service.ip().to_string(), &service.port().to_string()]);
        let greeted = python.check(Duration::from_secs(20)).unwrap();
        assert!(greeted.contains("thanks"), "{greeted}");
    });
}

#[test]
fn a_sidecar_tells_of_itself_and_only_where_it_should() {
    within(LIMIT, || {
        let mut pair = Pair::start(DAY);
        assert!(pair.curl(&[&url(&pair, HTTP, "/hello")]).status.success());
        let address = pair.server.host.ipv4();
        let outsider = pair.mesh.host("outsider");
        let ask = |port: u16, path: &str| status(&outsider, &format!("http://{address}:{port}{path}"));
        assert_eq!(ask(15021, "/healthz/ready"), "200");
        assert_eq!(ask(15021, "/metrics"), "404", "probes tell nothing else");
        assert_eq!(ask(15090, "/metrics"), "000", "metrics are for proven peers");
        assert_eq!(ask(15000, "/metrics"), "000", "the admin port is for loopback");
        assert_eq!(ask(OPEN, "/hello"), "200");
        let metrics = metrics(&pair.server.host);
        for line in [
            "portcullis_ready 1",
            r#"portcullis_exception_open{direction="inbound",port="8080",justified="false"} 1"#,
            r#"portcullis_requests_total{direction="inbound",code="2xx"} 2"#,
            r#"portcullis_refusals_total{direction="inbound",reason="not_tls"} 1"#,
        ] {
            assert!(metrics.contains(line), "{line} is not in\n{metrics}");
        }
    });
}

#[test]
fn a_draining_sidecar_finishes_what_is_under_way() {
    within(LIMIT, || {
        let mut pair = Pair::start(DAY);
        let url = url(&pair, HTTP, "/slow?ms=1500");
        let slow = pair.as_app("curl").args(["-sS", "-w", "%{http_code}", &url]).spawn().unwrap();
        pair.wait_for_metric(r#"portcullis_connections_open{direction="inbound"} 1"#);
        let status = pair.server.terminate(Duration::from_secs(10)).unwrap();
        assert!(status.success(), "{status}");
        slow.wait(Duration::from_secs(10)).unwrap();
        assert!(slow.output().trim_end().ends_with("200"), "{}", slow.output());
    });
}

#[test]
fn a_request_that_its_caller_gave_up_frees_its_connections() {
    within(LIMIT, || {
        let pair = Pair::start(DAY);
        let url = url(&pair, HTTP, "/slow?ms=60000");
        let slow = pair.as_app("curl").args(["-sS", &url]).spawn().unwrap();
        pair.wait_for_metric(r#"portcullis_connections_open{direction="inbound"} 1"#);
        slow.kill();
        pair.wait_for_metric(r#"portcullis_connections_open{direction="inbound"} 0"#);
    });
}
