//! The time, passed in: binaries hand out [`Clock::system`], tests a clock that stands until it is moved.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rustls_pki_types::UnixTime;

/// A source of wall-clock time. Cheap to clone.
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    System { ahead: Duration },
    Manual(ManualClock),
}

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        Self::system_ahead_by(Duration::ZERO)
    }

    /// The machine's clock moved forward, never back: what expires can only expire sooner.
    #[must_use]
    pub fn system_ahead_by(ahead: Duration) -> Self {
        Self(Source::System { ahead })
    }

    /// Time since the Unix epoch.
    #[must_use]
    pub fn now(&self) -> Duration {
        match &self.0 {
            #[allow(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
            Source::System { ahead } => {
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                now.saturating_add(*ahead)
            }
            Source::Manual(clock) => Duration::from_millis(clock.0.load(Ordering::SeqCst)),
        }
    }

    /// The same moment in the type of the X.509 checks (whole seconds).
    #[must_use]
    pub fn unix_time(&self) -> UnixTime {
        UnixTime::since_unix_epoch(self.now())
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({:?})", self.now())
    }
}

/// The hand that moves a test's clock. Millisecond resolution.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// A clock that stands at `since_epoch`.
    #[must_use]
    pub fn at(since_epoch: Duration) -> Self {
        let clock = Self(Arc::default());
        clock.set(since_epoch);
        clock
    }

    /// Moves to a moment, forward or back.
    pub fn set(&self, since_epoch: Duration) {
        self.0.store(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// Moves forward.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// What to pass to the code under test.
    #[must_use]
    pub fn clock(&self) -> Clock {
        Clock(Source::Manual(self.clone()))
    }
}
