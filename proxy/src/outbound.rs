//! A connection from the app, from accept to end.
//!
//! ```text
//! Accepted -> Intercepted -> Destination -> Detected -> Target -> Lease -> bytes to the other sidecar
//! ```
//!
//! The destination is known from a ServiceEntry or the connection is refused; the other side proves to be that
//! destination or gets no byte. Read [`Outbound::carry`] from top to bottom: it is the whole story.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use portcullis_identity::Clock;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::access::{self, Ends};
use crate::addr::ClientAddr;
use crate::drain::Drain;
use crate::intercept;
use crate::lifetime::Lifetime;
use crate::listen::{self, Accepted, OverTcp};
use crate::metrics::{Direction, Metrics, OpenConnection};
use crate::pool::{LeasedBody, Pools};
use crate::protocol::detect::{Prefixed, Protocol};
use crate::protocol::{headers, http1, tcp};
use crate::refusal::Refusal;
use crate::route::{AppProtocol, Destination, OutboundPolicy};
use crate::svid::{Identity, IdentityWatch};
use crate::tls::VerifiedPeer;
use crate::upstream::Target;

/// How long the own app may leave a connection idle between requests.
const IDLE: Duration = Duration::from_secs(3600);

/// Everything that outbound connections share.
pub struct Outbound {
    /// The own certificate and trust bundles.
    pub identity: IdentityWatch,
    /// Which destinations exist, and who they must prove to be.
    pub policy: Arc<OutboundPolicy>,
    /// HTTP connections to other services.
    pub pools: Pools,
    /// The time that proofs are measured against.
    pub clock: Clock,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Shutdown.
    pub drain: Drain,
    /// Longest wait for the first byte of an app whose protocol is not declared.
    pub detection: Duration,
}

/// How a connection got here.
#[derive(Debug, Clone)]
pub enum Entry {
    /// Redirected by the kernel; the sidecar's own ports are never a destination.
    Intercepted {
        /// Ports of the sidecar itself.
        own_ports: Arc<[u16]>,
    },
    /// Accepted on a listener that stands for one destination.
    Explicit {
        /// Where connections go.
        destination: Arc<Destination>,
    },
}

impl Outbound {
    /// Carries one connection, and reports it if it is refused.
    pub async fn serve(self: Arc<Self>, accepted: Accepted, entry: Entry) {
        let _open = OpenConnection::count(&self.metrics, Direction::outbound);
        let (stream, client, _permit) = accepted.into_parts();
        // Until the other side has proven itself, ending the connection means resetting it.
        listen::reset_on_close(&stream);
        if let Err(refusal) = self.carry(stream, client, entry).await {
            refusal.report(&self.metrics, Direction::outbound, client);
        }
    }

    async fn carry(
        self: &Arc<Self>,
        stream: TcpStream,
        client: ClientAddr,
        entry: Entry,
    ) -> Result<(), Refusal> {
        let (destination, original) = match entry {
            Entry::Intercepted { own_ports } => {
                let original = intercept::original_dst(&stream, &own_ports)?.get();
                match self.policy.destination(original) {
                    Ok(destination) => (Arc::clone(destination), Some(original)),
                    Err(unknown) => return Err(self.turn_away(stream, unknown.into()).await),
                }
            }
            Entry::Explicit { destination } => (destination, None),
        };
        let meant = Target { destination, original };
        let mut stream = Prefixed::new(stream);
        match self.protocol(&mut stream, &meant.destination).await? {
            Protocol::Http => self.carry_http(stream, client, meant).await,
            Protocol::Tcp => self.carry_tcp(stream, client, meant).await?,
        }
        Ok(())
    }

    /// Tells an app that speaks HTTP why it is refused, once; the end of any other's connection is a reset.
    async fn turn_away(&self, stream: TcpStream, refusal: Refusal) -> Refusal {
        let mut stream = Prefixed::new(stream);
        let detected = tokio::time::timeout(self.detection, stream.detect()).await;
        if matches!(detected, Ok(Ok(Protocol::Http))) {
            listen::close_in_order(stream.tcp());
            let service = service_fn(|_| {
                let mut response = refusal.response();
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                async move { Ok::<_, Infallible>(response) }
            });
            let unbounded = Lifetime::until(&self.clock, []);
            // However it ends, the app is refused for the reason it began with.
            let _ = http1::serve(stream, service, self.detection, &unbounded, &self.drain).await;
        }
        refusal
    }

