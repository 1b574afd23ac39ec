//! What a process printed and how it ended, for those who wait for it.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ExitStatus};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

/// Bytes kept of each process, in whole lines; older ones are forgotten.
const MOST_BYTES: usize = 16 << 20;
/// Longest line kept; the rest of it starts another.
const LONGEST_LINE: u64 = 16 * 1024;
/// Lines shown in an error.
const LINES_IN_ERRORS: usize = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Out,
    Err,
}

/// What the readers and the reaper of a process tell those who wait for it.
#[derive(Debug, Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// Number, stream and text of the lines kept.
    pub(super) lines: VecDeque<(usize, Stream, String)>,
    /// Their length together.
    bytes: usize,
    /// Lines ever printed, which is the number of the next.
    pub(super) printed: usize,
    /// Pipes not yet at their end.
    pub(super) open: u8,
    pub(super) exit: Option<ExitStatus>,
}

impl State {
    /// The exit status, once all output has been read too.
    pub(super) fn finished(&self) -> Option<ExitStatus> {
        self.exit.filter(|_| self.open == 0)
    }

    pub(super) fn text(&self, wanted: Stream) -> String {
        let lines = self.lines.iter().filter(|(_, stream, _)| *stream == wanted);
        lines.map(|(.., text)| format!("{text}\n")).collect()
    }

    pub(super) fn last_lines(&self) -> String {
        let skipped = self.lines.len().saturating_sub(LINES_IN_ERRORS);
        let lines: Vec<_> = self.lines.iter().skip(skipped).map(|(.., text)| text.as_str()).collect();
        lines.join(" | ")
    }
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `done` or the deadline, and tells whether it was the deadline.
    pub(super) fn wait(
        &self,
        within: Duration,
        mut done: impl FnMut(&State) -> bool,
    ) -> (MutexGuard<'_, State>, bool) {
        let waited = self.changed.wait_timeout_while(self.lock(), within, |state| !done(state));
        let (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        (state, timeout.timed_out())
    }

    pub(super) fn read(&self, stream: Stream, pipe: Box<dyn Read + Send>) {
        let mut pipe = BufReader::new(pipe);
        let mut bytes = Vec::new();
        while pipe.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut bytes).is_ok_and(|read| read > 0) {
            let text = String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_owned();
            bytes.clear();
            let mut state = self.lock();
            state.bytes += text.len();
            while state.bytes > MOST_BYTES {
                let Some((.., oldest)) = state.lines.pop_front() else { break };
                state.bytes -= oldest.len();
            }
            let number = state.printed;
            state.lines.push_back((number, stream, text));
            state.printed += 1;
            self.changed.notify_all();
        }
        self.lock().open -= 1;
        self.changed.notify_all();
    }

    pub(super) fn reap(&self, mut child: Child) {
        let id = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
        // Waits without reaping, so that the number stays ours until the lock is held.
        while waitid(Id::Pid(id), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) == Err(Errno::EINTR) {}
        let mut state = self.lock();
        state.exit = child.wait().ok();
        self.changed.notify_all();
    }
}
