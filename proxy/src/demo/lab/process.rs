//! Programs on a host: started there, listened to, and killed on drop or when this program dies.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, LazyLock, mpsc};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::output::{Shared, Stream};
use super::{LabError, Namespace};
use crate::sys::kill_with_parent;

/// Time that a killed process has to be gone. Only the kernel can make it longer.
const KILL_GRACE: Duration = Duration::from_secs(10);

/// A program to be started on a host. By default it runs as this program's user, without stdin.
#[derive(Debug)]
pub struct HostCommand {
    namespace: Namespace,
    command: Command,
    /// `host: program argument...`, for errors.
    line: String,
}

impl HostCommand {
    pub(super) fn new(namespace: Namespace, host: &str, program: impl AsRef<OsStr>) -> Self {
        let line = format!("{host}: {}", program.as_ref().to_string_lossy());
        let mut command = Command::new(program);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // An own process group, so that killing it takes its children too.
        command.process_group(0);
        Self { namespace, command, line }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.line.push(' ');
        self.line.push_str(&argument.as_ref().to_string_lossy());
        self.command.arg(argument);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(self, arguments: impl IntoIterator<Item = S>) -> Self {
        arguments.into_iter().fold(self, Self::arg)
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it as this user and the group of the same number, without other groups or capabilities.
    #[must_use]
    pub fn user(mut self, id: u32) -> Self {
        self.command.uid(id).gid(id);
        self
    }

    /// Starts it and listens to both outputs.
    ///
    /// # Errors
    /// [`LabError::Start`] when there is no such program, [`LabError::Namespace`] when the host is not to be entered.
    pub fn spawn(self) -> Result<Process, LabError> {
        let Self { namespace, mut command, line } = self;
        // The child goes by the parent thread's network, and by its life: hence a thread that lasts.
        kill_with_parent(&mut command);
        let child = on_lasting_thread(move || namespace.enter().map(|()| command.spawn()))?
            .map_err(|source| LabError::Namespace { action: "enter", source })?
            .map_err(|source| LabError::Start { command: line.clone(), source })?;
        Process::watch(child, line)
    }

    /// Runs it to its end; it is killed when that takes longer than `within`.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn), and [`LabError::Late`]. A failure of the program itself is in the result.
    pub fn run(self, within: Duration) -> Result<Finished, LabError> {
        let process = self.spawn()?;
        let status = process.wait(within)?;
        let state = process.shared.lock();
        Ok(Finished { status, stdout: state.text(Stream::Out), stderr: state.text(Stream::Err) })
    }

    /// Runs it to its end, which must be a success, and gives what it printed to stdout.
    ///
    /// # Errors
    /// As [`run`](Self::run), and [`LabError::Failed`].
    pub fn check(self, within: Duration) -> Result<String, LabError> {
        let command = self.line.clone();
        let Finished { status, stdout, stderr } = self.run(within)?;
        if status.success() {
            return Ok(stdout);
        }
        Err(LabError::Failed { command, status, output: format!("{stdout}{stderr}") })
    }
}

/// Runs `job` on the one thread that lives as long as this program.
fn on_lasting_thread<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> Result<T, LabError> {
    type Job = Box<dyn FnOnce() + Send>;
    static JOBS: LazyLock<io::Result<mpsc::Sender<Job>>> = LazyLock::new(|| {
        let (jobs, queue) = mpsc::channel::<Job>();
        thread::Builder::new().spawn(move || queue.into_iter().for_each(|job| job())).map(|_| jobs)
    });
    let gone = || LabError::System { what: "a thread", source: io::ErrorKind::Other.into() };
    let (done, result) = mpsc::sync_channel(1);
    // Whoever sends the job waits for its result below.
    let job = Box::new(move || drop(done.send(job())));
    JOBS.as_ref().ok().and_then(|jobs| jobs.send(job).ok()).ok_or_else(gone)?;
    result.recv().map_err(|_| gone())
}

/// How a program ended and what it printed (the last 16 MiB).
#[derive(Debug, Clone)]
pub struct Finished {
    /// Exit code or signal.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// A running program; killed, with its process group, on drop.
#[derive(Debug)]
pub struct Process {
    line: String,
    group: Pid,
    shared: Arc<Shared>,
}

impl Process {
    fn watch(mut child: Child, line: String) -> Result<Self, LabError> {
        let id = i32::try_from(child.id()).unwrap_or(i32::MAX);
        let shared = Arc::new(Shared::default());
        let process = Self { line, group: Pid::from_raw(id), shared: shared.clone() };
        let thread = |job: Box<dyn FnOnce() + Send>| {
            let started = thread::Builder::new().spawn(job);
            started.map(drop).map_err(|source| LabError::System { what: "a thread", source })
        };
        for (stream, pipe) in [
            (Stream::Out, child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>)),
            (Stream::Err, child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>)),
        ] {
            let Some(pipe) = pipe else { continue };
            shared.lock().open += 1;
            let shared = shared.clone();
            thread(Box::new(move || shared.read(stream, pipe)))?;
        }
        thread(Box::new(move || shared.reap(child)))?;
        Ok(process)
    }

    /// Waits for a line, among those printed so far or yet to come, on either output.
    ///
    /// # Errors
    /// [`LabError::Ended`] when the process ends without it, [`LabError::Late`] at the deadline.
    pub fn wait_for_line(
        &self,
        mut wanted: impl FnMut(&str) -> bool,
        within: Duration,
    ) -> Result<String, LabError> {
        let mut found = None;
        let mut seen = 0;
        let (state, _) = self.shared.wait(within, |state| {
            let fresh = state.lines.iter().filter(|(number, ..)| *number >= seen);
            found = fresh.map(|(.., text)| text).find(|text| wanted(text)).cloned();
            seen = state.printed;
            found.is_some() || state.finished().is_some()
        });
        if let Some(found) = found {
            return Ok(found);
        }
        let (command, output) = (self.line.clone(), state.last_lines());
        Err(match state.finished() {
            Some(status) => LabError::Ended { command, status, output },
            None => LabError::Late { command, what: "print the awaited line", within, output },
        })
    }

    /// Waits for the end; kills the process when it does not come.
    ///
    /// # Errors
    /// [`LabError::Late`] at the deadline.
    pub fn wait(&self, within: Duration) -> Result<ExitStatus, LabError> {
        let (state, _) = self.shared.wait(within, |state| state.finished().is_some());
        if let Some(status) = state.finished() {
            return Ok(status);
        }
        let output = state.last_lines();
        drop(state);
        self.signal(Signal::SIGKILL);
        Err(LabError::Late { command: self.line.clone(), what: "end", within, output })
    }

    /// Asks it to end (SIGTERM) and waits.
    ///
    /// # Errors
    /// [`LabError::Late`] at the deadline, when it is killed instead.
    pub fn terminate(&self, within: Duration) -> Result<ExitStatus, LabError> {
        self.signal(Signal::SIGTERM);
        self.wait(within)
    }

    /// Kills it and its process group (SIGKILL), and waits until it is gone.
    pub fn kill(&self) {
        self.signal(Signal::SIGKILL);
        drop(self.shared.wait(KILL_GRACE, |state| state.exit.is_some()));
    }

    /// Sends a signal to the process group; nothing happens when the process has ended.
    pub fn signal(&self, signal: Signal) {
        // The reaper takes the same lock: while `exit` is empty, the number cannot belong to anyone else.
        let state = self.shared.lock();
        if state.exit.is_none() {
            let _gone_already = killpg(self.group, signal);
        }
    }

    /// Exit code or signal, once it has ended.
    #[must_use]
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.shared.lock().exit
    }

