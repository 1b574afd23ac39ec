//! Follows the files of a policy: each change is read once it is whole, and whatever came of it is handed on.
//!
//! The kernel tells of changes at once (inotify); a slow poll finds what it cannot tell, such as those on a network
//! file system. Both only lead to a look, and a look at files that hold what they held before leads to nothing.

#[cfg(test)]
mod tests;
mod trail;
mod watches;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use portcullis_identity::Clock;
use tokio::sync::Notify;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout_at};

use super::files::{Digest, digest};
use super::policy::{Policy, PolicyScope, load_policy};
use super::report::Report;
use watches::Watches;

/// How often the files are looked at unasked.
const POLL: Duration = Duration::from_secs(10);
/// A change is whole when nothing has followed for this long.
const QUIET: Duration = Duration::from_millis(100);
/// Nobody may hold a change back for longer by making others.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// How often files are read again that have changed while they were read.
const ATTEMPTS: usize = 5;

/// Where a policy is read from, and for whom.
#[derive(Debug, Clone)]
pub struct PolicySource {
    /// Files and directories.
    pub paths: Vec<PathBuf>,
    /// For whom policies are resolved.
    pub scope: PolicyScope,
    /// The time that exceptions expire by.
    pub clock: Clock,
}

/// A policy, and what is needed to follow its files.
pub struct Loaded {
    /// The policy.
    pub policy: Policy,
    watch: PolicyWatch,
}

impl PolicySource {
    /// Reads the policy for the first time.
    ///
    /// # Errors
    /// Every fault found, in one [`Report`].
    pub fn load(self) -> Result<Loaded, Report> {
        // Without a digest the first look finds a change.
        let (seen, outcome) = self.read(&[]).unwrap_or_else(|_| {
            let outcome = load_policy(&self.paths, &self.scope, self.clock.now());
            (Digest::default(), outcome)
        });
        let policy = outcome?;
        let watch = PolicyWatch::new(self, seen, policy.files.clone());
        Ok(Loaded { policy, watch })
    }

    /// Nothing that is half old, half new: files that have changed meanwhile are read again, and so are all when others
    /// are `named` than before. When they never rest, the digest is that of before the last reading, so that the next
    /// look finds a change.
    fn read(&self, named: &[PathBuf]) -> io::Result<(Digest, Result<Policy, Report>)> {
        let mut named = named.to_vec();
        let mut before = digest(&self.paths, &named)?;
        let mut attempts = 1;
        loop {
            let outcome = load_policy(&self.paths, &self.scope, self.clock.now());
            if let Ok(policy) = &outcome {
                named.clone_from(&policy.files);
            }
            let after = digest(&self.paths, &named)?;
            if after == before || attempts == ATTEMPTS {
                return Ok((before, outcome));
            }
            (before, attempts) = (after, attempts + 1);
        }
    }
}

impl Loaded {
    /// The policy, and its watch.
    #[must_use]
    pub fn follow(self) -> (Policy, PolicyWatch) {
        (self.policy, self.watch)
    }

    /// Asks for a reload whenever it is notified, whether a file has changed or not.
    #[must_use]
    pub fn asked(&self) -> Arc<Notify> {
        Arc::clone(&self.watch.asked)
    }
}

/// Waits for changes of the files that a policy was loaded from.
pub struct PolicyWatch {
    source: PolicySource,
    poll: Option<Interval>,
    changed: Arc<Notify>,
    asked: Arc<Notify>,
    state: Arc<Mutex<State>>,
}

struct State {
    seen: Digest,
    /// Certificates and keys that the last good policy names.
    named: Vec<PathBuf>,
    /// The faults of the last reading, while there are any.
    faults: Option<String>,
    watches: Watches,
}

impl State {
    /// Reads the files if there is a reason to: they hold something else, or they had faults, for which the reason may
    /// lie elsewhere (in a file that they name). Faults that are said already are not said again.
    fn look(&mut self, source: &PolicySource, asked: bool) -> io::Result<Option<Result<Policy, Report>>> {
        // Before the files are read: what changes from here on is told.
        self.watches.follow(&source.paths, &self.named);
        if !asked && self.faults.is_none() && digest(&source.paths, &self.named)? == self.seen {
            return Ok(None);
        }
        let (seen, outcome) = source.read(&self.named)?;
        if let Ok(policy) = &outcome
            && policy.files != self.named
        {
            self.named.clone_from(&policy.files);
            // What has happened to them before anyone watched them is found by another look.
            self.watches.follow(&source.paths, &self.named);
            self.watches.look_again();
        }
        let faults = outcome.as_ref().err().map(ToString::to_string);
        let news = asked || faults.is_none() || faults != self.faults;
        (self.seen, self.faults) = (seen, faults);
        Ok(Some(outcome).filter(|_| news))
    }
}

impl PolicyWatch {
    fn new(source: PolicySource, seen: Digest, named: Vec<PathBuf>) -> Self {
        let changed = Arc::new(Notify::new());
        let watches = Watches::new(Arc::clone(&changed));
        let state = Arc::new(Mutex::new(State { seen, named, faults: None, watches }));
        Self { source, poll: None, changed, asked: Arc::default(), state }
    }

    /// Files and directories that the policy is read from.
    #[must_use]
    pub fn paths(&self) -> &[PathBuf] {
        &self.source.paths
    }

    /// The time that exceptions expire by.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.source.clock
    }

    /// The policy after the next change, or why it cannot be used. The first look is taken at once, so that no
    /// change since the load is lost.
    ///
    /// # Errors
    /// Every fault found, in one [`Report`].
    pub async fn next(&mut self) -> Result<Policy, Report> {
        loop {
            let poll = self.poll.get_or_insert_with(|| {
                let mut poll = interval(POLL);
                poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
                poll
            });
            let asked = tokio::select! {
                () = self.changed.notified() => false,
                () = self.asked.notified() => true,
                _ = poll.tick() => false,
            };
            if !asked {
                self.settle().await;
            }
            if let Some(outcome) = self.look(asked).await {
                return outcome;
            }
        }
    }

    /// Until no change follows another.
    async fn settle(&self) {
        let latest = Instant::now() + LONGEST_WAIT;
        loop {
            let quiet = latest.min(Instant::now() + QUIET);
            if timeout_at(quiet, self.changed.notified()).await.is_err() {
                return;
            }
        }
    }

    /// One look, off the threads that carry traffic: a disk may be slow.
    async fn look(&self, asked: bool) -> Option<Result<Policy, Report>> {
        let (source, state) = (self.source.clone(), Arc::clone(&self.state));
        let look = move || {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            state.look(&source, asked).unwrap_or_else(|error| {
                tracing::warn!(%error, "cannot look at the policy files now; the poll will");
                None
            })
        };
        match tokio::task::spawn_blocking(look).await {
            Ok(outcome) => outcome,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime is going down.
            Err(_) => std::future::pending().await,
        }
    }
}
