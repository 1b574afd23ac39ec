//! What the standard library has no safe way for: the only unsafe code.

use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;

/// Has the kernel kill the process that `command` starts when the thread that starts it ends, however it ends.
#[allow(unsafe_code, reason = "there is no other way between fork and exec")]
pub fn kill_with_parent(command: &mut Command) {
    // SAFETY: between fork and exec only what is async-signal-safe is allowed. This is one system call, and an
    // `io::Error` made of its error number, which allocates nothing.
    unsafe { command.pre_exec(|| Ok(set_pdeathsig(Signal::SIGKILL)?)) };
}
