//! The files of the demonstration: the sample policy as it is, and what the sidecars need beside it.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

/// The sample policy, unchanged, as file names and texts.
pub(super) const SAMPLE: [(&str, &str); 3] = [
    (
        "namespace-mtls-policy.yaml",
        include_str!("../../../examples/policy/sample/namespace-mtls-policy.yaml"),
    ),
    ("destination-rule.yaml", include_str!("../../../examples/policy/sample/destination-rule.yaml")),
    ("virtual-service.yaml", include_str!("../../../examples/policy/sample/virtual-service.yaml")),
];

/// Says where a service is: without it no sidecar lets anything out to it.
pub(super) fn service_entry(name: &str, namespace: &str, address: Ipv4Addr) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata:
  name: {name}
  namespace: {namespace}
spec:
  hosts: [{name}.{namespace}.svc.cluster.local]
  addresses: [{address}]
  location: MESH_INTERNAL
  resolution: STATIC
  ports:
  - {{number: 8443, name: http, protocol: HTTP}}
  endpoints:
  - {{address: {address}}}
"
    )
}

/// STRICT, with one plaintext port that has a reason, an owner and a last day.
pub(super) fn planned_exception(namespace: &str, port: u16, expires: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata:
  name: default
  namespace: {namespace}
  annotations:
    portcullis.dev/exception-{port}: \"reason=reports over plain HTTP until they move; owner=team-batch; expires={expires}\"
spec:
  mtls:
    mode: STRICT
  portLevelMtls:
    {port}:
      mode: DISABLE
"
    )
}

/// One caller may read one path of a service, and nobody anything else.
pub(super) fn one_path_allowed(app: &str, namespace: &str, caller: &str, path: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: readers
  namespace: {namespace}
spec:
  selector:
    matchLabels: {{app: {app}}}
  action: ALLOW
  rules:
  - from:
    - source: {{principals: [cluster.local/ns/{namespace}/sa/{caller}]}}
    to:
    - operation: {{methods: [GET], paths: [{path}]}}
"
    )
}

/// The bootstrap file of a sidecar.
pub(super) struct Bootstrap<'a> {
    pub namespace: &'a str,
    pub service_account: &'a str,
    /// `host:port`.
    pub authority: String,
    pub listeners: Option<Listeners>,
}

/// Explicit listeners in place of interception, and an address of its own for everything else.
pub(super) struct Listeners {
    pub address: Ipv4Addr,
    /// Where it takes connections to its own service, and where the app listens: port by port.
    pub inbound: Vec<(u16, u16)>,
    /// `host:port` that callers reach at the same port of `address`.
    pub outbound: Option<String>,
}

impl Bootstrap<'_> {
    pub(super) fn text(&self) -> String {
        let Self { namespace, service_account, authority, listeners } = self;
        let mut text = format!(
            "workload:
  namespace: {namespace}
  serviceAccount: {service_account}
  labels: {{app: {service_account}, version: v1}}
ca:
  address: {authority}
  joinToken: {{file: join-token}}
state: state
policy: [../policy]
"
        );
        if let Some(listeners) = listeners {
            // Writing to a String cannot fail.
            let _ = listeners.write(&mut text);
        }
        text
    }
}

impl Listeners {
    fn write(&self, text: &mut String) -> std::fmt::Result {
        let Self { address, inbound, outbound } = self;
        writeln!(text, "interception: none\nlisteners:")?;
        for (port, app) in inbound {
            writeln!(
                text,
                "- {{direction: inbound, bind: \"{address}:{port}\", port: {port}, app: \"{address}:{app}\"}}"
            )?;
        }
        if let Some(destination) = outbound {
            let bind = format!("{address}:8443");
            writeln!(text, "- {{direction: outbound, bind: \"{bind}\", destination: \"{destination}\"}}")?;
        }
        writeln!(text, "probes: {address}:15021\nmetrics: {address}:15090\nadmin: {address}:15000")
    }
}
