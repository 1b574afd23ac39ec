//! What the behaviour tests have in common: a capture on the wire and its check, a mesh of
//! real programs, deadlines, and other users.

pub mod callers;
pub mod capture;
pub mod counting;
pub mod foreign;
pub mod mesh;
pub mod message;
pub mod prober;
pub mod recorder;
pub mod streams;

use std::sync::mpsc;
use std::time::Duration;
use std::{panic, thread};

use nix::unistd::{Uid, setfsuid};

/// Runs a test's body and fails when it takes longer than `limit`.
///
/// # Panics
/// As `body` does, and at the deadline.
#[allow(clippy::panic, reason = "failing is what it is for")]
pub fn within(limit: Duration, body: impl FnOnce() + Send + 'static) {
    let (finished, outcome) = mpsc::channel();
    let running = thread::spawn(move || {
        let result = panic::catch_unwind(panic::AssertUnwindSafe(body));
        // Nobody listens any more when the deadline has passed.
        let _late = finished.send(result);
    });
    match outcome.recv_timeout(limit) {
        Ok(Ok(())) => drop(running.join()),
        Ok(Err(panic)) => panic::resume_unwind(panic),
        Err(_) => panic!("the test was not done within {limit:?}"),
    }
}

/// Opens sockets as another user: the kernel (`meta skuid`) goes by the file system user of the thread that makes
/// a socket, which alone of all user ids can be set for one thread. To be called on a thread of one's own.
pub fn as_user<T>(id: u32, job: impl FnOnce() -> T) -> T {
    let before = setfsuid(Uid::from_raw(id));
    let result = job();
    setfsuid(before);
    result
}
