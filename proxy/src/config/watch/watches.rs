//! The kernel's watches on the directories of a policy.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use super::POLL;
use super::trail::Trails;

/// Watches, which tell of a change through a [`Notify`]: however many there are, one stands for all.
pub(super) struct Watches {
    changed: Arc<Notify>,
    /// The watched directory itself was moved or removed, or events were lost.
    stale: Arc<AtomicBool>,
    watcher: Option<RecommendedWatcher>,
    trails: Arc<Trails>,
    /// The last thing that was said to go wrong, so that it is said once.
    said: Option<String>,
}

impl Watches {
    /// Watches nothing.
    pub(super) fn new(changed: Arc<Notify>) -> Self {
        Self { changed, stale: Arc::default(), watcher: None, trails: Arc::default(), said: None }
    }

    /// Has the files looked at once more.
    pub(super) fn look_again(&self) {
        self.changed.notify_one();
    }

    /// Watches the way to each of `sources`, and of `files`, as it leads now. That this fails is no fault: there is the
    /// poll.
    pub(super) fn follow(&mut self, sources: &[PathBuf], files: &[PathBuf]) {
        let stale = self.stale.swap(false, Ordering::SeqCst);
        let trails = Trails::of(sources, files);
        if self.watcher.is_some() && !stale && *self.trails == trails {
            return;
        }
        self.trails = Arc::new(trails);
        // There is a limit on inotify instances: the old one goes first.
        self.watcher = None;
        let failed = self.watch().err();
        // Tried again at the next look.
        self.stale.fetch_or(failed.is_some(), Ordering::SeqCst);
        if let Some(why) = &failed
            && self.said != failed
        {
            let poll_s = POLL.as_secs();
            tracing::warn!(why, poll_s, "policy files cannot all be watched, so they are polled");
        }
        self.said = failed;
    }

    /// As far as it goes; the first thing that went wrong.
    fn watch(&mut self) -> Result<(), String> {
        let (trails, stale) = (Arc::clone(&self.trails), Arc::clone(&self.stale));
        let changed = Arc::clone(&self.changed);
        let handler = move |event: notify::Result<Event>| {
            let lost = event.as_ref().map_or(true, Event::need_rescan);
            let paths = event.as_ref().ok().filter(|event| is_change(event.kind)).map(|event| &event.paths);
            let paths = paths.into_iter().flatten();
            if lost || paths.clone().any(|path| trails.is_watched(path)) {
                stale.store(true, Ordering::SeqCst);
            }
            if lost || paths.clone().any(|path| trails.concerns(path)) {
                changed.notify_one();
            }
        };
        let mut watcher =
            notify::recommended_watcher(handler).map_err(|error| format!("no watcher: {error}"))?;
        let mut watched = Ok(());
        for directory in self.trails.directories() {
            if let Err(error) = watcher.watch(directory, RecursiveMode::NonRecursive) {
                watched = watched.and(Err(format!("{}: {error}", directory.display())));
            }
        }
        self.watcher = Some(watcher);
        watched
    }
}

/// Anything but reading, which is what a look does itself.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => true,
    }
}
