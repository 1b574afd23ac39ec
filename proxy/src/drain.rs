//! Shutdown in three steps: stop accepting, wait for what is under way, then force.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Handle on the shutdown of one sidecar. Cheap to clone; every long-lived task holds one.
#[derive(Clone, Default)]
pub struct Drain {
    stop: CancellationToken,
    force: CancellationToken,
    tasks: TaskTracker,
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Every connection ended by itself.
    Clean,
    /// The deadline passed with this many tasks still running; they were cut.
    Forced(usize),
}

impl Drained {
    /// How two drains ended together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Clean, Self::Clean) => Self::Clean,
            (Self::Forced(cut), Self::Clean) | (Self::Clean, Self::Forced(cut)) => Self::Forced(cut),
            (Self::Forced(one), Self::Forced(two)) => Self::Forced(one + two),
        }
    }
}

impl Drain {
    /// A drain that has not begun.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs a task that shutdown waits for, and that ends at once when shutdown is forced.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let force = self.force.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = task => {}
                () = force.cancelled() => {}
            }
        });
    }

    /// Resolves when shutdown begins: accept nothing new, finish what is under way.
    pub async fn begun(&self) {
        self.stop.cancelled().await;
    }

    /// Whether shutdown has begun.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Begins, waits at most `deadline` for the tasks, then cuts those left.
    pub async fn finish(&self, deadline: Duration) -> Drained {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(deadline, self.tasks.wait()).await.is_ok() {
            return Drained::Clean;
        }
        let left = self.tasks.len();
        self.force.cancel();
        self.tasks.wait().await;
        Drained::Forced(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_heeds_the_drain_ends_it_cleanly() {
        let drain = Drain::new();
        let heeding = drain.clone();
        drain.spawn(async move { heeding.begun().await });
        assert_eq!(drain.finish(Duration::from_secs(5)).await, Drained::Clean);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_is_cut_at_the_deadline() {
        let drain = Drain::new();
        drain.spawn(std::future::pending());
        let start = tokio::time::Instant::now();
        assert_eq!(drain.finish(Duration::from_secs(5)).await, Drained::Forced(1));
        assert_eq!(start.elapsed(), Duration::from_secs(5));
    }
}
