//! What the own app asks for and does not get: it is told why, and the wrong server hears nothing of it.

use std::net::Ipv4Addr;
use std::sync::Arc;

use portcullis::demo::lab::Finished;
use portcullis::demo::programs::APP_USER;
use portcullis_tests::foreign::{Root, Shown, leaf_params};
use portcullis_tests::mesh::{COMMAND, HTTP, Mesh, OPEN, Pair, Plan, curl};
use portcullis_tests::recorder::Recorder;
use portcullis_tests::within;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::SingleCertAndKey;
use serde_json::Value;

use super::{DAY, LIMIT, Siege, refused};

/// What the app sends, and nobody but the right server may hear.
const CANARY: &str = "canary-7d1f03";
/// The wrong server's ports for HTTP; the same server for opaque TCP listens 100 above.
const OTHER_SERVICE: u16 = 9101;
const NO_TLS: u16 = 9102;
const OTHER_ROOT: u16 = 9103;
const NOT_MUTUAL: u16 = 9104;
const NOBODY: u16 = 9105;
const EXCLUDED: u16 = 9106;
/// Of the wrong server, without a declared protocol.
const UNDECLARED: u16 = 9107;
/// From HTTP to TCP.
const AS_TCP: u16 = 100;

/// A TCP client in Python: prints what became of the connection.
const TCP: &str = r#"
import socket, sys
try:
    s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=15)
    if sys.argv[3]: s.sendall(sys.argv[3].encode())
    print("got", s.recv(65536))
except ConnectionError as error:
    print(type(error).__name__)
"#;

/// A pair, and a server that is not what the client's policy says it is.
struct Detour {
    siege: Siege,
    wrong: Ipv4Addr,
    servers: Vec<Recorder>,
}

impl Detour {
    fn begin() -> Self {
        let root = Root::new("root");
        let mut mesh = Mesh::under(&root, DAY);
        let (outsider, host) = (mesh.host("outsider"), mesh.host("wrong"));
        let good = leaf_params("spiffe://cluster.local/ns/production/sa/wrong");
        let right = root.leaf(&good, 0);
        let mut servers = Vec::new();
        for offset in [0, AS_TCP] {
            let other = root.leaf(&leaf_params("spiffe://cluster.local/ns/other/sa/wrong"), 0);
            let mut serve = |port: u16, tls| servers.push(Recorder::start(&host, port + offset, tls));
            serve(OTHER_SERVICE, Some(server(&other, Some(&root))));
            serve(NO_TLS, None);
            serve(OTHER_ROOT, Some(server(&Root::new("root").leaf(&good, 0), Some(&root))));
            serve(NOT_MUTUAL, Some(server(&right, None)));
            serve(EXCLUDED, Some(server(&right, Some(&root))));
        }
        let plan = Plan { bootstrap: super::IMPATIENT, ..Plan::default() };
        let pair = Pair::in_mesh(mesh, &plan, &plan, |mesh| mesh.policy("wrong.yaml", &policy(host.ipv4())));
        Self { siege: Siege { root, pair, outsider }, wrong: host.ipv4(), servers }
    }

    /// The app's request over HTTP.
    fn ask(&self, port: u16) -> Finished {
        let url = format!("http://{}:{port}/{CANARY}", self.wrong);
        self.siege.pair.curl(&["-H", &format!("x-secret: {CANARY}"), "--data", CANARY, "-D", "-", &url])
    }

    /// The app's bytes over TCP, and how that ended.
    fn tell(&self, port: u16, text: &str) -> String {
        let python = self.siege.pair.as_app("python3").args(["-c", TCP, &self.wrong.to_string()]);
        python.args([&port.to_string(), text]).check(COMMAND).unwrap()
    }

    /// The client's sidecar refuses its app once for `reason`.
    fn refused<T>(&self, reason: &str, says: &[&str], attempt: impl FnOnce() -> T) -> T {
        let from = format!("refused: app {}:", self.siege.pair.client.host.ipv4());
        refused(&self.siege.pair.client, "outbound", reason, &[&[from.as_str()], says].concat(), attempt)
    }

    /// No wrong server has heard of the canary, and the right one still answers.
    fn nothing_leaked(&self) {
        for server in &self.servers {
            assert!(!server.heard().contains(CANARY), "{}: {}", server.addr, server.heard());
        }
        self.siege.served();
    }
}

/// A TLS server that shows `shown`, and asks for certificates of `clients` or for none.
fn server(shown: &Shown, clients: Option<&Root>) -> Arc<ServerConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        Some(root) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(root.store().into(), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(shown.certified_key())));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// The service `wrong`, every port of it served by one who is wrong in another way.
fn policy(wrong: Ipv4Addr) -> String {
    let http = [OTHER_SERVICE, NO_TLS, OTHER_ROOT, NOT_MUTUAL, NOBODY, EXCLUDED];
    let ports = http.map(|port| {
        let tcp = port + AS_TCP;
        format!(
            "  - {{number: {port}, name: http-{port}, protocol: HTTP}}\n  - {{number: {tcp}, name: tcp-{tcp}, protocol: TCP}}\n"
        )
    });
    let excluded = [EXCLUDED, EXCLUDED + AS_TCP].map(|port| {
        format!(
            "    - port: {{number: {port}}}\n      tls: {{mode: ISTIO_MUTUAL, subjectAltNames: ['spiffe://cluster.local/ns/production/sa/right']}}\n"
        )
    });
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: wrong, namespace: production}}
spec:
  hosts: [wrong.production.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports:
{}  - {{number: {UNDECLARED}, name: undeclared}}
  endpoints:
  - {{address: {wrong}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: wrong, namespace: production}}
spec:
  host: wrong.production.svc.cluster.local
  trafficPolicy:
    portLevelSettings:
{}",
        ports.concat(),
        excluded.concat()
    )
}

