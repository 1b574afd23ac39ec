//! The current identity, for everyone who needs it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use portcullis_identity::Clock;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::watch;

use crate::tls::Identity;

/// A certificate with less of its life left than this, in percent, should have been renewed long ago.
const OVERDUE_PERCENT: u32 = 20;

/// How certified we are, at the moment of asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentityStatus {
    /// No certificate yet.
    Uncertified {
        /// Since when we ask for one; since the epoch.
        since: Duration,
        /// What the last attempt failed with.
        last_error: Option<String>,
    },
    /// All is well.
    Certified {
        /// Last second of the certificate, since the epoch.
        not_after: Duration,
    },
    /// Renewal is overdue: under 20 % of the certificate's life is left.
    Expiring {
        /// Last second of the certificate, since the epoch.
        not_after: Duration,
        /// What the last attempt failed with.
        last_error: Option<String>,
    },
    /// The certificate ran out unrenewed. No handshake succeeds.
    Expired {
        /// Last second of the certificate, since the epoch.
        not_after: Duration,
        /// What the last attempt failed with.
        last_error: Option<String>,
    },
}

impl IdentityStatus {
    /// Whether traffic should be sent here.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Certified { .. })
    }
}

/// Time since the epoch, shown as a date (RFC 3339, UTC).
pub(crate) struct Moment(pub(crate) Duration);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = i64::try_from(self.0.as_secs()).unwrap_or(i64::MAX);
        let date = OffsetDateTime::from_unix_timestamp(seconds).ok().and_then(|at| at.format(&Rfc3339).ok());
        f.write_str(date.as_deref().unwrap_or("a date beyond all calendars"))
    }
}

impl fmt::Display for IdentityStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = match self {
            Self::Certified { not_after } => return write!(f, "certified until {}", Moment(*not_after)),
            Self::Uncertified { since, last_error } => {
                write!(f, "not certified since {}", Moment(*since))?;
                last_error
            }
            Self::Expiring { not_after, last_error } => {
                write!(f, "renewal overdue, the certificate expires at {}", Moment(*not_after))?;
                last_error
            }
            Self::Expired { not_after, last_error } => {
                write!(f, "the certificate expired at {}", Moment(*not_after))?;
                last_error
            }
        };
        error.as_ref().map_or(Ok(()), |error| write!(f, ": {error}"))
    }
}

/// What the agent has done since its start, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Certificates received and taken.
    pub issued: u64,
    /// Attempts to get one that failed.
    pub failed: u64,
    /// Bundles taken from the authority's stream.
    pub bundles: u64,
    /// Bundles of the stream that were refused.
    pub bundles_refused: u64,
}

/// A certificate in force, and when it came.
pub(super) struct Current {
    pub(super) identity: Arc<Identity>,
    pub(super) received: Duration,
}

impl Current {
    pub(super) fn not_after(&self) -> Duration {
        Duration::from_secs(self.identity.svid().facts().not_after)
    }

    pub(super) fn life(&self) -> Duration {
        self.not_after().saturating_sub(self.received)
    }

    /// `None` once the last good second is over.
    pub(super) fn left(&self, now: Duration) -> Option<Duration> {
        (now.as_secs() <= self.not_after().as_secs()).then(|| self.not_after().saturating_sub(now))
    }
}

#[derive(Default)]
struct Counters {
    issued: AtomicU64,
    failed: AtomicU64,
    bundles: AtomicU64,
    bundles_refused: AtomicU64,
}

struct Shared {
    clock: Clock,
    since: Duration,
    current: ArcSwapOption<Current>,
    /// Milliseconds since the epoch; 0: nothing planned.
    renewal: AtomicU64,
    last_error: Mutex<Option<String>>,
    counters: Counters,
}

/// Handle on the current identity. Cheap to clone.
#[derive(Clone)]
pub struct IdentityWatch {
    shared: Arc<Shared>,
    changes: watch::Receiver<()>,
}

impl IdentityWatch {
    /// Of a sidecar that has no certificate, and nobody to get one.
    #[cfg(test)]
    pub(crate) fn uncertified(clock: Clock) -> Self {
        Publisher::new(clock).1
    }

