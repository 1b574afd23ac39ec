//! The bounds of one destination, each an exact semaphore.
//!
//! A slot is the right to use one connection; slots are given out first in, first out. A socket permit stands for a
//! socket from before it is opened until after it is closed. There are `maxConnections` of each, so there are never
//! more sockets than that. An HTTP/1.1 connection holds a slot while it is leased and its socket while it is open,
//! an HTTP/2 connection both while it is open.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::refusal::Refusal;
use crate::route::PoolLimits;

/// Longest wait for a place.
pub(super) const QUEUE: Duration = Duration::from_secs(15);

/// The semaphores of one pool.
pub(super) struct Limits {
    name: Arc<str>,
    values: PoolLimits,
    slots: Arc<Semaphore>,
    sockets: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    active: Arc<Semaphore>,
}

/// What is taken of each bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) slots: usize,
    pub(super) sockets: usize,
    pub(super) waiting: usize,
    pub(super) active: usize,
}

impl Limits {
    pub(super) fn new(name: Arc<str>, values: PoolLimits) -> Self {
        let semaphore = |limit| Arc::new(Semaphore::new(permits(limit)));
        Self {
            name,
            values,
            slots: semaphore(values.max_connections),
            sockets: semaphore(values.max_connections),
            waiting: semaphore(values.http1_max_pending_requests),
            active: semaphore(values.http2_max_requests),
        }
    }

    /// No slots are given out any more, and whoever waits for one is told.
    pub(super) fn close(&self) {
        self.slots.close();
    }

    pub(super) fn values(&self) -> &PoolLimits {
        &self.values
    }

    /// The right to have a request under way, at once or not at all.
    pub(super) fn request(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let full = || self.overflow("http2MaxRequests", self.values.http2_max_requests);
        Arc::clone(&self.active).try_acquire_owned().map_err(|_| full())
    }

    /// The right to wait, at once or not at all.
    pub(super) fn wait(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let value = self.values.http1_max_pending_requests;
        let full = || self.overflow("http1MaxPendingRequests", value);
        Arc::clone(&self.waiting).try_acquire_owned().map_err(|_| full())
    }

    pub(super) fn slot_at_once(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.slots).try_acquire_owned().ok()
    }

    /// Whoever waits has waited for all. `None` once they are closed.
    pub(super) async fn slot(&self) -> Result<Option<OwnedSemaphorePermit>, Refusal> {
        let waited = tokio::time::timeout(QUEUE, Arc::clone(&self.slots).acquire_owned()).await;
        waited.map(Result::ok).map_err(|_| self.full())
    }

    pub(super) fn socket_at_once(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.sockets).try_acquire_owned().ok()
    }

    /// The right to open a socket. `make_room` closes an idle connection when there is none left; the end of one
    /// that was let go is waited for: it is a matter of one turn of its task.
    pub(super) async fn socket(&self, make_room: impl FnOnce()) -> Result<OwnedSemaphorePermit, Refusal> {
        if let Some(socket) = self.socket_at_once() {
            return Ok(socket);
        }
        make_room();
        match tokio::time::timeout(QUEUE, Arc::clone(&self.sockets).acquire_owned()).await {
            Ok(Ok(socket)) => Ok(socket),
            Ok(Err(_)) | Err(_) => Err(self.full()),
        }
    }

    /// Every connection is in use.
    pub(super) fn full(&self) -> Refusal {
        self.overflow("maxConnections", self.values.max_connections)
    }

    pub(super) fn taken(&self) -> Taken {
        let taken =
            |limit, semaphore: &Semaphore| permits(limit).saturating_sub(semaphore.available_permits());
        Taken {
            slots: taken(self.values.max_connections, &self.slots),
            sockets: taken(self.values.max_connections, &self.sockets),
            waiting: taken(self.values.http1_max_pending_requests, &self.waiting),
            active: taken(self.values.http2_max_requests, &self.active),
        }
    }

    fn overflow(&self, limit: &'static str, value: u32) -> Refusal {
        Refusal::Overflow { limit, value, destination: self.name.to_string() }
    }
}

fn permits(limit: u32) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS)
}
