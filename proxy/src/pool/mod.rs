//! HTTP connections to other services, kept and counted per destination.
//!
//! [`Pools::send`] has the story of one request: a place under the limits, a server, a connection to it, the answer.
//! The limits are exact ([`limits`]); HTTP/1.1 connections are lent one by one ([`http1`]), HTTP/2 connections are
//! shared ([`http2`]). A reload changes a pool in place ([`state`]); which pool is whose is in [`index`].

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::{Method, Request, StatusCode};
use tokio::time::Instant;

use crate::drain::Drain;
use crate::lifetime::Lifetime;
use crate::metrics::Metrics;
use crate::protocol::body::RequestBody;
use crate::protocol::client::{SendFailure, is_refused};
use crate::refusal::Refusal;
use crate::route::HttpVersion;
use crate::svid::Identity;
use crate::tls::VerifiedPeer;
use crate::upstream::{Dialler, Names, Outcome, Target, Upstream};

mod attempts;
mod body;
mod http1;
mod http2;
mod index;
mod lease;
pub mod limit;
mod limits;
mod link;
mod settings;
mod state;
mod status;
mod sync;
#[cfg(test)]
mod tests;

pub use body::LeasedBody;
pub use lease::{Lease, Place};
pub use status::PoolStatus;

use attempts::Attempts;
use index::Index;
use lease::Via;
use limits::Bound;
use state::Pool;

/// How often a request is sent again inside when a connection had ended before it took anything.
const STALE_RETRIES: usize = 3;
/// A pool without connections is forgotten after this long.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// The pools of one sidecar, by destination.
#[derive(Clone)]
pub struct Pools {
    index: Arc<Index>,
    dialler: Dialler,
    names: Names,
    metrics: Arc<Metrics>,
    drain: Drain,
}

/// A response whose connection is still leased.
pub struct Answer {
    /// Head and body; the body gives the connection back.
    pub response: hyper::Response<LeasedBody>,
    /// Who answered; `None` under a plaintext exception, and outside of the mesh.
    pub peer: Option<VerifiedPeer>,
    /// How long the connection may live.
    pub lifetime: Lifetime,
    /// Who was dialled: what another attempt avoids.
    pub endpoint: Option<SocketAddr>,
    /// The connection itself, when the response made it one of bytes (101, or a tunnel): hold it for as long as
    /// they are copied.
    pub upgraded: Option<Lease>,
}

/// Why a request got no answer.
#[derive(Debug)]
pub struct Failed {
    /// The reason.
    pub refusal: Refusal,
    /// How far it came.
    pub stage: Stage,
    /// The request, when it is whole: nothing of it was sent.
    pub unsent: Option<Box<Request<RequestBody>>>,
    /// The endpoint that failed it, if it came so far.
    pub endpoint: Option<SocketAddr>,
}

/// How far a failed request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// A limit, nothing to connect to, or a wrong proof: there is no point in trying at once again.
    Refused,
    /// No connection could be made.
    Connecting,
    /// There was a connection, and the server refused the stream.
    Unsent,
    /// There was a connection that had ended, and it provably took nothing.
    Stale,
    /// As [`Stage::Sent`], though most likely it saw nothing of it: the connection had been used before, and ended
    /// before any byte of the answer.
    Ended,
    /// The server may have acted on it.
    Sent,
}

impl Pools {
    /// No connections yet. Connections are tasks of `drain`.
    #[must_use]
    pub fn new(dialler: Dialler, names: Names, metrics: Arc<Metrics>, drain: Drain) -> Self {
        Self { index: Arc::default(), dialler, names, metrics, drain }
    }

    /// Sends a request to a target and waits for the head of the response.
    ///
    /// # Errors
    /// A limit, an endpoint that cannot be reached or is not who it should be, or a broken connection.
    pub async fn send(
        &self,
        target: &Target,
        identity: &Identity,
        mut request: Request<RequestBody>,
        version: HttpVersion,
    ) -> Result<Answer, Failed> {
        let tunnel = request.method() == Method::CONNECT;
        let mut stale = 0;
        let mut target = Cow::Borrowed(target);
        let pool = self.index.pool(&target);
        loop {
            let lease = match self.lease(&pool, &target, identity, version).await {
                Ok(lease) => lease,
                Err((refusal, endpoint)) => {
                    let stage = if refusal.is_of_the_endpoint() { Stage::Connecting } else { Stage::Refused };
                    return Err(Failed { refusal, stage, unsent: Some(Box::new(request)), endpoint });
                }
            };
            match exchange(lease, request, tunnel).await {
                Ok(answer) => return Ok(answer),
                Err(Failed { stage: Stage::Stale, unsent: Some(unsent), .. }) if stale < STALE_RETRIES => {
                    stale += 1;
                    request = *unsent;
                    if stale == STALE_RETRIES {
                        target.to_mut().fresh = true;
                    }
                }
                Err(failed) => return Err(failed),
            }
        }
    }

    /// The use of one connection, for a request that is not sent yet: what [`Pools::send`] begins with. It goes back by
    /// [`Lease::give_back`].
    ///
    /// # Errors
    /// As [`Pools::send`], before anything is sent.
    pub async fn checkout(
        &self,
        target: &Target,
        identity: &Identity,
        version: HttpVersion,
    ) -> Result<Lease, Refusal> {
        let pool = self.index.pool(target);
        self.lease(&pool, target, identity, version).await.map_err(|(refusal, _)| refusal)
    }