    /// The process number, as this program sees it.
    #[must_use]
    pub fn id(&self) -> i32 {
        self.group.as_raw()
    }

    /// What it printed so far on both outputs (the last 16 MiB).
    #[must_use]
    pub fn output(&self) -> String {
        let state = self.shared.lock();
        state.lines.iter().map(|(.., text)| format!("{text}\n")).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::super::Lab;
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    #[test]
    fn a_process_is_heard_and_its_whole_group_is_killed() {
        let mut lab = Lab::new().expect("needs root");
        let host = lab.host("one").unwrap();
        let script = "echo started; sleep 100 & echo child $!; wait";
        let process = host.command("sh").args(["-c", script]).spawn().unwrap();
        process.wait_for_line(|line| line == "started", DEADLINE).unwrap();
        let child = process.wait_for_line(|line| line.starts_with("child "), DEADLINE).unwrap();
        let child = format!("/proc/{}", child.trim_start_matches("child "));
        assert!(std::path::Path::new(&child).exists());
        process.kill();
        assert!(process.exit_status().is_some());
        // The pipes close when the last of the group is gone.
        assert!(process.wait(DEADLINE).is_ok());
    }

    #[test]
    fn what_never_comes_is_an_error_in_time() {
        let mut lab = Lab::new().expect("needs root");
        let host = lab.host("one").unwrap();
        let asleep = host.command("sleep").arg("100").spawn().unwrap();
        let late = asleep.wait_for_line(|_| true, Duration::from_millis(20)).unwrap_err();
        assert!(matches!(late, LabError::Late { .. }), "{late}");
        let gone = host.command("sh").args(["-c", "echo no; exit 3"]).spawn().unwrap();
        let ended = gone.wait_for_line(|line| line == "yes", DEADLINE).unwrap_err();
        assert!(matches!(ended, LabError::Ended { .. }), "{ended}");
        assert!(ended.to_string().contains("exit status: 3"), "{ended}");
        assert!(matches!(host.command("no-such-program").spawn(), Err(LabError::Start { .. })));
    }

    #[test]
    fn hosts_reach_each_other_over_both_families() {
        let mut lab = Lab::new().expect("needs root");
        let (client, server) = (lab.host("client").unwrap(), lab.host("server").unwrap());
        for address in server.addresses() {
            let listener = server.in_namespace(|| TcpListener::bind((address, 80))).unwrap().unwrap();
            let connect = || TcpStream::connect_timeout(&(address, 80).into(), DEADLINE);
            let stream = client.in_namespace(connect).unwrap().unwrap();
            let (_, from) = listener.accept().unwrap();
            assert_eq!(from, stream.local_addr().unwrap());
            assert!(client.addresses().contains(&from.ip()));
        }
    }

    #[test]
    fn a_program_runs_as_the_user_asked_for_and_without_privileges() {
        let mut lab = Lab::new().expect("needs root");
        let host = lab.host("one").unwrap();
        let id = host.command("id").args(["-u"]).user(1337).check(DEADLINE).unwrap();
        assert_eq!(id, "1337\n");
        let refused = host.command("ip").args(["link", "del", "eth0"]).user(1337).check(DEADLINE);
        assert!(matches!(refused, Err(LabError::Failed { .. })), "{refused:?}");
        host.command("ip").args(["link", "del", "eth0"]).check(DEADLINE).unwrap();
    }
}
