//! How many requests are worked on at a time, first in first out.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// As many slots as the service has; `None`: no bound.
pub(super) struct Slots(Option<Bounded>);

struct Bounded {
    permits: Semaphore,
    /// Since when each free slot is free: as many as there are permits.
    ///
    /// A request is always answered a little after its time. If the next one began only then, a service of one slot and
    /// 1 ms would lose a twentieth of its capacity; so it begins when the slot should have been free.
    free: Mutex<VecDeque<Instant>>,
}

/// A slot in use; freed on drop.
pub(super) struct Slot<'a> {
    since: Instant,
    freed: Option<Instant>,
    held: Option<(&'a Bounded, SemaphorePermit<'a>)>,
}

impl Slots {
    /// `None` for zero slots.
    pub(super) fn new(concurrency: Option<u32>) -> Option<Self> {
        let Some(concurrency) = concurrency else { return Some(Self(None)) };
        let slots =
            usize::try_from(concurrency).ok().filter(|slots| (1..=Semaphore::MAX_PERMITS).contains(slots))?;
        let free = Mutex::new(VecDeque::new());
        Some(Self(Some(Bounded { permits: Semaphore::new(slots), free })))
    }

    pub(super) async fn take(&self) -> Slot<'_> {
        let asked = Instant::now();
        let unbounded = Slot { since: asked, freed: None, held: None };
        let Some(bounded) = &self.0 else { return unbounded };
        // The semaphore is never closed.
        let Ok(permit) = bounded.permits.acquire().await else { return unbounded };
        // A slot that was never used has been free for ever.
        let free = bounded.free.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let since = free.map_or(asked, |free| free.max(asked));
        Slot { since, freed: None, held: Some((bounded, permit)) }
    }
}

impl Slot<'_> {
    /// When work on the request began.
    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// When the slot should have been free; if never said, then when it is dropped.
    pub(super) fn free_since(&mut self, when: Instant) {
        self.freed = Some(when);
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let Some((bounded, permit)) = self.held.take() else { return };
        let freed = self.freed.unwrap_or_else(Instant::now);
        bounded.free.lock().unwrap_or_else(PoisonError::into_inner).push_back(freed);
        drop(permit);
    }
}
