//! HTTP/1.1 connections to other services, kept and counted per destination.
//!
//! A slot is the right to use one connection; slots are given out first in, first out. Whoever holds one takes an
//! idle connection if there is one, and dials if not. A socket permit stands for a socket from before it is opened
//! until after it is closed. There are `maxConnections` of each, so there are never more sockets than that.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::drain::Drain;
use crate::lifetime::Lifetime;
use crate::metrics::{Direction, Metrics};
use crate::protocol::http1::{Connection, SendFailure};
use crate::refusal::Refusal;
use crate::route::PoolLimits;
use crate::svid::Identity;
use crate::tls::{Alpn, VerifiedPeer};
use crate::upstream::{Dialler, Target, Upstream};

mod body;

pub use body::LeasedBody;

/// An idle connection is closed after this long; shorter than the server side waits.
const IDLE: Duration = Duration::from_secs(60);
/// Longest wait for a slot.
const QUEUE: Duration = Duration::from_secs(15);
/// How often a request that was provably never sent is sent again.
const UNSENT_RETRIES: usize = 3;

/// The pools of one sidecar, by destination.
#[derive(Clone)]
pub struct Pools {
    pools: Arc<Mutex<HashMap<String, Arc<Pool>>>>,
    dialler: Dialler,
    metrics: Arc<Metrics>,
    drain: Drain,
}

struct Pool {
    name: String,
    slots: Arc<Semaphore>,
    sockets: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    active: Arc<Semaphore>,
    limits: PoolLimits,
    idle: Mutex<VecDeque<Idle>>,
}

struct Idle {
    link: Link,
    since: Instant,
}

/// One established connection and what it rests on.
struct Link {
    connection: Connection,
    generation: u64,
    peer: Option<VerifiedPeer>,
    lifetime: Lifetime,
    /// Ends the connection's task, and with it the socket, when nobody holds the connection any more.
    _held: DropGuard,
}

/// A place under `maxConnections` for one TCP connection, for as long as it is held.
pub struct Place {
    _slot: OwnedSemaphorePermit,
    _socket: OwnedSemaphorePermit,
}

/// The use of one connection for one request. Goes back to the pool when the response has been read whole.
pub struct Lease {
    pool: Arc<Pool>,
    link: Link,
    _slot: OwnedSemaphorePermit,
    _active: OwnedSemaphorePermit,
}

/// A response whose connection is still leased.
pub struct Answer {
    /// Head and body; the body gives the connection back.
    pub response: hyper::Response<LeasedBody>,
    /// Who answered; `None` under a plaintext exception.
    pub peer: Option<VerifiedPeer>,
}

impl Pools {
    /// No connections yet. Connections are tasks of `drain`.
    #[must_use]
    pub fn new(dialler: Dialler, metrics: Arc<Metrics>, drain: Drain) -> Self {
        Self { pools: Arc::default(), dialler, metrics, drain }
    }

    /// Sends a request to a target and waits for the head of the response.
    ///
    /// # Errors
    /// A limit, an endpoint that cannot be reached or is not who it should be, or a broken connection.
    pub async fn send(
        &self,
        target: &Target,
        identity: &Identity,
        mut request: Request<Incoming>,
    ) -> Result<Answer, Refusal> {
        let pool = self.pool(target);
        let mut retries = 0;
        loop {
            let mut lease = self.lease(&pool, target, identity).await?;
            match lease.link.connection.send(request).await {
                Ok(response) => {
                    let peer = lease.link.peer.clone();
                    return Ok(Answer { response: response.map(|body| LeasedBody::new(body, lease)), peer });
                }
                Err(SendFailure::Unsent(unsent, _)) if retries < UNSENT_RETRIES => {
                    retries += 1;
                    request = *unsent;
                }
                Err(SendFailure::Unsent(..) | SendFailure::Sent(_)) if lease.link.lifetime.is_over() => {
                    return Err(Refusal::Expired { destination: pool.name.clone() });
                }
                Err(SendFailure::Unsent(_, source) | SendFailure::Sent(source)) => {
                    return Err(Refusal::Broken { destination: pool.name.clone(), source });
                }
            }
        }
    }

    /// Opens one TCP connection to a target; its place under `maxConnections` is held with it.
    ///
    /// # Errors
    /// [`Refusal::Overflow`] at once when `maxConnections` are open, and those of [`Dialler::connect`].
    pub async fn connect(&self, target: &Target, identity: &Identity) -> Result<(Upstream, Place), Refusal> {
        let pool = self.pool(target);
        let slot = Arc::clone(&pool.slots).try_acquire_owned();
        let slot = slot.map_err(|_| pool.overflow("maxConnections", pool.limits.max_connections))?;
        let place = Place { _slot: slot, _socket: pool.socket().await? };
        Ok((self.dialler.connect(target, identity, &[]).await?, place))
    }

