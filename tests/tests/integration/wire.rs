//! The proof: seen from the far end, from before the set-up on, a workload's traffic is mutual TLS and nothing else.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use portcullis::demo::lab::{Host, Process};
use portcullis::demo::programs::{APP_USER, Sidecar};
use portcullis_tests::capture::Capture;
use portcullis_tests::mesh::{Mesh, Plan};
use portcullis_tests::streams::{Leak, check};
use portcullis_tests::{as_user, within};

const LIMIT: Duration = Duration::from_secs(180);
const SOON: Duration = Duration::from_secs(10);
const CANARY: &[u8] = b"canary-91d2ab44";
const PORT: u16 = 8443;

/// Hosts of a client and a server of namespace production, which have nothing yet, and a mesh around them.
struct Hosts {
    mesh: Mesh,
    client: Host,
    server: Host,
}

impl Hosts {
    fn new() -> Self {
        let mut mesh = Mesh::start("24h");
        let (client, server) = (mesh.host("client"), mesh.host("server"));
        mesh.policy("server.yaml", &service_entry(server.addresses()));
        Self { mesh, client, server }
    }

    fn capture_both(&self) -> [Capture; 2] {
        [&self.client, &self.server].map(|host| Capture::start(&self.mesh.lab, host).unwrap())
    }

    /// Sidecars, client and server, with interception but not yet running, and the server's app.
    fn intercept(&self) -> ([Sidecar; 2], Process) {
        let sidecars = [&self.client, &self.server]
            .map(|host| self.mesh.sidecar(host, &Plan { name: host.name(), ..Plan::default() }));
        let app = self.server.command(&self.mesh.programs.hello).user(APP_USER);
        let app = app.args(["--listen", &format!("[::]:{PORT}")]).spawn().unwrap();
        app.wait_for_line(|line| line.contains("ready"), SOON).unwrap();
        (sidecars, app)
    }
}

fn run(sidecar: &mut Sidecar) {
    sidecar.start().unwrap();
    sidecar.ready().unwrap();
}

fn service_entry([v4, v6]: [IpAddr; 2]) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
         metadata: {{name: server, namespace: production}}\n\
         spec:\n  hosts: [server.production.svc.cluster.local]\n  addresses: [\"{v4}\", \"{v6}\"]\n\
         \x20 location: MESH_INTERNAL\n  resolution: STATIC\n\
         \x20 ports: [{{number: {PORT}, name: http, protocol: HTTP}}]\n\
         \x20 endpoints: [{{address: \"{v4}\"}}]\n"
    )
}

/// One request of the app, with the canary in path and body; the status line and all that follows.
fn call(from: &Host, to: SocketAddr) -> io::Result<String> {
    let connect = || as_user(APP_USER, || TcpStream::connect_timeout(&to, SOON));
    let mut stream = from.in_namespace(connect).unwrap()?;
    stream.set_read_timeout(Some(SOON))?;
    let canary = CANARY.escape_ascii();
    let length = CANARY.len();
    write!(
        stream,
        "POST /{canary} HTTP/1.1\r\nhost: server.production.svc.cluster.local\r\nconnection: close\r\n\
         content-length: {length}\r\n\r\n{canary}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn a_call_between_workloads_is_mutual_tls_from_the_first_byte_on_and_nothing_else_is_on_the_wire() {
    within(LIMIT, || {
        let hosts = Hosts::new();
        let captures = hosts.capture_both();
        let (mut sidecars, _app) = hosts.intercept();
        // Before there are sidecars, apps are refused: they do not fall back to the open wire.
        for address in hosts.server.addresses() {
            let refused = call(&hosts.client, (address, PORT).into()).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        }
        sidecars.iter_mut().for_each(run);
        for address in hosts.server.addresses() {
            let answer = call(&hosts.client, (address, PORT).into()).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
        for mut sidecar in sidecars {
            sidecar.terminate(SOON).unwrap();
        }
        for capture in captures {
            let found = check(&capture.stop().unwrap(), CANARY, |_| false);
            found.assert_clean();
            // At least with the authority, both ways, and one call, both ways.
            assert!(found.tls_streams >= 4, "{found:?}");
        }
    });
}

#[test]
fn a_hundred_sidecars_killed_under_load_leak_nothing() {
    within(LIMIT, || {
        let hosts = Hosts::new();
        let captures = hosts.capture_both();
        let (mut sidecars, _app) = hosts.intercept();
        sidecars.iter_mut().for_each(run);
        let to = SocketAddr::new(hosts.server.ipv4().into(), PORT);
        let url = format!("http://{to}/{}", CANARY.escape_ascii());
        let load = hosts.client.command(&hosts.mesh.programs.load).user(APP_USER);
        let load = load.args(["--url", &url, "--rate", "200", "--duration", "600"]).spawn().unwrap();
        for round in 0..100 {
            let sidecar = &mut sidecars[round % 2];
            sidecar.kill();
            if sidecar.host.name() == "client" {
                assert_eq!(call(&hosts.client, to).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
            }
            run(sidecar);
            let answer = call(&hosts.client, to).unwrap();
            let logs = || sidecars.each_ref().map(Sidecar::log).join("\nserver:\n");
            assert!(answer.starts_with("HTTP/1.1 200"), "round {round}: {answer}\nclient:\n{}", logs());
        }
        assert_eq!(load.exit_status(), None, "the load went on all the time");
        drop((load, sidecars));
        for capture in captures {
            let found = check(&capture.stop().unwrap(), CANARY, |_| false);
            found.assert_clean();
            assert!(found.tls_streams >= 200, "{found:?}");
        }
    });
}

#[test]
fn without_rules_the_same_call_is_seen_in_the_clear() {
    within(LIMIT, || {
        let hosts = Hosts::new();
        let captures = hosts.capture_both();
        let (sidecars, _app) = hosts.intercept();
        for sidecar in sidecars {
            sidecar.intercept("remove").unwrap();
        }
        let answer = call(&hosts.client, (hosts.server.ipv4(), PORT).into()).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        for capture in captures {
            let found = check(&capture.stop().unwrap(), CANARY, |_| false);
            assert!(found.leaks.iter().any(|leak| matches!(leak, Leak::Canary(_))), "{found:?}");
        }
    });
}
