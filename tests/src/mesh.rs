//! Sidecars, their authority and their apps: real processes on the hosts of a lab, behind real interception.
#![allow(clippy::expect_used, reason = "a test that cannot be set up has failed, and says at what")]

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use portcullis::demo::lab::{Finished, Host, HostCommand, Lab, Process};
use portcullis::demo::programs::{APP_USER, Authority, PROXY_USER, Programs, Sidecar};
use portcullis_identity::Clock;
use tempfile::TempDir;

use crate::foreign::Root;

/// The sample policy, as users get it.
pub const SAMPLE_POLICY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/policy/sample");
/// Where the service's app speaks HTTP.
pub const HTTP: u16 = 8443;
/// HTTP as well; open to plaintext by the sample policy.
pub const OPEN: u16 = 8080;
/// Where it echoes bytes.
pub const ECHO: u16 = 9000;
/// Where it speaks first.
pub const GREETING: u16 = 9001;
/// Declared for gRPC, as the others below at a service of its own, `peers`, that no VirtualService speaks of.
pub const GRPC: u16 = 50051;
/// Declared for HTTP/2.
pub const H2: u16 = 8444;
/// For HTTP/2 as well, and not declared.
pub const UNDECLARED_H2: u16 = 8445;
/// For WebSocket, which is HTTP/1.1 first.
pub const WEBSOCKET: u16 = 8446;
/// The ports of another service's three servers: versions 1 to 3 of `shop.production.svc.cluster.local:8500`.
pub const SHOP: [u16; 3] = [8501, 8502, 8503];
/// For a command that does its work and ends.
pub const COMMAND: Duration = Duration::from_secs(20);

const AUTHORITY_PORT: u16 = 8443;

/// An authority, a client and a service, each with its sidecar, under the sample policy.
pub struct Pair {
    /// Sidecar of the client.
    pub client: Sidecar,
    /// Sidecar of the service.
    pub server: Sidecar,
    /// The service's app, stopped on drop: HTTP, echo and greeting; then the open port.
    pub apps: [Process; 2],
    /// Everything else.
    pub mesh: Mesh,
}

/// The lab, its authority, and the programs.
pub struct Mesh {
    /// The authority of all.
    pub authority: Authority,
    /// The network.
    pub lab: Lab,
    /// Where the binaries are.
    pub programs: Programs,
    dir: TempDir,
}

/// How one sidecar differs from the plainest.
#[derive(Clone, Debug, Default)]
pub struct Plan<'a> {
    /// Its service account, and the name of its host.
    pub name: &'a str,
    /// `version` among its labels; `v1` when empty.
    pub version: &'a str,
    /// More lines of the bootstrap file.
    pub bootstrap: &'a str,
    /// More arguments of `portcullis run`.
    pub arguments: &'a [&'a str],
}

impl Mesh {
    /// Starts an authority whose leaves live `leaf_life`.
    ///
    /// # Panics
    /// When anything fails: it is for tests.
    #[must_use]
    pub fn start(leaf_life: &str) -> Self {
        Self::prepared(leaf_life, |_, _, _| {})
    }

    /// As [`Mesh::start`], under a root whose key is at hand.
    ///
    /// # Panics
    /// When anything fails.
    #[must_use]
    pub fn under(root: &Root, leaf_life: &str) -> Self {
        Self::prepared(leaf_life, |host, programs, dir| {
            // A store once made keeps its root: the authority proper needs no more than the store.
            let ca = dir.join("ca");
            fs::create_dir_all(&ca).expect("a directory");
            let [certificate, key] = root.files(dir).map(|path| path.display().to_string());
            let [store, store_key] = ["ca.db", "ca.key"].map(|name| ca.join(name).display().to_string());
            let run = host.command(&programs.authority).args(["run", "--trust-domain", "cluster.local"]);
            let run = run.args(["--listen", &format!("{}:{AUTHORITY_PORT}", host.ipv4())]);
            let run = run.args(["--store", &store, "--key-file", &store_key, "--leaf-life", leaf_life]);
            let run =
                run.args(["--root-cert", &certificate, "--root-key", &key]).spawn().expect("an authority");
            run.wait_for_line(|line| line.contains(r#""message":"ready""#), COMMAND)
                .expect("a ready authority");
            run.terminate(COMMAND).expect("the end of the authority");
        })
    }

    fn prepared(leaf_life: &str, prepare: impl FnOnce(&Host, &Programs, &Path)) -> Self {
        let mut lab = Lab::new().expect("a lab needs root");
        let programs = Programs::in_dir(&target_dir()).expect("the programs");
        let dir = TempDir::new().expect("a directory");
        // The sidecars, which run as another user, go through it.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(dir.path(), open).expect("a directory for all");
        let host = lab.host("authority").expect("a host");
        prepare(&host, &programs, dir.path());
        let authority = Authority::start(&host, &programs, dir.path().join("ca"), AUTHORITY_PORT, leaf_life);
        Self { authority: authority.expect("an authority"), lab, programs, dir }
    }

    /// A host without sidecar.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn host(&mut self, name: &str) -> Host {
        self.lab.host(name).expect("a host")
    }

    /// A place for files of this mesh.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Puts a file into the policy that all sidecars read at their start.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn policy(&self, name: &str, text: &str) {
        let dir = self.dir.path().join("policy");
        fs::create_dir_all(&dir).expect("a directory");
        fs::write(dir.join(name), text).expect("a policy file");
    }

