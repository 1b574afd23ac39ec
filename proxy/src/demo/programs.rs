//! The programs that take part, beside this one, and the two kinds that have a life: authorities and sidecars.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, chown};

use super::error::{DemoError, ensure};
use super::lab::{Host, LabError, Process};

/// The user of the sidecars, whom the rules of interception let through.
pub const PROXY_USER: u32 = 1337;
/// The user of the apps.
pub const APP_USER: u32 = 2000;
/// For a process to be ready.
const READY: Duration = Duration::from_secs(15);
/// For a command that does its work and ends.
const COMMAND: Duration = Duration::from_secs(10);

/// Where the programs are.
#[derive(Clone)]
pub struct Programs {
    /// `portcullis`.
    pub portcullis: PathBuf,
    /// `portcullis-ca`.
    pub authority: PathBuf,
    /// `hello-service`.
    pub hello: PathBuf,
    /// `load`.
    pub load: PathBuf,
}

impl Programs {
    /// All of them, in the directory of this one.
    ///
    /// # Errors
    /// As [`Programs::in_dir`].
    pub fn beside_this() -> Result<Self, DemoError> {
        let this = std::env::current_exe().map_err(DemoError::io("the path of this program"))?;
        Self::in_dir(this.parent().unwrap_or(Path::new(".")))
    }

    /// All of them, in one directory.
    ///
    /// # Errors
    /// When one is missing; the message says how to build it.
    pub fn in_dir(dir: &Path) -> Result<Self, DemoError> {
        let find = |name: &str| {
            let path = dir.join(name);
            let missing = || format!("{} is missing: build the workspace first (make does)", path.display());
            ensure(path.is_file(), missing)?;
            Ok::<_, DemoError>(path)
        };
        Ok(Self {
            portcullis: find("portcullis")?,
            authority: find("portcullis-ca")?,
            hello: find("hello-service")?,
            load: find("load")?,
        })
    }
}

/// A running `portcullis-ca`.
pub struct Authority {
    host: Host,
    program: PathBuf,
    port: u16,
    leaf_life: String,
    dir: PathBuf,
    process: Option<Process>,
}

impl Authority {
    /// Starts one with an empty store in `dir`, and waits until it serves. `leaf_life` as on its command line.
    ///
    /// # Errors
    /// When it does not start; with the last lines of its log.
    pub fn start(
        host: &Host,
        programs: &Programs,
        dir: PathBuf,
        port: u16,
        leaf_life: &str,
    ) -> Result<Self, DemoError> {
        fs::create_dir_all(&dir).map_err(DemoError::io("a directory for the CA"))?;
        let program = programs.authority.clone();
        let mut authority =
            Self { host: host.clone(), program, port, leaf_life: leaf_life.to_owned(), dir, process: None };
        authority.start_again()?;
        Ok(authority)
    }

    /// With what its store holds.
    ///
    /// # Errors
    /// As [`Authority::start`].
    pub fn start_again(&mut self) -> Result<(), DemoError> {
        let process = self
            .host
            .command(&self.program)
            .args(["run", "--trust-domain", "cluster.local", "--listen", &self.address()])
            .args(["--leaf-life", &self.leaf_life])
            .args(self.store())
            .spawn()?;
        process.wait_for_line(is_ready, READY)?;
        self.process = Some(process);
        Ok(())
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        format!("{}:{}", self.host.ipv4(), self.port)
    }

    /// A join token for one identity, good for ten minutes.
    ///
    /// # Errors
    /// When the command fails.
    pub fn token(&self, identity: &str) -> Result<String, LabError> {
        self.token_living(identity, "10m")
    }

    /// A join token for one identity, good for as long as said.
    ///
    /// # Errors
    /// When the command fails.
    pub fn token_living(&self, identity: &str, life: &str) -> Result<String, LabError> {
        let token = self.host.command(&self.program).arg("token").args(self.store());
        let token = token.args(["--identity", identity, "--ttl", life]).check(COMMAND)?;
        Ok(token.lines().last().unwrap_or_default().to_owned())
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process = None;
    }

