//! Counts: every request that was due, once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::{CreationError, Histogram};
use tokio::time::Instant;

use super::Sent;
use super::outcome::{Failure, Outcome};
use crate::bench::result::{Counts, Latency};

/// Sent later than this, a request counts as late.
const LATE: Duration = Duration::from_millis(1);
/// Latencies are exact to one part in a thousand.
const DIGITS: u8 = 3;

/// What became of the requests so far.
pub(super) struct Tally(Mutex<Recorded>);

struct Recorded {
    counts: Counts,
    latencies: Histogram<u64>,
    lateness: Histogram<u64>,
    resent: u64,
}

/// One request that is due. It is counted once: when it ends, or when it is dropped before.
pub(super) struct Ticket {
    pub(super) due: Instant,
    pub(super) deadline: Instant,
    tally: Option<Arc<Tally>>,
}

impl Tally {
    pub(super) fn new(longest: Duration) -> Result<Self, CreationError> {
        let histogram = || Histogram::new_with_bounds(1, micros(longest).max(2), DIGITS);
        let (latencies, lateness) = (histogram()?, histogram()?);
        Ok(Self(Mutex::new(Recorded { counts: Counts::default(), latencies, lateness, resent: 0 })))
    }

    /// All that was counted, over the time in which it was due.
    pub(super) fn sent(&self, seconds: f64) -> Sent {
        let recorded = self.lock();
        let (histogram, lateness) = (recorded.latencies.clone(), recorded.lateness.clone());
        let (counts, resent) = (recorded.counts.clone(), recorded.resent);
        Sent { counts, latency: latency(&histogram), seconds, histogram, lateness, resent }
    }

    fn lock(&self) -> MutexGuard<'_, Recorded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// Now it is due, if a tally is given, to be counted there.
    pub(super) fn new(due: Instant, deadline: Instant, tally: Option<Arc<Tally>>) -> Self {
        if let Some(tally) = &tally {
            tally.lock().counts.due += 1;
        }
        Self { due, deadline, tally }
    }

    /// Is about to be sent.
    pub(super) fn sent(&self) {
        let late = self.due.elapsed();
        if let Some(tally) = &self.tally {
            let mut recorded = tally.lock();
            recorded.counts.late += u64::from(late > LATE);
            recorded.lateness.saturating_record(micros(late));
        }
    }

    /// Is about to be sent once more.
    pub(super) fn sent_again(&self) {
        if let Some(tally) = &self.tally {
            tally.lock().resent += 1;
        }
    }

    pub(super) fn unsent(mut self) {
        self.count(&Outcome::Unsent);
    }

    pub(super) fn ended(mut self, outcome: &Outcome) {
        self.count(outcome);
    }

    fn count(&mut self, outcome: &Outcome) {
        let Some(tally) = self.tally.take() else { return };
        let mut recorded = tally.lock();
        let counts = &mut recorded.counts;
        match outcome {
            Outcome::Succeeded(time) => {
                counts.succeeded += 1;
                recorded.latencies.saturating_record(micros(*time).max(1));
            }
            Outcome::Refused(limit) => *counts.refused.entry((*limit).to_owned()).or_default() += 1,
            Outcome::Failed(failure) => *counts.failed.entry(failure.to_string()).or_default() += 1,
            Outcome::Unsent => counts.unsent += 1,
        }
    }
}

impl Drop for Ticket {
    /// Its connection's task came to an unforeseen end.
    fn drop(&mut self) {
        self.count(&Outcome::Failed(Failure::Abandoned));
    }
}

fn latency(histogram: &Histogram<u64>) -> Latency {
    if histogram.is_empty() {
        return Latency::default();
    }
    #[allow(clippy::cast_precision_loss, reason = "shorter than 2^52 microseconds")]
    let quantile = |share: f64| histogram.value_at_quantile(share) as f64 / 1000.0;
    Latency {
        mean: histogram.mean() / 1000.0,
        p50: quantile(0.5),
        p90: quantile(0.9),
        p99: quantile(0.99),
        p999: quantile(0.999),
        max: quantile(1.0),
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
