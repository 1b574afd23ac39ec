//! A sidecar's way out on loopback: destinations made by hand, in the clear by exception, and an app that asks.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::*;
use crate::authz::{Exception, RuleRef};
use crate::latest::{Publisher, publish};
use crate::route::{
    DestinationId, EndpointAddr, Forward, HeaderRules, HttpAction, HttpRoute, HttpRules, HttpTarget,
    RetryPolicy, Targets, TransportPlan, testing,
};
use crate::tls::testing::Mesh;
use crate::upstream::Dialler;

/// Nothing in a test takes longer.
pub(super) const LIMIT: Duration = Duration::from_secs(30);

/// A service reached in the clear, without rules.
pub(super) fn destination(host: &str, port: u16, endpoints: &[SocketAddr]) -> Destination {
    Destination {
        host: host.to_owned(),
        port,
        endpoints: endpoints.iter().map(|addr| testing::endpoint(EndpointAddr::Socket(*addr))).collect(),
        rule: RuleRef::resource("ServiceEntry", "production", host),
        transport_plan: TransportPlan::plaintext(Arc::new(Exception { port, plan: None }), None),
        ..testing::destination()
    }
}

/// Sends on to destinations by their position and weight, without retries.
pub(super) fn forward(targets: &[(usize, u32)]) -> Forward {
    let targets = targets.iter().map(|(id, weight)| {
        (HttpTarget { id: DestinationId(*id), headers: HeaderRules::default() }, *weight)
    });
    Forward {
        targets: Targets::new(targets.collect()).unwrap(),
        timeout: None,
        retries: RetryPolicy { attempts: 0, ..RetryPolicy::default() },
        rewrite: None,
        mirrors: Vec::new(),
    }
}

/// A route that every request meets.
pub(super) fn route(action: HttpAction) -> HttpRoute {
    let rule = RuleRef::resource("VirtualService", "production", "api").with_remark("http[0]");
    HttpRoute { rule, matches: Vec::new(), fault: None, headers: HeaderRules::default(), action }
}

/// `api:80` with one route, and `others` beside it; `api` is number 0.
pub(super) fn policy(api: SocketAddr, route: HttpRoute, others: Vec<Destination>) -> OutboundPolicy {
    let mut first = destination("api", 80, &[api]);
    let rule = RuleRef::resource("VirtualService", "production", "api");
    first.routes = HttpRules::Ordered { rule, routes: vec![Arc::new(route)] };
    OutboundPolicy::new(std::iter::once(first).chain(others).collect(), HashMap::new())
}

/// The way out, with a listener that stands for `api:80`.
pub(super) struct Bed {
    pub(super) outbound: Arc<Outbound>,
    pub(super) addr: SocketAddr,
    pub(super) publisher: Publisher<OutboundPolicy>,
}

impl Bed {
    pub(super) fn new(policy: OutboundPolicy) -> Self {
        Self::with_names(policy, Names::with_resolver(None))
    }

    /// Names are followed as they are while a sidecar runs.
    pub(super) fn with_names(policy: OutboundPolicy, names: Names) -> Self {
        let mesh = Mesh::new();
        let clock = mesh.clock.clock();
        let identity = mesh.identity("spiffe://cluster.local/ns/production/sa/client");
        let (metrics, drain) = (Arc::new(Metrics::new()), Drain::new());
        let dialler = Dialler { policy_clock: clock.clone() };
        let (publisher, policy) = publish(Arc::new(policy));
        let outbound = Arc::new(Outbound {
            identity: IdentityWatch::fixed(clock.clone(), identity),
            policy,
            pools: Pools::new(dialler, names.clone(), Arc::clone(&metrics), drain.clone()),
            names,
            clock,
            metrics,
            drain: drain.clone(),
            detection: Duration::from_secs(5),
            bounds: Bounds::default(),
        });
        let (following, latest) = (outbound.names.clone(), outbound.policy.clone());
        tokio::spawn(async move { following.follow(latest).await });
        let listener = listen::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let addr = listener.local_addr().unwrap();
        let serving = Arc::clone(&outbound);
        drain.spawn(listen::accept_loop(
            listener,
            Arc::new(Semaphore::new(100)),
            drain.clone(),
            move |accepted| {
                Arc::clone(&serving).serve(accepted, Entry::Explicit { host: "api".into(), port: 80 })
            },
        ));
        Self { outbound, addr, publisher }
    }

    /// With `api` at `api` and one route.
    pub(super) fn routed(api: SocketAddr, route: HttpRoute) -> Self {
        Self::new(policy(api, route, Vec::new()))
    }

    /// One request on a connection of its own.
    pub(super) async fn ask(&self, request: Request<Full<Bytes>>) -> Response<Bytes> {
        within(async {
            let stream = TcpStream::connect(self.addr).await.unwrap();
            let (mut sender, driver) = http1::handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(driver);
            whole(sender.send_request(request).await.unwrap()).await
        })
        .await
    }

    /// The same over HTTP/2 with prior knowledge.
    pub(super) async fn ask_http2(&self, mut request: Request<Full<Bytes>>) -> Response<Bytes> {
        within(async {
            let stream = TcpStream::connect(self.addr).await.unwrap();
            let io = TokioIo::new(stream);
            let (mut sender, driver) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
            tokio::spawn(driver);
            request.headers_mut().remove(http::header::HOST);
            *request.uri_mut() = format!("http://api{}", request.uri()).parse().unwrap();
            whole(sender.send_request(request).await.unwrap()).await
        })
        .await
    }

    /// Returns once this line is among the metrics.
    pub(super) async fn counted(&self, line: &str) {
        within(async {
            while !self.outbound.metrics.encode().lines().any(|found| found == line) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

pub(super) fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(path).header("host", "api").body(Full::default()).unwrap()
}

pub(super) fn post(body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post("/").header("host", "api").body(Full::new(body.into())).unwrap()
}

async fn whole(response: Response<Incoming>) -> Response<Bytes> {
    let (head, body) = response.into_parts();
    Response::from_parts(head, body.collect().await.unwrap().to_bytes())
}

/// Fails a test that takes too long.
pub(super) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, work).await.expect("an end in time")
}

/// The value of a header field that is there.
pub(super) fn mark<'a, B>(response: &'a Response<B>, name: &str) -> &'a str {
    response.headers()[name].to_str().unwrap()
}