    /// The identity in force; `None` before the first certificate. An expired one stays until it is replaced:
    /// handshakes with it fail by themselves.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Identity>> {
        self.shared.current.load().as_ref().map(|current| Arc::clone(&current.identity))
    }

    /// The next identity that comes into force after the one last returned here. Waits forever when the agent
    /// is gone.
    pub async fn changed(&mut self) -> Arc<Identity> {
        while self.changes.changed().await.is_ok() {
            if let Some(identity) = self.current() {
                return identity;
            }
        }
        std::future::pending().await
    }

    /// The current identity, if it can still prove anything.
    ///
    /// # Errors
    /// How it stands instead.
    pub fn valid(&self) -> Result<Arc<Identity>, IdentityStatus> {
        let current = self.shared.current.load();
        match current.as_ref().filter(|current| current.left(self.shared.clock.now()).is_some()) {
            Some(current) => Ok(Arc::clone(&current.identity)),
            None => Err(self.status()),
        }
    }

    /// How certified we are now.
    #[must_use]
    pub fn status(&self) -> IdentityStatus {
        let now = self.shared.clock.now();
        let last_error = || self.shared.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let current = self.shared.current.load();
        let Some(current) = current.as_ref() else {
            return IdentityStatus::Uncertified { since: self.shared.since, last_error: last_error() };
        };
        let not_after = current.not_after();
        match current.left(now) {
            None => IdentityStatus::Expired { not_after, last_error: last_error() },
            Some(left) if left * 100 < current.life() * OVERDUE_PERCENT => {
                IdentityStatus::Expiring { not_after, last_error: last_error() }
            }
            Some(_) => IdentityStatus::Certified { not_after },
        }
    }

    /// When the current certificate was received, since the epoch; for one of an earlier run, its NotBefore.
    #[must_use]
    pub fn received(&self) -> Option<Duration> {
        self.shared.current.load().as_ref().map(|current| current.received)
    }

    /// When the next certificate is asked for, since the epoch; `None` while one is.
    #[must_use]
    pub fn renewal(&self) -> Option<Duration> {
        let at = self.shared.renewal.load(Ordering::Relaxed);
        (at > 0).then(|| Duration::from_millis(at))
    }

    /// What the agent has done since its start.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let counters = &self.shared.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            issued: read(&counters.issued),
            failed: read(&counters.failed),
            bundles: read(&counters.bundles),
            bundles_refused: read(&counters.bundles_refused),
        }
    }
}

#[cfg(test)]
impl IdentityWatch {
    /// An identity that is never replaced.
    pub(crate) fn fixed(clock: Clock, identity: Identity) -> Self {
        let received = clock.now();
        let (publisher, watch) = Publisher::new(clock);
        publisher.swap_in(Arc::new(identity), received);
        watch
    }
}

impl fmt::Debug for IdentityWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("IdentityWatch").field(&self.status()).finish()
    }
}

/// The agent's end of an [`IdentityWatch`].
pub(super) struct Publisher {
    shared: Arc<Shared>,
    changes: watch::Sender<()>,
}

impl Publisher {
    pub(super) fn new(clock: Clock) -> (Self, IdentityWatch) {
        let shared = Arc::new(Shared {
            since: clock.now(),
            clock,
            current: ArcSwapOption::empty(),
            renewal: AtomicU64::new(0),
            last_error: Mutex::default(),
            counters: Counters::default(),
        });
        let (sender, receiver) = watch::channel(());
        let watch = IdentityWatch { shared: Arc::clone(&shared), changes: receiver };
        (Self { shared, changes: sender }, watch)
    }

    pub(super) fn current(&self) -> Option<Arc<Current>> {
        self.shared.current.load_full()
    }

    pub(super) fn swap_in(&self, identity: Arc<Identity>, received: Duration) {
        self.shared.current.store(Some(Arc::new(Current { identity, received })));
        self.changes.send_replace(());
    }

    /// The next attempt is due at `at` (since the epoch), or under way.
    pub(super) fn renewal_at(&self, at: Option<Duration>) {
        let at = at.map_or(0, |at| u64::try_from(at.as_millis()).unwrap_or(u64::MAX));
        self.shared.renewal.store(at, Ordering::Relaxed);
    }

    pub(super) fn issued(&self) {
        self.shared.counters.issued.fetch_add(1, Ordering::Relaxed);
        self.set_error(None);
    }

    pub(super) fn failed(&self, error: String) {
        self.shared.counters.failed.fetch_add(1, Ordering::Relaxed);
        self.set_error(Some(error));
    }

    pub(super) fn bundle(&self, taken: bool) {
        let counters = &self.shared.counters;
        let counter = if taken { &counters.bundles } else { &counters.bundles_refused };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn set_error(&self, error: Option<String>) {
        *self.shared.last_error.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::testing::{Mesh, NOW};

    #[tokio::test]
    async fn a_certificate_goes_from_certified_over_expiring_to_expired() {
        let mesh = Mesh::new();
        let (publisher, mut watch) = Publisher::new(mesh.clock.clock());
        assert_eq!(watch.status(), IdentityStatus::Uncertified { since: NOW, last_error: None });
        assert!(watch.current().is_none());
        publisher.failed("refused".into());
        assert_eq!(watch.status().to_string(), "not certified since 2026-01-01T00:00:00Z: refused");

        publisher.swap_in(Arc::new(mesh.identity("spiffe://cluster.local/ns/a/sa/b")), NOW);
        publisher.issued();
        let identity = watch.changed().await;
        assert!(Arc::ptr_eq(&identity, &watch.current().unwrap()));
        // The life is an hour from receipt: overdue in its last 720 s.
        for (second, ready, label) in [
            (0, true, "certified"),
            (2880, true, "certified"),
            (2881, false, "renewal overdue"),
            (3600, false, "renewal overdue"),
            (3601, false, "the certificate expired"),
        ] {
            mesh.clock.set(NOW + Duration::from_secs(second));
            assert_eq!(watch.status().is_ready(), ready, "{second}");
            assert!(watch.status().to_string().starts_with(label), "{second}: {}", watch.status());
        }
        assert_eq!(watch.counts(), Counts { issued: 1, failed: 1, ..Counts::default() });
    }
}
