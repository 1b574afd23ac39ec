//! `ports` of a ServiceEntry, and the protocols that they declare.

use super::not_empty;
use crate::config::decode::Node;
use crate::config::report::{Faults, quoted};
use crate::config::values::dns_label;
use crate::route::AppProtocol;

/// One port of the service.
pub(in super::super) struct ServicePort {
    pub(in super::super) number: u16,
    pub(in super::super) protocol: AppProtocol,
    pub(super) name: String,
    /// The port of the endpoints that do not say otherwise.
    pub(in super::super) target: u16,
}

pub(super) fn read(node: &Node<'_>, faults: &mut Faults) -> Vec<ServicePort> {
    let mut ports: Vec<ServicePort> = Vec::new();
    for item in node.items(faults) {
        let Some(port) = read_port(&item, faults) else { continue };
        if ports.iter().any(|other| other.number == port.number) {
            item.fault(faults, format!("port {} appears twice", port.number));
        } else if ports.iter().any(|other| other.name == port.name) {
            item.fault(faults, format!("the port name {} appears twice", quoted(&port.name)));
        } else {
            ports.push(port);
        }
    }
    not_empty(node, "ports", faults);
    ports
}

fn read_port(node: &Node<'_>, faults: &mut Faults) -> Option<ServicePort> {
    let mut fields = node.fields(faults)?;
    let number = fields.require("number", faults).and_then(|node| node.port(faults));
    let name_node = fields.require("name", faults);
    let name = name_node.as_ref().and_then(|node| node.parsed(faults, dns_label));
    let target = fields.take("targetPort").map(|node| node.port(faults));
    let protocol = match fields.take("protocol") {
        Some(node) => node.parsed(faults, declared_protocol),
        None => name_node.filter(|_| name.is_some()).and_then(|node| node.parsed(faults, protocol_of_name)),
    };
    fields.finish(&[], faults);
    let number = number?;
    Some(ServicePort { number, name: name?, protocol: protocol?, target: target.unwrap_or(Some(number))? })
}

/// By the name's prefix, as in Istio. One that is no protocol says nothing, an unsupported one says so.
fn protocol_of_name(name: &str) -> Result<AppProtocol, String> {
    // The one protocol with a hyphen in it.
    if name == "grpc-web" || name.starts_with("grpc-web-") {
        return Ok(AppProtocol::Http2);
    }
    let prefix = name.split('-').next().unwrap_or_default();
    match protocol(&prefix.to_ascii_uppercase()) {
        Some(protocol) => protocol,
        None => Ok(AppProtocol::Undeclared),
    }
}

/// In any case of letters, as in Istio.
fn declared_protocol(text: &str) -> Result<AppProtocol, String> {
    protocol(&text.to_ascii_uppercase()).unwrap_or_else(|| {
        Err("unknown protocol; known: HTTP, HTTP2, GRPC, GRPC-WEB, HTTP_PROXY, TCP, TLS, HTTPS, MONGO, MYSQL, REDIS"
            .to_owned())
    })
}

/// `None` for a word that is no protocol of Istio's.
fn protocol(word: &str) -> Option<Result<AppProtocol, String>> {
    Some(match word {
        "HTTP" => Ok(AppProtocol::Http),
        "HTTP2" | "GRPC" | "GRPC-WEB" => Ok(AppProtocol::Http2),
        "HTTP_PROXY" => Ok(AppProtocol::HttpProxy),
        // Bytes to us, TLS of the app's own included: it travels inside ours.
        "TCP" | "TLS" | "HTTPS" | "MONGO" | "MYSQL" | "REDIS" => Ok(AppProtocol::Tcp),
        "UDP" => Err("not supported: UDP, mutual TLS needs a stream of bytes".to_owned()),
        _ => return None,
    })
}
