//! One pool: the connections to one destination, and what it was made for.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::http1::IdleLinks;
use super::http2::SharedLinks;
use super::limits::Limits;
use super::status::PoolStatus;
use crate::refusal::Refusal;
use crate::route::{Destination, Transport, TransportPlan};
use crate::upstream::{Endpoints, Outcome};

/// An idle connection is closed after this long; shorter than the server side waits.
const IDLE: Duration = Duration::from_secs(60);
/// Older versions of a destination that a late request may still bring.
const OLDER: usize = 8;

/// See the module.
pub(super) struct Pool {
    pub(super) name: Arc<str>,
    pub(super) limits: Limits,
    pub(super) http1: IdleLinks,
    pub(super) http2: SharedLinks,
    pub(super) endpoints: Arc<Endpoints>,
    versions: Mutex<Versions>,
    replaced: AtomicBool,
    /// The newest identity that a request came with.
    generation: AtomicU64,
    last_used: Mutex<Instant>,
}

/// The destination as of the latest policy, and what it was before.
struct Versions {
    latest: Arc<Destination>,
    /// Held weakly: while a version is listed, no other can have its address in memory.
    older: VecDeque<Weak<Destination>>,
}

impl Versions {
    fn remember(&mut self, before: &Arc<Destination>) {
        // What nobody has any more, no request can bring.
        self.older.retain(|older| older.strong_count() > 0);
        self.older.push_back(Arc::downgrade(before));
        if self.older.len() > OLDER {
            self.older.pop_front();
        }
    }
}

/// Whether a pool serves a version of its destination.
pub(super) enum Serves {
    Yes,
    /// It was made for other settings: replace it.
    No,
}

impl Pool {
    pub(super) fn new(name: String, destination: &Arc<Destination>) -> Self {
        let (name, now): (Arc<str>, _) = (name.into(), Instant::now());
        Self {
            limits: Limits::new(Arc::clone(&name), destination.limits),
            name,
            http1: IdleLinks::default(),
            http2: SharedLinks::default(),
            endpoints: Arc::new(Endpoints::new(destination.balancer, destination.outliers.clone(), now)),
            versions: Mutex::new(Versions { latest: Arc::clone(destination), older: VecDeque::new() }),
            replaced: AtomicBool::new(false),
            generation: AtomicU64::new(0),
            last_used: Mutex::new(now),
        }
    }

    /// The pool that takes the place of this one.
    pub(super) fn replace(&self, destination: &Arc<Destination>) -> Self {
        let next = Self::new(self.name.to_string(), destination);
        {
            let mut versions = self.versions();
            let before = Arc::clone(&versions.latest);
            versions.remember(&before);
            next.versions().older = std::mem::take(&mut versions.older);
        }
        self.retire();
        next
    }

    /// Nothing new is begun; what is under way is finished.
    pub(super) fn retire(&self) {
        self.replaced.store(true, Ordering::SeqCst);
        // Who waits here goes to the next pool, which has places of its own.
        self.limits.close();
        self.close_idle();
        self.http2.turn_away();
    }

    pub(super) fn close_idle(&self) {
        self.http1.close_all();
        while self.http2.close_idle() {}
    }

    /// Whether a request for `destination` belongs here. A request may come late, with a version that has been
    /// replaced: then it is served as the latest one says.
    pub(super) fn serves(&self, destination: &Arc<Destination>) -> Serves {
        let mut versions = self.versions();
        let is_older = |older: &Weak<Destination>| std::ptr::eq(older.as_ptr(), Arc::as_ptr(destination));
        if Arc::ptr_eq(&versions.latest, destination) || versions.older.iter().any(is_older) {
            return Serves::Yes;
        }
        if !has_same_settings(&versions.latest, destination) {
            return Serves::No;
        }
        let before = std::mem::replace(&mut versions.latest, Arc::clone(destination));
        versions.remember(&before);
        Serves::Yes
    }

    pub(super) fn destination(&self) -> Arc<Destination> {
        Arc::clone(&self.versions().latest)
    }

