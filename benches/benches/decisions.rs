//! The decisions of a request: may this caller do this, and where does it go.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    missing_docs,
    reason = "a bench stops at the first surprise; criterion's macro"
)]

mod policy;

use std::fmt::Write as _;
use std::hint::black_box;
use std::net::SocketAddr;

use criterion::{Criterion, criterion_group, criterion_main};
use http::request::Parts;
use portcullis::addr::ClientAddr;
use portcullis::authz::{Caller, ConnectionFacts, admit};
use portcullis::config::Policy;
use portcullis_identity::{Clock, SpiffeId, TrustDomain, Workload};

const PORT: u16 = 8080;

/// An ALLOW policy and a VirtualService with so many rules, of which the last one is met.
fn policy(rules: usize) -> Policy {
    let (mut allowed, mut routes) = (String::new(), String::new());
    for number in 0..rules {
        let path = if number + 1 == rules { "/orders/*".to_owned() } else { format!("/other-{number}/*") };
        let prefix = path.trim_end_matches('*');
        writeln!(allowed, "  - to: [{{operation: {{methods: [GET], paths: [{path}]}}}}]").unwrap();
        writeln!(
            routes,
            "  - match: [{{uri: {{prefix: {prefix}}}}}]
    route: [{{destination: {{host: api.production.svc.cluster.local}}}}]"
        )
        .unwrap();
    }
    let text = format!(
        "apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata:
  name: default
  namespace: production
  annotations:
    portcullis.dev/exception-{PORT}: \"reason=bench; owner=bench; expires=2999-01-01\"
spec:
  mtls: {{mode: STRICT}}
  portLevelMtls: {{{PORT}: {{mode: DISABLE}}}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: readers, namespace: production}}
spec:
  action: ALLOW
  rules:
{allowed}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: api, namespace: production}}
spec:
  hosts: [api.production.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: {PORT}, name: http, protocol: HTTP}}]
  endpoints: [{{address: 192.0.2.1}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: api, namespace: production}}
spec:
  hosts: [api.production.svc.cluster.local]
  http:
{routes}
"
    );
    let id = SpiffeId::parse("spiffe://cluster.local/ns/production/sa/web").unwrap();
    policy::load(&text, Workload::try_from(id).unwrap())
}

fn head() -> Parts {
    let request = http::Request::get("/orders/17?full=1").header("host", "api:8080");
    request.header("user-agent", "bench").body(()).unwrap().into_parts().0
}

fn decisions(c: &mut Criterion) {
    let own = TrustDomain::parse("cluster.local").unwrap();
    for rules in [1, 64] {
        let policy = policy(rules);
        let inbound = &policy.inbound;
        let client: SocketAddr = "192.0.2.7:40000".parse().unwrap();
        let destination: SocketAddr = "192.0.2.1:8080".parse().unwrap();
        let mode = inbound.mode(PORT, Clock::system().now());
        let facts = ConnectionFacts { client: ClientAddr::new(client), destination, port: PORT, sni: None };
        let admitted = admit(&mode, Caller::Plaintext, facts, &own).unwrap();
        let head = head();
        c.bench_function(&format!("authorize a request, rules: {rules}"), |b| {
            b.iter(|| admitted.request(black_box(inbound), black_box(&head)).unwrap());
        });
        let outbound = &policy.outbound;
        let service = outbound.destination_by_host("api.production.svc.cluster.local", PORT).unwrap();
        c.bench_function(&format!("route a request, rules: {rules}"), |b| {
            b.iter(|| outbound.route_http(black_box(service), black_box(&head), |_| 0).unwrap());
        });
    }
}

criterion_group!(benches, decisions);
criterion_main!(benches);
