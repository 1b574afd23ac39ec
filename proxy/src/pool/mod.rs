//! HTTP connections to other services, kept and counted per destination.
//!
//! [`Pools::send`] has the story of one request: a place under the limits, a server, a connection to it, the answer.
//! The limits are exact ([`limits`]); HTTP/1.1 connections are lent one by one ([`http1`]), HTTP/2 connections are
//! shared ([`http2`]). When a reload changes a destination, its pool is replaced ([`state`]).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::{Method, Request, StatusCode};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::drain::Drain;
use crate::lifetime::Lifetime;
use crate::metrics::Metrics;
use crate::protocol::body::RequestBody;
use crate::protocol::client::{SendFailure, is_refused};
use crate::refusal::Refusal;
use crate::route::HttpVersion;
use crate::svid::Identity;
use crate::tls::{Alpn, VerifiedPeer};
use crate::upstream::{Candidate, Dialler, Names, Outcome, Target, Upstream};

mod attempts;
mod body;
mod http1;
mod http2;
mod lease;
mod limits;
mod link;
mod state;
mod status;
#[cfg(test)]
mod tests;

pub use body::LeasedBody;
pub use lease::{Lease, Place};
pub use status::PoolStatus;

use attempts::Attempts;
use lease::Via;
use link::{Link, Purpose, establish};
use state::{Pool, Serves};

/// How often a request is sent again inside when a connection had ended before it took anything.
const STALE_RETRIES: usize = 3;
/// A pool without connections is forgotten after this long.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// The pools of one sidecar, by destination.
#[derive(Clone)]
pub struct Pools {
    pools: Arc<Mutex<HashMap<String, Arc<Pool>>>>,
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
    /// There was a connection, and it provably took nothing: stale, or the server refused the stream.
    Unsent,
    /// The server may have acted on it.
    Sent,
}

/// Why there is no connection for a request.
enum NoLease {
    /// The pool was replaced meanwhile: ask the one in its place.
    Replaced,
    Failed(Refusal, Option<SocketAddr>),
}

impl Pools {
    /// No connections yet. Connections are tasks of `drain`.
    #[must_use]
    pub fn new(dialler: Dialler, names: Names, metrics: Arc<Metrics>, drain: Drain) -> Self {
        Self { pools: Arc::default(), dialler, names, metrics, drain }
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
        loop {
            let pool = self.pool(target);
            let lease = match self.lease(&pool, target, identity, version).await {
                Ok(lease) => lease,
                Err(NoLease::Replaced) => continue,
                // The bounds of a pool that has been replaced bind nobody.
                Err(NoLease::Failed(Refusal::Overflow { .. }, _)) if pool.is_replaced() => continue,
                Err(NoLease::Failed(refusal, endpoint)) => {
                    let stage = if refusal.is_of_the_endpoint() { Stage::Connecting } else { Stage::Refused };
                    return Err(Failed { refusal, stage, unsent: Some(Box::new(request)), endpoint });
                }
            };
            match exchange(lease, request, tunnel).await {
                Ok(answer) => return Ok(answer),
                Err((Failed { stage: Stage::Unsent, unsent: Some(unsent), .. }, Stale(true)))
                    if stale < STALE_RETRIES =>
                {
                    stale += 1;
                    request = *unsent;
                }
                Err((failed, _)) => return Err(failed),
            }
        }
    }