    /// As declared; else as the app's first bytes tell. An app that waits for the server must have it declared.
    async fn protocol(
        &self,
        stream: &mut Prefixed<TcpStream>,
        destination: &Destination,
    ) -> Result<Protocol, Refusal> {
        match destination.protocol {
            AppProtocol::Http => Ok(Protocol::Http),
            AppProtocol::Tcp => Ok(Protocol::Tcp),
            AppProtocol::Undeclared => {
                let detected = tokio::time::timeout(self.detection, stream.detect()).await;
                detected.ok().and_then(Result::ok).ok_or(Refusal::Undetected)
            }
        }
    }

    async fn carry_tcp(
        &self,
        mut stream: Prefixed<TcpStream>,
        client: ClientAddr,
        meant: Target,
    ) -> Result<(), Refusal> {
        let target = Target { destination: self.policy.route_tcp(&meant.destination)?, ..meant };
        let identity = self.valid_identity()?;
        let (mut upstream, _place) = self.pools.connect(&target, &identity).await?;

        let started = Instant::now();
        let ended = tcp::copy(&mut stream, &mut upstream.stream, &upstream.lifetime).await;
        if matches!(ended, tcp::Ended::Expired) {
            self.metrics.expired(Direction::outbound);
        }
        let name = target.to_string();
        access::stream(ends(client, upstream.peer.as_ref(), &name), &ended, started);
        Ok(())
    }

    async fn carry_http(self: &Arc<Self>, stream: Prefixed<TcpStream>, client: ClientAddr, meant: Target) {
        listen::close_in_order(stream.tcp());
        let outbound = Arc::clone(self);
        let service = service_fn(move |request| {
            let (outbound, meant) = (Arc::clone(&outbound), meant.clone());
            async move { Ok::<_, Infallible>(outbound.answer(request, client, &meant).await) }
        });
        // The app's side rests on no certificate: it may stay for as long as both want.
        let unbounded = Lifetime::until(&self.clock, []);
        match http1::serve(stream, service, IDLE, &unbounded, &self.drain).await {
            http1::Ended::Closed | http1::Ended::Expired => {}
            http1::Ended::Broken(error) if error.is_parse() => {
                Refusal::Unreadable(error).report(&self.metrics, Direction::outbound, client);
            }
            http1::Ended::Broken(error) => tracing::debug!(%client, %error, "the connection broke"),
        }
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        client: ClientAddr,
        meant: &Target,
    ) -> Response<Either<LeasedBody, Full<Bytes>>> {
        let started = Instant::now();
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let (response, peer) = match self.forward(request, meant).await {
            Ok((response, peer)) => (response.map(Either::Left), peer),
            Err(refusal) => {
                refusal.report(&self.metrics, Direction::outbound, client);
                (refusal.response().map(Either::Right), None)
            }
        };
        let name = meant.to_string();
        let ends = ends(client, peer.as_ref(), &name);
        access::request(&self.metrics, ends, &method, &path, response.status(), started);
        response
    }

    async fn forward(
        &self,
        mut request: Request<Incoming>,
        meant: &Target,
    ) -> Result<(Response<LeasedBody>, Option<VerifiedPeer>), Refusal> {
        headers::prepare_request(&mut request)?;
        let (head, body) = request.into_parts();
        let destination = self.policy.route_http(&meant.destination, &head)?;
        let target = Target { destination, original: meant.original };
        let identity = self.valid_identity()?;
        let request = Request::from_parts(head, body);
        let mut answer = self.pools.send(&target, &identity, request).await?;
        headers::strip_hop_by_hop(answer.response.headers_mut());
        Ok((answer.response, answer.peer))
    }

    fn valid_identity(&self) -> Result<Arc<Identity>, Refusal> {
        self.identity.valid().map_err(|why| Refusal::Uncertified(why.to_string()))
    }
}

fn ends<'a>(client: ClientAddr, peer: Option<&'a VerifiedPeer>, destination: &'a str) -> Ends<'a> {
    Ends { direction: Direction::outbound, client, peer, destination }
}
