//! `endpoints` of a ServiceEntry.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::ports::ServicePort;
use crate::config::decode::{Entry, Node};
use crate::config::report::{Faults, quoted};
use crate::config::values::{dns_name, host, ip_address, labels};
use crate::route::{Endpoint, EndpointAddr, Resolution};

const REFUSED: [(&str, &str); 2] = [
    ("locality", "endpoints have no locality here; divide traffic by weight"),
    ("network", "no gateway between networks is known; write an address that can be reached"),
];
/// Istio's weights are unsigned.
const MAX_WEIGHT: u64 = 4_294_967_295;

pub(super) struct EndpointSpec {
    address: Address,
    /// By the name of the service's port.
    ports: BTreeMap<String, u16>,
    labels: BTreeMap<String, String>,
    weight: u32,
    /// Of the entry's namespace.
    pub(super) service_account: Option<String>,
}

enum Address {
    Ip(IpAddr),
    Name(Arc<str>),
}

impl EndpointSpec {
    /// The endpoint's server for a port of the service.
    pub(super) fn at(&self, port: &ServicePort) -> Endpoint {
        let target = self.ports.get(&port.name).copied().unwrap_or(port.target);
        let addr = match &self.address {
            Address::Ip(ip) => EndpointAddr::Socket(SocketAddr::new(*ip, target)),
            Address::Name(name) => EndpointAddr::Name(Arc::clone(name), target),
        };
        Endpoint { addr, labels: self.labels.clone(), weight: self.weight }
    }
}

pub(super) fn read(
    node: &Node<'_>,
    ports: &[ServicePort],
    resolution: Option<Resolution>,
    faults: &mut Faults,
) -> Vec<EndpointSpec> {
    let endpoints = node.list(faults, |node, faults| read_endpoint(node, ports, resolution, faults));
    let named = endpoints.iter().filter(|endpoint| endpoint.service_account.is_some()).count();
    if named != 0 && named != endpoints.len() {
        node.fault(
            faults,
            "some endpoints name a serviceAccount and others do not: name one for each, or write subjectAltNames",
        );
    }
    endpoints
}

fn read_endpoint(
    node: &Node<'_>,
    service_ports: &[ServicePort],
    resolution: Option<Resolution>,
    faults: &mut Faults,
) -> Option<EndpointSpec> {
    let mut fields = node.fields(faults)?;
    let address = fields
        .require("address", faults)
        .and_then(|node| node.parsed(faults, |text| address(text, resolution)));
    let mut ports = BTreeMap::new();
    for Entry { key, place, value } in
        fields.take("ports").map(|node| node.entries(faults)).unwrap_or_default()
    {
        if !service_ports.iter().any(|port| port.name == key) {
            faults.add(place, format!("the service has no port named {}", quoted(key)));
        }
        if let Some(number) = value.port(faults) {
            ports.insert(key.to_owned(), number);
        }
    }
    let labels = fields.take("labels").map(|node| labels(&node, faults)).unwrap_or_default();
    // 0 and nothing are the same in Istio: the weight that all have who say nothing.
    let weight = fields.take("weight").and_then(|node| node.integer(faults, 0..=MAX_WEIGHT));
    let weight = weight.filter(|weight| *weight > 0).unwrap_or(1);
    let service_account = fields.take("serviceAccount").and_then(|node| node.parsed(faults, dns_name));
    fields.refuse(&REFUSED, faults);
    fields.finish(&[], faults);
    Some(EndpointSpec { address: address?, ports, labels, weight, service_account })
}

fn address(text: &str, resolution: Option<Resolution>) -> Result<Address, String> {
    if text.starts_with("unix:") {
        return Err("not supported: a unix socket has no peer to prove itself; write an address".to_owned());
    }
    // Without a known resolution a name is given the benefit of the doubt: its fault would be another's.
    let names = matches!(resolution, Some(Resolution::Dns) | None);
    let ip = ip_address(text);
    match ip {
        Ok(ip) => Ok(Address::Ip(ip)),
        Err(_) if names && text.parse::<IpAddr>().is_err() && !text.contains('/') => {
            host(text).map(|name| Address::Name(name.into()))
        }
        Err(message) if host(text).is_ok() => Err(format!("{message}: a name needs resolution DNS")),
        Err(message) => Err(message),
    }
}
