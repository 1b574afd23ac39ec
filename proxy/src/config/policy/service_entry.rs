//! ServiceEntry: the services that exist, their addresses, ports and endpoints.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use portcullis_identity::SpiffeId;

use super::resource::Meta;
use crate::config::decode::{Entry, Fields, Node};
use crate::config::report::{Faults, Place, quoted};
use crate::config::values::{dns_label, host, ip_address, labels};
use crate::route::{AppProtocol, Endpoint, Resolution};

const UNSUPPORTED: [&str; 2] = ["exportTo", "workloadSelector"];
const UNSUPPORTED_IN_ENDPOINT: [&str; 4] = ["locality", "network", "serviceAccount", "weight"];
const UNSUPPORTED_PROTOCOLS: [&str; 5] = ["GRPC", "GRPC-WEB", "HTTP2", "HTTP_PROXY", "UDP"];

/// One validated ServiceEntry.
pub(super) struct ServiceEntry {
    pub(super) meta: Meta,
    pub(super) hosts: Vec<(String, Place)>,
    pub(super) addresses: Vec<(IpAddr, Place)>,
    pub(super) ports: Vec<ServicePort>,
    pub(super) resolution: Resolution,
    endpoints: Vec<EndpointSpec>,
    /// `None`: not said. Empty only after a fault.
    pub(super) subject_alt_names: Option<Vec<SpiffeId>>,
}

/// One port of the service.
pub(super) struct ServicePort {
    pub(super) number: u16,
    pub(super) protocol: AppProtocol,
    name: String,
    target: u16,
}

struct EndpointSpec {
    address: IpAddr,
    /// By the name of the service's port.
    ports: BTreeMap<String, u16>,
    labels: BTreeMap<String, String>,
}

impl ServiceEntry {
    /// Where the port's servers are. With resolution NONE that is wherever the app dials.
    pub(super) fn endpoints(&self, port: &ServicePort) -> Vec<Endpoint> {
        match self.resolution {
            Resolution::Original => {
                let at = |address: IpAddr| SocketAddr::new(address, port.number);
                self.addresses
                    .iter()
                    .map(|(address, _)| Endpoint { addr: at(*address), labels: BTreeMap::new() })
                    .collect()
            }
            Resolution::Static => self
                .endpoints
                .iter()
                .map(|endpoint| {
                    let target = endpoint.ports.get(&port.name).copied().unwrap_or(port.target);
                    Endpoint {
                        addr: SocketAddr::new(endpoint.address, target),
                        labels: endpoint.labels.clone(),
                    }
                })
                .collect(),
        }
    }
}

pub(super) fn read(meta: Meta, mut spec: Fields<'_>, faults: &mut Faults) -> Option<ServiceEntry> {
    let hosts = spec.require("hosts", faults).map(|node| read_hosts(&node, faults));
    let addresses = spec
        .take("addresses")
        .map(|node| node.list(faults, |node, faults| Some((node.parsed(faults, ip_address)?, node.place()))));
    let addresses = addresses.unwrap_or_default();
    let ports = spec.require("ports", faults).map(|node| read_ports(&node, faults));
    let resolution = spec.require("resolution", faults).and_then(|node| read_resolution(&node, faults));
    if let Some(location) = spec.take("location") {
        // Either way mutual TLS is used and the identities have to be known: the word changes nothing here.
        location.word(faults, &[("MESH_EXTERNAL", ()), ("MESH_INTERNAL", ())]);
    }
    let endpoints_node = spec.take("endpoints");
    let names: Vec<&str> = ports.iter().flatten().map(|port| port.name.as_str()).collect();
    let endpoints: Vec<EndpointSpec> = endpoints_node
        .as_ref()
        .map(|node| node.list(faults, |node, faults| read_endpoint(node, &names, faults)))
        .unwrap_or_default();
    let subject_alt_names = spec.take("subjectAltNames").map(|node| read_subject_alt_names(&node, faults));
    match (resolution, &endpoints_node) {
        (Some(Resolution::Static), None) => {
            spec.node().fault(faults, "resolution STATIC needs endpoints: write endpoints: [{address: IP}]");
        }
        (Some(Resolution::Original), Some(node)) => {
            node.fault(
                faults,
                "resolution NONE dials what the app dialled: write STATIC, or remove the endpoints",
            );
        }
        (Some(Resolution::Original), None) if addresses.is_empty() => {
            spec.node()
                .fault(faults, "resolution NONE needs addresses: without one nothing leads to the service");
        }
        _ => {}
    }
    spec.finish(&UNSUPPORTED, faults);
    Some(ServiceEntry {
        meta,
        hosts: hosts?,
        addresses,
        ports: ports?,
        resolution: resolution?,
        endpoints,
        subject_alt_names,
    })
}

