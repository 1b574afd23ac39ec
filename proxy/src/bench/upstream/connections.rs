//! The connections that are open.

use std::collections::BTreeMap;
use std::io;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Counts of connections, by the accepting thread.
#[derive(Debug, Default)]
pub(super) struct Connections(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    next: u64,
    /// A second handle to each, to ask the kernel about it.
    open: BTreeMap<u64, TcpStream>,
    peak: u64,
}

/// One connection, until dropped.
#[derive(Debug)]
pub(super) struct Open {
    connections: Arc<Connections>,
    id: u64,
}

impl Connections {
    /// Counts a connection just accepted.
    ///
    /// A client may close one and open another so fast that the end of the first is not yet read here. Both would seem
    /// open at once, so before there is a new peak the kernel is asked which of them the other side has closed.
    pub(super) fn count(self: &Arc<Self>, stream: TcpStream) -> io::Result<(TcpStream, Open)> {
        let handle = stream.try_clone()?;
        let mut seen = self.lock();
        let id = seen.next;
        seen.next += 1;
        seen.open.insert(id, handle);
        if count(seen.open.len()) > seen.peak {
            let closed = closed_by_peer(&seen.open)?;
            seen.peak = seen.peak.max(count(seen.open.len().saturating_sub(closed)));
        }
        drop(seen);
        Ok((stream, Open { connections: self.clone(), id }))
    }

    pub(super) fn measure(&self) {
        let mut seen = self.lock();
        let closed = closed_by_peer(&seen.open).unwrap_or(0);
        seen.peak = count(seen.open.len().saturating_sub(closed));
    }

    pub(super) fn open(&self) -> u64 {
        count(self.lock().open.len())
    }

    pub(super) fn peak(&self) -> u64 {
        self.lock().peak
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.connections.lock().open.remove(&self.id);
    }
}

fn closed_by_peer(open: &BTreeMap<u64, TcpStream>) -> io::Result<usize> {
    let left = PollFlags::from_bits_retain(nix::libc::POLLRDHUP);
    let ends = left | PollFlags::POLLHUP | PollFlags::POLLERR;
    let mut polled: Vec<_> = open.values().map(|stream| PollFd::new(stream.as_fd(), ends)).collect();
    poll(&mut polled, PollTimeout::ZERO)?;
    // `None` stands for a flag without a name in nix, which this one is.
    Ok(polled.iter().filter(|stream| stream.any().unwrap_or(true)).count())
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
