//! Idle HTTP/1.1 connections, the one used last at the back.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

use super::super::link::Link;
use super::super::state::Basis;

/// See the module.
#[derive(Default)]
pub(in crate::pool) struct IdleLinks {
    links: Mutex<VecDeque<Idle>>,
    /// Told whenever a connection becomes idle.
    returned: Notify,
}

struct Idle {
    link: Link,
    since: Instant,
}

impl IdleLinks {
    /// The connection used last, of those to servers that are `wanted`, that still holds; those that do not are
    /// closed on the way.
    pub(in crate::pool) async fn take(
        &self,
        wanted: impl Fn(SocketAddr) -> bool,
        basis: Basis,
        longest: Duration,
    ) -> Option<Link> {
        loop {
            let mut idle = {
                let mut links = self.lock();
                let at = links.iter().rposition(|idle| wanted(idle.link.facts.addr))?;
                links.remove(at)?
            };
            let fresh = idle.since.elapsed() < longest && idle.link.facts.is_current(basis);
            if fresh && idle.link.connection.is_usable().await {
                return Some(idle.link);
            }
        }
    }

    pub(in crate::pool) fn put(&self, link: Link) {
        self.lock().push_back(Idle { link, since: Instant::now() });
        self.returned.notify_waiters();
    }

    /// Resolves when a connection has become idle after the call.
    pub(in crate::pool) fn returned(&self) -> Notified<'_> {
        self.returned.notified()
    }

    /// Closes the one idle for longest.
    pub(in crate::pool) fn close_oldest(&self) {
        let oldest = self.lock().pop_front();
        drop(oldest);
    }

    pub(in crate::pool) fn close_all(&self) {
        let all = std::mem::take(&mut *self.lock());
        drop(all);
    }

    /// Closes those that are not to be used again.
    pub(in crate::pool) fn sweep(&self, basis: Basis, longest: Duration) {
        self.lock().retain(|idle| {
            idle.since.elapsed() < longest
                && idle.link.facts.is_current(basis)
                && !idle.link.connection.is_closed()
        });
    }

    pub(in crate::pool) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Idle>> {
        // Nothing panics while holding it, and a queue of connections has no half-done state.
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
