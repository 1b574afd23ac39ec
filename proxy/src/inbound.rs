//! A connection towards the app, from accept to end.
//!
//! ```text
//! Accepted -> Intercepted -> Terminated { peer } -> Admitted -> Detected -> Permit -> bytes to the app
//! ```
//!
//! Each step takes what the one before proved, so none can be left out: the app is dialled with a [`Permit`] alone,
//! for the whole connection when it carries bytes, for each request when it carries HTTP. Read [`Inbound::carry`]
//! and then [`Session::carry`] from top to bottom: they are the whole story. What a new policy ends is told in
//! [`standing`].

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::service::service_fn;
use portcullis_identity::{Clock, SpiffeId};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::access::{self, Ends};
use crate::addr::ClientAddr;
use crate::authz::{self, Admitted, Caller, ConnectionFacts, InboundPolicy, Permit, PortMode, RuleRef};
use crate::drain::Drain;
use crate::intercept;
use crate::latest::Latest;
use crate::lifetime::Lifetime;
use crate::listen::{self, Accepted, OverTcp};
use crate::metrics::{Direction, Metrics, OpenConnection};
use crate::protocol::detect::{Prefixed, Protocol};
use crate::protocol::{http, tcp};
use crate::refusal::{Refusal, Spoke};
use crate::route::{AppProtocol, HttpVersion};
use crate::svid::{Identity, IdentityWatch};
use crate::tls::{self, Alpn, FirstBytes};
use crate::upstream::{self, AppAddr};

mod app_body;
mod app_link;
mod record;
mod requests;
mod standing;
#[cfg(test)]
mod tests;
mod undeclared;

use app_link::AppLink;
use requests::Requests;
use standing::UnderWay;

/// How long a peer may leave a connection idle between requests; longer than a caller's pool keeps one.
const IDLE: Duration = Duration::from_secs(300);
/// The same for somebody unproven, on a port open to plaintext.
const IDLE_UNPROVEN: Duration = Duration::from_secs(30);

/// Everything that inbound connections share.
pub struct Inbound {
    /// The own certificate and trust bundles.
    pub identity: IdentityWatch,
    /// Which ports are STRICT.
    pub policy: Latest<InboundPolicy>,
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
    /// The policy as it was when the connection came, to notice what replaces it.
    policy: Latest<InboundPolicy>,
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
        let connection = intercepted(stream, client, &entry, self.policy.seen())?;
        match connection.policy.load().mode(connection.port, self.policy_clock.now()) {
            PortMode::Strict { rule } => self.carry_strict(connection, rule).await,
            mode @ PortMode::Plaintext { .. } => self.carry_plaintext(connection, &mode).await,
        }
    }

    /// The rule: mutual TLS, an admitted peer, and an end with the peer's certificate.
    async fn carry_strict(self: &Arc<Self>, connection: Intercepted, rule: RuleRef) -> Result<(), Refusal> {
        let Intercepted { stream, client, port, app, policy } = connection;
        require_tls(&stream, port, &rule, self.handshake).await?;
        listen::close_in_order(&stream);

        let identity = self.valid_identity()?;
        let terminated = tls::terminate(stream, &identity, self.handshake).await;
        let terminated = match terminated {
            Ok(terminated) => terminated,
            Err(source) => return Err(Refusal::NoMutualTls { source: Box::new(source), port, rule }),
        };

        let mode = PortMode::Strict { rule };
        let facts = ConnectionFacts { client, destination: app.get(), port, sni: terminated.sni };
        let caller = Caller::Verified(&terminated.peer);
        let admitted = authz::admit(&mode, caller, facts, self.own.trust_domain())?;
        let lifetime = Lifetime::until(&self.clock, [terminated.peer.not_after()]);
        let session = Session::new(self, policy, admitted, app, lifetime);
        // What follows is large, and lives long after the handshake.
        Box::pin(session.carry(Prefixed::new(terminated.stream), terminated.alpn)).await
    }

    /// The exception: plaintext on a port that policy opens, for as long as its plan lasts.
    async fn carry_plaintext(
        self: &Arc<Self>,
        connection: Intercepted,
        mode: &PortMode,
    ) -> Result<(), Refusal> {
        let Intercepted { stream, client, app, port, policy } = connection;
        let facts = ConnectionFacts { client, destination: app.get(), port, sni: None };
        let admitted = authz::admit(mode, Caller::Plaintext, facts, self.own.trust_domain())?;
        let lifetime = Lifetime::until(&self.policy_clock, mode.ends());
        let session = Session::new(self, policy, admitted, app, lifetime);
        Box::pin(session.carry(Prefixed::new(stream), Alpn::None)).await
    }

    fn valid_identity(&self) -> Result<Arc<Identity>, Refusal> {
        self.identity.valid().map_err(|why| Refusal::Uncertified(why.to_string()))
    }
}