    /// Replaces a file of the policy in one step, as whoever edits it under a running sidecar should.
    ///
    /// # Panics
    /// When it cannot be replaced.
    pub fn replace_policy(&self, name: &str, text: &str) {
        let next = self.dir.path().join("next-policy");
        fs::write(&next, text).expect("a policy file");
        fs::rename(next, self.dir.path().join("policy").join(name)).expect("a policy file in its place");
    }

    /// The sample policy, unchanged, and an entry that says where the service is.
    ///
    /// # Panics
    /// When it cannot be copied.
    pub fn sample_policy(&self, service: Ipv4Addr) {
        for file in fs::read_dir(SAMPLE_POLICY).expect("the sample policy").flatten() {
            let text = fs::read_to_string(file.path()).expect("a file of the sample policy");
            self.policy(&file.file_name().to_string_lossy(), &text);
        }
        self.policy("service-entry.yaml", &service_entry(service));
    }

    /// A sidecar with its interception in place, not started.
    ///
    /// # Panics
    /// When it cannot be prepared.
    #[must_use]
    pub fn sidecar(&self, host: &Host, plan: &Plan<'_>) -> Sidecar {
        let name = plan.name;
        let version = if plan.version.is_empty() { "v1" } else { plan.version };
        let bootstrap = format!(
            "workload:\n  namespace: production\n  serviceAccount: {name}\n  labels: {{app: {name}, version: {version}}}\n\
             ca:\n  address: {}\n  joinToken: {{file: join-token}}\nstate: state\npolicy: [../policy]\n{}",
            self.authority.address(),
            plan.bootstrap,
        );
        let token = self.authority.token(&format!("spiffe://cluster.local/ns/production/sa/{name}"));
        let token = token.expect("a join token");
        let files = (bootstrap.as_str(), token.as_str());
        let arguments = plan.arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let dir = self.dir.path().join(name);
        let sidecar = Sidecar::new(host, &self.programs, dir, Some(PROXY_USER), files, arguments);
        let sidecar = sidecar.expect("the files of a sidecar");
        sidecar.intercept("apply").expect("interception");
        sidecar
    }

    /// Replaces the join token of a sidecar by a new one that is good for as long as said.
    ///
    /// # Panics
    /// When there is none to be had.
    pub fn replace_token(&self, name: &str, life: &str) {
        let identity = format!("spiffe://cluster.local/ns/production/sa/{name}");
        let token = self.authority.token_living(&identity, life).expect("a join token");
        // The file is there, and stays its owner's.
        fs::write(self.dir.path().join(name).join("join-token"), token).expect("the token's file");
    }

    /// The service's app, on all its ports.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn apps(&self, host: &Host) -> [Process; 2] {
        let at = |port: u16| SocketAddr::from((host.ipv4(), port)).to_string();
        let echo = ["--tcp-echo".to_owned(), at(ECHO), "--tcp-greeting".to_owned(), at(GREETING)];
        [(HTTP, &echo[..]), (OPEN, &[])].map(|(port, others)| {
            let command = host.command(&self.programs.hello).args(["--listen", &at(port)]).args(others);
            let app = command.user(APP_USER).spawn().expect("hello-service");
            app.wait_for_line(|line| line.contains("ready"), COMMAND).expect("a ready app");
            app
        })
    }
}

