//! The bounds of one destination, each an exact [`Limit`].
//!
//! A slot is the right to use one connection; slots are given out first in, first out. A socket permit stands for a
//! socket from before it is opened until after it is closed. There are `maxConnections` of each, so there are never
//! more sockets than that. An HTTP/1.1 connection holds a slot while it is leased and its socket while it is open,
//! an HTTP/2 connection both while it is open. A reload changes the bounds in place: what is out counts on.

use super::limit::{Acquire, Limit, Permit};
use crate::refusal::Refusal;
use crate::route::PoolLimits;

/// See the module.
pub(super) struct Limits {
    slots: Limit,
    sockets: Limit,
    waiting: Limit,
    active: Limit,
}

/// What is taken of each bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) sockets: u32,
    pub(super) waiting: u32,
    pub(super) active: u32,
}

/// A bound, by the name of its field in a DestinationRule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    Connections,
    Pending,
    Requests,
}

impl Bound {
    /// All of it is in use.
    pub(super) fn overflow(self, destination: &str, values: &PoolLimits) -> Refusal {
        let (limit, value) = match self {
            Self::Connections => ("maxConnections", values.max_connections),
            Self::Pending => ("http1MaxPendingRequests", values.http1_max_pending_requests),
            Self::Requests => ("http2MaxRequests", values.http2_max_requests),
        };
        Refusal::Overflow { limit, value, destination: destination.to_owned() }
    }
}

impl Limits {
    pub(super) fn new(values: &PoolLimits) -> Self {
        Self {
            slots: Limit::new(values.max_connections),
            sockets: Limit::new(values.max_connections),
            waiting: Limit::new(values.http1_max_pending_requests),
            active: Limit::new(values.http2_max_requests),
        }
    }

    pub(super) fn resize(&self, values: &PoolLimits) {
        self.active.resize(values.http2_max_requests);
        self.waiting.resize(values.http1_max_pending_requests);
        self.sockets.resize(values.max_connections);
        self.slots.resize(values.max_connections);
    }

    /// The right to have a request under way, at once or not at all.
    pub(super) fn request(&self) -> Result<Permit, Bound> {
        self.active.try_acquire().ok_or(Bound::Requests)
    }

    /// The right to wait, at once or not at all.
    pub(super) fn wait(&self) -> Result<Permit, Bound> {
        self.waiting.try_acquire().ok_or(Bound::Pending)
    }

    pub(super) fn slot_at_once(&self) -> Option<Permit> {
        self.slots.try_acquire()
    }

    /// A slot, after those who waited before.
    pub(super) fn slot(&self) -> Acquire {
        self.slots.acquire()
    }

    pub(super) fn socket_at_once(&self) -> Option<Permit> {
        self.sockets.try_acquire()
    }

    /// The right to open a socket, after those who waited before.
    pub(super) fn socket(&self) -> Acquire {
        self.sockets.acquire()
    }

    /// Whether there are more sockets than allowed by now: the bound was lowered.
    pub(super) fn has_too_many_sockets(&self) -> bool {
        self.sockets.is_exceeded()
    }

    pub(super) fn taken(&self) -> Taken {
        Taken { sockets: self.sockets.taken(), waiting: self.waiting.taken(), active: self.active.taken() }
    }
}
