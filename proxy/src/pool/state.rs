//! One pool: the connections to one destination, and the settings that they are made by.
//!
//! A pool lives as long as its destination has a name. A reload changes its settings, and its bounds in place: what is
//! open counts on. Connections that rest on something else than what the new settings say finish their requests and go.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use tokio::time::Instant;

use super::http1::{IdleLinks, Terms};
use super::http2::SharedLinks;
use super::limit::Permit;
use super::limits::{Bound, Limits};
use super::link::Link;
use super::settings::{Basis, Settings};
use super::status::PoolStatus;
use crate::refusal::Refusal;
use crate::route::{Destination, PoolLimits};
use crate::upstream::Outcome;

/// Longest wait for a place, where no `queue-timeout` says otherwise.
pub(super) const QUEUE: Duration = Duration::from_secs(15);

/// See the module.
pub(super) struct Pool {
    pub(super) name: Arc<str>,
    pub(super) limits: Limits,
    pub(super) http1: IdleLinks,
    pub(super) http2: SharedLinks,
    settings: ArcSwap<Settings>,
    /// The newest identity that a request came with.
    generation: AtomicU64,
    /// Since when nothing of it was open or under way, as far as a sweep has seen.
    unused_since: Mutex<Option<Instant>>,
}

impl Pool {
    pub(super) fn new(name: Arc<str>, destination: &Arc<Destination>) -> Self {
        Self {
            name,
            limits: Limits::new(&destination.limits),
            http1: IdleLinks::default(),
            http2: SharedLinks::default(),
            settings: ArcSwap::from_pointee(Settings::new(destination, Instant::now())),
            generation: AtomicU64::new(0),
            unused_since: Mutex::new(None),
        }
    }

    /// Goes by `destination` from now on, unless that is older than what it goes by: a request may come late. One
    /// caller at a time.
    pub(super) fn adopt(&self, destination: &Arc<Destination>) {
        let now = self.settings();
        if destination.edition <= now.destination.edition {
            return;
        }
        let next = now.succeeded_by(destination, Instant::now());
        let is_new_ground = next.epoch != now.epoch;
        self.settings.store(Arc::new(next));
        self.limits.resize(&destination.limits);
        if is_new_ground || self.limits.has_too_many_sockets() {
            self.close_idle();
        }
    }

    pub(super) fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    pub(super) fn close_idle(&self) {
        self.http1.close_all();
        while self.http2.close_idle() {}
    }

    /// For a look: other than [`Pool::settings`] it is not to be kept.
    pub(super) fn look(&self) -> Guard<Arc<Settings>> {
        self.settings.load()
    }

