//! The shared connections of one pool, who has streams of them, and who waits for one.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::super::limit::Permit;
use super::super::link::{Facts, Link};
use super::super::state::Pool;
use crate::protocol::client::Connection;
use crate::refusal::Refusal;

/// Streams expected of a connection that is still being made; most servers take no fewer (RFC 9113, 6.5.2).
const EXPECTED_STREAMS: usize = 100;

/// The connections of one pool, and who waits for them.
#[derive(Default)]
pub(in crate::pool) struct SharedLinks {
    state: Mutex<State>,
    /// HTTP/1.1 requests that wait for a place.
    awaited: AtomicUsize,
}

/// One HTTP/1.1 request that waits for a place.
pub(in crate::pool) struct Awaiting<'a>(&'a AtomicUsize);

impl Drop for Awaiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Default)]
struct State {
    links: Vec<Shared>,
    waiters: VecDeque<Waiter>,
    /// Connections being made, by server.
    dials: Vec<SocketAddr>,
    next_id: u64,
}

struct Shared {
    id: u64,
    link: Link,
    streams: usize,
    idle_since: Instant,
}

struct Waiter {
    id: u64,
    addr: SocketAddr,
    /// No connection may be opened for it: a stream to another server will do.
    any: bool,
    ticket: oneshot::Sender<Ticket>,
}

/// What a waiting request is told.
pub(super) enum Ticket {
    Stream(Stream),
    Failed(Arc<Refusal>),
    /// Something changed: look again.
    Again,
}

/// One stream of a connection, reserved.
pub(in crate::pool) struct Stream {
    pool: Arc<Pool>,
    id: u64,
    pub(in crate::pool) connection: Connection,
    pub(in crate::pool) facts: Arc<Facts>,
    reserved: bool,
}

pub(super) enum Step {
    Have(Stream),
    Wait(Waiting),
}

pub(super) struct Waiting {
    pub(super) id: u64,
    pub(super) ticket: oneshot::Receiver<Ticket>,
    pub(super) means: Means,
}

/// How a waiting request will come to a stream.
pub(super) enum Means {
    /// By a dial that is under way.
    Dialled,
    /// By a dial that this slot is for.
    Dial(Permit),
    /// By whatever comes free; charged as pending.
    Any(Permit),
}

impl SharedLinks {
    pub(super) fn step(&self, pool: &Arc<Pool>, addr: SocketAddr) -> Result<Step, Refusal> {
        let mut state = self.lock();
        state.prune(pool);
        if let Some(stream) = state.reserve(pool, Some(addr)) {
            return Ok(Step::Have(stream));
        }
        let queued = state.waiters.iter().filter(|waiter| waiter.addr == addr && !waiter.any).count();
        let dials = state.dials.iter().filter(|dialled| **dialled == addr).count();
        if queued < dials.saturating_mul(pool.max_streams().min(EXPECTED_STREAMS)) {
            return Ok(state.wait(addr, Means::Dialled));
        }
        if let Some(slot) = pool.limits.slot_at_once() {
            state.dials.push(addr);
            return Ok(state.wait(addr, Means::Dial(slot)));
        }
        if let Some(stream) = state.reserve(pool, None) {
            return Ok(Step::Have(stream));
        }
        let charge = pool.bounded(pool.limits.wait())?;
        Ok(state.wait(addr, Means::Any(charge)))
    }

    /// Turns one that waits for anything into one that waits for its own dial, if it still waits.
    pub(super) fn promote(&self, id: u64) -> bool {
        let mut state = self.lock();
        let Some(waiter) = state.waiters.iter_mut().find(|waiter| waiter.id == id) else { return false };
        waiter.any = false;
        let addr = waiter.addr;
        state.dials.push(addr);
        true
    }

    pub(super) fn dialled(&self, pool: &Arc<Pool>, addr: SocketAddr, dialled: Result<Link, Refusal>) {
        let mut state = self.lock();
        if let Some(at) = state.dials.iter().position(|dialled| *dialled == addr) {
            state.dials.swap_remove(at);
        }
        let failure = match dialled {
            Ok(link) => {
                let id = state.next_id();
                state.links.push(Shared { id, link, streams: 0, idle_since: Instant::now() });
                None
            }
            Err(refusal) => Some(Arc::new(refusal)),
        };
        drop(state);
        self.serve(pool);
        self.make_way(pool);
        let mut state = self.lock();
        if state.dials.contains(&addr) {
            return;
        }
        let told = state.remove_waiters(|waiter| waiter.addr == addr && !waiter.any);
        drop(state);
        for waiter in told {
            let ticket = failure.clone().map_or(Ticket::Again, Ticket::Failed);
            // Whoever has left does not mind.
            let _ = waiter.ticket.send(ticket);
        }
    }

    /// Gives free streams to those who wait, first in, first out.
    fn serve(&self, pool: &Arc<Pool>) {
        loop {
            let mut state = self.lock();
            state.prune(pool);
            let Some((waiter, stream)) = state.next_served(pool) else { return };
            drop(state);
            if let Err(Ticket::Stream(mut stream)) = waiter.ticket.send(Ticket::Stream(stream)) {
                stream.reserved = false;
                self.lock().release(stream.id);
            }
        }
    }