/// Status and reason, as the app reads them.
fn told(answer: &Finished) -> (String, Value) {
    let (head, body) = answer.stdout.split_once("\r\n\r\n").unwrap_or_default();
    let reason = serde_json::from_str(body).unwrap_or_else(|_| panic!("{}{}", answer.stdout, answer.stderr));
    (head.lines().next().unwrap_or_default().to_owned(), reason)
}

#[test]
fn a_server_that_is_not_who_was_asked_for_hears_nothing() {
    within(LIMIT, || {
        let detour = Detour::begin();
        for (port, status, reason, says) in [
            (
                OTHER_SERVICE,
                "502",
                "unexpected_peer",
                "the server is spiffe://cluster.local/ns/other/sa/wrong",
            ),
            (NO_TLS, "502", "not_tls", "wrong.production.svc.cluster.local"),
            (OTHER_ROOT, "502", "untrusted_issuer", "spiffe://cluster.local/ns/production/sa/wrong"),
            (NOT_MUTUAL, "502", "not_mutual", "wrong.production.svc.cluster.local"),
            (EXCLUDED, "502", "unexpected_peer", "expected spiffe://cluster.local/ns/production/sa/right"),
            (NOBODY, "503", "upstream_unreachable", "wrong.production.svc.cluster.local"),
        ] {
            let addr = format!("{}:{port}", detour.wrong);
            let answer = detour.refused(reason, &[says, &addr], || detour.ask(port));
            let (line, told) = told(&answer);
            assert!(line.starts_with(&format!("HTTP/1.1 {status}")), "{line}");
            assert_eq!(told["refused"], reason, "{told}");
            assert!(told["reason"].as_str().unwrap().contains(says), "{told}");
            let addr = format!("{}:{}", detour.wrong, port + AS_TCP);
            let ended = detour.refused(reason, &[says, &addr], || detour.tell(port + AS_TCP, CANARY));
            assert_eq!(ended.trim(), "ConnectionResetError", "{reason}");
        }
        detour.nothing_leaked();
    });
}

#[test]
fn where_no_policy_leads_nothing_goes() {
    within(LIMIT, || {
        let detour = Detour::begin();
        let unknown = format!("{}:9999: no ServiceEntry declares it", detour.wrong);
        let says = [unknown.as_str()];
        let ended = detour.refused("unknown_address", &says, || detour.tell(9999, CANARY));
        assert_eq!(ended.trim(), "ConnectionResetError");
        let answer = detour.refused("unknown_address", &says, || detour.ask(9999));
        let (line, told) = told(&answer);
        assert!(line.starts_with("HTTP/1.1 502"), "{line}");
        assert_eq!(told["refused"], "unknown_address", "{told}");
        let says = ["the protocol could not be told"];
        let ended = detour.refused("undetected_protocol", &says, || detour.tell(UNDECLARED, ""));
        assert_eq!(ended.trim(), "ConnectionResetError");
        detour.nothing_leaked();
    });
}

#[test]
fn a_sidecar_without_certificate_lets_nothing_out_and_says_why() {
    within(LIMIT, || {
        let mut siege = Siege::begin();
        let host = siege.pair.mesh.host("late");
        let mut late = siege.pair.mesh.sidecar(&host, &Plan { name: "late", ..Plan::default() });
        siege.pair.mesh.authority.kill();
        late.start().unwrap();
        late.line(|line| line.contains(r#""message":"no certificate""#), COMMAND).unwrap();
        let before = siege.served();
        let service = siege.pair.service(HTTP).ip();
        let ask = |port: u16| {
            let url = format!("http://{service}:{port}/{CANARY}");
            curl(host.command("curl").user(APP_USER), &["-D", "-", "--data", CANARY, &url])
        };
        let says = ["refused: app", "this sidecar holds no valid certificate"];
        let answer = refused(&late, "outbound", "uncertified", &says, || ask(HTTP));
        let (line, told) = told(&answer);
        assert!(line.starts_with("HTTP/1.1 503"), "{line}");
        assert_eq!(told["refused"], "uncertified", "{told}");
        // The port that the service opens to plaintext is no way out either.
        let answer = refused(&late, "outbound", "uncertified", &says, || ask(OPEN));
        assert!(answer.stdout.starts_with("HTTP/1.1 503"), "{}", answer.stdout);
        assert_eq!(siege.served(), before);
        siege.pair.mesh.authority.start_again().unwrap();
        late.ready().unwrap();
        let answer = ask(HTTP);
        assert!(answer.stdout.starts_with("HTTP/1.1 200"), "{}{}", answer.stdout, answer.stderr);
    });
}