    /// What connections rest on that are made now.
    pub(super) fn basis(&self) -> Basis {
        self.settings.load().basis(self.generation())
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// Takes note of an identity that a request came with.
    pub(super) fn note(&self, generation: u64) {
        // Nearly always known: a write would have every core fetch the line anew.
        if self.generation() < generation {
            self.generation.fetch_max(generation, Ordering::Relaxed);
        }
    }

    /// The right to open a socket. With none left, an idle connection is closed; the end of one that was let go is
    /// waited for: it is a matter of one turn of its task.
    pub(super) async fn socket(&self) -> Result<Permit, Refusal> {
        if let Some(socket) = self.limits.socket_at_once() {
            return Ok(socket);
        }
        self.http1.close_oldest();
        let waited = tokio::time::timeout(self.queue_timeout(), self.limits.socket()).await;
        waited.map_err(|_| self.waited_too_long())
    }

    /// A slot at once, or after those who waited before.
    pub(super) async fn slot(&self) -> Result<Permit, Refusal> {
        if let Some(slot) = self.limits.slot_at_once() {
            return Ok(slot);
        }
        // An HTTP/2 connection without a request makes way, now or when it has become one.
        let _awaited = self.http2.awaited();
        let makes_way = self.http2.close_idle();
        let _charge = if makes_way { None } else { Some(self.bounded(self.limits.wait())?) };
        let waited = tokio::time::timeout(self.queue_timeout(), self.limits.slot()).await;
        waited.map_err(|_| self.waited_too_long())
    }

    /// A permit, or what refuses the request that wanted it.
    pub(super) fn bounded(&self, permit: Result<Permit, Bound>) -> Result<Permit, Refusal> {
        permit.map_err(|bound| self.overflow(bound))
    }

    pub(super) fn overflow(&self, bound: Bound) -> Refusal {
        bound.overflow(&self.name, &self.values())
    }

    /// Every connection was in use for as long as a request may wait.
    pub(super) fn waited_too_long(&self) -> Refusal {
        Refusal::QueueTimeout { destination: self.name.to_string(), waited: self.queue_timeout() }
    }

    /// How long a request may wait for a place.
    pub(super) fn queue_timeout(&self) -> Duration {
        self.settings.load().destination.limits.queue_timeout.unwrap_or(QUEUE)
    }

    /// The limits of now.
    pub(super) fn values(&self) -> PoolLimits {
        self.settings.load().destination.limits
    }

    /// Whether nothing has been left of it for so long that it may be forgotten.
    pub(super) fn is_forgotten(&self, after: Duration) -> bool {
        let since = *self.unused_since.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_unused() && since.is_some_and(|since| since.elapsed() >= after)
    }

    fn is_unused(&self) -> bool {
        let taken = self.limits.taken();
        taken.sockets == 0 && taken.active == 0
    }

    pub(super) fn idle_timeout(&self) -> Duration {
        self.settings.load().idle_timeout()
    }

    pub(super) fn max_streams(&self) -> usize {
        let streams = self.settings.load().destination.limits.max_concurrent_streams;
        usize::try_from(streams).unwrap_or(usize::MAX).max(1)
    }

    pub(super) fn sweep(&self, generation: u64) {
        self.note(generation);
        self.http1.sweep(&Terms::new(&self.look(), self.generation()));
        self.http2.sweep(self);
        let mut unused_since = self.unused_since.lock().unwrap_or_else(PoisonError::into_inner);
        let since = unused_since.unwrap_or_else(Instant::now);
        *unused_since = self.is_unused().then_some(since);
    }

    /// An HTTP/1.1 connection that has answered.
    pub(super) fn take_back(&self, mut link: Link) {
        link.requests = link.requests.saturating_add(1);
        self.keep(link);
    }

    /// A connection without a request: idle from now on, if it may be used.
    pub(super) fn keep(&self, link: Link) {
        let settings = self.settings.load();
        let basis = settings.basis(self.generation());
        let limit = settings.destination.limits.max_requests_per_connection;
        // Whether its proof is about to end is asked when it is wanted again.
        let is_good = link.facts.rests_on(basis) && !link.facts.is_retired();
        if is_good && link.may_carry_more(limit) && !self.limits.has_too_many_sockets() {
            self.http1.put(link);
        }
    }

    /// Takes down a failure to connect, if it was the server's.
    pub(super) fn record_failure(&self, addr: SocketAddr, refusal: &Refusal) {
        if matches!(refusal, Refusal::Unreachable { .. } | Refusal::UpstreamIdentity { .. }) {
            self.settings.load().endpoints.record(addr, Outcome::NoAnswer, Instant::now());
        }
    }

    pub(super) fn status(&self) -> PoolStatus {
        let (taken, settings) = (self.limits.taken(), self.settings());
        let values = &settings.destination.limits;
        let count = |taken: u32| usize::try_from(taken).unwrap_or(usize::MAX);
        let limit = |value: u32| (value != u32::MAX).then_some(value);
        PoolStatus {
            destination: self.name.to_string(),
            connections: count(taken.sockets),
            idle: self.http1.len() + self.http2.idle(),
            active: count(taken.active),
            waiting: count(taken.waiting).max(self.http2.waiting()),
            max_connections: limit(values.max_connections),
            max_pending: limit(values.http1_max_pending_requests),
            max_requests: limit(values.http2_max_requests),
            ejected: settings.endpoints.ejected(Instant::now()),
        }
    }
}