    /// Closes connections that have been idle too long, or whose identity was replaced.
    pub fn sweep(&self, generation: u64) {
        let pools: Vec<_> = lock(&self.pools).values().cloned().collect();
        for pool in pools {
            let mut idle = lock(&pool.idle);
            idle.retain(|idle| idle.since.elapsed() < IDLE && idle.link.is_current(generation));
        }
    }

    fn pool(&self, target: &Target) -> Arc<Pool> {
        let name = target.to_string();
        let mut pools = lock(&self.pools);
        Arc::clone(
            pools.entry(name.clone()).or_insert_with(|| Arc::new(Pool::new(name, target.destination.limits))),
        )
    }

    async fn lease(&self, pool: &Arc<Pool>, target: &Target, identity: &Identity) -> Result<Lease, Refusal> {
        let active = Arc::clone(&pool.active).try_acquire_owned();
        let active = active.map_err(|_| pool.overflow("http2MaxRequests", pool.limits.http2_max_requests))?;
        let slot = pool.slot().await?;
        let link = match pool.take_idle(identity.generation()).await {
            Some(link) => link,
            None => self.dial(pool, target, identity).await?,
        };
        Ok(Lease { pool: Arc::clone(pool), link, _slot: slot, _active: active })
    }

    async fn dial(&self, pool: &Pool, target: &Target, identity: &Identity) -> Result<Link, Refusal> {
        let socket = pool.socket().await?;
        let upstream = self.dialler.connect(target, identity, &[Alpn::Http1]).await?;
        let broken = |source| Refusal::Broken { destination: target.to_string(), source };
        let Upstream { stream, peer, lifetime } = upstream;
        let (connection, driver) = Connection::new(stream).await.map_err(broken)?;
        let (end, metrics) = (lifetime.clone(), Arc::clone(&self.metrics));
        let held = CancellationToken::new();
        let let_go = held.clone();
        self.drain.spawn(async move {
            tokio::select! {
                biased;
                // An error here is also the error of the request under way, which reports it.
                _ = driver => {}
                () = end.over() => {}
                () = let_go.cancelled() => {}
            }
            // The connection is closed by now, and its place free for another.
            drop(socket);
            if end.is_over() {
                metrics.expired(Direction::outbound);
            }
        });
        Ok(Link { connection, generation: identity.generation(), peer, lifetime, _held: held.drop_guard() })
    }
}

impl Pool {
    fn new(name: String, limits: PoolLimits) -> Self {
        let semaphore = |limit: u32| {
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS)))
        };
        Self {
            name,
            slots: semaphore(limits.max_connections),
            sockets: semaphore(limits.max_connections),
            waiting: semaphore(limits.http1_max_pending_requests),
            active: semaphore(limits.http2_max_requests),
            limits,
            idle: Mutex::default(),
        }
    }

    async fn slot(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
            return Ok(slot);
        }
        let _place = self
            .waiting
            .try_acquire()
            .map_err(|_| self.overflow("http1MaxPendingRequests", self.limits.http1_max_pending_requests))?;
        match tokio::time::timeout(QUEUE, Arc::clone(&self.slots).acquire_owned()).await {
            Ok(Ok(slot)) => Ok(slot),
            _ => Err(self.overflow("maxConnections", self.limits.max_connections)),
        }
    }

    /// The right to open a socket. At the limit the connection idle for longest makes way, and the end of one that
    /// was let go is waited for: it is a matter of one turn of its task.
    async fn socket(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        if let Ok(socket) = Arc::clone(&self.sockets).try_acquire_owned() {
            return Ok(socket);
        }
        drop(lock(&self.idle).pop_front());
        match tokio::time::timeout(QUEUE, Arc::clone(&self.sockets).acquire_owned()).await {
            Ok(Ok(socket)) => Ok(socket),
            _ => Err(self.overflow("maxConnections", self.limits.max_connections)),
        }
    }

    fn overflow(&self, limit: &'static str, value: u32) -> Refusal {
        Refusal::Overflow { limit, value, destination: self.name.clone() }
    }

    /// The connection used last that still holds; those that do not are closed on the way.
    async fn take_idle(&self, generation: u64) -> Option<Link> {
        loop {
            let mut idle = lock(&self.idle).pop_back()?;
            if idle.link.is_current(generation) && idle.link.connection.is_usable().await {
                return Some(idle.link);
            }
        }
    }
}

impl Link {
    fn is_current(&self, generation: u64) -> bool {
        self.generation == generation && !self.lifetime.is_draining()
    }
}

impl Lease {
    /// Gives the connection back for the next request.
    fn give_back(self) {
        let Self { pool, link, _slot, _active } = self;
        lock(&pool.idle).push_back(Idle { link, since: Instant::now() });
        // The slot is dropped only now, with the connection already idle.
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing panics while holding it, and a queue of connections has no half-done state.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