fn read_hosts(node: &Node<'_>, faults: &mut Faults) -> Vec<(String, Place)> {
    let full = |text: &str| match text {
        _ if text.starts_with('*') => {
            Err("not supported: a service with a wildcard host; write each host".to_owned())
        }
        _ if !text.contains('.') => {
            Err("write the full name, such as api.production.svc.cluster.local".to_owned())
        }
        _ => host(text),
    };
    let hosts = node.list(faults, |node, faults| Some((node.parsed(faults, full)?, node.place())));
    not_empty(node, "hosts", faults);
    hosts
}

/// A fault for a list with nothing in it.
fn not_empty(node: &Node<'_>, what: &str, faults: &mut Faults) {
    if node.is_empty_list() {
        node.fault(faults, format!("{what} must not be empty"));
    }
}

fn read_ports(node: &Node<'_>, faults: &mut Faults) -> Vec<ServicePort> {
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
    let prefix = name.split('-').next().unwrap_or_default().to_ascii_uppercase();
    match declared_protocol(&prefix) {
        Err(_) if !UNSUPPORTED_PROTOCOLS.contains(&prefix.as_str()) => Ok(AppProtocol::Undeclared),
        declared => declared,
    }
}

fn declared_protocol(text: &str) -> Result<AppProtocol, String> {
    match text {
        "HTTP" => Ok(AppProtocol::Http),
        // Bytes to us, TLS of the app's own included: it travels inside ours.
        "TCP" | "TLS" | "HTTPS" | "MONGO" | "MYSQL" | "REDIS" => Ok(AppProtocol::Tcp),
        _ if UNSUPPORTED_PROTOCOLS.contains(&text) => {
            Err("not supported: this protocol; TCP carries any stream of bytes, HTTP means HTTP/1.1"
                .to_owned())
        }
        _ => Err("unknown protocol; known: HTTP, TCP, TLS, HTTPS, MONGO, MYSQL, REDIS".to_owned()),
    }
}

fn read_resolution(node: &Node<'_>, faults: &mut Faults) -> Option<Resolution> {
    let text = node.text(faults)?;
    match text {
        "STATIC" => return Some(Resolution::Static),
        "NONE" => return Some(Resolution::Original),
        "DNS" | "DNS_ROUND_ROBIN" | "DYNAMIC_DNS" => {
            node.fault(
                faults,
                format!(
                    "not supported: resolution {text}, names are not resolved yet; write STATIC and addresses"
                ),
            );
        }
        other => node.fault(faults, format!("{} is not known: write STATIC or NONE", quoted(other))),
    }
    None
}

fn read_endpoint(node: &Node<'_>, port_names: &[&str], faults: &mut Faults) -> Option<EndpointSpec> {
    let mut fields = node.fields(faults)?;
    let address = fields.require("address", faults).and_then(|node| node.parsed(faults, ip_address));
    let mut ports = BTreeMap::new();
    for Entry { key, place, value } in
        fields.take("ports").map(|node| node.entries(faults)).unwrap_or_default()
    {
        if !port_names.contains(&key) {
            faults.add(place, format!("the service has no port named {}", quoted(key)));
        }
        if let Some(number) = value.port(faults) {
            ports.insert(key.to_owned(), number);
        }
    }
    let labels = fields.take("labels").map(|node| labels(&node, faults)).unwrap_or_default();
    fields.finish(&UNSUPPORTED_IN_ENDPOINT, faults);
    Some(EndpointSpec { address: address?, ports, labels })
}

/// The SPIFFE IDs that a server may have. An empty list is a fault: it never means any.
pub(super) fn read_subject_alt_names(node: &Node<'_>, faults: &mut Faults) -> Vec<SpiffeId> {
    let identity = |text: &str| {
        let id = SpiffeId::parse(text).map_err(|defect| defect.to_string())?;
        if id.path().is_empty() { Err("the SPIFFE ID has no path".to_owned()) } else { Ok(id) }
    };
    if node.is_empty_list() {
        node.fault(faults, "an empty list never means any: write a SPIFFE ID, or remove the field");
    }
    node.list(faults, |node, faults| node.parsed(faults, identity))
}
