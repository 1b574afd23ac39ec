//! A connection towards the app, from accept to end.
//!
//! ```text
//! Accepted -> Intercepted -> Terminated { peer } -> Permit -> Detected -> bytes to the app
//! ```
//!
//! Each step takes what the one before proved, so none can be left out. Read [`Inbound::carry`] from top to
//! bottom: it is the whole story.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use portcullis_identity::{Clock, SpiffeId};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::access::{self, Ends};
use crate::addr::ClientAddr;
use crate::authz::{self, Caller, InboundPolicy, Permit, PortMode, RuleRef};
use crate::drain::Drain;
use crate::intercept;
use crate::lifetime::Lifetime;
use crate::listen::{self, Accepted, OverTcp};
use crate::metrics::{Direction, Metrics, OpenConnection};
use crate::protocol::detect::{Prefixed, Protocol};
use crate::protocol::{headers, http1, tcp};
use crate::refusal::{Refusal, Spoke};
use crate::svid::{Identity, IdentityWatch};
use crate::tls::{self, Alpn, FirstBytes};
use crate::upstream::{self, AppAddr};

mod app_link;

use app_link::AppLink;

/// How long a peer may leave a connection idle between requests; longer than a caller's pool keeps one.
const IDLE: Duration = Duration::from_secs(300);
/// The same for somebody unproven, on a port open to plaintext.
const IDLE_UNPROVEN: Duration = Duration::from_secs(30);

/// Everything that inbound connections share.
pub struct Inbound {
    /// The own certificate and trust bundles.
    pub identity: IdentityWatch,
    /// Which ports are STRICT.
    pub policy: Arc<InboundPolicy>,
    /// The own identity, as the app is told.
    pub own: SpiffeId,
    /// The time that proofs are measured against.
    pub clock: Clock,
    /// The time that plaintext exceptions expire by.
    pub policy_clock: Clock,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Shutdown.
    pub drain: Drain,
    /// Longest TLS handshake.
    pub handshake: Duration,
}

/// How a connection got here.
#[derive(Debug, Clone)]
pub enum Entry {
    /// Redirected by the kernel; the sidecar's own ports are never a destination.
    Intercepted {
        /// Ports of the sidecar itself.
        own_ports: Arc<[u16]>,
    },
    /// Accepted on a listener that stands for one port of the app.
    Explicit {
        /// The port that policy speaks of.
        port: u16,
        /// Where the app listens.
        app: SocketAddr,
    },
}

/// A connection whose destination is known.
struct Intercepted {
    stream: TcpStream,
    client: ClientAddr,
    port: u16,
    app: AppAddr,
}

impl Inbound {
    /// Carries one connection, and reports it if it is refused.
    pub async fn serve(self: Arc<Self>, accepted: Accepted, entry: Entry) {
        let _open = OpenConnection::count(&self.metrics, Direction::inbound);
        let (stream, client, _permit) = accepted.into_parts();
        // Until it has shown a reason to be let in, ending the connection means resetting it.
        listen::reset_on_close(&stream);
        if let Err(refusal) = self.carry(stream, client, entry).await {
            refusal.report(&self.metrics, Direction::inbound, client);
        }
    }

    async fn carry(
        self: &Arc<Self>,
        stream: TcpStream,
        client: ClientAddr,
        entry: Entry,
    ) -> Result<(), Refusal> {
        let connection = intercepted(stream, client, &entry)?;
        match self.policy.mode(connection.port, self.policy_clock.now()) {
            PortMode::Strict { rule } => self.carry_strict(connection, rule).await,
            mode @ PortMode::Plaintext { .. } => self.carry_plaintext(connection, &mode).await,
        }
    }

    /// The rule: mutual TLS, a permitted peer, and an end with the peer's certificate.
    async fn carry_strict(self: &Arc<Self>, connection: Intercepted, rule: RuleRef) -> Result<(), Refusal> {
        let Intercepted { stream, client, port, app } = connection;
        require_tls(&stream, port, &rule, self.handshake).await?;
        listen::close_in_order(&stream);

        let identity = self.valid_identity()?;
        let terminated = tls::terminate(stream, &identity, self.handshake).await;
        let terminated = match terminated {
            Ok(terminated) => terminated,
            Err(source) => return Err(Refusal::NoMutualTls { source: Box::new(source), port, rule }),
        };

        let mode = PortMode::Strict { rule };
        let permit = authz::authorize(&mode, Caller::Verified(&terminated.peer), self.own.trust_domain())?;
        let lifetime = Lifetime::until(&self.clock, [terminated.peer.not_after()]);

        let stream = Prefixed::new(terminated.stream);
        match terminated.alpn {
            Alpn::Http1 => {
                let app = AppLink::new(app, None, self.drain.clone());
                self.carry_http(stream, app, permit, client, lifetime).await;
                Ok(())
            }
            Alpn::None => self.carry_undeclared(stream, app, permit, client, lifetime).await,
        }
    }

    /// The exception: plaintext on a port that policy opens, for as long as its plan lasts.
    async fn carry_plaintext(
        self: &Arc<Self>,
        connection: Intercepted,
        mode: &PortMode,
    ) -> Result<(), Refusal> {
        let Intercepted { stream, client, app, .. } = connection;
        let permit = authz::authorize(mode, Caller::Plaintext, self.own.trust_domain())?;
        let lifetime = Lifetime::until(&self.policy_clock, mode.ends());
        listen::close_in_order(&stream);
        self.carry_undeclared(Prefixed::new(stream), app, permit, client, lifetime).await
    }