    /// Opens one TCP connection to a target; its place under `maxConnections` is held with it.
    ///
    /// # Errors
    /// [`Refusal::Overflow`] at once when `maxConnections` are open, and those of [`Dialler::connect`]. Another
    /// server is tried after silence or a broken connection, but not after a wrong proof, because that is an attack
    /// or a mistake to be seen.
    pub async fn connect(&self, target: &Target, identity: &Identity) -> Result<(Upstream, Place), Refusal> {
        let (pool, slot) = loop {
            let pool = self.pool(target);
            match pool.limits.slot_at_once() {
                Some(slot) => break (pool, slot),
                None if pool.is_replaced() => {}
                None => return Err(pool.limits.full()),
            }
        };
        pool.used(identity.generation());
        let socket = pool.limits.socket(|| pool.http1.close_oldest()).await?;
        let mut attempts = Attempts::new(self, &pool, target)?;
        loop {
            let picked = attempts.next()?;
            let addr = picked.addr();
            match self.dialler.connect(&pool.destination(), addr, identity, None).await {
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
        let mut all: Vec<PoolStatus> = self.all().iter().map(|pool| pool.status()).collect();
        all.sort_by(|one, other| one.destination.cmp(&other.destination));
        all
    }

    /// Closes connections that have been idle too long, or whose identity was replaced.
    pub fn sweep(&self, generation: u64) {
        let draining = self.drain.has_begun();
        for pool in self.all() {
            pool.sweep(generation);
            if draining {
                pool.close_idle();
            }
        }
        // With the lock held nobody can take one of them into use.
        self.map().retain(|_, pool| Arc::strong_count(pool) > 1 || !pool.is_forgotten(FORGOTTEN));
    }

    fn pool(&self, target: &Target) -> Arc<Pool> {
        let name = target.to_string();
        let mut pools = self.map();
        if let Some(pool) = pools.get(&name) {
            match pool.serves(&target.destination) {
                Serves::Yes => return Arc::clone(pool),
                Serves::No => {
                    let next = Arc::new(pool.replace(&target.destination));
                    pools.insert(name, Arc::clone(&next));
                    return next;
                }
            }
        }
        let pool = Arc::new(Pool::new(name.clone(), &target.destination));
        pools.insert(name, Arc::clone(&pool));
        pool
    }

    async fn lease(
        &self,
        pool: &Arc<Pool>,
        target: &Target,
        identity: &Identity,
        version: HttpVersion,
    ) -> Result<Lease, NoLease> {
        pool.used(identity.generation());
        let early = |refusal| NoLease::Failed(refusal, None);
        let active = pool.limits.request().map_err(early)?;
        // HTTP/1.1 waits for a slot before it chooses, so that it chooses by what is then.
        let slot = match version {
            HttpVersion::Http1 => Some(slot(pool).await.map_err(early)?.ok_or(NoLease::Replaced)?),
            HttpVersion::Http2 => None,
        };
        let mut slot = slot;
        let mut attempts = Attempts::new(self, pool, target).map_err(early)?;
        loop {
            let mut picked = attempts.next().map_err(early)?;
            let addr = picked.addr();
            let via = match slot.take() {
                Some(held) => match self.http1(pool, (addr, &attempts.among), identity).await {
                    Ok(link) => Ok(link.map(|link| Via::Http1(link, held))),
                    Err(refusal) => {
                        slot = Some(held);
                        Err(refusal)
                    }
                },
                None => Ok(http2::stream(self, pool, addr, identity).await)
                    .and_then(|stream| stream.map(|stream| stream.map(Via::Http2))),
            };
            match via {
                Ok(Some(via)) => {
                    picked.move_to(via.facts().addr);
                    return Ok(Lease { pool: Arc::clone(pool), via, picked, active: Some(active) });
                }
                Ok(None) => return Err(NoLease::Replaced),
                Err(refusal) => {
                    attempts.failed(addr, refusal).map_err(|refusal| NoLease::Failed(refusal, Some(addr)))?;
                }
            }
        }
    }

    /// An idle connection to `addr`, or a new one; at `maxConnections` an idle one to any server, because a dial
    /// would have to close it. `None` when the pool has been replaced.
    async fn http1(
        &self,
        pool: &Arc<Pool>,
        (addr, among): (SocketAddr, &[Candidate]),
        identity: &Identity,
    ) -> Result<Option<Link>, Refusal> {
        if pool.is_replaced() {
            return Ok(None);
        }
        let generation = identity.generation();
        let idle = pool.idle_timeout();
        if let Some(link) = pool.http1.take(|to| to == addr, generation, idle).await {
            return Ok(Some(link));
        }
        let socket = match pool.limits.socket_at_once() {
            Some(socket) => socket,
            None => {
                let usable = |to| among.iter().any(|candidate| candidate.addr == to);
                if let Some(link) = pool.http1.take(usable, generation, idle).await {
                    return Ok(Some(link));
                }
                pool.limits.socket(|| pool.http1.close_oldest()).await?
            }
        };
        let destination = pool.destination();
        let connected = self.dialler.connect(&destination, addr, identity, Some(Alpn::Http1)).await;
        let upstream = connected.inspect_err(|refusal| pool.record_failure(addr, refusal))?;
        let purpose = Purpose { destination: &destination, version: HttpVersion::Http1, generation };
        // Boxed, because most requests find a connection and should not carry the room for making one.
        let link = Box::pin(establish(upstream, socket, purpose, (&self.drain, &self.metrics), || ())).await;
        link.map(Some).inspect_err(|refusal| pool.record_failure(addr, refusal))
    }

    fn all(&self) -> Vec<Arc<Pool>> {
        self.map().values().cloned().collect()
    }

    fn map(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Pool>>> {
        // Nothing panics while holding it, and a pool is put in as a whole.
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an exchange failed because its connection had ended before it, and another one will do.
struct Stale(bool);

async fn exchange(
    mut lease: Lease,
    request: Request<RequestBody>,
    tunnel: bool,
) -> Result<Answer, (Failed, Stale)> {
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
    let mut stale = false;
    let (stage, unsent, source) = match failure {
        SendFailure::Unsent(unsent, source) => {
            stale = !is_refused(&source);
            (Stage::Unsent, unsent, source)
        }
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
    Err((Failed { refusal, stage, unsent, endpoint }, Stale(stale)))
}

/// A slot at once, or after those who waited before; `None` when the pool has been replaced.
async fn slot(pool: &Pool) -> Result<Option<OwnedSemaphorePermit>, Refusal> {
    if let Some(slot) = pool.limits.slot_at_once() {
        return Ok(Some(slot));
    }
    // An HTTP/2 connection without a request makes way, now or when it has become one.
    let _awaited = pool.http2.awaited();
    let _charge = if pool.http2.close_idle() { None } else { Some(pool.limits.wait()?) };
    pool.limits.slot().await
}

impl Pool {
    /// An HTTP/1.1 connection that has answered: idle from now on, if it may be used again.
    fn take_back(&self, mut link: Link) {
        link.requests = link.requests.saturating_add(1);
        let limit = self.limits.values().max_requests_per_connection;
        if !self.is_replaced() && link.facts.is_current(self.generation()) && link.may_carry_more(limit) {
            self.http1.put(link);
        }
    }
}
