//! What to do about each reason to refuse.

/// Metric labels of refusals, and what to do about them.
const ADVICE: &[(&[&str], &str)] = &[
    (
        &["plaintext"],
        "the peer has no sidecar, or goes around it: put one beside it. If it cannot have one yet, open the port \
         with portLevelMtls DISABLE and a plan in the annotation portcullis.dev/exception-PORT",
    ),
    (&["no_client_certificate"], "the peer speaks TLS without an identity: put a sidecar beside it"),
    (
        &["not_mutual"],
        "the server asks for no certificate, so it is no sidecar: put one beside it, or write a DestinationRule \
         with tls mode SIMPLE if it is outside of the mesh",
    ),
    (
        &["trust_domain", "wrong_trust_domain"],
        "the other side is of another trust domain: it needs an identity of this one",
    ),
    (
        &["unexpected_peer"],
        "the server is another service: correct the endpoints of the ServiceEntry, or name the identity under \
         subjectAltNames if it may answer",
    ),
    (
        &["uncertified", "own_certificate_expired"],
        "this sidecar has no valid certificate: look at `portcullis status`, and at the authority",
    ),
    (&["expired"], "the other side's certificate is out of its time: look at its sidecar and its clock"),
    (
        &["wrong_root", "untrusted_issuer", "bad_issuer", "not_an_svid", "too_many_certificates"],
        "the other side's certificate is not of our authority, or breaks its rules: if it should be in the mesh, \
         give it a sidecar with a join token; if not, ask who it is",
    ),
    (
        &["denied_by_policy"],
        "a DENY rule is met: if the request is a good one, change the AuthorizationPolicy that is named",
    ),
    (
        &["not_allowed"],
        "no ALLOW rule is met: if the caller should be let in, name it in an AuthorizationPolicy that is for this port",
    ),
    (
        &["needs_http"],
        "the AuthorizationPolicy asks for something of a request, and the caller speaks no HTTP: write a rule without \
         hosts, methods, paths and headers for this port, or correct the caller",
    ),
    (
        &["ambiguous_path"],
        "the path can be read in two ways, and a rule asks for a path: correct the client, which should send it plain",
    ),
    (
        &["revoked"],
        "a new policy no longer permits what was under way: nothing, if that is what the change was for",
    ),
    (
        &["wrong_protocol"],
        "the port is declared to carry another protocol than the peer speaks: correct the ServiceEntry, or the peer",
    ),
    (&["bad_signature"], "the other side does not hold the key of what it shows: treat it as an attack"),
    (
        &["handshake_timeout", "closed", "io"],
        "the handshake did not end: look at the other side's log, it may have refused our certificate",
    ),
    (&["refused_by_peer"], "the other side refused us: its log says why"),
    (
        &["tls_version", "no_common_alpn", "incompatible", "protocol"],
        "the other side speaks TLS that is not allowed here: it should be a sidecar, not an app or a browser",
    ),
    (
        &["not_redirected", "own_address"],
        "somebody connects to the sidecar's own port: connect to the app's port instead",
    ),
    (&["unknown_address", "unknown_host"], "no policy declares the destination: write a ServiceEntry for it"),
    (&["no_route"], "no rule of the VirtualService is met by this workload or request: add one that is"),
    (&["no_plan"], "plaintext to this destination needs a plan: write the annotation, or use mutual TLS"),
    (
        &["exception_over"],
        "the plan of the plaintext exception is over: write subjectAltNames for mutual TLS, or a new plan",
    ),
    (
        &["maxConnections", "http1MaxPendingRequests", "http2MaxRequests"],
        "the limit of the DestinationRule is reached: raise it, or find out who keeps the connections busy",
    ),
    (
        &["queueTimeout"],
        "a request waited for a connection for as long as it may: raise maxConnections, find out who keeps the \
         connections busy, or allow more with the annotation portcullis.dev/queue-timeout",
    ),
    (&["no_endpoints"], "the ServiceEntry names no server: add endpoints"),
    (
        &["upstream_unreachable"],
        "no server takes the connection: see that it runs, and that its address is right",
    ),
    (
        &["upstream_broken"],
        "the connection broke under a request: look at the log of the service and its sidecar",
    ),
    (
        &["upstream_expired"],
        "a certificate or exception ended under a request: nothing, unless it happens often",
    ),
    (
        &["timeout"],
        "the service took longer than the VirtualService allows: raise timeout or perTryTimeout, or find out why it is \
         slow",
    ),
    (
        &["not_resolved"],
        "no address is known for the service's name: look at the ServiceEntry, and at what the DNS server says",
    ),
    (&["no_upgrade"], "an upgrade such as WebSocket needs HTTP/1.1: declare the service's port HTTP"),
    (&["upstream_upgrade"], "the service changed the protocol unasked: correct the service"),
    (
        &["not_rewritable"],
        "the rewrite of the route makes no path of this request: correct the VirtualService",
    ),
    (&["app_unreachable"], "the app does not listen there: see that it runs"),
    (
        &["undetected_protocol"],
        "nobody spoke: declare the port's protocol in the ServiceEntry (a server that speaks first needs tcp)",
    ),
    (&["bad_request"], "the request can be read in two ways, or not at all: correct the client"),
];

/// What to do about refusals whose metric label is `reason`.
pub(super) fn advice(direction: &str, reason: &str) -> &'static str {
    match (direction, reason) {
        ("inbound", "not_tls") => return "the peer does not speak TLS: see that it has a sidecar",
        (_, "not_tls") => {
            return "the service has no sidecar there, or its port is open to plaintext: put one beside it";
        }
        _ => {}
    }
    let found = ADVICE.iter().find(|(reasons, _)| reasons.contains(&reason));
    found.map_or("the text says what was missing, and the rule where to change it", |(_, advice)| advice)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn each_reason_has_one_advice() {
        let mut reasons: Vec<_> = ADVICE.iter().flat_map(|(reasons, _)| *reasons).collect();
        let count = reasons.len();
        reasons.sort();
        reasons.dedup();
        assert_eq!(reasons.len(), count);
        assert!(advice("inbound", "plaintext").contains("portLevelMtls"));
        assert_ne!(advice("inbound", "not_tls"), advice("outbound", "not_tls"));
        assert!(advice("inbound", "of another version").contains("the rule"));
    }

    /// Texts in quotes of every method `label` below `directory`: what the label of a refusal may be.
    fn labels(directory: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                labels(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let source = fs::read_to_string(&path).unwrap();
                for after in source.split(concat!("fn label", "(&self)")).skip(1) {
                    let body = after.split("\n    }\n").next().unwrap();
                    found.extend(body.split('"').skip(1).step_by(2).map(str::to_owned));
                }
            }
        }
    }

    #[test]
    fn every_reason_there_is_has_advice_and_none_is_left_over() {
        let mut there = BTreeSet::new();
        let proxy = Path::new(env!("CARGO_MANIFEST_DIR"));
        for sources in ["src", "../identity/src"] {
            labels(&proxy.join(sources), &mut there);
        }
        assert!(there.len() > 40 && there.contains("untrusted_issuer"), "{there:?}");
        // Refusals of a limit are named by its field.
        there.extend(["maxConnections", "http1MaxPendingRequests", "http2MaxRequests"].map(str::to_owned));
        let mut known: BTreeSet<_> = ADVICE.iter().flat_map(|(reasons, _)| *reasons).copied().collect();
        known.insert("not_tls");
        let there: BTreeSet<_> = there.iter().map(String::as_str).collect();
        assert_eq!(there, known);
    }
}