impl Pair {
    /// A pair under the sample policy.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start(leaf_life: &str) -> Self {
        Self::with(leaf_life, &Plan::default(), &Plan::default(), |_| {})
    }

    /// A pair whose sidecars differ from the plainest, after `prepare` has seen to the policy.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn with(leaf_life: &str, client: &Plan<'_>, server: &Plan<'_>, prepare: impl FnOnce(&Mesh)) -> Self {
        Self::in_mesh(Mesh::start(leaf_life), client, server, prepare)
    }

    /// As [`Pair::with`], in a mesh that is there already.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn in_mesh(
        mut mesh: Mesh,
        client: &Plan<'_>,
        server: &Plan<'_>,
        prepare: impl FnOnce(&Mesh),
    ) -> Self {
        let (client_host, server_host) = (mesh.host("client"), mesh.host("api"));
        mesh.sample_policy(server_host.ipv4());
        prepare(&mesh);
        let mut server = mesh.sidecar(&server_host, &Plan { name: "api-service", ..server.clone() });
        let mut client = mesh.sidecar(&client_host, &Plan { name: "client", ..client.clone() });
        for sidecar in [&mut server, &mut client] {
            sidecar.start().expect("a sidecar");
        }
        let apps = mesh.apps(&server_host);
        for sidecar in [&server, &client] {
            sidecar.ready().expect("a ready sidecar");
        }
        Self { client, server, apps, mesh }
    }

    /// Where the service is.
    #[must_use]
    pub fn service(&self, port: u16) -> SocketAddr {
        (self.server.host.ipv4(), port).into()
    }

    /// A program that the client's app runs.
    #[must_use]
    pub fn as_app(&self, program: &str) -> HostCommand {
        self.client.host.command(program).user(APP_USER)
    }

    /// What `curl` with these arguments gets, run by the client's app.
    ///
    /// # Panics
    /// When it does not end in time.
    #[must_use]
    pub fn curl(&self, arguments: &[&str]) -> Finished {
        curl(self.as_app("curl"), arguments)
    }

    /// Asks the service's sidecar for its metrics until a line says `wanted`.
    ///
    /// # Panics
    /// When none does within 20 s; with the metrics.
    pub fn wait_for_metric(&self, wanted: &str) {
        let clock = Clock::system();
        let give_up = clock.now() + COMMAND;
        loop {
            let metrics = metrics(&self.server.host);
            if metrics.lines().any(|line| line == wanted) {
                return;
            }
            assert!(clock.now() < give_up, "no line {wanted} in\n{metrics}");
        }
    }

    /// `load` at a rate against the service, for some seconds, run by the client's app.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn load(&self, rate: u32, seconds: u64) -> Process {
        let url = format!("http://{}/", self.service(HTTP));
        let program = self.mesh.programs.load.display().to_string();
        let command = self.as_app(&program).args(["--url", &url, "--connections", "8"]);
        let command = command.args(["--rate", &rate.to_string(), "--duration", &seconds.to_string()]);
        command.spawn().expect("load")
    }
}

/// The metrics of the sidecar of a host, as its admin port tells them.
///
/// # Panics
/// When `curl` does not end in time.
#[must_use]
pub fn metrics(host: &Host) -> String {
    curl(host.command("curl"), &["http://127.0.0.1:15000/metrics"]).stdout
}

/// The status code that a host gets from a URL; `000` without an answer.
///
/// # Panics
/// When `curl` does not end in time.
#[must_use]
pub fn status(host: &Host, url: &str) -> String {
    curl(host.command("curl"), &["-o", "/dev/null", "-w", "%{http_code}", url]).stdout.trim().to_owned()
}

/// `curl` with a deadline and its errors shown.
///
/// # Panics
/// When it does not end in time.
#[must_use]
pub fn curl(command: HostCommand, arguments: &[&str]) -> Finished {
    command.args(["-sS", "--max-time", "15"]).args(arguments).run(COMMAND).expect("curl")
}

/// A file, for `curl` and others, in place of one that cannot be checked in.
///
/// # Panics
/// When it cannot be written.
#[must_use]
pub fn file(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, bytes).expect("a file");
    path
}

fn service_entry(address: Ipv4Addr) -> String {
    let [one, two, three] = SHOP;
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: api-service, namespace: production}}
spec:
  hosts: [api-service.production.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports:
  - {{number: {HTTP}, name: http-api, protocol: HTTP}}
  - {{number: {OPEN}, name: http-legacy, protocol: HTTP}}
  - {{number: {ECHO}, name: undeclared-echo}}
  - {{number: {GREETING}, name: tcp-greeting, protocol: TCP}}
  endpoints:
  - {{address: {address}}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: peers, namespace: production}}
spec:
  hosts: [peers.production.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports:
  - {{number: {GRPC}, name: grpc-echo, protocol: GRPC}}
  - {{number: {H2}, name: http2, protocol: HTTP2}}
  - {{number: {UNDECLARED_H2}, name: undeclared-two}}
  - {{number: {WEBSOCKET}, name: http-socket, protocol: HTTP}}
  endpoints:
  - {{address: {address}}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: shop, namespace: production}}
spec:
  hosts: [shop.production.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports:
  - {{number: 8500, name: http, protocol: HTTP}}
  endpoints:
  - {{address: {address}, ports: {{http: {one}}}, labels: {{version: v1, pool: mixed}}}}
  - {{address: {address}, ports: {{http: {two}}}, labels: {{version: v2}}}}
  - {{address: {address}, ports: {{http: {three}}}, labels: {{version: v3, pool: mixed}}}}
"
    )
}

/// Where cargo puts the programs: above the directory of the tests.
///
/// # Panics
/// When this test is nowhere.
#[must_use]
pub fn target_dir() -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    test.ancestors().nth(2).expect("target/PROFILE/deps").to_owned()
}
