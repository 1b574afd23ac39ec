//! The limits of connection pools, as servers see them that count: never one connection too many, never a place lost,
//! and no request failed by whatever happens to connections meanwhile.
//!
//! A service is on a host of its own, far from both sidecars. In plaintext, by plan, the pool's connections end in the
//! server that counts; with mutual TLS they pass a relay there that counts them, on their way to the other sidecar.

mod burst;
mod losses;
mod order;
mod reload;
mod rotation;
mod stale;
mod tcp;
mod throughput;

use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use portcullis::demo::lab::Host;
use portcullis_tests::callers::{Caller, as_app, pool, until};
use portcullis_tests::counting::{CountingServer, Work};
use portcullis_tests::foreign::from_now;
use portcullis_tests::mesh::{Mesh, Pair, Plan};
use tokio::task::JoinSet;

const LIMIT: Duration = Duration::from_secs(120);
const DAY: &str = "24h";
const POLICY: &str = "limited.yaml";

/// A service of the far host.
#[derive(Clone, Copy)]
struct Service {
    name: &'static str,
    port: u16,
    /// As a ServiceEntry has it.
    protocol: &'static str,
    /// By plan, or else mutual TLS.
    plaintext: bool,
    /// `connectionPool`.
    pool: &'static str,
}

impl Service {
    const fn plaintext(name: &'static str, port: u16, pool: &'static str) -> Self {
        Self { name, port, protocol: "HTTP", plaintext: true, pool }
    }

    const fn mutual(name: &'static str, port: u16, pool: &'static str) -> Self {
        Self { plaintext: false, ..Self::plaintext(name, port, pool) }
    }

    /// As pools are named.
    fn destination(&self) -> String {
        format!("{}.production.svc.cluster.local:{}", self.name, self.port)
    }

    fn policy(&self, address: Ipv4Addr) -> String {
        let Self { name, port, protocol, plaintext, pool } = self;
        let expires = from_now(30 * 86_400).date();
        let (plan, tls) = if *plaintext {
            let plan = format!("\"reason=a test; owner=tests; expires={expires}\"");
            (format!(", annotations: {{portcullis.dev/exception-{port}: {plan}}}"), "{mode: DISABLE}")
        } else {
            (String::new(), "{mode: ISTIO_MUTUAL}")
        };
        format!(
            "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: production}}
spec:
  hosts: [{name}.production.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: {port}, name: port-{port}, protocol: {protocol}}}]
  endpoints: [{{address: {address}}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {name}, namespace: production{plan}}}
spec:
  host: {name}.production.svc.cluster.local
  trafficPolicy: {{tls: {tls}, connectionPool: {pool}}}
---
"
        )
    }
}

/// A pair of sidecars, and a host without one.
struct Site {
    pair: Pair,
    far: Host,
}

impl Site {
    fn start(leaf_life: &str, services: &[Service]) -> Self {
        let mut mesh = Mesh::start(leaf_life);
        let far = mesh.host("far");
        let policy = Self::policy(&far, services);
        let pair =
            Pair::in_mesh(mesh, &Plan::default(), &Plan::default(), |mesh| mesh.policy(POLICY, &policy));
        // What the limits must hold over: one for each processor.
        assert!(workers(pair.client.id().unwrap()) >= 2, "one worker has nobody to share the limits with");
        Self { pair, far }
    }

    fn policy(far: &Host, services: &[Service]) -> String {
        let mut policy = String::new();
        for service in services {
            write!(policy, "{}", service.policy(far.ipv4())).unwrap();
        }
        policy
    }

    /// The server that a service's app calls.
    fn serve(&self, service: Service, work: Work) -> CountingServer {
        CountingServer::start(&self.far, service.port, work)
    }

    /// The app behind the other sidecar, and the relay before it.
    fn behind_relay(&self, service: Service) -> (CountingServer, CountingServer) {
        let app = CountingServer::start(&self.pair.server.host, service.port, Work::Http);
        (self.serve(service, Work::Relay(app.addr)), app)
    }

    /// Runs `job` as the client's app.
    fn call<T: Send>(&self, job: impl AsyncFnOnce() -> T + Send) -> T {
        as_app(&self.pair.client.host, job)
    }
}

/// The worker threads of a sidecar, by their names; those for blocking work have the same.
fn workers(process: i32) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap().flatten();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.starts_with("tokio-rt-worker") || name.starts_with("worker")).count()
}

/// Sends a request, each from a caller of its own, and leaves it there.
async fn sent(to: SocketAddr, target: &str, how_many: usize) -> Vec<Caller> {
    let mut callers = Vec::new();
    for _ in 0..how_many {
        let mut caller = Caller::new(to);
        caller.send(target, "").await.unwrap();
        callers.push(caller);
    }
    callers
}

/// Nobody is served and nobody waits, and then exactly `most` are served at once: no place is lost. The server is
/// left with an open gate.
async fn is_whole(service: Service, to: SocketAddr, server: &CountingServer, most: usize) {
    let destination = service.destination();
    until("a pool at rest", async || {
        let pool = pool(&destination).await;
        // The server may hear later than the sidecar that a caller has left.
        let is_at_rest = pool.active == 0 && pool.waiting == 0 && server.numbers().under_way == 0;
        is_at_rest.then_some(())
    })
    .await;
    server.set_gate(false);
    let callers = sent(to, "/whole?hold", most + 1).await;
    until("one who waits", async || (pool(&destination).await.waiting == 1).then_some(())).await;
    // The server may still count one whose caller has left, until it has read that.
    until("all places in use", async || {
        (pool(&destination).await.active == most + 1 && server.numbers().under_way == most as u64)
            .then_some(())
    })
    .await;
    server.set_gate(true);
    let mut answers = JoinSet::new();
    for mut caller in callers {
        answers.spawn(async move { caller.answer().await.unwrap().start });
    }
    for answer in answers.join_all().await {
        assert_eq!(answer, "HTTP/1.1 200 OK");
    }
}
