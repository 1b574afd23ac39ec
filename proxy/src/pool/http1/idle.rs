//! Idle HTTP/1.1 connections, the one used last at the back.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

use super::super::link::Link;
use super::super::settings::{Basis, Settings};

/// See the module.
#[derive(Default)]
pub(in crate::pool) struct IdleLinks {
    state: Mutex<State>,
    /// Told whenever a connection becomes idle while someone waits for that.
    returned: Notify,
}

#[derive(Default)]
struct State {
    links: VecDeque<Idle>,
    /// Who waits for one.
    awaited: usize,
}

struct Idle {
    link: Link,
    since: Instant,
}

/// What an idle connection has to satisfy to be used.
#[derive(Clone, Copy)]
pub(in crate::pool) struct Terms {
    basis: Basis,
    /// Longest time that it was idle.
    longest: Duration,
}

/// Someone who waits for connections to become idle.
pub(super) struct Returns<'a>(&'a IdleLinks);

impl Terms {
    /// Those of a request with this generation of the own identity.
    pub(in crate::pool) fn new(settings: &Settings, generation: u64) -> Self {
        Self { basis: settings.basis(generation), longest: settings.idle_timeout() }
    }
}

impl Idle {
    fn satisfies(&self, terms: &Terms) -> bool {
        self.since.elapsed() < terms.longest && self.link.facts.is_current(terms.basis)
    }
}

impl IdleLinks {
    /// The connection used last, of those to servers that are `wanted`, that still holds; those that do not are
    /// closed on the way.
    pub(super) async fn take(&self, wanted: impl Fn(SocketAddr) -> bool, terms: &Terms) -> Option<Link> {
        loop {
            let mut idle = {
                let mut state = self.lock();
                let at = state.links.iter().rposition(|idle| wanted(idle.link.facts.addr))?;
                state.links.remove(at)?
            };
            if idle.satisfies(terms) && idle.link.connection.is_usable().await {
                return Some(idle.link);
            }
        }
    }

    /// As [`IdleLinks::take`] for one server, and without waiting for anything: the connection used last, if it will do.
    pub(in crate::pool) fn take_at_once(&self, addr: SocketAddr, terms: &Terms) -> Option<Link> {
        let idle = self.lock().links.pop_back_if(|idle| idle.link.facts.addr == addr)?;
        if idle.satisfies(terms) && idle.link.connection.is_ready() {
            return Some(idle.link);
        }
        // Whether it is given a moment or closed is for `take`.
        self.put_back(idle);
        None
    }

    pub(in crate::pool) fn put(&self, link: Link) {
        self.put_back(Idle { link, since: Instant::now() });
    }

    fn put_back(&self, idle: Idle) {
        let mut state = self.lock();
        state.links.push_back(idle);
        let is_awaited = state.awaited > 0;
        drop(state);
        if is_awaited {
            self.returned.notify_waiters();
        }
    }

    /// To be told when connections become idle.
    pub(super) fn returns(&self) -> Returns<'_> {
        self.lock().awaited += 1;
        Returns(self)
    }

    /// Closes the one idle for longest.
    pub(in crate::pool) fn close_oldest(&self) {
        let oldest = self.lock().links.pop_front();
        drop(oldest);
    }

    pub(in crate::pool) fn close_all(&self) {
        let all = std::mem::take(&mut self.lock().links);
        drop(all);
    }

    /// Closes those that are not to be used again.
    pub(in crate::pool) fn sweep(&self, terms: &Terms) {
        self.lock().links.retain(|idle| idle.satisfies(terms) && !idle.link.connection.is_closed());
    }

    pub(in crate::pool) fn len(&self) -> usize {
        self.lock().links.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while holding it, and a queue of connections has no half-done state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Returns<'_> {
    /// Resolves when a connection has become idle after the call.
    pub(super) fn next(&self) -> Notified<'_> {
        self.0.returned.notified()
    }
}

impl Drop for Returns<'_> {
    fn drop(&mut self) {
        self.0.lock().awaited -= 1;
    }
}
