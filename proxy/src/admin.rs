//! What a sidecar tells of itself: probes for the platform, metrics over mutual TLS, both on loopback for people.
//!
//! Read-only, and nothing here is reached through the app's ports.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use portcullis_identity::{Clock, TrustDomain};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixListener;

use crate::authz::{self, Caller, ConnectionFacts, PortMode, RuleRef};
use crate::drain::Drain;
use crate::lifetime::Lifetime;
use crate::listen::Accepted;
use crate::metrics::{Direction, Metrics};
use crate::protocol::http1;
use crate::refusal::Refusal;
use crate::status::{Refusals, Status};
use crate::svid::IdentityWatch;
use crate::tls;

/// A scraper or a person may leave a connection idle this long.
const IDLE: Duration = Duration::from_secs(60);
/// Whoever probes, on a port that is open to all, asks at once or makes room.
const PROBE_IDLE: Duration = Duration::from_secs(5);

/// What is served where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Readiness and liveness, and nothing else: the port is open to plaintext.
    Probes,
    /// Metrics: behind mutual TLS.
    Metrics,
    /// Everything: on loopback or a unix socket.
    Admin,
}

/// What the pages are made from.
pub struct Admin {
    /// Ready or not.
    pub identity: IdentityWatch,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// For the metrics port: whose peers may read them.
    pub trust_domain: TrustDomain,
    /// The time that proofs are measured against.
    pub clock: Clock,
    /// Shutdown of these pages.
    pub drain: Drain,
    /// Shutdown of the way to the app: from then on the sidecar is not ready.
    pub leaving: Drain,
    /// Longest TLS handshake.
    pub handshake: Duration,
    /// The metrics port, as refusals name it.
    pub port: u16,
    /// Brings gauges up to date before a scrape.
    pub refresh: Box<dyn Fn() + Send + Sync>,
    /// All that `portcullis status` shows.
    pub status: Box<dyn Fn() -> Status + Send + Sync>,
    /// All that `portcullis verify failures` shows.
    pub refusals: Box<dyn Fn() -> Refusals + Send + Sync>,
}

impl Admin {
    /// Serves one plaintext connection: probes, or the loopback port.
    pub async fn serve_plaintext(self: Arc<Self>, accepted: Accepted, scope: Scope) {
        let (stream, _client, _permit) = accepted.into_parts();
        self.serve(stream, scope, Lifetime::until(&self.clock, [])).await;
    }

    /// Serves one connection of a scraper that proves to be of the own trust domain.
    pub async fn serve_metrics(self: Arc<Self>, accepted: Accepted) {
        let (stream, client, _permit) = accepted.into_parts();
        let terminated = match self.identity.valid() {
            Ok(identity) => tls::terminate(stream, &identity, self.handshake).await,
            Err(why) => {
                let refusal = Refusal::Uncertified(why.to_string());
                return refusal.report(&self.metrics, Direction::inbound, client);
            }
        };
        let terminated = match terminated {
            Ok(terminated) => terminated,
            Err(source) => {
                let refusal = Refusal::NoMutualTls {
                    source: Box::new(source),
                    port: self.port,
                    rule: RuleRef::built_in(),
                };
                return refusal.report(&self.metrics, Direction::inbound, client);
            }
        };
        let mode = PortMode::Strict { rule: RuleRef::built_in() };
        let port = self.port;
        let facts = ConnectionFacts { client, destination: ([0; 4], port).into(), port, sni: terminated.sni };
        match authz::admit(&mode, Caller::Verified(&terminated.peer), facts, &self.trust_domain) {
            Ok(_admitted) => {
                let lifetime = Lifetime::until(&self.clock, [terminated.peer.not_after()]);
                self.serve(terminated.stream, Scope::Metrics, lifetime).await;
            }
            Err(denial) => Refusal::from(denial).report(&self.metrics, Direction::inbound, client),
        }
    }

    /// Accepts on a unix socket until the drain begins.
    pub async fn accept_unix(self: Arc<Self>, listener: UnixListener, _guard: RemoveOnDrop) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.drain.begun() => return,
            };
            match accepted {
                Ok((stream, _)) => {
                    let admin = Arc::clone(&self);
                    self.drain.spawn(async move {
                        let unbounded = Lifetime::until(&admin.clock, []);
                        admin.serve(stream, Scope::Admin, unbounded).await;
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept on the admin socket");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    async fn serve<IO>(self: &Arc<Self>, io: IO, scope: Scope, lifetime: Lifetime)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let admin = Arc::clone(self);
        let service = service_fn(move |request| {
            let admin = Arc::clone(&admin);
            async move { Ok::<_, Infallible>(admin.page(&request, scope)) }
        });
        let idle = if scope == Scope::Probes { PROBE_IDLE } else { IDLE };
        // Whatever broke, the other side knows as well, and there is nothing to undo.
        let _ = http1::serve(io, service, idle, &lifetime, &self.drain).await;
    }

    fn page(&self, request: &Request<Incoming>, scope: Scope) -> Response<Full<Bytes>> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "read-only\n".into());
        }
        match (request.uri().path(), scope) {
            ("/healthz/live", Scope::Probes | Scope::Admin) => text(StatusCode::OK, "live\n".into()),
            ("/healthz/ready", Scope::Probes | Scope::Admin) => self.ready(),
            ("/metrics", Scope::Metrics | Scope::Admin) => {
                (self.refresh)();
                let mut page = text(StatusCode::OK, self.metrics.encode());
                let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                page.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
                page
            }
            ("/status", Scope::Admin) => json(&(self.status)()),
            ("/refusals", Scope::Admin) => json(&(self.refusals)()),
            _ => text(StatusCode::NOT_FOUND, "not here\n".into()),
        }
    }

    fn ready(&self) -> Response<Full<Bytes>> {
        let status = self.identity.status();
        if self.leaving.has_begun() {
            text(StatusCode::SERVICE_UNAVAILABLE, "draining\n".into())
        } else if status.is_ready() {
            text(StatusCode::OK, format!("{status}\n"))
        } else {
            text(StatusCode::SERVICE_UNAVAILABLE, format!("{status}\n"))
        }
    }
}

fn json(page: &impl Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_string(page) {
        Ok(body) => {
            let mut response = text(StatusCode::OK, body + "\n");
            let kind = HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

/// A socket file that goes when its listener does.
pub struct RemoveOnDrop(pub PathBuf);

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        // It may be gone already; a file left behind is replaced at the next start.
        let _ = std::fs::remove_file(&self.0);
    }
}