    pub(super) fn is_replaced(&self) -> bool {
        self.replaced.load(Ordering::SeqCst)
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// Takes note of a use, with an identity of that generation.
    pub(super) fn used(&self, generation: u64) {
        self.generation.fetch_max(generation, Ordering::Relaxed);
        *self.last_used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Whether nothing is left of it, for so long that it may be forgotten.
    pub(super) fn is_forgotten(&self, after: Duration) -> bool {
        let unused = self.last_used.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        unused >= after && self.limits.taken().sockets == 0 && self.limits.taken().active == 0
    }

    pub(super) fn idle_timeout(&self) -> Duration {
        self.limits.values().http_idle_timeout.unwrap_or(IDLE)
    }

    pub(super) fn max_streams(&self) -> usize {
        usize::try_from(self.limits.values().max_concurrent_streams).unwrap_or(usize::MAX).max(1)
    }

    pub(super) fn sweep(&self, generation: u64) {
        self.generation.fetch_max(generation, Ordering::Relaxed);
        self.http1.sweep(generation, self.idle_timeout());
        self.http2.sweep(self);
    }

    /// Takes down a failure to connect, if it was the server's.
    pub(super) fn record_failure(&self, addr: SocketAddr, refusal: &Refusal) {
        if matches!(refusal, Refusal::Unreachable { .. } | Refusal::UpstreamIdentity { .. }) {
            self.endpoints.record(addr, Outcome::NoAnswer, Instant::now());
        }
    }

    pub(super) fn status(&self) -> PoolStatus {
        let (taken, values) = (self.limits.taken(), self.limits.values());
        let limit = |value: u32| (value != u32::MAX).then_some(value);
        PoolStatus {
            destination: self.name.to_string(),
            connections: taken.sockets,
            idle: self.http1.len() + self.http2.idle(),
            active: taken.active,
            waiting: taken.waiting.max(self.http2.waiting()),
            max_connections: limit(values.max_connections),
            max_pending: limit(values.http1_max_pending_requests),
            max_requests: limit(values.http2_max_requests),
            ejected: self.endpoints.ejected(Instant::now()),
        }
    }

    #[cfg(test)]
    pub(super) fn older(&self) -> usize {
        self.versions().older.len()
    }

    fn versions(&self) -> MutexGuard<'_, Versions> {
        // Nothing panics while holding it, and a version is put in as a whole.
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a pool made for one of them serves the other: all that connections rest on, or are bounded by.
fn has_same_settings(one: &Destination, other: &Destination) -> bool {
    one.limits == other.limits
        && one.resolution == other.resolution
        && one.endpoints == other.endpoints
        && one.balancer == other.balancer
        && one.outliers == other.outliers
        && is_same_plan(&one.transport_plan, &other.transport_plan)
}

fn is_same_plan(one: &TransportPlan, other: &TransportPlan) -> bool {
    use TransportPlan::{MutualTls, Plaintext, Refused, Tls};
    match (one, other) {
        (MutualTls(one), MutualTls(other)) | (Tls(one), Tls(other)) => is_same_transport(one, other),
        (
            Plaintext { exception: one, after: then, .. },
            Plaintext { exception: other, after: other_then, .. },
        ) => {
            let same_then = match (then, other_then) {
                (Some(then), Some(other)) => is_same_transport(then, other),
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            };
            one == other && same_then
        }
        (Refused, Refused) => true,
        (MutualTls(_) | Tls(_) | Plaintext { .. } | Refused, _) => false,
    }
}

fn is_same_transport(one: &Transport, other: &Transport) -> bool {
    match (one, other) {
        (
            Transport::MutualTls { sni, expected },
            Transport::MutualTls { sni: other_sni, expected: other_expected },
        ) => sni == other_sni && expected == other_expected,
        (Transport::Plaintext { exception }, Transport::Plaintext { exception: other }) => exception == other,
        // By what was in the files, which may have changed under the same names.
        (Transport::Tls(one), Transport::Tls(other)) => one == other,
        (Transport::MutualTls { .. } | Transport::Plaintext { .. } | Transport::Tls(_), _) => false,
    }
}
