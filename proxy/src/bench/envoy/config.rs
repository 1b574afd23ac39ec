//! What the Envoys read (envoy.config.bootstrap.v3), as JSON.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::super::grid::Limits;

const TYPES: &str = "type.googleapis.com/envoy.extensions";

/// Where the certificates are.
#[derive(Debug, Clone)]
pub(super) struct Pki {
    pub(super) dir: PathBuf,
}

/// Whose certificate is shown, and whose is expected.
pub(super) struct Peer {
    pub(super) pki: Pki,
    /// Name of the files.
    pub(super) own: String,
    /// SPIFFE ID.
    pub(super) other: &'static str,
}

impl Peer {
    /// TLS 1.3 with the own certificate, and nobody but the other.
    fn common(&self) -> Value {
        let file = |name: String| json!({"filename": self.pki.dir.join(name)});
        let own = &self.own;
        json!({
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
            "tls_certificates": [{
                "certificate_chain": file(format!("{own}.pem")),
                "private_key": file(format!("{own}.key")),
            }],
            "validation_context": {
                "trusted_ca": file("ca.pem".to_owned()),
                "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": self.other}}],
            },
        })
    }
}

/// In front of the upstream: one listener, mutual TLS, no limits.
pub(super) fn server(admin: SocketAddr, bind: SocketAddr, upstream: SocketAddr, peer: &Peer) -> Value {
    let none = Limits { max_connections: None, max_pending: None, max_requests: None };
    let mut listener = listener(bind, "app");
    let tls = json!({
        "name": "tls",
        "typed_config": {
            "@type": format!("{TYPES}.transport_sockets.tls.v3.DownstreamTlsContext"),
            "common_tls_context": peer.common(),
            "require_client_certificate": true,
            "disable_stateless_session_resumption": true,
            "disable_stateful_session_resumption": true,
        },
    });
    if let Some(chain) = listener.pointer_mut("/filter_chains/0/transport_socket") {
        *chain = tls;
    }
    bootstrap(admin, vec![listener], vec![cluster("app", upstream, &none, Value::Null)])
}

/// In front of the load: a listener and a cluster for each setting.
pub(super) fn client(
    admin: &SocketAddr,
    places: &[(Limits, (SocketAddr, String))],
    server: SocketAddr,
    peer: &Peer,
) -> Value {
    let tls = json!({
        "name": "tls",
        "typed_config": {
            "@type": format!("{TYPES}.transport_sockets.tls.v3.UpstreamTlsContext"),
            "common_tls_context": peer.common(),
            "sni": "server.bench.svc.cluster.local",
            "max_session_keys": 0,
        },
    });
    let listeners = places.iter().map(|(_, (bind, name))| listener(*bind, name)).collect();
    let clusters = places.iter().map(|(limits, (_, name))| cluster(name, server, limits, tls.clone()));
    bootstrap(*admin, listeners, clusters.collect())
}

fn bootstrap(admin: SocketAddr, listeners: Vec<Value>, clusters: Vec<Value>) -> Value {
    json!({
        "admin": {"address": address(admin)},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    })
}

fn address(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

fn listener(bind: SocketAddr, cluster: &str) -> Value {
    json!({
        "name": cluster,
        "address": address(bind),
        "filter_chains": [{
            "transport_socket": null,
            "filters": [{
                "name": "http",
                "typed_config": {
                    "@type": format!("{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
                    "stat_prefix": cluster,
                    "generate_request_id": false,
                    "route_config": {"virtual_hosts": [{
                        "name": "all",
                        "domains": ["*"],
                        "routes": [{"match": {"prefix": "/"}, "route": {"cluster": cluster, "timeout": "15s"}}],
                    }]},
                    "http_filters": [{
                        "name": "router",
                        "typed_config": {"@type": format!("{TYPES}.filters.http.router.v3.Router")},
                    }],
                },
            }],
        }],
    })
}

fn cluster(name: &str, endpoint: SocketAddr, limits: &Limits, tls: Value) -> Value {
    let limit = |limit: Option<u32>| limit.unwrap_or(u32::MAX);
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(endpoint)}}]}],
        },
        "circuit_breakers": {"thresholds": [{
            "max_connections": limit(limits.max_connections),
            "max_pending_requests": limit(limits.max_pending),
            "max_requests": limit(limits.max_requests),
        }]},
        "transport_socket": tls,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_not_set_is_not_envoys_default_either() {
        let limits = Limits { max_connections: Some(3), max_pending: None, max_requests: Some(7) };
        let cluster = cluster("s0", ([127, 0, 0, 1], 1).into(), &limits, Value::Null);
        let set = json!({"max_connections": 3, "max_pending_requests": 4_294_967_295_u32, "max_requests": 7});
        assert_eq!(cluster["circuit_breakers"]["thresholds"], json!([set]));
    }
}
