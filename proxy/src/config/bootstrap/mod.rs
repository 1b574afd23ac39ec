//! The bootstrap file: what a sidecar must know before it has any policy.

mod read;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use portcullis_identity::Workload;

use super::decode::Node;
use super::files;
use super::policy::{ExceptionPlans, PolicyScope};
use super::report::{Faults, Place, Report};
use crate::tls::MinVersion;

/// The validated bootstrap file.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    /// Own identity.
    pub workload: Workload,
    /// Own labels, for selectors and `sourceLabels`.
    pub labels: BTreeMap<String, String>,
    /// The namespace whose policies hold for the whole mesh.
    pub root_namespace: String,
    /// Where identities come from.
    pub ca: Ca,
    /// Where key, chain and bundle survive a restart.
    pub state: Option<PathBuf>,
    /// Policy files and directories.
    pub policy: Vec<PathBuf>,
    /// What a plaintext exception needs.
    pub exception_plans: ExceptionPlans,
    /// Ports that intercepted connections arrive at; `None` when only explicit listeners are used.
    pub interception: Option<Interception>,
    /// Explicit listeners.
    pub listeners: Vec<Listener>,
    /// Health of the sidecar.
    pub probes: SocketAddr,
    /// Metrics, over mutual TLS.
    pub metrics: SocketAddr,
    /// Administration.
    pub admin: Admin,
    /// Lowest TLS version.
    pub min_tls: MinVersion,
    /// Bounds.
    pub limits: Limits,
}

impl Bootstrap {
    /// For whom policies are resolved.
    #[must_use]
    pub fn policy_scope(&self) -> PolicyScope {
        PolicyScope {
            workload: self.workload.clone(),
            labels: self.labels.clone(),
            root_namespace: self.root_namespace.clone(),
            exception_plans: self.exception_plans,
        }
    }
}

/// The certificate authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ca {
    /// `host:port`.
    pub address: String,
    /// What the first certificate is asked for with.
    pub join_token: Option<JoinToken>,
}

/// Where the join token is. Its text is read when it is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JoinToken {
    /// In a file.
    File(PathBuf),
    /// In an environment variable.
    Env(String),
}

/// Ports that the interception rules redirect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interception {
    /// For connections to the app.
    pub inbound: u16,
    /// For connections of the app.
    pub outbound: u16,
}

/// A listener that needs no interception.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Where to listen.
    pub bind: SocketAddr,
    /// What for.
    pub direction: Direction,
}

/// What an explicit listener is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Direction {
    /// Connections of peers to the app.
    Inbound {
        /// The workload's port, by which policies know it.
        port: u16,
        /// Where the app listens.
        app: SocketAddr,
    },
    /// Connections of the app to one destination.
    Outbound {
        /// The destination's host.
        host: String,
        /// The service's port.
        port: u16,
    },
}

/// Where administration is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admin {
    /// A loopback address.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

/// Bounds of one sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections open at once.
    pub connections: usize,
    /// Longest TLS handshake.
    pub handshake_timeout: Duration,
    /// Longest wait for the first bytes.
    pub detection_timeout: Duration,
    /// Longest drain at shutdown.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            handshake_timeout: Duration::from_secs(10),
            detection_timeout: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(30),
        }
    }
}

/// Reads the bootstrap file. Relative paths in it are relative to the file.
///
/// # Errors
/// Every fault found, in one [`Report`].
pub fn load_bootstrap(path: &Path) -> Result<Bootstrap, Report> {
    let mut faults = Faults::default();
    let file = files::read(path, &mut faults);
    let bootstrap = match file.documents.as_slice() {
        [document] => {
            let directory = path.parent().unwrap_or(Path::new(""));
            read::bootstrap(&Node::document(&file.file, document), directory, &mut faults)
        }
        // Its text was no YAML, or could not be read: that says it all.
        [] if faults.any() => None,
        documents => {
            let message = format!("the bootstrap file is one YAML document, found {}", documents.len());
            faults.add(Place::of_file(path), message);
            None
        }
    };
    faults.or_report(bootstrap)
}
