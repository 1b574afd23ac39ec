//! Network namespaces held by a file descriptor.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::{io, panic, thread};

use nix::sched::{CloneFlags, setns, unshare};

use super::LabError;

/// A network namespace; it lives until the last clone is dropped and the last process in it has ended.
/// Without a file it is the one that this program is in.
#[derive(Debug, Clone)]
pub struct Namespace(Option<Arc<File>>);

impl Namespace {
    /// Makes an empty one, with `lo` down.
    ///
    /// # Errors
    /// [`LabError::Namespace`] without `CAP_SYS_ADMIN`.
    pub fn create() -> Result<Self, LabError> {
        let failed = |source| LabError::Namespace { action: "make", source };
        // A thread that changes its namespace cannot be trusted with anything else, so it ends at once.
        on_a_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).map_err(io::Error::from)?;
            File::open("/proc/thread-self/ns/net")
        })?
        .map(|file| Self(Some(Arc::new(file))))
        .map_err(failed)
    }

    /// The network that this program is in, which takes no right to use.
    #[must_use]
    pub fn here() -> Self {
        Self(None)
    }

    /// Runs code in this network, on a thread of its own, and waits for it.
    ///
    /// # Errors
    /// [`LabError::Namespace`] when it cannot be entered. A panic of `job` continues in the caller.
    pub fn run<T: Send>(&self, job: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        on_a_thread(|| self.enter().map(|()| job()))?
            .map_err(|source| LabError::Namespace { action: "enter", source })
    }

    /// Starts code in this network and leaves it running. The job must know by itself when to end.
    ///
    /// # Errors
    /// [`LabError::System`] when there is no thread to have. The job's result is an error when the namespace
    /// cannot be entered.
    pub fn spawn<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<thread::JoinHandle<io::Result<T>>, LabError> {
        let here = self.clone();
        thread::Builder::new()
            .spawn(move || here.enter().map(|()| job()))
            .map_err(|source| LabError::System { what: "a thread", source })
    }

    /// Runs `ip` of iproute2 here.
    ///
    /// # Errors
    /// [`LabError`] with what `ip` printed.
    pub fn ip(&self, arguments: &[&str]) -> Result<(), LabError> {
        let line = || format!("ip {}", arguments.join(" "));
        let output = self
            .run(|| Command::new("ip").args(arguments).stdin(Stdio::null()).output())?
            .map_err(|source| LabError::Start { command: line(), source })?;
        if output.status.success() {
            return Ok(());
        }
        let printed = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(LabError::Failed { command: line(), status: output.status, output: printed })
    }

    /// A path by which another process (`ip`) can open the namespace.
    ///
    /// # Errors
    /// [`LabError::System`] without `/proc`.
    pub fn path(&self) -> Result<String, LabError> {
        let Some(file) = &self.0 else { return Ok("/proc/self/ns/net".to_owned()) };
        // Asked of /proc, as in a process namespace without a /proc of its own our number there is another.
        let own =
            fs::read_link("/proc/self").map_err(|source| LabError::System { what: "/proc/self", source })?;
        Ok(format!("/proc/{}/fd/{}", own.display(), file.as_raw_fd()))
    }

    /// Moves the calling thread there, for good.
    pub(super) fn enter(&self) -> io::Result<()> {
        match &self.0 {
            Some(file) => setns(&**file, CloneFlags::CLONE_NEWNET).map_err(io::Error::from),
            None => Ok(()),
        }
    }
}

/// Runs `job` on a new thread, waits for it and hands its panic on.
fn on_a_thread<T: Send>(job: impl FnOnce() -> T + Send) -> Result<T, LabError> {
    thread::scope(|scope| {
        let worker = thread::Builder::new()
            .spawn_scoped(scope, job)
            .map_err(|source| LabError::System { what: "a thread", source })?;
        match worker.join() {
            Ok(value) => Ok(value),
            Err(panic) => panic::resume_unwind(panic),
        }
    })
}
