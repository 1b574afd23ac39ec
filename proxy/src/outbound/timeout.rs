//! The time that the other side has: `timeout` for the whole exchange, `perTryTimeout` for the head of one answer.
//!
//! `timeout` runs from when the request has been received to when the answer has ended, over all attempts. It stands
//! still while the app is still sending ([`Progress`]): an open stream of messages is not cut, as under Envoy. A delay
//! that the rules inject comes before, and does not count. An exchange that was upgraded is bounded until the head of
//! its answer: what follows is no answer any more.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::protocol::body::replay::Progress;

/// A bound on one exchange, or none.
#[derive(Debug, Clone)]
pub(super) struct Deadline {
    limit: Option<Duration>,
    progress: Progress,
    begun: Instant,
}

/// Resolves when a deadline has passed.
pub(super) type Passing = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Deadline {
    /// `limit` of the server's time.
    pub(super) fn new(limit: Option<Duration>, progress: Progress) -> Self {
        Self { limit, progress, begun: Instant::now() }
    }

    /// Resolves when it has passed; never without a limit.
    pub(super) async fn passed(&self) {
        self.passed_since(None).await;
    }

    /// The same, with nothing counted that was before `start`.
    pub(super) async fn passed_since(&self, start: Option<Instant>) {
        let Some(limit) = self.limit else { return std::future::pending().await };
        loop {
            let now = Instant::now();
            // While the app is waited for, the time has not begun. It is looked at again before it could have ended.
            let since = self.progress.since().unwrap_or(now).max(start.unwrap_or(self.begun));
            let Some(due) = since.checked_add(limit) else { return std::future::pending().await };
            if due <= now {
                return;
            }
            sleep_until(due).await;
        }
    }

    /// For the answer's body: `None` without a limit.
    pub(super) fn passing(self) -> Option<Passing> {
        self.limit?;
        Some(Box::pin(async move { self.passed().await }))
    }
}
