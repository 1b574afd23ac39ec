//! Real clients and servers of HTTP/2, gRPC and WebSocket, each beside its own sidecar: what works without works with.

use std::fs;
use std::net::TcpStream;
use std::time::Duration;

use portcullis::demo::lab::{Finished, Process};
use portcullis::demo::programs::APP_USER;
use portcullis_identity::Clock;
use portcullis_tests::mesh::{
    COMMAND, GRPC, H2, HTTP, Pair, Plan, UNDECLARED_H2, WEBSOCKET, file, target_dir,
};
use portcullis_tests::within;

const LIMIT: Duration = Duration::from_secs(90);
const DAY: &str = "24h";
const CALLER: &str = "URI=spiffe://cluster.local/ns/production/sa/client";
/// Requests of the heaviest load.
const MANY: usize = 100_000;
/// For the sidecars under it.
const QUIET: &str = "info,portcullis::access=warn";
const HEAVY: Duration = Duration::from_secs(160);
const HEAVY_LIMIT: Duration = Duration::from_secs(175);

/// A script of `tests/peers`, by the Python that `scripts/peers` has prepared.
pub(super) fn script(name: &str) -> [String; 2] {
    let python = target_dir().parent().map(|target| target.join("peers/bin/python"));
    let python = python.filter(|path| path.exists()).expect("target/peers: run scripts/peers");
    let script = format!("{}/peers/{name}", env!("CARGO_MANIFEST_DIR"));
    [python.display().to_string(), script]
}

/// A server of the service's host.
fn serve(pair: &Pair, command: &[&str]) -> Process {
    let (program, arguments) = command.split_first().unwrap();
    pair.server.host.command(program).args(arguments).user(APP_USER).spawn().unwrap()
}

pub(super) fn python_server(pair: &Pair, name: &str, arguments: &[&str]) -> Process {
    let [python, script] = script(name);
    let server = serve(pair, &[&[python.as_str(), "-u", &script], arguments].concat());
    server.wait_for_line(|line| line == "ready", COMMAND).unwrap();
    server
}

fn python_client(pair: &Pair, name: &str, argument: &str) -> Finished {
    let [python, script] = script(name);
    pair.as_app(&python).args(["-u", &script, argument]).run(Duration::from_secs(60)).unwrap()
}

/// nghttp2's own server on both ports, declared as HTTP/2 and not declared at all, and what it serves.
fn nghttpd(pair: &Pair) -> [Process; 2] {
    let root = pair.mesh.dir().join("pages");
    fs::create_dir_all(&root).unwrap();
    fs::write(root.join("index.html"), "over two\n").unwrap();
    fs::write(root.join("large"), vec![b'x'; 3_000_000]).unwrap();
    let (address, root) = (pair.server.host.ipv4().to_string(), root.display().to_string());
    [H2, UNDECLARED_H2].map(|port| {
        let number = port.to_string();
        let server = serve(pair, &["nghttpd", "--no-tls", "--address", &address, "--htdocs", &root, &number]);
        // It says nothing when it is ready.
        let give_up = Clock::system().now() + COMMAND;
        while pair.server.host.in_namespace(|| TcpStream::connect(pair.service(port))).unwrap().is_err() {
            assert!(Clock::system().now() < give_up, "nghttpd: {}", server.output());
        }
        server
    })
}

fn url(pair: &Pair, port: u16, path: &str) -> String {
    format!("http://{}{path}", pair.service(port))
}

#[test]
fn curl_with_prior_knowledge_of_http2_gets_through_to_either_kind_of_app() {
    within(LIMIT, || {
        let pair = Pair::start(DAY);
        let _servers = nghttpd(&pair);
        for (port, path, body) in
            [(H2, "/", "over two"), (UNDECLARED_H2, "/", "over two"), (HTTP, "/hello", CALLER)]
        {
            let told = "%{http_version} %{http_code}";
            let url = url(&pair, port, path);
            let answer = pair.curl(&["--http2-prior-knowledge", "-w", told, &url]);
            assert!(answer.stdout.contains(body), "{port}: {}{}", answer.stdout, answer.stderr);
            assert!(answer.stdout.trim_end().ends_with("2 200"), "{port}: {}", answer.stdout);
        }
        let url = url(&pair, H2, "/");
        let answer = pair.curl(&["-w", "%{http_version} %{http_code}", &url]);
        assert!(
            answer.stdout.trim_end().ends_with("over two\n1.1 200"),
            "1.1 to an app of 2: {}",
            answer.stdout
        );
    });
}

