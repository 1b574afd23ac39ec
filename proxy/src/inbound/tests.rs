//! Inbound connections over loopback: a caller on one side, an app on the other, and a policy that can be replaced.

mod reload;
mod stale;
mod streams;
mod translation;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::AtomicUsize;

use ::http::{HeaderMap, HeaderValue, Request, Response};
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming};
use portcullis_identity::ManualClock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;
use crate::authz::{Exception, PortRule};
use crate::latest::{self, Publisher};
use crate::tls::testing::NOW;

const PORT: u16 = 8080;
const LIMIT: Duration = Duration::from_secs(20);
type Fault = Box<dyn std::error::Error + Send + Sync>;
type AnyBody = BoxBody<Bytes, Fault>;

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, work).await.expect("an end in time")
}

/// One caller of a sidecar whose port is open to plaintext until a policy says otherwise.
struct Call {
    client: TcpStream,
    carried: JoinHandle<Result<(), Refusal>>,
    policy: Publisher<InboundPolicy>,
    inbound: Arc<Inbound>,
}

/// PORT open to plaintext, and what the app is declared to speak on it.
fn open(declared: AppProtocol) -> Arc<InboundPolicy> {
    let exception = Arc::new(Exception { port: PORT, plan: None });
    let ports = BTreeMap::from([(PORT, PortRule::Plaintext(exception, RuleRef::built_in()))]);
    let policy = InboundPolicy::new(RuleRef::built_in(), ports);
    Arc::new(policy.with_protocols(BTreeMap::from([(PORT, declared)])))
}

/// Connects a caller whose handshake, if there had been one, settled `alpn`.
async fn call(app: SocketAddr, declared: AppProtocol, alpn: Alpn) -> Call {
    call_after(app, declared, alpn, |_| {}).await
}

/// The same, once `before` has had its way with the policy.
async fn call_after(
    app: SocketAddr,
    declared: AppProtocol,
    alpn: Alpn,
    before: impl FnOnce(&Publisher<InboundPolicy>),
) -> Call {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, from) = listener.accept().await.unwrap();
    let clock = ManualClock::at(NOW).clock();
    let (policy, latest) = latest::publish(open(declared));
    before(&policy);
    let inbound = Arc::new(Inbound {
        identity: IdentityWatch::uncertified(clock.clone()),
        policy: latest,
        own: "spiffe://cluster.local/ns/a/sa/api".parse().unwrap(),
        clock: clock.clone(),
        policy_clock: clock.clone(),
        metrics: Arc::new(Metrics::new()),
        drain: Drain::new(),
        handshake: LIMIT,
    });
    let facts = ConnectionFacts { client: ClientAddr::new(from), destination: app, port: PORT, sni: None };
    let seen = inbound.policy.seen();
    let mode = seen.load().mode(PORT, NOW);
    let admitted = authz::admit(&mode, Caller::Plaintext, facts, inbound.own.trust_domain()).unwrap();
    let lifetime = Lifetime::until(&clock, []);
    let session = Session::new(&inbound, seen, admitted, AppAddr::explicit(app), lifetime);
    let carried = tokio::spawn(async move { session.carry(Prefixed::new(stream), alpn).await });
    Call { client, carried, policy, inbound }
}

impl Call {
    /// What the caller reads until the end or a reset, which is the second value.
    async fn rest(mut self) -> (String, bool) {
        let mut got = Vec::new();
        let whole = within(self.client.read_to_end(&mut got)).await.is_ok();
        (String::from_utf8_lossy(&got).into_owned(), !whole)
    }

    /// Says one HTTP/1.1 request and reads what comes until the end.
    async fn says(mut self, request: &str) -> String {
        self.client.write_all(request.as_bytes()).await.unwrap();
        self.rest().await.0
    }
}

/// Reads until `end` has come.
async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut got = Vec::new();
    while !String::from_utf8_lossy(&got).contains(end) {
        let read = within(stream.read_buf(&mut got)).await.unwrap();
        assert!(read > 0, "the end before {end:?}: {}", String::from_utf8_lossy(&got));
    }
    String::from_utf8(got).unwrap()
}

/// An app that does as `talk` says with each connection, and counts them.
async fn raw_app<F>(talk: impl Fn(TcpStream) -> F + Send + 'static) -> (SocketAddr, Arc<AtomicUsize>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (addr, count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(talk(stream));
        }
    });
    (addr, count)
}

/// An app that speaks one version of HTTP; see [`app_answer`].
async fn http_app(version: HttpVersion) -> (SocketAddr, Arc<AtomicUsize>) {
    raw_app(move |stream| async move {
        let unbounded = Lifetime::until(&ManualClock::at(NOW).clock(), []);
        let service = service_fn(app_answer);
        drop(http::serve(stream, version, service, LIMIT, &unbounded, &Drain::new()).await);
    })
    .await
}

/// `/echo`: the body and its trailers. `/wait`: nothing. `/drip`: a byte, then nothing. Else: the head as it came.
async fn app_answer(request: Request<Incoming>) -> Result<Response<AnyBody>, Infallible> {
    Ok(match request.uri().path() {
        "/echo" => {
            let response = Response::builder().header("trailer", "checksum, host");
            response.body(request.into_body().map_err(Into::into).boxed()).unwrap()
        }
        "/wait" => std::future::pending().await,
        "/drip" => {
            let first = Full::from("d").map_err(|never| match never {});
            let never = http_body_util::combinators::BoxBody::new(Never);
            Response::new(BodyExt::boxed(Chain(first.boxed(), never)))
        }
        _ => {
            let mut head = format!("{} {} {:?}\n", request.method(), request.uri(), request.version());
            for (name, value) in request.headers() {
                head.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
            }
            Response::new(Full::from(head).map_err(|never| match never {}).boxed())
        }
    })
}

/// A body that never has anything.
struct Never;

impl Body for Never {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Fault>>> {
        std::task::Poll::Pending
    }
}

/// One body after the other.
struct Chain(AnyBody, AnyBody);

impl Body for Chain {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Fault>>> {
        match std::task::ready!(std::pin::Pin::new(&mut self.0).poll_frame(cx)) {
            Some(frame) => std::task::Poll::Ready(Some(frame)),
            None => std::pin::Pin::new(&mut self.1).poll_frame(cx),
        }
    }
}

/// A body with fields after it.
fn with_trailers(text: &'static str, trailers: &[(&'static str, &'static str)]) -> AnyBody {
    let mut fields = HeaderMap::new();
    for (name, value) in trailers {
        fields.append(*name, HeaderValue::from_static(value));
    }
    let body = Full::from(text).map_err(|never: Infallible| match never {});
    body.with_trailers(async move { Some(Ok(fields)) }).boxed()
}
