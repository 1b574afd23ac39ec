//! One line for each port: its mode, and by whose word.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::{Resolved, Scene};
use crate::authz::{self, Exception, Plan};
use crate::config::Spec;

/// One port of one workload, or one destination that it reaches in plaintext.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The workload as it is shown.
    pub workload: String,
    /// Which port.
    pub port: PortName,
    /// What is asked of a caller.
    pub mode: PortMode,
    /// The resource that decided it, with a remark if there is more to say.
    pub rule: String,
    /// The plaintext exception, open or over.
    pub exception: Option<Opened>,
}

/// Which port a row is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortName {
    /// An own port.
    Own(u16),
    /// All own ports that have no row.
    Others,
    /// A service that the workload calls.
    To {
        /// The service's host.
        host: String,
        /// The service's port.
        port: u16,
    },
}

impl fmt::Display for PortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(port) => write!(f, "{port}"),
            Self::Others => f.write_str("every other port"),
            Self::To { host, port } => write!(f, "to {host}:{port}"),
        }
    }
}

/// What a port asks of callers, or a workload of those it calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortMode {
    /// Mutual TLS or nothing.
    Strict,
    /// Plaintext is let through.
    Plaintext,
}

impl PortMode {
    /// As it is shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "STRICT",
            Self::Plaintext => "PLAINTEXT",
        }
    }
}

/// A plaintext exception at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Why, who and until when; `None`: nobody has written it down.
    pub plan: Option<Plan>,
    /// Days until it is over, 0 or less when it is; `None` without a plan.
    pub days_left: Option<i64>,
}

impl Opened {
    fn of(exception: &Exception, now: Duration) -> Self {
        let plan = exception.plan.clone();
        Self { days_left: plan.as_ref().map(|plan| plan.days_left(now)), plan }
    }
}

/// The rows of one workload: its ports, every other port, and where it sends plaintext.
pub(super) fn of(workload: &Resolved, scene: &Scene<'_>) -> Vec<Row> {
    let inbound = &workload.inbound;
    let mut ports = workload.subject.ports.clone();
    ports.extend(inbound.exceptions().map(|exception| exception.port));
    ports.extend(written_ports(workload, scene));
    let row = |name: PortName, port: u16| {
        let (mode, rule) = match inbound.mode(port, scene.now) {
            authz::PortMode::Strict { rule } => (PortMode::Strict, rule),
            authz::PortMode::Plaintext { rule, .. } => (PortMode::Plaintext, rule),
        };
        let exception = inbound.exceptions().find(|exception| exception.port == port);
        Row {
            workload: workload.subject.name.clone(),
            port: name,
            mode,
            rule: rule.to_string(),
            exception: exception.map(|exception| Opened::of(exception, scene.now)),
        }
    };
    let mut rows: Vec<Row> = ports.iter().map(|port| row(PortName::Own(*port), *port)).collect();
    let other = (1..=u16::MAX).find(|port| !ports.contains(port));
    rows.extend(other.map(|port| row(PortName::Others, port)));
    rows.extend(plaintext_out(workload, scene));
    rows
}

/// Ports of `portLevelMtls` in the PeerAuthentications that hold for the workload.
fn written_ports(workload: &Resolved, scene: &Scene<'_>) -> BTreeSet<u16> {
    let scope = &workload.subject.scope;
    let mut written = BTreeSet::new();
    for resource in &scene.outline.resources {
        let Spec::PeerAuthentication { selector, ports } = &resource.spec else { continue };
        let own = resource.namespace == scope.workload.namespace();
        let holds = match selector {
            None => own || resource.namespace == scope.root_namespace,
            Some(selector) => own && selector.selects(&scope.labels),
        };
        if holds {
            written.extend(ports.keys());
        }
    }
    written
}

/// Destinations that the workload reaches in plaintext, or would if the exception were not over.
fn plaintext_out(workload: &Resolved, scene: &Scene<'_>) -> Vec<Row> {
    let mut rows = Vec::new();
    for destination in &workload.destinations {
        let Some(exception) = destination.exception() else { continue };
        let open = exception.is_open(scene.now);
        let row = Row {
            workload: workload.subject.name.clone(),
            port: PortName::To { host: destination.host.clone(), port: destination.port },
            mode: if open { PortMode::Plaintext } else { PortMode::Strict },
            rule: destination.rule.to_string(),
            exception: Some(Opened::of(exception, scene.now)),
        };
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    rows
}