    /// Whoever speaks first tells the protocol: an app that does is no HTTP server, a client may be an HTTP client.
    async fn carry_undeclared<IO>(
        self: &Arc<Self>,
        mut stream: Prefixed<IO>,
        app: AppAddr,
        permit: Permit,
        client: ClientAddr,
        lifetime: Lifetime,
    ) -> Result<(), Refusal>
    where
        IO: AsyncRead + AsyncWrite + OverTcp + Unpin + Send + 'static,
    {
        let mut app_stream = upstream::connect_app(&permit, app).await?;
        let protocol = tokio::select! {
            protocol = stream.detect() => match protocol {
                Ok(protocol) => protocol,
                // It will say nothing, and may still be there to listen.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Protocol::Tcp,
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(Refusal::Undetected),
                Err(_) => return Ok(()), // the client is gone
            },
            _ = app_stream.readable() => Protocol::Tcp,
            () = tokio::time::sleep(idle(&permit)) => return Err(Refusal::Undetected),
            () = lifetime.over() => return Ok(()),
        };
        match protocol {
            Protocol::Http => {
                let app = AppLink::new(app, Some(app_stream), self.drain.clone());
                self.carry_http(stream, app, permit, client, lifetime).await;
            }
            Protocol::Tcp => {
                let started = Instant::now();
                let ended = tcp::copy(&mut stream, &mut app_stream, &lifetime).await;
                if matches!(ended, tcp::Ended::Expired) {
                    self.metrics.expired(Direction::inbound);
                }
                let destination = app.get().to_string();
                access::stream(self.ends(client, &permit, &destination), &ended, started);
            }
        }
        Ok(())
    }

    async fn carry_http<IO>(
        self: &Arc<Self>,
        stream: Prefixed<IO>,
        app: AppLink,
        permit: Permit,
        client: ClientAddr,
        lifetime: Lifetime,
    ) where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let idle = idle(&permit);
        let requests = Arc::new(Requests { inbound: Arc::clone(self), permit, app, client });
        let service = service_fn(move |request| {
            let requests = Arc::clone(&requests);
            async move { Ok::<_, Infallible>(requests.answer(request).await) }
        });
        match http1::serve(stream, service, idle, &lifetime, &self.drain).await {
            http1::Ended::Closed => {}
            http1::Ended::Broken(error) if error.is_parse() => {
                Refusal::Unreadable(error).report(&self.metrics, Direction::inbound, client);
            }
            http1::Ended::Broken(error) => tracing::debug!(%client, %error, "the connection broke"),
            http1::Ended::Expired => self.metrics.expired(Direction::inbound),
        }
    }

    fn valid_identity(&self) -> Result<Arc<Identity>, Refusal> {
        self.identity.valid().map_err(|why| Refusal::Uncertified(why.to_string()))
    }

    fn ends<'a>(&self, client: ClientAddr, permit: &'a Permit, destination: &'a str) -> Ends<'a> {
        Ends { direction: Direction::inbound, client, peer: permit.peer(), destination }
    }
}

/// Where the connection was meant to go.
fn intercepted(stream: TcpStream, client: ClientAddr, entry: &Entry) -> Result<Intercepted, Refusal> {
    let (port, app) = match entry {
        Entry::Intercepted { own_ports } => {
            let destination = intercept::original_dst(&stream, own_ports)?.get();
            (destination.port(), AppAddr::intercepted(destination))
        }
        Entry::Explicit { port, app } => (*port, AppAddr::explicit(*app)),
    };
    Ok(Intercepted { stream, client, port, app })
}

fn idle(permit: &Permit) -> Duration {
    if permit.peer().is_some() { IDLE } else { IDLE_UNPROVEN }
}

/// Looks at the first bytes, so that a plaintext client can be named for what it spoke.
async fn require_tls(
    stream: &TcpStream,
    port: u16,
    rule: &RuleRef,
    deadline: Duration,
) -> Result<(), Refusal> {
    let spoke = match tls::first_bytes(stream, deadline).await {
        Ok(FirstBytes::TlsHandshake) => return Ok(()),
        Ok(FirstBytes::Http { method }) => Spoke::Http(method),
        Ok(FirstBytes::Other) => Spoke::Other,
        Ok(FirstBytes::Silent) => Spoke::Nothing,
        Ok(FirstBytes::Closed) | Err(_) => Spoke::Left,
    };
    Err(Refusal::Plaintext { spoke, port, rule: rule.clone() })
}

/// The requests of one connection.
struct Requests {
    inbound: Arc<Inbound>,
    permit: Permit,
    app: AppLink,
    client: ClientAddr,
}

impl Requests {
    async fn answer(&self, request: Request<Incoming>) -> Response<Either<Incoming, Full<Bytes>>> {
        let started = Instant::now();
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let response = match self.forward(request).await {
            Ok(response) => response.map(Either::Left),
            Err(refusal) => {
                refusal.report(&self.inbound.metrics, Direction::inbound, self.client);
                refusal.response().map(Either::Right)
            }
        };
        let destination = self.app.to_string();
        let ends = self.inbound.ends(self.client, &self.permit, &destination);
        access::request(&self.inbound.metrics, ends, &method, &path, response.status(), started);
        response
    }

    async fn forward(&self, mut request: Request<Incoming>) -> Result<Response<Incoming>, Refusal> {
        headers::prepare_request(&mut request)?;
        if let Some(peer) = self.permit.peer() {
            headers::set_identity(request.headers_mut(), &self.inbound.own, peer);
        }
        let mut response = self.app.send(&self.permit, request).await?;
        headers::strip_hop_by_hop(response.headers_mut());
        Ok(response)
    }
}