/// A connection whose caller may speak to the sidecar; to the app only with a permit.
struct Session {
    inbound: Arc<Inbound>,
    /// As in [`Intercepted`].
    policy: Latest<InboundPolicy>,
    admitted: Admitted,
    app: AppAddr,
    lifetime: Lifetime,
    /// Requests and upgraded streams, to be judged again when the policy changes.
    under_way: UnderWay,
    /// What requests have turned the connection into.
    tunnels: TaskTracker,
    revoked: AtomicBool,
}

impl Session {
    fn new(
        inbound: &Arc<Inbound>,
        policy: Latest<InboundPolicy>,
        admitted: Admitted,
        app: AppAddr,
        lifetime: Lifetime,
    ) -> Arc<Self> {
        Arc::new(Self {
            inbound: Arc::clone(inbound),
            policy,
            admitted,
            app,
            lifetime,
            under_way: UnderWay::default(),
            tunnels: TaskTracker::new(),
            revoked: AtomicBool::new(false),
        })
    }

    /// By what the port is declared for, and else by the first bytes.
    async fn carry<IO>(self: &Arc<Self>, mut stream: Prefixed<IO>, alpn: Alpn) -> Result<(), Refusal>
    where
        IO: AsyncRead + AsyncWrite + OverTcp + Unpin + Send + 'static,
    {
        // A caller without a permit for bytes has them reset; one that speaks HTTP is told why.
        listen::reset_on_close(stream.tcp());
        let declared = self.inbound.policy.load().protocol(self.admitted.facts().port);
        let spoken = match alpn {
            Alpn::Http1 => Some(HttpVersion::Http1),
            Alpn::Http2 => Some(HttpVersion::Http2),
            Alpn::None => None,
        };
        match (declared, spoken) {
            (AppProtocol::Tcp, Some(_)) => Err(self.wrong_protocol("opaque TCP", "HTTP, as ALPN says")),
            (AppProtocol::Tcp, None) => {
                let permit = self.stream_permit()?;
                let app_stream = upstream::connect_app(&permit, self.app).await?;
                self.carry_bytes(stream, app_stream, &permit).await
            }
            (_, Some(version)) => {
                self.carry_http(stream, version, declared, None).await;
                Ok(())
            }
            (AppProtocol::Http | AppProtocol::Http2 | AppProtocol::HttpProxy, None) => {
                match self.detect(&mut stream).await? {
                    Some(Protocol::Http(version)) => self.carry_http(stream, version, declared, None).await,
                    Some(Protocol::Tcp) if !stream.is_silent() => {
                        return Err(self.wrong_protocol("HTTP", "something else"));
                    }
                    // Whoever connects and leaves, as probes do, has done nothing wrong.
                    Some(Protocol::Tcp) | None => {}
                }
                Ok(())
            }
            (AppProtocol::Undeclared, None) => self.carry_undeclared(stream).await,
        }
    }

    /// What the client speaks; `None` when it is gone, or its time is over.
    async fn detect<IO>(&self, stream: &mut Prefixed<IO>) -> Result<Option<Protocol>, Refusal>
    where
        IO: AsyncRead + Unpin,
    {
        tokio::select! {
            detected = stream.detect() => match detected {
                Ok(protocol) => Ok(Some(protocol)),
                // It will say nothing, and may still be there to listen.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Some(Protocol::Tcp)),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(Refusal::Undetected),
                Err(_) => Ok(None),
            },
            () = tokio::time::sleep(self.idle()) => Err(Refusal::Undetected),
            () = self.lifetime.over() => Ok(None),
            denial = self.stream_barred() => Err(Refusal::Revoked(denial)),
        }
    }

