//! The client's half of a policy against the server's half: both are resolved, and have to fit.

use super::finding::mode_place;
use super::{Check, Finding, Resolved, Scene};
use crate::authz::{PortMode, RuleRef};
use crate::config::Spec;
use crate::route::{Destination, EndpointAddr, Transport};

/// Every destination of every workload, towards every workload behind it.
pub(super) fn findings(scene: &Scene<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for client in scene.workloads {
        for destination in &client.destinations {
            // Without a transport there is a warning already.
            let Ok(transport) = destination.transport(scene.now) else { continue };
            for endpoint in &destination.endpoints {
                let server = scene.servers.get(&(destination.host.as_str(), &endpoint.labels));
                findings.extend(
                    server.and_then(|server| {
                        compare(scene, destination, transport, port(&endpoint.addr), server)
                    }),
                );
            }
        }
    }
    findings
}

pub(super) fn port(addr: &EndpointAddr) -> u16 {
    match addr {
        EndpointAddr::Socket(addr) => addr.port(),
        EndpointAddr::Name(_, port) => *port,
    }
}

fn compare(
    scene: &Scene<'_>,
    destination: &Destination,
    transport: &Transport,
    port: u16,
    server: &Resolved,
) -> Option<Finding> {
    let mode = server.inbound.mode(port, scene.now);
    let (host, service_port) = (&destination.host, destination.port);
    let (rule, name) = (&destination.rule, &server.subject.name);
    let (check, what, advice) = match (transport, &mode) {
        (Transport::Plaintext { .. }, PortMode::Strict { rule: strict }) => (
            Check::NotMutual,
            format!(
                "{rule} sends plaintext to {host}:{service_port}, and port {port} of {name} is STRICT ({strict}): each connection is refused"
            ),
            format!(
                "remove tls.mode DISABLE; if plaintext is needed, open port {port} of the service too, with a plan"
            ),
        ),
        (Transport::Tls(_), PortMode::Strict { rule: strict }) => (
            Check::NotMutual,
            format!(
                "{rule} uses a TLS mode for servers outside of the mesh towards {host}:{service_port}, and port {port} of {name} is STRICT ({strict}): each connection is refused"
            ),
            "write mode ISTIO_MUTUAL".to_owned(),
        ),
        (Transport::MutualTls { .. }, PortMode::Plaintext { rule: open, .. }) => (
            Check::MutualToOpen,
            format!(
                "port {port} of {name} takes plaintext ({open}); callers with a sidecar use mutual TLS there all the same ({rule})"
            ),
            format!("if nobody else calls {host}:{service_port}, the exception can go"),
        ),
        (Transport::MutualTls { .. }, PortMode::Strict { .. })
        | (Transport::Plaintext { .. } | Transport::Tls(_), PortMode::Plaintext { .. }) => return None,
    };
    let place = place(scene, rule, service_port);
    Some(Finding { check, rule: rule.name().to_owned(), place, what, advice })
}

fn place(scene: &Scene<'_>, rule: &RuleRef, port: u16) -> Option<crate::config::Place> {
    let resource = scene.outline.find(rule)?;
    let mode = match &resource.spec {
        Spec::DestinationRule { modes, .. } => mode_place(modes, port),
        Spec::PeerAuthentication { .. }
        | Spec::ServiceEntry { .. }
        | Spec::VirtualService { .. }
        | Spec::AuthorizationPolicy { .. } => None,
    };
    Some(mode.unwrap_or(&resource.place).clone())
}