    fn store(&self) -> [String; 4] {
        let path = |name: &str| self.dir.join(name).display().to_string();
        ["--store".into(), path("ca.db"), "--key-file".into(), path("ca.key")]
    }
}

/// A `portcullis run` with its files.
pub struct Sidecar {
    /// Where it runs.
    pub host: Host,
    program: PathBuf,
    user: Option<u32>,
    dir: PathBuf,
    arguments: Vec<String>,
    process: Option<Process>,
}

impl Sidecar {
    /// Writes its files; `arguments` are added to the command line. Without `user` it runs as this one.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn new(
        host: &Host,
        programs: &Programs,
        dir: PathBuf,
        user: Option<u32>,
        (bootstrap, token): (&str, &str),
        arguments: Vec<String>,
    ) -> Result<Self, DemoError> {
        write_private(&dir, "portcullis.yaml", bootstrap, user)?;
        write_private(&dir, "join-token", token, user)?;
        let program = programs.portcullis.clone();
        Ok(Self { host: host.clone(), program, user, dir, arguments, process: None })
    }

    /// Starts it without waiting.
    ///
    /// # Errors
    /// When there is no such program.
    pub fn start(&mut self) -> Result<(), DemoError> {
        let command = self.host.command(&self.program).arg("run").arg("--config");
        let command = command.arg(self.dir.join("portcullis.yaml")).args(&self.arguments);
        let command = match self.user {
            Some(user) => command.user(user),
            None => command,
        };
        self.process = Some(command.spawn()?);
        Ok(())
    }

    /// Waits until it is certified and serves.
    ///
    /// # Errors
    /// When it is not after 15 s, or has ended; with the last lines of its log.
    pub fn ready(&self) -> Result<(), DemoError> {
        self.line(is_ready, READY).map(drop)
    }

    /// A line of its log, printed already or soon.
    ///
    /// # Errors
    /// When it does not come, or the sidecar is not running.
    pub fn line(&self, wanted: impl FnMut(&str) -> bool, within: Duration) -> Result<String, DemoError> {
        let process =
            self.process.as_ref().ok_or_else(|| DemoError::Unexpected("it is not running".into()))?;
        Ok(process.wait_for_line(wanted, within)?)
    }

    /// Its process number, while it runs.
    pub fn id(&self) -> Option<i32> {
        self.process.as_ref().map(Process::id)
    }

    /// How it ended, if it has.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.process.as_ref().and_then(Process::exit_status)
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::output).unwrap_or_default()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Asks it to end (SIGTERM), and waits for its exit code.
    ///
    /// # Errors
    /// When it does not end, or is not running.
    pub fn terminate(&mut self, within: Duration) -> Result<ExitStatus, DemoError> {
        let process = self.process.take().ok_or_else(|| DemoError::Unexpected("it is not running".into()))?;
        Ok(process.terminate(within)?)
    }

    /// `portcullis intercept ACTION` on its host.
    ///
    /// # Errors
    /// When the command fails.
    pub fn intercept(&self, action: &str) -> Result<(), DemoError> {
        self.host.command(&self.program).args(["intercept", action]).check(COMMAND)?;
        Ok(())
    }
}

fn is_ready(line: &str) -> bool {
    line.contains(r#""message":"ready""#)
}

/// A file in a directory that its user alone may look into.
fn write_private(dir: &Path, name: &str, text: &str, user: Option<u32>) -> Result<(), DemoError> {
    let path = dir.join(name);
    let failed = || DemoError::io(path.display().to_string());
    let former = umask(Mode::from_bits_truncate(0o077));
    let written = fs::create_dir_all(dir).and_then(|()| fs::write(&path, text));
    umask(former);
    written.map_err(failed())?;
    let Some(user) = user else { return Ok(()) };
    for path in [dir, &path] {
        chown(path, Some(Uid::from_raw(user)), Some(Gid::from_raw(user)))
            .map_err(|errno| DemoError::Io { what: path.display().to_string(), source: errno.into() })?;
    }
    Ok(())
}
