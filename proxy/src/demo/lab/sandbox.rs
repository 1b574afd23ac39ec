//! A process namespace around the whole program, so that nothing it started outlives it.

use std::ffi::OsString;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::{env, io};

use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use tokio::signal::unix::{SignalKind, signal};

use super::{LabError, Namespace};

/// Maps this user to root and a block of /etc/subuid to the other users, of which the proxy's (1337) is one.
const USER_NAMESPACE: [&str; 3] = ["--user", "--map-root-user", "--map-auto"];

/// Which kind of lab this user may build on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Network namespaces directly.
    Root,
    /// Network namespaces inside a user namespace; the program must be started again within one.
    UserNamespace,
    /// None: explicit listeners on loopback are all there is.
    None,
}

impl Isolation {
    /// Finds out by trying, and leaves nothing behind.
    #[must_use]
    pub fn available() -> Self {
        if geteuid().is_root() && Namespace::create().is_ok() {
            return Self::Root;
        }
        let inside = Command::new("unshare")
            .args(USER_NAMESPACE)
            .args(["--net", "--", "setpriv", "--reuid", "1337", "--clear-groups", "true"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if inside.is_ok_and(|status| status.success()) { Self::UserNamespace } else { Self::None }
    }
}

/// Starts the program again, with the same arguments, as the first process of a process namespace (and, without
/// privileges, as root of a user namespace) and ends with its exit code: this returns only inside, or when no
/// isolation is to be had. Everything started inside dies with it, and it dies with the process the user sees,
/// by `kill -9` too. To be called first thing in `main`, before there are threads.
///
/// # Errors
/// [`LabError`] when the system refuses what [`Isolation::available`] has just tried.
pub fn enter_sandbox() -> Result<Isolation, LabError> {
    let isolation = Isolation::available();
    let program =
        env::current_exe().map_err(|source| LabError::System { what: "the path of this program", source })?;
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    match isolation {
        Isolation::None => Ok(Isolation::None),
        Isolation::UserNamespace => {
            let mut inside = Command::new("unshare");
            let source = inside.args(USER_NAMESPACE).arg("--").arg(program).args(arguments).exec();
            Err(LabError::Start { command: "unshare".to_owned(), source })
        }
        // The first process of its namespace: the kernel kills the others when it ends.
        Isolation::Root if std::process::id() == 1 => {
            set_pdeathsig(Signal::SIGKILL)
                .map_err(|errno| LabError::System { what: "a parent-death signal", source: errno.into() })?;
            Ok(Isolation::Root)
        }
        Isolation::Root => {
            unshare(CloneFlags::CLONE_NEWPID)
                .map_err(|errno| LabError::System { what: "a process namespace", source: errno.into() })?;
            let status = run_inside(&program, &arguments)
                .map_err(|source| LabError::Start { command: program.display().to_string(), source })?;
            let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
            std::process::exit(code.unwrap_or(1))
        }
    }
}

/// Waits for the program inside. Signals that would end us are handed on to it, and we stay until it has tidied up
/// and ended. No thread may be started after the unsharing.
fn run_inside(program: &Path, arguments: &[OsString]) -> io::Result<ExitStatus> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let mut interrupted = signal(SignalKind::interrupt())?;
        let mut terminated = signal(SignalKind::terminate())?;
        let mut inside = tokio::process::Command::new(program).args(arguments).spawn()?;
        loop {
            tokio::select! {
                status = inside.wait() => return status,
                _ = interrupted.recv() => {}
                _ = terminated.recv() => {}
            }
            if let Some(id) = inside.id().and_then(|id| i32::try_from(id).ok()) {
                let _gone_already = kill(Pid::from_raw(id), Signal::SIGTERM);
            }
        }
    })
}
