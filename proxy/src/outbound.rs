//! A connection from the app, from accept to end.
//!
//! ```text
//! Accepted -> Meant -> Detected -> Destination -> Decision -> Target -> Answer -> bytes back to the app
//! ```
//!
//! What an address, a listener or a `Host` means is known from a ServiceEntry, or the connection is refused; the other
//! side proves to be that destination or gets no byte. Read [`Outbound::carry`] from top to bottom, and
//! [`Outbound::forward`] for one HTTP request: that is the whole story. Every request goes by the newest policy.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderValue, Request, Response, Version, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use portcullis_identity::Clock;
use rand::Rng;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::access::{self, Ends, Routed};
use crate::addr::ClientAddr;
use crate::drain::Drain;
use crate::intercept;
use crate::latest::Latest;
use crate::lifetime::Lifetime;
use crate::listen::{self, Accepted, OverTcp};
use crate::metrics::{Direction, Metrics, OpenConnection};
use crate::pool::Pools;
use crate::protocol::body::RequestBody;
use crate::protocol::detect::{Prefixed, Protocol};
use crate::protocol::headers::{self, Connect};
use crate::protocol::http::Ended;
use crate::protocol::{grpc, http as http_server, tcp};
use crate::refusal::Refusal;
use crate::route::{
    AppProtocol, Destination, HttpDecision, HttpRoute, HttpVersion, OutboundPolicy, UnknownDestination,
};
use crate::svid::{Identity, IdentityWatch};
use crate::tls::VerifiedPeer;
use crate::upstream::Names;
use crate::upstream::Target;

mod answers;
mod attempts;
mod budget;
mod fault;
mod meant;
mod mirror;
mod onward;
mod record;
mod retry;
mod stream;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod timeout;
mod tunnel;

use answers::AnswerBody;
use meant::Meant;
use onward::Onward;
use record::Record;
use tunnel::Asked;

/// How long the own app may leave a connection idle between requests.
const IDLE: Duration = Duration::from_secs(3600);

/// Everything that outbound connections share.
pub struct Outbound {
    /// The own certificate and trust bundles.
    pub identity: IdentityWatch,
    /// Which destinations exist, who they must prove to be, and which rules lead to them.
    pub policy: Latest<OutboundPolicy>,
    /// Connections to other services.
    pub pools: Pools,
    /// The addresses that DNS names have.
    pub names: Names,
    /// The time that proofs are measured against.
    pub clock: Clock,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Shutdown.
    pub drain: Drain,
    /// Longest wait for the first byte of an app whose protocol is not declared.
    pub detection: Duration,
    /// What is under way, where that is bounded over all requests.
    pub bounds: Bounds,
}

/// Bounds over all requests of one sidecar: retries and copies.
pub struct Bounds {
    budgets: budget::Budgets,
    mirrors: Arc<Semaphore>,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { budgets: budget::Budgets::default(), mirrors: Arc::new(Semaphore::new(mirror::MOST)) }
    }
}

/// How a connection got here.
#[derive(Debug, Clone)]
pub enum Entry {
    /// Redirected by the kernel; the sidecar's own ports are never a destination.
    Intercepted {
        /// Ports of the sidecar itself.
        own_ports: Arc<[u16]>,
    },
    /// Accepted on a listener that stands for one service, which each connection looks up.
    Explicit {
        /// Its host.
        host: Arc<str>,
        /// Its port.
        port: u16,
    },
}

/// The app at the other end of a connection, and its place among the connections of the listener.
#[derive(Clone)]
struct App {
    addr: ClientAddr,
    _place: Arc<(OwnedSemaphorePermit, OpenConnection)>,
}

impl Outbound {
    /// Carries one connection, and reports it if it is refused.
    pub async fn serve(self: Arc<Self>, accepted: Accepted, entry: Entry) {
        let open = OpenConnection::count(&self.metrics, Direction::outbound);
        let (stream, client, permit) = accepted.into_parts();
        let app = App { addr: client, _place: Arc::new((permit, open)) };
        // Until the other side has proven itself, ending the connection means resetting it.
        listen::reset_on_close(&stream);
        if let Err(refusal) = self.carry(stream, app, entry).await {
            refusal.report(&self.metrics, Direction::outbound, client);
        }
    }

