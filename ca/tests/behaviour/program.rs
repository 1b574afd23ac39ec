//! The command line, as a process.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};

use portcullis_identity::{Clock, JoinToken};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process;
use tokio::time::timeout;

use crate::fixture::{Client, DEADLINE};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_portcullis-ca");

/// A directory for a store and its key.
pub(crate) struct Site(TempDir);

impl Site {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.path("ca.db")
    }

    /// A subcommand with this site's store and key.
    fn arguments(&self, subcommand: &str) -> Vec<String> {
        let path = |name| self.path(name).display().to_string();
        [subcommand, "--store", &path("ca.db"), "--key-file", &path("key")].map(str::to_owned).to_vec()
    }

    pub(crate) fn start(&self) -> Running {
        Running::start(Command::new(BINARY).args(self.arguments("run")).args(["--listen", "127.0.0.1:0"]))
    }

    /// Runs to the end, or is killed at the deadline.
    pub(crate) async fn output(&self, subcommand: &str, more: &[&str]) -> Output {
        let mut command = process::Command::new(BINARY);
        command
            .args(self.arguments(subcommand))
            .args(more)
            .env_remove("PORTCULLIS_CA_KEY")
            .kill_on_drop(true);
        timeout(DEADLINE, command.output()).await.expect("the command ends in time").unwrap()
    }

    pub(crate) async fn token(&self, name: &str) -> JoinToken {
        let identity = format!("spiffe://cluster.local/ns/test/sa/{name}");
        let output = self.output("token", &["--identity", &identity]).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        JoinToken::parse(&String::from_utf8(output.stdout).unwrap()).unwrap()
    }
}