    /// Opens one TCP connection to a target; its place under `maxConnections` is held with it.
    ///
    /// # Errors
    /// [`Refusal::Overflow`] at once when `maxConnections` are open, and those of [`Dialler::connect`]. Another
    /// server is tried after silence or a broken connection, but not after a wrong proof, because that is an attack
    /// or a mistake to be seen.
    pub async fn connect(&self, target: &Target, identity: &Identity) -> Result<(Upstream, Place), Refusal> {
        let pool = self.index.pool(target);
        let slot = pool.limits.slot_at_once().ok_or_else(|| pool.overflow(Bound::Connections))?;
        pool.note(identity.generation());
        let socket = pool.socket().await?;
        let settings = pool.settings();
        let mut attempts = Attempts::new(self, &settings, target)?;
        loop {
            let picked = attempts.next()?;
            let addr = picked.addr();
            match self.dialler.connect(&settings.destination, addr, identity, None).await {
                Ok(upstream) => {
                    picked.record(Outcome::Connected, Instant::now());
                    return Ok((upstream, Place { _slot: slot, _socket: socket, _picked: picked }));
                }
                Err(refusal) => {
                    pool.record_failure(addr, &refusal);
                    attempts.failed(addr, refusal)?;
                }
            }
        }
    }

    /// What there is at this moment, in the order of the names.
    #[must_use]
    pub fn status(&self) -> Vec<PoolStatus> {
        let mut all: Vec<PoolStatus> = self.index.all().iter().map(|pool| pool.status()).collect();
        all.sort_by(|one, other| one.destination.cmp(&other.destination));
        all
    }

    /// Closes connections that have been idle too long, or whose identity was replaced.
    pub fn sweep(&self, generation: u64) {
        let draining = self.drain.has_begun();
        for pool in self.index.all() {
            pool.sweep(generation);
            if draining {
                pool.close_idle();
            }
        }
        self.index.forget(FORGOTTEN);
    }

    async fn lease(
        &self,
        pool: &Arc<Pool>,
        target: &Target,
        identity: &Identity,
        version: HttpVersion,
    ) -> Result<Lease, (Refusal, Option<SocketAddr>)> {
        pool.note(identity.generation());
        let early = |refusal| (refusal, None);
        let active = pool.bounded(pool.limits.request()).map_err(early)?;
        // HTTP/1.1 waits for a slot before it chooses, so that it chooses by what is then.
        let mut slot = match version {
            HttpVersion::Http1 => {
                let slot = pool.slot().await.map_err(early)?;
                // What most requests find: one server, and an idle connection to it.
                if let Some((picked, link)) = http1::at_once(pool, target, identity) {
                    let via = Via::Http1(link, slot);
                    return Ok(Lease { pool: Arc::clone(pool), via, picked, active: Some(active) });
                }
                Some(slot)
            }
            HttpVersion::Http2 => None,
        };
        let settings = pool.settings();
        let mut attempts = Attempts::new(self, &settings, target).map_err(early)?;
        loop {
            let mut picked = attempts.next().map_err(early)?;
            let addr = picked.addr();
            let via = match slot.take() {
                Some(held) => match http1::connection(self, pool, (addr, &attempts), identity).await {
                    Ok(link) => Ok(Via::Http1(link, held)),
                    Err(refusal) => {
                        slot = Some(held);
                        Err(refusal)
                    }
                },
                None => http2::stream(self, pool, addr, identity).await.map(Via::Http2),
            };
            match via {
                Ok(via) => {
                    picked.move_to(via.facts().addr);
                    return Ok(Lease { pool: Arc::clone(pool), via, picked, active: Some(active) });
                }
                Err(refusal) => {
                    attempts.failed(addr, refusal).map_err(|refusal| (refusal, Some(addr)))?;
                }
            }
        }
    }
}

async fn exchange(mut lease: Lease, request: Request<RequestBody>, tunnel: bool) -> Result<Answer, Failed> {
    let endpoint = Some(lease.facts().addr);
    let failure = match lease.send(request).await {
        Ok(response) => {
            let status = response.status();
            lease.picked.record(Outcome::Answered(status), Instant::now());
            let (peer, lifetime) = (lease.facts().peer.clone(), lease.facts().lifetime.clone());
            let is_bytes = status == StatusCode::SWITCHING_PROTOCOLS || tunnel && status.is_success();
            let (held, upgraded) = if is_bytes { (None, Some(lease)) } else { (Some(lease), None) };
            let response = response.map(|body| LeasedBody::new(body, held));
            return Ok(Answer { response, peer, lifetime, endpoint, upgraded });
        }
        Err(failure) => failure,
    };
    let (stage, unsent, source) = match failure {
        SendFailure::Unsent(unsent, source) => {
            let stage = if is_refused(&source) { Stage::Unsent } else { Stage::Stale };
            if stage == Stage::Stale && lease.via.is_new() {
                // It takes connections, and no requests.
                lease.picked.record(Outcome::NoAnswer, Instant::now());
            }
            (stage, unsent, source)
        }
        SendFailure::Ended(source) => (Stage::Ended, None, source),
        SendFailure::Sent(source) => {
            lease.picked.record(Outcome::NoAnswer, Instant::now());
            (Stage::Sent, None, source)
        }
    };
    let destination = lease.pool.name.to_string();
    let refusal = if lease.facts().lifetime.is_over() {
        Refusal::Expired { destination }
    } else {
        Refusal::Broken { destination, source }
    };
    Err(Failed { refusal, stage, unsent, endpoint })
}