    async fn carry_bytes<IO>(
        &self,
        mut stream: Prefixed<IO>,
        mut app_stream: TcpStream,
        permit: &Permit,
    ) -> Result<(), Refusal>
    where
        IO: AsyncRead + AsyncWrite + OverTcp + Unpin + Send + 'static,
    {
        let (started, destination) = (Instant::now(), self.app.get().to_string());
        let ended = tokio::select! {
            ended = tcp::copy(&mut stream, &mut app_stream, &self.lifetime) => ended,
            // Both sockets end in a reset, as the copy leaves them until both directions have ended.
            denial = self.stream_revoked() => {
                access::cut_stream(self.ends(permit, &destination), "no longer permitted", started);
                return Err(Refusal::Revoked(denial));
            }
        };
        if matches!(ended, tcp::Ended::Expired) {
            self.count_expired();
        }
        access::stream(self.ends(permit, &destination), &ended, started);
        Ok(())
    }

    /// Request by request, each with its own permit. `dialled` is used first, if there is one.
    async fn carry_http<IO>(
        self: &Arc<Self>,
        stream: Prefixed<IO>,
        version: HttpVersion,
        declared: AppProtocol,
        dialled: Option<TcpStream>,
    ) where
        IO: AsyncRead + AsyncWrite + OverTcp + Unpin + Send + 'static,
    {
        listen::close_in_order(stream.tcp());
        let app = AppLink::new(self.app, dialled, self.inbound.drain.clone());
        let requests = Arc::new(Requests::new(self, app, declared, version));
        let service = service_fn(move |request| {
            let requests = Arc::clone(&requests);
            async move { Ok::<_, Infallible>(requests.answer(request).await) }
        });
        let serving = async {
            let drain = &self.inbound.drain;
            let ended = http::serve(stream, version, service, self.idle(), &self.lifetime, drain).await;
            self.tunnels.close();
            self.tunnels.wait().await;
            ended
        };
        let ended = tokio::select! {
            ended = serving => ended,
            never = self.judge_requests() => match never {},
        };
        let client = self.admitted.facts().client;
        match ended {
            http::Ended::Closed => {}
            http::Ended::Broken(error) if error.is_parse() => self.report(&Refusal::Unreadable(error)),
            http::Ended::Broken(error) => tracing::debug!(%client, %error, "the connection broke"),
            http::Ended::Expired => self.count_expired(),
        }
    }

    fn idle(&self) -> Duration {
        if self.admitted.peer().is_some() { IDLE } else { IDLE_UNPROVEN }
    }

    fn wrong_protocol(&self, wanted: &'static str, spoke: &'static str) -> Refusal {
        Refusal::WrongProtocol { port: self.admitted.facts().port, wanted, spoke }
    }

    /// What a policy has ended is reported as that, and not as expired.
    fn count_expired(&self) {
        if !self.revoked.load(Ordering::Relaxed) {
            self.inbound.metrics.expired(Direction::inbound);
        }
    }

    fn report(&self, refusal: &Refusal) {
        refusal.report(&self.inbound.metrics, Direction::inbound, self.admitted.facts().client);
    }

    fn ends<'a>(&self, permit: &'a Permit, destination: &'a str) -> Ends<'a> {
        let client = self.admitted.facts().client;
        let audits = permit.audits();
        Ends { direction: Direction::inbound, client, peer: permit.peer(), destination, audits }
    }
}

/// Where the connection was meant to go.
fn intercepted(
    stream: TcpStream,
    client: ClientAddr,
    entry: &Entry,
    policy: Latest<InboundPolicy>,
) -> Result<Intercepted, Refusal> {
    let (port, app) = match entry {
        Entry::Intercepted { own_ports } => {
            let destination = intercept::original_dst(&stream, own_ports)?.get();
            (destination.port(), AppAddr::intercepted(destination))
        }
        Entry::Explicit { port, app } => (*port, AppAddr::explicit(*app)),
    };
    Ok(Intercepted { stream, client, port, app, policy })
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