    async fn carry(self: &Arc<Self>, stream: TcpStream, app: App, entry: Entry) -> Result<(), Refusal> {
        let meant = match entry {
            Entry::Intercepted { own_ports } => {
                Meant::Address(intercept::original_dst(&stream, &own_ports)?.get())
            }
            Entry::Explicit { host, port } => Meant::Service { host, port },
        };
        let known = meant.destination(&self.policy.load(), &self.names);
        let mut stream = Prefixed::new(stream);
        match self.protocol(&mut stream, &known).await? {
            Protocol::Http(version) => self.carry_http(stream, version, app, meant).await,
            Protocol::Tcp => self.carry_tcp(stream, app, &meant).await?,
        }
        Ok(())
    }

    /// As declared; else as the app's first bytes tell. An app that waits for the server must have it declared. What
    /// an unknown address means, a `Host` may still tell.
    async fn protocol(
        &self,
        stream: &mut Prefixed<TcpStream>,
        known: &Result<Arc<Destination>, UnknownDestination>,
    ) -> Result<Protocol, Refusal> {
        let declared = known.as_ref().map_or(AppProtocol::Undeclared, |destination| destination.protocol);
        match declared {
            AppProtocol::Tcp => Ok(Protocol::Tcp),
            AppProtocol::Undeclared => {
                let detected = tokio::time::timeout(self.detection, stream.detect()).await;
                match (known, detected.ok().and_then(Result::ok)) {
                    (_, Some(http @ Protocol::Http(_))) => Ok(http),
                    (Ok(_), detected) => detected.ok_or(Refusal::Undetected),
                    (Err(unknown), _) => Err(unknown.clone().into()),
                }
            }
            AppProtocol::Http | AppProtocol::Http2 | AppProtocol::HttpProxy => {
                // Only the version is in question; what is no HTTP, the server answers.
                let detected = tokio::select! {
                    detected = tokio::time::timeout(IDLE, stream.detect()) => detected.ok().and_then(Result::ok),
                    () = self.drain.begun() => None,
                };
                Ok(match detected {
                    Some(http @ Protocol::Http(_)) => http,
                    Some(Protocol::Tcp) | None => Protocol::Http(HttpVersion::Http1),
                })
            }
        }
    }

    async fn carry_tcp(&self, stream: Prefixed<TcpStream>, app: App, meant: &Meant) -> Result<(), Refusal> {
        let policy = self.policy.get();
        // Looked up again: what a destination refers to holds in its own policy only.
        let destination = meant.destination(&policy, &self.names)?;
        let original = meant.original();
        let destination = policy.route_tcp(&destination, original, roll)?;
        let target = Target { destination, original, avoid: None, fresh: false };
        let identity = self.valid_identity()?;
        let (mut upstream, _place) = self.pools.connect(&target, &identity).await?;

        let started = Instant::now();
        let limits = &target.destination.limits;
        let end = stream::carry(stream, &mut upstream.stream, &upstream.lifetime, limits).await;
        let name = target.to_string();
        let ends = ends(app.addr, upstream.peer.as_ref(), &name);
        match end {
            stream::End::Ended(ended) => {
                if matches!(ended, tcp::Ended::Expired) {
                    self.metrics.expired(Direction::outbound);
                }
                access::stream(ends, &ended, started);
            }
            stream::End::Cut(bound) => access::cut_stream(ends, bound, started),
        }
        Ok(())
    }

    async fn carry_http(
        self: &Arc<Self>,
        stream: Prefixed<TcpStream>,
        version: HttpVersion,
        app: App,
        meant: Meant,
    ) {
        listen::close_in_order(stream.tcp());
        let client = app.addr;
        let outbound = Arc::clone(self);
        let service = service_fn(move |request| {
            let (outbound, app, meant) = (Arc::clone(&outbound), app.clone(), meant.clone());
            async move { Ok::<_, Infallible>(outbound.answer(request, &app, &meant).await) }
        });
        // The app's side rests on no certificate: it may stay for as long as both want.
        let unbounded = Lifetime::until(&self.clock, []);
        match http_server::serve(stream, version, service, IDLE, &unbounded, &self.drain).await {
            Ended::Closed | Ended::Expired => {}
            Ended::Broken(error) if error.is_parse() => {
                Refusal::Unreadable(error).report(&self.metrics, Direction::outbound, client);
            }
            Ended::Broken(error) => tracing::debug!(%client, %error, "the connection broke"),
        }
    }

