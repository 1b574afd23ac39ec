//! AuthorizationPolicy on live traffic, and what a changed policy does to what is already under way.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use portcullis::demo::lab::{Host, Process};
use portcullis_identity::Clock;
use portcullis_tests::mesh::{COMMAND, ECHO, GREETING, GRPC, HTTP, OPEN, Pair, Plan, WEBSOCKET, curl};
use portcullis_tests::within;

use super::peers::{python_server, script};

const LIMIT: Duration = Duration::from_secs(90);
const DAY: &str = "24h";
/// From the change of a file to the end of what it no longer permits.
const AT_ONCE: Duration = Duration::from_secs(1);
const PING: &[u8] = b"are you there?\n";

const READERS: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: production}
spec:
  selector: {matchLabels: {app: api-service}}
  rules:
  - from: [{source: {principals: [cluster.local/ns/production/sa/client]}}]
    to: [{operation: {methods: [GET], paths: [/public, /public/*], ports: [\"8443\"]}}]
";

/// Everybody may do everything, but for what `rule` denies.
fn all_but(rule: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: but, namespace: production}}\n\
         spec:\n  selector: {{matchLabels: {{app: api-service}}}}\n  action: DENY\n  rules: [{rule}]\n"
    )
}

fn ask(pair: &Pair, path: &str, arguments: &[&str]) -> (String, String) {
    let url = format!("http://{}{path}", pair.service(HTTP));
    let answer = pair.curl(&[&["--path-as-is", "-w", "\n%{http_code}", &url], arguments].concat());
    let (body, status) = answer.stdout.trim_end().rsplit_once('\n').unwrap();
    (status.to_owned(), body.trim_end().to_owned())
}

fn connect(host: &Host, to: std::net::SocketAddr) -> TcpStream {
    let stream = host.in_namespace(|| TcpStream::connect_timeout(&to, COMMAND)).unwrap().unwrap();
    stream.set_read_timeout(Some(COMMAND)).unwrap();
    stream
}

fn echo(mut stream: &TcpStream) -> std::io::Result<()> {
    stream.write_all(PING)?;
    stream.read_exact(&mut [0; PING.len()])
}

fn read_line(mut stream: &TcpStream) {
    let mut byte = [0];
    while byte != *b"\n" {
        stream.read_exact(&mut byte).unwrap();
    }
}

/// Until the first failure; the moment of it.
fn echo_until_cut(stream: &TcpStream) -> Duration {
    while echo(stream).is_ok() {}
    Clock::system().now()
}

#[test]
fn what_no_rule_allows_is_refused_with_the_rule_and_never_reaches_the_app() {
    within(LIMIT, || {
        let plan = Plan::default();
        let pair = Pair::with(DAY, &plan, &plan, |mesh| mesh.policy("readers.yaml", READERS));
        assert_eq!(ask(&pair, "/public/x", &[]).0, "200");
        for (path, arguments, status) in [
            ("/private", &[][..], "403"),
            ("/public/x", &["-X", "DELETE"], "403"),
            ("/public/../private", &[], "403"),
            ("/public/..%2fprivate", &[], "400"),
            ("/public/%252e%252e/private", &[], "400"),
        ] {
            let (seen, body) = ask(&pair, path, arguments);
            assert_eq!(seen, status, "{path} {body}");
        }
        let (_, body) = ask(&pair, "/private", &[]);
        assert!(body.contains("AuthorizationPolicy production/readers"), "{body}");
        // Two requests reached the app: the good one, and the one that asks how many did.
        assert_eq!(ask(&pair, "/public/x", &[]).0, "200");

        let stream = connect(&pair.client.host, pair.service(ECHO));
        assert!(echo(&stream).is_err(), "bytes on a port that no rule allows");
        pair.server
            .line(|line| line.contains("production/readers") && line.contains("refused"), COMMAND)
            .unwrap();
    });
}

#[test]
fn a_changed_policy_ends_what_it_no_longer_permits_and_nothing_else() {
    within(LIMIT, || {
        let pair = Pair::start(DAY);
        let condemned = connect(&pair.client.host, pair.service(ECHO));
        let spared = connect(&pair.client.host, pair.service(GREETING));
        read_line(&spared);
        echo(&condemned).unwrap();
        echo(&spared).unwrap();
        let url = |path: &str| format!("http://{}{path}", pair.service(HTTP));
        let slow = |path: &str| {
            let arguments = ["-sS", "--max-time", "30", "-w", "\n%{http_code}", &url(path)];
            pair.as_app("curl").args(arguments).spawn().unwrap()
        };
        let (doomed, lucky) = (slow("/slow?ms=25000"), slow("/slow?ms=4000"));
        wait_for_requests(&pair, 2);

        // A policy that changes nothing for anybody ends nothing.
        pair.mesh.replace_policy(
            "but.yaml",
            &all_but("{to: [{operation: {paths: [/nowhere], ports: [\"8443\"]}}]}"),
        );
        pair.server.line(|line| line.contains("policy") && line.contains("generation"), COMMAND).unwrap();
        echo(&condemned).unwrap();
        echo(&spared).unwrap();
        assert!(doomed.exit_status().is_none() && lucky.exit_status().is_none());

        let began = Clock::system().now();
        let rule = format!("{{to: [{{operation: {{ports: [\"{ECHO}\"]}}}}]}}");
        pair.mesh.replace_policy("but.yaml", &all_but(&rule));
        let took = echo_until_cut(&condemned) - began;
        assert!(took <= AT_ONCE, "a stream lived on for {took:?}");
        echo(&spared).unwrap();
        assert!(doomed.exit_status().is_none(), "the rule is about another port");
        lucky.wait(COMMAND).unwrap();
        assert!(lucky.output().ends_with("200\n"), "{}", lucky.output());

        let began = Clock::system().now();
        pair.mesh
            .replace_policy("but.yaml", &all_but("{to: [{operation: {paths: [/slow], ports: [\"8443\"]}}]}"));
        doomed.wait(COMMAND).unwrap();
        let took = Clock::system().now() - began;
        assert!(took <= AT_ONCE, "a request lived on for {took:?}");
        assert!(!doomed.output().ends_with("200\n"), "{}", doomed.output());
        assert_eq!(ask(&pair, "/hello", &[]).0, "200");
    });
}

/// Until so many requests are at the app, the one that asks not counted.
fn wait_for_requests(pair: &Pair, wanted: usize) {
    let give_up = Clock::system().now() + COMMAND;
    loop {
        let served: usize = ask(pair, "/count", &[]).1.parse().unwrap();
        if served >= wanted {
            return;
        }
        assert!(Clock::system().now() < give_up, "{served} of {wanted} requests");
    }
}

#[test]
fn plaintext_ends_when_its_port_becomes_strict() {
    within(LIMIT, || {
        let mut pair = Pair::start(DAY);
        let outsider = pair.mesh.host("outsider");
        let url = format!("http://{}/hello", pair.service(OPEN));
        let before = curl(outsider.command("curl"), &[&url]);
        assert!(before.status.success(), "control: {}", before.stderr);
        let mut waiting = connect(&outsider, pair.service(OPEN));
        waiting.write_all(b"GET /slow?ms=25000 HTTP/1.1\r\nhost: service\r\n\r\n").unwrap();

        let began = Clock::system().now();
        pair.mesh.replace_policy(
            "namespace-mtls-policy.yaml",
            "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
             metadata: {name: default, namespace: production}\nspec: {mtls: {mode: STRICT}}\n",
        );
        let mut answer = Vec::new();
        let _in_order_or_not = waiting.read_to_end(&mut answer);
        let took = Clock::system().now() - began;
        assert!(took <= AT_ONCE, "plaintext lived on for {took:?}");
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", answer.escape_ascii());
        assert!(!curl(outsider.command("curl"), &[&url]).status.success());
    });
}

/// A client of the app's that holds one call or connection open, once that has begun.
fn held(pair: &Pair, client: &str, to: &str) -> Process {
    let [python, script] = script(client);
    let held = pair.as_app(&python).args(["-u", &script, to, "hold"]).spawn().unwrap();
    held.wait_for_line(|line| line == "begun", COMMAND).unwrap();
    held
}

/// Denies what `operation` says, and says how the client learns that it is over, which it has to at once.
fn end_by(pair: &Pair, operation: &str, held: &Process) -> String {
    let began = Clock::system().now();
    pair.mesh.replace_policy("but.yaml", &all_but(&format!("{{to: [{{operation: {operation}}}]}}")));
    let ended = held.wait_for_line(|line| line.starts_with("ended"), COMMAND).unwrap();
    let took = Clock::system().now() - began;
    assert!(took <= AT_ONCE, "it lived on for {took:?}: {ended}");
    ended
}

#[test]
fn a_call_and_a_tunnel_under_way_end_with_the_policy_that_permitted_them() {
    within(LIMIT, || {
        let pair = Pair::start(DAY);
        let (grpc, socket) = (pair.service(GRPC).to_string(), pair.service(WEBSOCKET));
        let service = python_server(&pair, "grpc_service.py", &[&grpc]);
        let arguments = [socket.ip().to_string(), socket.port().to_string()];
        let _echo = python_server(&pair, "websocket_echo.py", &arguments.each_ref().map(String::as_str));
        let call = held(&pair, "grpc_client.py", &grpc);
        let tunnel = held(&pair, "websocket_client.py", &format!("ws://{socket}/"));

        let unrelated =
            format!("{{to: [{{operation: {{paths: [/nowhere], ports: [\"{GRPC}\", \"{WEBSOCKET}\"]}}}}]}}");
        pair.mesh.replace_policy("but.yaml", &all_but(&unrelated));
        pair.server.line(|line| line.contains("policy") && line.contains("generation"), COMMAND).unwrap();
        for (what, held) in [("call", &call), ("tunnel", &tunnel)] {
            assert!(held.exit_status().is_none(), "{what}: {}", held.output());
        }

        let hang = format!("{{paths: [/peers.Echo/Hang], ports: [\"{GRPC}\"]}}");
        let ended = end_by(&pair, &hang, &call);
        assert!(!ended.contains("in order"), "what was cut short must not look whole: {ended}");
        service.wait_for_line(|line| line == "cancelled", COMMAND).unwrap();
        assert!(tunnel.exit_status().is_none(), "the rule is about another port: {}", tunnel.output());

        // And the next call is told why, in its own terms.
        let [python, script] = script("grpc_client.py");
        let next = pair.as_app(&python).args(["-u", &script, &grpc, "hold"]).run(COMMAND).unwrap();
        assert!(next.stdout.contains("ended PERMISSION_DENIED"), "{}{}", next.stdout, next.stderr);
        assert!(next.stdout.contains("AuthorizationPolicy production/but"), "{}", next.stdout);

        let ended = end_by(&pair, &format!("{{paths: [/], ports: [\"{WEBSOCKET}\"]}}"), &tunnel);
        assert!(ended.contains("ConnectionClosedError"), "{ended}");
    });
}

#[test]
fn what_an_audit_policy_asks_for_is_in_the_access_log() {
    within(LIMIT, || {
        let watch = format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
             metadata: {{name: watch, namespace: production}}\n\
             spec:\n  selector: {{matchLabels: {{app: api-service}}}}\n  action: AUDIT\n  rules:\n\
             \x20 - to: [{{operation: {{paths: [/hello], ports: [\"{HTTP}\"]}}}}]\n\
             \x20 - to: [{{operation: {{ports: [\"{ECHO}\"]}}}}]\n"
        );
        let plan = Plan::default();
        let pair = Pair::with(DAY, &plan, &plan, |mesh| mesh.policy("watch.yaml", &watch));
        let logged = |parts: [&str; 2]| {
            let line = |line: &str| parts.iter().all(|part| line.contains(part));
            pair.server.line(line, COMMAND).unwrap()
        };
        assert_eq!(ask(&pair, "/hello", &[]).0, "200");
        assert_eq!(ask(&pair, "/count", &[]).0, "200");
        let seen = logged(["\"path\":\"/hello\"", "\"request\""]);
        assert!(seen.contains("\"audit\":\"AuthorizationPolicy production/watch (rules[0])\""), "{seen}");
        let unseen = logged(["\"path\":\"/count\"", "\"request\""]);
        assert!(unseen.contains("\"audit\":\"-\""), "control: {unseen}");

        let stream = connect(&pair.client.host, pair.service(ECHO));
        echo(&stream).unwrap();
        drop(stream);
        let seen = logged([&format!(":{ECHO}\""), "\"stream\""]);
        assert!(seen.contains("production/watch (rules[1])"), "{seen}");

        // The app has seen it, though its caller did not stay for the answer.
        let slow = pair.as_app("curl").args(["-sS", "-m", "1"]);
        let slow = slow.args([format!("http://{}/slow?ms=5000", pair.service(HTTP))]).run(COMMAND).unwrap();
        assert!(!slow.status.success(), "control: {}", slow.stdout);
        let left = logged(["\"path\":\"/slow\"", "\"request\""]);
        assert!(left.contains("client_left"), "{left}");
    });
}
