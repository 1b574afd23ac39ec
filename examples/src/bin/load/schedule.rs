//! When each request is due. The next one is handed to whoever asks first.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Request number `n` is due at `start + n / rate`, for as long as the run lasts.
pub(crate) struct Schedule {
    start: Instant,
    rate: u32,
    total: u64,
    next: AtomicU64,
}

impl Schedule {
    pub(crate) fn new(start: Instant, rate: u32, duration: Duration) -> Self {
        Self { start, rate, total: u64::from(rate) * duration.as_secs(), next: AtomicU64::new(0) }
    }

    /// Number and moment of the next request; `None` when all are taken.
    pub(crate) fn take(&self) -> Option<(u64, Instant)> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        (number < self.total).then(|| (number, self.due(number)))
    }

    /// How many nobody took.
    pub(crate) fn untaken(&self) -> u64 {
        self.total.saturating_sub(self.next.load(Ordering::Relaxed))
    }

    /// When the last one is over, if answered at once.
    pub(crate) fn end(&self) -> Instant {
        self.due(self.total)
    }

    fn due(&self, number: u64) -> Instant {
        let rate = u64::from(self.rate);
        // Whole seconds first: nanoseconds of a day fit, but not times the rate.
        let rest = (number % rate) * 1_000_000_000 / rate;
        self.start + Duration::from_secs(number / rate) + Duration::from_nanos(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_due_evenly_and_end_with_the_run() {
        let start = Instant::now();
        let schedule = Schedule::new(start, 3, Duration::from_secs(2));
        assert_eq!(schedule.untaken(), 6);
        let due: Vec<_> = std::iter::from_fn(|| schedule.take())
            .map(|(number, due)| (number, due.duration_since(start).as_millis()))
            .collect();
        assert_eq!(due, [(0, 0), (1, 333), (2, 666), (3, 1000), (4, 1333), (5, 1666)]);
        assert_eq!((schedule.untaken(), schedule.end().duration_since(start).as_secs()), (0, 2));
    }

    #[test]
    fn a_day_at_the_highest_rate_does_not_overflow() {
        let start = Instant::now();
        let schedule = Schedule::new(start, 100_000, Duration::from_secs(86_400));
        assert_eq!(schedule.end().duration_since(start), Duration::from_secs(86_400));
    }
}