    /// Answers one request, whatever becomes of it, and logs it.
    async fn answer(
        self: &Arc<Self>,
        request: Request<Incoming>,
        app: &App,
        meant: &Meant,
    ) -> Response<AnswerBody> {
        let started = Instant::now();
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let (spoken, is_grpc) = (version(&request), grpc::is_grpc(request.headers()));
        let mut record = Record { destination: meant.to_string(), ..Record::default() };
        let mut response = match Box::pin(self.forward(request, app, meant, &mut record)).await {
            Ok(response) => response,
            Err(refusal) => {
                refusal.report(&self.metrics, Direction::outbound, app.addr);
                record.answered = Some(refusal.label());
                refused(&refusal, is_grpc)
            }
        };
        if spoken == HttpVersion::Http2 {
            response.headers_mut().remove(header::CONNECTION); // RFC 9113, 8.2.2
        }
        record.mark(response.headers_mut());
        let ends = ends(app.addr, record.peer.as_ref(), &record.destination);
        let why = record.why();
        let routed =
            Routed { rule: record.rule.as_deref().unwrap_or("-"), attempts: record.attempts, why: &why };
        access::routed(&self.metrics, ends, (&method, &path), (response.status(), started), routed);
        response
    }

    /// One request: what it means, which rule it meets, what the rule makes of it.
    async fn forward(
        self: &Arc<Self>,
        mut request: Request<Incoming>,
        app: &App,
        meant: &Meant,
        record: &mut Record,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let policy = self.policy.get();
        let spoken = version(&request);
        let known = meant.destination(&policy, &self.names);
        let upgrade = headers::prepare_request(&mut request, connect(known.as_deref().ok()))?;
        let destination = match known {
            Ok(destination) => destination,
            Err(unknown) => meant.by_host(&policy, request.headers()).ok_or(unknown)?,
        };
        record.destination = destination.to_string();
        let asked = upgrade.map(|upgrade| Asked { upgrade, client: hyper::upgrade::on(&mut request) });
        let (head, body) = request.into_parts();

        let decision = policy.route_http(&destination, &head, roll)?;
        if let Some(route) = route(&decision) {
            record.rule = Some(route.rule.to_string());
            if let Some(answer) = self.own_answer(route, &head, record).await {
                return Ok(answer.map(AnswerBody::Own));
            }
        }
        let original = meant.original();
        let Some(onward) = Onward::new(&policy, &decision, &destination, original, spoken) else {
            // A route that answers by itself has done so.
            return Err(Refusal::NoEndpoints { destination: destination.to_string() });
        };
        onward.send(self, (head, RequestBody::from(body)), asked, app, record).await
    }

    /// The answer of a rule in the service's place: a fault, a redirect, a direct response.
    async fn own_answer(
        &self,
        route: &HttpRoute,
        head: &Parts,
        record: &mut Record,
    ) -> Option<Response<Full<bytes::Bytes>>> {
        if let Some(fault) = &route.fault {
            let chosen = fault::Chosen::by(fault, roll);
            let aborted = fault::inject(chosen, (&self.metrics, &self.drain), record).await;
            if aborted.is_some() {
                return aborted;
            }
        }
        let (response, name) = answers::own(route, head)?;
        record.answered = Some(name);
        Some(response)
    }

    fn valid_identity(&self) -> Result<Arc<Identity>, Refusal> {
        self.identity.valid().map_err(|why| Refusal::Uncertified(why.to_string()))
    }
}

fn route(decision: &HttpDecision) -> Option<&HttpRoute> {
    match decision {
        HttpDecision::Direct(_) => None,
        HttpDecision::Forward { route, .. } | HttpDecision::Answer(route) => Some(route),
    }
}

fn version<B>(request: &Request<B>) -> HttpVersion {
    if request.version() == Version::HTTP_2 { HttpVersion::Http2 } else { HttpVersion::Http1 }
}

/// CONNECT is for ports that are declared to be those of an HTTP proxy.
fn connect(destination: Option<&Destination>) -> Connect {
    match destination.map(|destination| destination.protocol) {
        Some(AppProtocol::HttpProxy) => Connect::Declared,
        Some(AppProtocol::Http | AppProtocol::Http2 | AppProtocol::Tcp | AppProtocol::Undeclared) | None => {
            Connect::Refused
        }
    }
}

/// Tells the app why, in the terms that it speaks.
fn refused(refusal: &Refusal, is_grpc: bool) -> Response<AnswerBody> {
    let mut response = if is_grpc { refusal.grpc_response() } else { refusal.response() };
    if let Refusal::UnknownDestination(_) = refusal {
        // It may be a connection to nowhere: it is not kept.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response.map(AnswerBody::Own)
}

fn ends<'a>(client: ClientAddr, peer: Option<&'a VerifiedPeer>, destination: &'a str) -> Ends<'a> {
    Ends { direction: Direction::outbound, client, peer, destination, audits: &[] }
}

/// A number below `end`, each as likely as the other; 0 for an empty range.
fn roll(end: u64) -> u64 {
    if end == 0 { 0 } else { rand::rng().random_range(0..end) }
}