/// `portcullis-ca run` as a process; killed when dropped.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { child, lines }
    }

    /// The address of the `ready` line.
    pub(crate) fn ready(&self) -> String {
        let mut seen = Vec::new();
        loop {
            let line = self.lines.recv_timeout(DEADLINE);
            let line = line.unwrap_or_else(|_| panic!("not ready: {seen:#?}"));
            match serde_json::from_str::<Value>(&line) {
                Ok(event) if event["message"] == "ready" => {
                    return event["address"].as_str().unwrap().to_owned();
                }
                _ => seen.push(line),
            }
        }
    }

    /// SIGKILL, and wait until it is gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and its answer.
    fn terminate(mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        // The process closes stderr when it ends; the lines run dry then.
        while self.lines.recv_timeout(DEADLINE).is_ok() {}
        let status = self.child.try_wait().unwrap();
        status.unwrap_or_else(|| self.child.wait().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Exit code 2 and an error that holds all `parts`.
fn refused(output: &Output, parts: &[&str]) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    for part in parts {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(!error.contains("panicked"), "{error}");
}

#[tokio::test]
async fn run_token_and_status_work_together() {
    let site = Site::new();
    let running = site.start();
    let address = running.ready();
    let token = site.token("api").await;
    let client = Client { address, root: *token.root(), clock: Clock::system() };
    let held = client.join(&token).await.unwrap();
    site.token("unused").await;
    let output = site.output("status", &["--output", "json"]).await;
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(status["trust_domain"], "cluster.local");
    assert_eq!(status["live_leaves"], 2, "the workload's and its own");
    assert_eq!(status["tokens_outstanding"], 1);
    let states: Vec<_> = status["authorities"].as_array().unwrap().iter().map(|a| &a["state"]).collect();
    assert_eq!(states, ["active", "active"]);
    let line =
        status["identities"].as_array().unwrap().iter().find(|i| i["identity"] == held.facts.id.as_str());
    assert_eq!(line.unwrap()["serial"], held.facts.serial.to_string());
    let human = String::from_utf8(site.output("status", &[]).await.stdout).unwrap();
    assert!(human.contains("root          active") && human.contains(held.facts.id.as_str()), "{human}");
    assert_eq!(running.terminate().code(), Some(0));
}

#[tokio::test]
async fn the_key_may_come_from_the_environment() {
    let site = Site::new();
    let store = site.store().display().to_string();
    let mut command = Command::new(BINARY);
    command.args(["run", "--store", &store, "--listen", "127.0.0.1:0"]);
    command.env("PORTCULLIS_CA_KEY", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=");
    let mut running = Running::start(&mut command);
    running.ready();
    running.kill();
    fs::write(site.path("key"), "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n").unwrap();
    site.start().ready();
    let command = ["run", "--store", &store, "--listen", "127.0.0.1:0"];
    let output = Command::new(BINARY).args(command).env_remove("PORTCULLIS_CA_KEY").output().unwrap();
    refused(&output, &["pass --key-file FILE or set PORTCULLIS_CA_KEY"]);
}

#[tokio::test]
async fn a_missing_wrong_or_broken_key_is_refused_and_never_replaced() {
    let site = Site::new();
    site.start().ready();
    let (key, store) = (site.path("key"), site.store());
    let good = fs::read(&key).unwrap();
    let listen = ["--listen", "127.0.0.1:0"];
    fs::remove_file(&key).unwrap();
    refused(&site.output("run", &listen).await, &["key", "is missing", "ca.db"]);
    assert!(!key.exists());
    fs::write(&key, "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=").unwrap();
    refused(&site.output("run", &listen).await, &["was made with another key", "ca.db"]);
    refused(&site.output("status", &[]).await, &["was made with another key"]);
    let identity = ["--identity", "spiffe://cluster.local/ns/a/sa/b"];
    refused(&site.output("token", &identity).await, &["was made with another key"]);
    fs::write(&key, "").unwrap();
    refused(&site.output("run", &listen).await, &["does not hold a key", "openssl rand -base64 32"]);
    fs::write(&key, good).unwrap();
    site.start().ready();
    assert!(store.exists());
}

#[tokio::test]
async fn bad_settings_are_refused_before_anything_is_made() {
    let site = Site::new();
    let listen = ["--listen", "127.0.0.1:0"];
    for (arguments, parts) in [
        (&["--leaf-life", "2s"][..], &["--leaf-life is 2s", "from 3s to 90d"][..]),
        (&["--leaf-life", "91d"], &["--leaf-life is 91d"]),
        (&["--leaf-life", "1w"], &["3s, 10m, 24h, 30d"]),
        (&["--leaf-life", "6d"], &["--intermediate-life is 30d", "six leaf lives (36d)"]),
        (&["--root-life", "5d"], &["--root-life is 5d", "six leaf lives (6d)"]),
        (&["--trust-domain", "Cluster"], &["'C'"]),
        (&["--root-cert", "x.pem"], &["--root-key"]),
        (&["--root-cert", "x.pem", "--root-key", "y.pem"], &["cannot read x.pem"]),
    ] {
        refused(&site.output("run", &[&listen[..], arguments].concat()).await, parts);
        assert_eq!(fs::read_dir(site.path("")).unwrap().count(), 0, "{arguments:?}");
    }
    refused(&site.output("status", &[]).await, &["does not exist"]);
    refused(
        &site.output("token", &["--identity", "spiffe://cluster.local/ns/a/sa/b"]).await,
        &["does not exist"],
    );
    refused(&site.output("token", &["--identity", "spiffe://cluster.local/a"]).await, &["/ns/NAMESPACE/sa/"]);
    site.start().ready();
    for (identity, part) in [
        ("spiffe://elsewhere/ns/a/sa/b", "another trust domain"),
        ("spiffe://cluster.local/ns/portcullis-system/sa/portcullis-ca", "the authority's own"),
    ] {
        refused(&site.output("token", &["--identity", identity]).await, &[part]);
    }
    let life = ["--identity", "spiffe://cluster.local/ns/a/sa/b", "--ttl", "31d"];
    refused(&site.output("token", &life).await, &["from 1s to 30d"]);
}

#[tokio::test]
async fn a_second_run_on_one_store_is_refused_and_the_first_goes_on() {
    let site = Site::new();
    let first = site.start();
    let address = first.ready();
    refused(&site.output("run", &["--listen", "127.0.0.1:0"]).await, &["in use by another"]);
    let token = site.token("api").await;
    let client = Client { address, root: *token.root(), clock: Clock::system() };
    client.join(&token).await.unwrap();
}

#[tokio::test]
async fn a_port_that_is_taken_is_a_runtime_failure() {
    let site = Site::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = site.output("run", &["--listen", &address]).await;
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains(&format!("cannot listen on {address}")), "{error}");
}

#[tokio::test]
async fn no_log_line_or_process_output_holds_a_secret() {
    let site = Site::new();
    let mut running = site.start();
    let address = running.ready();
    let token = site.token("api").await;
    let client = Client { address, root: *token.root(), clock: Clock::system() };
    client.join(&token).await.unwrap();
    client.join(&token).await.err().expect("refused for another key");
    running.kill();
    let lines: Vec<String> = running.lines.iter().collect();
    assert!(
        lines.iter().any(|line| line.contains("issued")) && lines.iter().any(|line| line.contains("refused"))
    );
    let key = fs::read_to_string(site.path("key")).unwrap();
    for line in &lines {
        assert!(serde_json::from_str::<Value>(line).is_ok(), "one event, one JSON line: {line}");
        assert!(!line.contains("pcj1.") && !line.contains(key.trim()), "{line}");
    }
}
