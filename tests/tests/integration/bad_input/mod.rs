//! Input that cannot be used: one clear message, the right exit code, in time, and nothing stored is lost.

mod authority;
mod authority_root;
mod bootstrap;
mod command_line;
mod loopback;
mod outside;
mod policy;
mod state;
mod token;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::stat::Mode;
use portcullis::demo::lab::{Finished, Host, HostCommand, Lab, Process};
use portcullis::demo::programs::{Authority, PROXY_USER, Programs};
use portcullis_tests::mesh::{status, target_dir};
use tempfile::TempDir;

/// For a test.
const LIMIT: Duration = Duration::from_secs(60);
/// For a command that has nothing to wait for.
const SOON: Duration = Duration::from_secs(10);
const IDENTITY: &str = "spiffe://cluster.local/ns/production/sa/api";
/// What a bootstrap file must have, for the host of a [`Site`].
const BASE: &str = "workload: {namespace: production, serviceAccount: api}
ca: {address: \"10.77.0.1:8443\", joinToken: {file: join-token}}
";

/// One host of its own, where no port is taken, and a directory that every user can enter.
struct Site {
    host: Host,
    programs: Programs,
    dir: TempDir,
    _lab: Lab,
}

impl Site {
    fn new() -> Self {
        let mut lab = Lab::new().expect("a lab needs root");
        let host = lab.host("host").unwrap();
        let dir = TempDir::new().unwrap();
        mode(dir.path(), 0o755);
        Self { host, programs: Programs::in_dir(&target_dir()).unwrap(), dir, _lab: lab }
    }

    /// A directory in which the sidecar's user may write.
    fn own_dir(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir_all(&path).unwrap();
        own(&path);
        path
    }

    fn authority(&self) -> Authority {
        Authority::start(&self.host, &self.programs, self.dir.path().join("ca"), 8443, "24h").unwrap()
    }

    /// `portcullis run` with the bootstrap file in `dir`, as the sidecar's user.
    fn sidecar(&self, dir: &Path) -> HostCommand {
        let config = dir.join("portcullis.yaml");
        self.host.command(&self.programs.portcullis).args(["run", "--config"]).arg(config).user(PROXY_USER)
    }

    /// The same, with what is certain to be well: a bootstrap file and a token.
    fn good_sidecar(&self, dir: &Path, more: &str, token: &str) -> HostCommand {
        fs::write(dir.join("portcullis.yaml"), format!("{BASE}{more}")).unwrap();
        fs::write(dir.join("join-token"), token).unwrap();
        self.sidecar(dir)
    }

    fn readiness(&self) -> String {
        status(&self.host, "http://127.0.0.1:15021/healthz/ready")
    }
}

/// What did not go as it must, all of a table in one report.
#[derive(Default)]
struct Table(Vec<String>);

impl Table {
    /// One command of the table: `code`, and one message that has all of `says`.
    fn row(&mut self, name: &str, command: HostCommand, code: i32, says: &[&str]) {
        match command.run(SOON) {
            Ok(finished) => self.finished(name, &finished, code, says),
            Err(error) => self.0.push(format!("{name}: it does not end: {error}")),
        }
    }

    fn finished(&mut self, name: &str, finished: &Finished, code: i32, says: &[&str]) {
        let Finished { status, stdout, stderr } = finished;
        let mut wrong = defects(stderr);
        if status.code() != Some(code) {
            wrong.push(format!("{status}, not exit code {code}"));
        }
        if !stdout.is_empty() {
            wrong.push(format!("stdout: {stdout}"));
        }
        wrong.extend(says.iter().filter(|part| !stderr.contains(**part)).map(|part| format!("no {part:?}")));
        if !wrong.is_empty() {
            self.0.push(format!("{name}: {}\n{stderr}", wrong.join("; ")));
        }
    }

    fn check(&mut self, name: &str, holds: bool, what: &str) {
        if !holds {
            self.0.push(format!("{name}: {what}"));
        }
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(self.0.is_empty(), "{}", self.0.join("\n"));
        }
    }
}

/// What a user should not be shown: a crash, a program's inside, or one fault in two messages.
fn defects(stderr: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for raw in ["panicked", "backtrace", "Os {", "Error {", "Some(", "Err(", "Error(", "kind: "] {
        if stderr.contains(raw) {
            wrong.push(format!("{raw:?} is for programmers"));
        }
    }
    let heads = ["portcullis: ", "portcullis-ca: ", "error: "];
    let messages = stderr.lines().filter(|line| heads.iter().any(|head| line.starts_with(head))).count();
    let logged = stderr.lines().filter(|line| line.starts_with('{') && !line.contains(r#""level":"INFO""#));
    if messages != 1 || logged.count() > 0 {
        wrong.push(format!("{messages} messages and what is logged, not one"));
    }
    if let Some(long) = stderr.lines().find(|line| line.len() > 600) {
        wrong.push(format!("a line of {} bytes", long.len()));
    }
    wrong
}

/// What is where a readable file should be.
enum Given {
    Nothing,
    Bytes(Vec<u8>),
    Unreadable,
    Directory,
    Pipe,
}

impl Given {
    fn bytes(content: impl AsRef<[u8]>) -> Self {
        Self::Bytes(content.as_ref().to_vec())
    }

    fn put(self, path: &Path) {
        match self {
            Self::Nothing => {}
            Self::Bytes(content) => fs::write(path, content).unwrap(),
            Self::Unreadable => {
                fs::write(path, BASE).unwrap();
                mode(path, 0o600);
            }
            Self::Directory => fs::create_dir(path).unwrap(),
            Self::Pipe => {
                nix::unistd::mkfifo(path, Mode::S_IRWXU).unwrap();
                own(path);
            }
        }
    }
}

/// Every file below a directory, but for the shared memory of SQLite's readers (`-shm`): an index that the last of
/// them may leave behind or take away, with nothing in it that is not in the files beside it.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(contents(&path));
            found.insert(path, Vec::new());
        } else if path.is_file() && !path.to_string_lossy().ends_with("-shm") {
            let bytes = fs::read(&path).unwrap();
            found.insert(path, bytes);
        }
    }
    found
}

/// The files that are gone or changed since `before`.
fn lost(before: &BTreeMap<PathBuf, Vec<u8>>, dir: &Path) -> Vec<PathBuf> {
    let after = contents(dir);
    before
        .iter()
        .filter(|(path, bytes)| after.get(*path) != Some(*bytes))
        .map(|(path, _)| path.clone())
        .collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn own(path: &Path) {
    std::os::unix::fs::chown(path, Some(PROXY_USER), Some(PROXY_USER)).unwrap();
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn is_ready(process: &Process) {
    process.wait_for_line(|line| line.contains(r#""message":"ready""#), SOON).unwrap();
}
