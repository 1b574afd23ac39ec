//! The requests that the service sees.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::bench::result::{self, millis};

/// Counts of requests. One thread counts; any may look.
#[derive(Debug)]
pub(super) struct Requests(Mutex<Seen>);

#[derive(Debug, Clone, Copy)]
struct Seen {
    since: Instant,
    under_way: u64,
    peak: u64,
    answered: u64,
    time: Duration,
    /// Integral of `under_way` over time until `changed`.
    occupied: Duration,
    changed: Instant,
}

/// One request, until dropped.
pub(super) struct UnderWay {
    requests: Arc<Requests>,
    begun: Instant,
}

impl Default for Requests {
    fn default() -> Self {
        let now = Instant::now();
        let (time, occupied) = (Duration::ZERO, Duration::ZERO);
        let seen = Seen { since: now, under_way: 0, peak: 0, answered: 0, time, occupied, changed: now };
        Self(Mutex::new(seen))
    }
}

impl Requests {
    pub(super) fn begin(self: &Arc<Self>) -> UnderWay {
        let begun = Instant::now();
        let mut seen = self.lock();
        seen.pass(begun);
        seen.under_way += 1;
        seen.peak = seen.peak.max(seen.under_way);
        drop(seen);
        UnderWay { requests: self.clone(), begun }
    }

    pub(super) fn measure(&self) {
        let now = Instant::now();
        let mut seen = self.lock();
        let under_way = seen.under_way;
        let (time, occupied) = (Duration::ZERO, Duration::ZERO);
        *seen = Seen { since: now, under_way, peak: under_way, answered: 0, time, occupied, changed: now };
    }

    #[allow(clippy::cast_precision_loss, reason = "fewer than 2^52 requests")]
    pub(super) fn seen(&self) -> result::Upstream {
        let seen = *self.lock();
        let mean = if seen.answered == 0 { 0.0 } else { millis(seen.time) / seen.answered as f64 };
        result::Upstream { answered: seen.answered, mean, peak_requests: seen.peak }
    }

    pub(super) fn mean_under_way(&self) -> f64 {
        let mut seen = *self.lock();
        seen.pass(Instant::now());
        let measured = seen.changed.saturating_duration_since(seen.since).as_secs_f64();
        if measured > 0.0 { seen.occupied.as_secs_f64() / measured } else { 0.0 }
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    /// Time goes by with as many requests under way as there are.
    fn pass(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.changed);
        self.occupied += passed * u32::try_from(self.under_way).unwrap_or(u32::MAX);
        self.changed = self.changed.max(now);
    }
}

impl UnderWay {
    pub(super) fn answered(self) {
        let mut seen = self.requests.lock();
        seen.answered += 1;
        seen.time += self.begun.elapsed();
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut seen = self.requests.lock();
        seen.pass(Instant::now());
        seen.under_way = seen.under_way.saturating_sub(1);
    }
}