    /// Closes connections without a request that are not to be used again.
    pub(in crate::pool) fn sweep(&self, pool: &Pool) {
        self.lock().prune(pool);
    }

    /// Closes one connection without a request, to make place for another.
    pub(in crate::pool) fn close_idle(&self) -> bool {
        let mut state = self.lock();
        let idle = state.links.iter().enumerate().filter(|(_, shared)| shared.streams == 0);
        let oldest = idle.min_by_key(|(_, shared)| shared.idle_since).map(|(at, _)| at);
        let Some(at) = oldest else { return false };
        state.links.swap_remove(at);
        true
    }

    /// Has connections that become idle make way, for as long as the value lives.
    pub(in crate::pool) fn awaited(&self) -> Awaiting<'_> {
        self.awaited.fetch_add(1, Ordering::SeqCst);
        Awaiting(&self.awaited)
    }

    /// Closes an idle connection if an HTTP/1.1 request waits for its place, or there is one too many. Who waits says so
    /// before it looks for an idle one, and whoever makes one idle asks afterwards: one of them sees the other.
    fn make_way(&self, pool: &Pool) {
        if self.awaited.load(Ordering::SeqCst) > 0 || pool.limits.has_too_many_sockets() {
            self.close_idle();
        }
    }

    /// How many connections have no request.
    pub(in crate::pool) fn idle(&self) -> usize {
        self.lock().links.iter().filter(|shared| shared.streams == 0).count()
    }

    /// How many requests wait, for a dial or for a place.
    pub(in crate::pool) fn waiting(&self) -> usize {
        self.lock().waiters.iter().filter(|waiter| !waiter.ticket.is_closed()).count()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while holding it, and what is in it is put in as a whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn wait(&mut self, addr: SocketAddr, means: Means) -> Step {
        let (sender, ticket) = oneshot::channel();
        let (id, any) = (self.next_id(), matches!(means, Means::Any(_)));
        self.waiters.push_back(Waiter { id, addr, any, ticket: sender });
        Step::Wait(Waiting { id, ticket, means })
    }

    /// A stream of the first connection that has one: the last ones are left to become idle.
    fn reserve(&mut self, pool: &Arc<Pool>, addr: Option<SocketAddr>) -> Option<Stream> {
        let wanted = |shared: &&mut Shared| addr.is_none_or(|addr| shared.link.facts.addr == addr);
        let mut usable = self.links.iter_mut().filter(wanted).filter(|shared| shared.has_room(pool));
        let shared = usable.next()?;
        let connection = shared.link.connection.share()?;
        shared.streams += 1;
        shared.link.requests = shared.link.requests.saturating_add(1);
        let (pool, id, facts) = (Arc::clone(pool), shared.id, Arc::clone(&shared.link.facts));
        Some(Stream { pool, id, connection, facts, reserved: true })
    }

    fn next_served(&mut self, pool: &Arc<Pool>) -> Option<(Waiter, Stream)> {
        self.waiters.retain(|waiter| !waiter.ticket.is_closed());
        for at in 0..self.waiters.len() {
            let waiter = self.waiters.get(at)?;
            let addr = (!waiter.any).then_some(waiter.addr);
            if let Some(stream) = self.reserve(pool, addr) {
                return Some((self.waiters.remove(at)?, stream));
            }
            // If this one took any, no connection has room for anyone.
            addr?;
        }
        None
    }

    fn release(&mut self, id: u64) {
        if let Some(shared) = self.links.iter_mut().find(|shared| shared.id == id) {
            shared.streams = shared.streams.saturating_sub(1);
            shared.idle_since = Instant::now();
        }
    }

    fn prune(&mut self, pool: &Pool) {
        let longest = pool.idle_timeout();
        self.links.retain(|shared| {
            let kept = shared.streams > 0 || shared.is_open(pool) && shared.idle_since.elapsed() < longest;
            // One with streams is closed by the last of them; a dead one has none that matter.
            kept && !shared.link.connection.is_closed()
        });
    }

    fn remove_waiters(&mut self, which: impl Fn(&Waiter) -> bool) -> Vec<Waiter> {
        let (out, kept) = std::mem::take(&mut self.waiters).into_iter().partition(which);
        self.waiters = kept;
        Vec::from(out)
    }
}

impl Shared {
    /// Whether it takes requests. One that is new takes a first one in any case: it was made for a request that
    /// came with an identity which has just been replaced.
    fn is_open(&self, pool: &Pool) -> bool {
        (self.link.requests == 0 || self.link.facts.is_current(pool.basis()))
            && self.link.may_carry_more(pool.values().max_requests_per_connection)
    }

    fn has_room(&self, pool: &Pool) -> bool {
        let room = pool.max_streams().min(self.link.connection.max_streams()).max(1);
        self.streams < room && self.is_open(pool) && !self.link.connection.is_closed()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.reserved {
            let pool = Arc::clone(&self.pool);
            pool.http2.lock().release(self.id);
            pool.http2.serve(&pool);
            pool.http2.make_way(&pool);
        }
    }
}
