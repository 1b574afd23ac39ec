//! What the sidecars of a bench read.

use std::net::SocketAddr;

use super::super::grid::Limits;
use super::super::recommend::destination_rule_yaml;

/// The host that the setting of this number goes by.
pub(super) fn host(index: usize) -> String {
    format!("s{index}.bench.svc.cluster.local")
}

/// Where a setting's host is, and its limits: as the rule that is recommended in the end would say them.
pub(super) fn policy(index: usize, limits: &Limits, namespace: &str, service: SocketAddr) -> String {
    let host = host(index);
    let (ip, port) = (service.ip(), service.port());
    // An address of its own, as two services at one would not be told apart; nobody sends anything there.
    let number = index + 1;
    let rule = destination_rule_yaml(limits, &host, namespace);
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: s{index}, namespace: {namespace}}}
spec:
  hosts: [{host}]
  addresses: [240.240.0.{number}]
  location: MESH_INTERNAL
  resolution: STATIC
  ports:
  - {{number: {port}, name: http, protocol: HTTP}}
  endpoints:
  - {{address: {ip}}}
---
{rule}"
    )
}

/// The bootstrap file of a sidecar that has three ports for itself.
pub(super) fn bootstrap(name: &str, authority: &str, own: &[SocketAddr], listeners: &str) -> String {
    let own: String = ["probes", "metrics", "admin"]
        .iter()
        .zip(own)
        .map(|(purpose, address)| format!("{purpose}: \"{address}\"\n"))
        .collect();
    format!(
        "workload:
  namespace: bench
  serviceAccount: {name}
  labels: {{app: {name}}}
ca:
  address: {authority}
  joinToken: {{file: join-token}}
state: state
policy: [../policy]
limits: {{connections: 100000}}
interception: none
{own}listeners:
{listeners}"
    )
}

/// A listener for the service's callers.
pub(super) fn inbound(service: SocketAddr, app: SocketAddr) -> String {
    let port = service.port();
    format!("- {{direction: inbound, bind: \"{service}\", port: {port}, app: \"{app}\"}}\n")
}

/// A listener for one destination.
pub(super) fn outbound(bind: SocketAddr, destination: &str) -> String {
    format!("- {{direction: outbound, bind: \"{bind}\", destination: \"{destination}\"}}\n")
}