#[test]
fn nghttp_sends_and_gets_large_bodies_on_many_streams() {
    within(LIMIT, || {
        let pair = Pair::start(DAY);
        let _servers = nghttpd(&pair);
        let sent = file(pair.mesh.dir(), "sent", &vec![b'y'; 2_000_000]).display().to_string();
        for port in [H2, UNDECLARED_H2] {
            let large = url(&pair, port, "/large");
            let got = pair
                .as_app("nghttp")
                .args(["--stat", "--null-out", "-m", "20", &large])
                .run(COMMAND)
                .unwrap();
            // `id responseEnd requestStart process code size request path`
            let whole =
                got.stdout.lines().filter(|line| line.contains("200") && line.ends_with("/large")).count();
            assert_eq!(whole, 20, "{port}: {}{}", got.stdout, got.stderr);
            assert!(!got.stdout.contains("RST_STREAM"), "{}", got.stdout);
            let posted = pair.as_app("nghttp").args(["-v", "--data", &sent, &large]).run(COMMAND).unwrap();
            assert!(posted.stdout.contains(":status: 200"), "{port}: {}{}", posted.stdout, posted.stderr);
        }
    });
}

#[test]
fn h2load_gets_an_answer_to_each_of_a_hundred_thousand_requests() {
    within(HEAVY_LIMIT, || {
        // Without the lines of the access log, which take a good part of the time and are tested elsewhere.
        let quiet = Plan { arguments: &["--log", QUIET], ..Plan::default() };
        let pair = Pair::with(DAY, &quiet, &quiet, |_| {});
        let _servers = nghttpd(&pair);
        let arguments = ["-n", &MANY.to_string(), "-c", "10", "-m", "10", &url(&pair, H2, "/")];
        let load = pair.as_app("h2load").args(arguments).run(HEAVY).unwrap();
        let succeeded = format!("{MANY} succeeded, 0 failed, 0 errored, 0 timeout");
        assert!(load.stdout.contains(&succeeded), "{}{}", load.stdout, load.stderr);
        assert!(load.stdout.contains(&format!("status codes: {MANY} 2xx")), "{}", load.stdout);
    });
}

#[test]
fn grpc_works_in_all_four_forms_and_says_who_called() {
    within(LIMIT, || {
        let pair = Pair::start(DAY);
        let address = pair.service(GRPC).to_string();
        let server = python_server(&pair, "grpc_service.py", &[&address]);
        let client = python_client(&pair, "grpc_client.py", &address);
        assert!(client.stdout.ends_with("done\n"), "{}{}", client.stdout, client.stderr);
        let caller = client.stdout.lines().find(|line| line.starts_with("caller:")).unwrap();
        assert!(caller.ends_with(CALLER), "{caller}");
        // The client cancelled its last call: the service must learn of it.
        server.wait_for_line(|line| line == "cancelled", COMMAND).unwrap();
    });
}

#[test]
fn websockets_carry_messages_pings_and_the_reason_of_the_end() {
    within(LIMIT, || {
        let pair = Pair::start(DAY);
        let service = pair.service(WEBSOCKET);
        let arguments = [service.ip().to_string(), service.port().to_string()];
        let _server = python_server(&pair, "websocket_echo.py", &arguments.each_ref().map(String::as_str));
        let client = python_client(&pair, "websocket_client.py", &format!("ws://{service}/"));
        assert!(client.stdout.ends_with("done\n"), "{}{}", client.stdout, client.stderr);
        let caller = client.stdout.lines().find(|line| line.starts_with("caller:")).unwrap();
        assert!(caller.ends_with(CALLER), "{caller}");
    });
}
