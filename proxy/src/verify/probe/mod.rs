//! `portcullis verify probe`: attacks one running port as strangers would, and says what got in.
//!
//! Contacts that host and port and nothing else. Each attempt is a connection of its own with a deadline, and reads
//! a bounded number of bytes.

mod attempts;
mod forge;
mod hello;
mod outcome;
mod plain;
mod render;
mod server;
#[cfg(test)]
mod tests;
mod tls;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use portcullis_identity::Clock;
use rustls_pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout};

pub use outcome::{Outcome, Tried, Verdict};
pub use render::{json, table};
pub use server::{BadBundle, Roots, Server};

use attempts::Attempt;
use forge::Forger;

/// What to attack, and how.
#[derive(Debug, Clone)]
pub struct Target {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The name asked for in TLS; the host when not given.
    pub sni: Option<ServerName<'static>>,
    /// What the server's certificate is held against.
    pub roots: Option<Roots>,
    /// Longest time of one attempt.
    pub deadline: Duration,
}

/// Why nothing could be tried.
#[derive(Debug, thiserror::Error)]
pub enum CannotProbe {
    /// The name has no address.
    #[error("{host} cannot be looked up: {source}")]
    Lookup {
        /// The name.
        host: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// No address takes connections.
    #[error("{host}:{port} cannot be reached: {why}; nothing was tried")]
    Unreachable {
        /// The name.
        host: String,
        /// The port.
        port: u16,
        /// What the last address said.
        why: String,
    },
    /// A host that no TLS client can ask for.
    #[error("{0:?} is neither a DNS name nor an address: say what to ask for with --sni")]
    Name(String),
    /// The forged certificates could not be made.
    #[error("cannot make a certificate: {0}")]
    Forge(#[from] rcgen::Error),
    /// The TLS library refuses its own settings.
    #[error("cannot begin a TLS handshake: {0}")]
    Tls(#[from] rustls::Error),
}

/// What came of all attempts.
#[derive(Debug, Clone)]
pub struct Report {
    /// `HOST:PORT` as it was asked for.
    pub target: String,
    /// The address that was attacked.
    pub addr: SocketAddr,
    /// What the server shows of itself.
    pub server: Server,
    /// Every attempt in order.
    pub attempts: Vec<Tried>,
}

impl Report {
    /// How many attempts were not clearly refused.
    #[must_use]
    pub fn failures(&self) -> usize {
        let failed = |tried: &&Tried| matches!(tried.outcome.verdict, Verdict::GotIn | Verdict::Unclear);
        self.attempts.iter().filter(failed).count()
    }
}

/// What every attempt needs.
struct Probe<'a> {
    target: &'a Target,
    addr: SocketAddr,
    sni: ServerName<'static>,
}

impl Probe<'_> {
    async fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.addr).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// Runs all attempts, one after the other.
///
/// # Errors
/// [`CannotProbe`] when the port cannot be reached at all.
pub async fn probe(target: &Target, clock: &Clock) -> Result<Report, CannotProbe> {
    let name =
        || ServerName::try_from(target.host.clone()).map_err(|_| CannotProbe::Name(target.host.clone()));
    let sni = target.sni.clone().map_or_else(name, Ok)?;
    let probe = Probe { target, addr: reach(target).await?, sni };
    let mut server = Server::look(&probe, clock).await?;
    let forger = Forger::new(&server, target.roots.as_ref(), clock.now())?;
    let mut attempts = Vec::new();
    for attempt in Attempt::all(&forger) {
        let begun = Instant::now();
        let outcome = attempt.run(&probe, &forger, &mut server).await?;
        attempts.push(Tried {
            name: attempt.name(),
            what: attempt.what(&forger),
            outcome,
            took: begun.elapsed(),
        });
    }
    Ok(Report { target: format!("{}:{}", target.host, target.port), addr: probe.addr, server, attempts })
}

/// The first address of the host that takes a connection: all attempts go there.
async fn reach(target: &Target) -> Result<SocketAddr, CannotProbe> {
    let Target { host, port, deadline, .. } = target;
    let lookup = |source| CannotProbe::Lookup { host: host.clone(), source };
    let looked_up = timeout(*deadline, lookup_host((host.as_str(), *port))).await;
    let addresses = looked_up.map_err(|_| lookup(io::ErrorKind::TimedOut.into()))?.map_err(lookup)?;
    let mut why = "it has no address".to_owned();
    for addr in addresses {
        match timeout(*deadline, TcpStream::connect(addr)).await {
            Ok(Ok(_)) => return Ok(addr),
            Ok(Err(error)) => why = error.to_string(),
            Err(_) => why = format!("no connection within {deadline:?}"),
        }
    }
    Err(CannotProbe::Unreachable { host: host.clone(), port: *port, why })
}
