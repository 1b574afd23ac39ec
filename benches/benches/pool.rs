//! What a request pays for its place in a connection pool: the permit by itself, and a connection taken and given back.
//!
//! With several threads the time is that of all cores together, divided by what all threads did: what one operation costs
//! the machine, waiting for memory and locks included.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    missing_docs,
    reason = "a bench stops at the first surprise; criterion's macro"
)]

mod policy;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use portcullis::drain::Drain;
use portcullis::metrics::Metrics;
use portcullis::pool::Pools;
use portcullis::pool::limit::Limit;
use portcullis::route::HttpVersion;
use portcullis::svid::Identity;
use portcullis::tls::MinVersion;
use portcullis::upstream::{Dialler, Names, Target};
use portcullis_identity::{Clock, Svid, TrustBundle, TrustBundles, TrustDomain};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use tokio::runtime::Runtime;
use zeroize::Zeroizing;

const THREADS: [u32; 4] = [1, 2, 4, 8];
const DOMAIN: &str = "cluster.local";
const ID: &str = "spiffe://cluster.local/ns/production/sa/web";

/// Runs `operation` so many times on each of some threads, and returns what one of them took of all cores.
fn on_threads(threads: u32, each: u64, operation: impl Fn(u64) + Sync) -> Duration {
    let begun = tokio::time::Instant::now();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| operation(each));
        }
    });
    let cores = u32::try_from(thread::available_parallelism().unwrap().get()).unwrap();
    begun.elapsed() * cores.min(threads) / threads
}

fn permit(c: &mut Criterion) {
    for threads in THREADS {
        let limit = Limit::new(100);
        c.bench_function(&format!("take and return a permit, threads: {threads}"), |b| {
            b.iter_custom(|iterations| {
                on_threads(threads, iterations, |each| {
                    for _ in 0..each {
                        drop(limit.try_acquire().unwrap());
                    }
                })
            });
        });
    }
}

/// A sidecar's pools, and a server that takes connections and says nothing.
struct World {
    runtime: Runtime,
    pools: Pools,
    identity: Identity,
    target: Target,
}

fn identity(clock: &Clock) -> Identity {
    let domain = TrustDomain::parse(DOMAIN).unwrap();
    let (root_key, leaf_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut root = CertificateParams::default();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    root.subject_alt_names = vec![SanType::URI(domain.id().to_string().try_into().unwrap())];
    let mut leaf = CertificateParams::default();
    leaf.subject_alt_names = vec![SanType::URI(ID.try_into().unwrap())];
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let root_der = root.self_signed(&root_key).unwrap();
    let leaf_der = leaf.signed_by(&leaf_key, &Issuer::new(root, root_key)).unwrap();
    let key = Zeroizing::new(leaf_key.serialize_der());
    let svid = Svid::new(vec![leaf_der.into()], key, clock.unix_time()).unwrap();
    let mut bundles = TrustBundles::default();
    bundles.insert(TrustBundle::new(domain, 1, vec![root_der.into()]).unwrap());
    Identity::new(1, Arc::new(svid), bundles, clock.clone(), MinVersion::Tls13).unwrap()
}

/// One server in plaintext by exception, because a handshake is not what is measured; all limits set.
fn text(server: SocketAddr) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: api, namespace: production}}
spec:
  hosts: [api.production.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: {port}, name: http, protocol: HTTP}}]
  endpoints: [{{address: {ip}}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: api
  namespace: production
  annotations:
    portcullis.dev/exception-{port}: \"reason=bench; owner=bench; expires=2999-01-01\"
spec:
  host: api.production.svc.cluster.local
  trafficPolicy:
    tls: {{mode: DISABLE}}
    connectionPool:
      tcp: {{maxConnections: 100}}
      http: {{http1MaxPendingRequests: 50, http2MaxRequests: 1000}}
",
        port = server.port(),
        ip = server.ip()
    )
}

impl World {
    fn new() -> Self {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = server.local_addr().unwrap();
        thread::spawn(move || {
            let taken: Vec<_> = server.incoming().collect();
            drop(taken);
        });
        let clock = Clock::system();
        let identity = identity(&clock);
        let policy = policy::load(&text(addr), identity.svid().workload().clone());
        let host = "api.production.svc.cluster.local";
        let destination = policy.outbound.destination_by_host(host, addr.port()).unwrap();
        let target =
            Target { destination: Arc::clone(destination), original: None, avoid: None, fresh: false };
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let names = Names::with_resolver(None);
        let dialler = Dialler { policy_clock: clock };
        let pools = Pools::new(dialler, names, Arc::new(Metrics::new()), Drain::new());
        Self { runtime, pools, identity, target }
    }

    fn checkout_and_checkin(&self, times: u64) {
        self.runtime.block_on(async {
            for _ in 0..times {
                let lease = self.pools.checkout(&self.target, &self.identity, HttpVersion::Http1).await;
                lease.unwrap_or_else(|refusal| panic!("{refusal}")).give_back();
            }
        });
    }
}

fn pool(c: &mut Criterion) {
    let world = World::new();
    for threads in THREADS {
        c.bench_function(&format!("check a connection out and in, threads: {threads}"), |b| {
            b.iter_custom(|iterations| {
                on_threads(threads, iterations, |each| world.checkout_and_checkin(each))
            });
        });
    }
}

criterion_group!(benches, permit, pool);
criterion_main!(benches);
