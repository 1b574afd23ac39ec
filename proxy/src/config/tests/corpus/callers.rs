//! What the own ports say to callers.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use portcullis_identity::{SpiffeId, TrustDomain};
use rustls_pki_types::ServerName;

use super::{now, options};
use crate::addr::ClientAddr;
use crate::authz::{Admitted, Caller, ConnectionFacts, Denial, Permit, PortMode, admit};
use crate::config::Policy;
use crate::tls::testing::Mesh;
use crate::tls::{ExpectedPeer, VerifiedPeer, originate, terminate};

/// Where calls arrive when nothing else is said.
const PORT: &str = "8080";
const CLIENT: &str = "10.9.0.1";

pub(super) fn mode(policy: &Policy, port: u16) -> String {
    match policy.inbound.mode(port, now()) {
        PortMode::Strict { rule } => format!("STRICT by {rule}"),
        PortMode::Plaintext { rule, .. } => format!("PLAINTEXT by {rule}"),
    }
}

/// `FROM METHOD PATH OPTION ...`
pub(super) fn call(policy: &Policy, text: &str) -> String {
    let mut words = text.split_whitespace();
    let (from, method, path) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
    let (options, headers) = options(words);
    let host = options.get("host").map_or("api.default.svc.cluster.local", String::as_str);
    let mut request = http::Request::builder().method(method).uri(path).header("host", host);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let (head, ()) = request.body(()).unwrap().into_parts();
    told(admitted(policy, from, &options).and_then(|admitted| admitted.request(&policy.inbound, &head)))
}

/// `FROM OPTION ...`
pub(super) fn stream(policy: &Policy, text: &str) -> String {
    let mut words = text.split_whitespace();
    let from = words.next().unwrap();
    let (options, _) = options(words);
    told(admitted(policy, from, &options).and_then(|admitted| admitted.stream(&policy.inbound)))
}

fn told(decision: Result<Permit, Denial>) -> String {
    match decision {
        Ok(permit) => format!("allow by {}", permit.rule()),
        Err(denial) => format!("deny by {}: {denial}", denial.rule()),
    }
}

fn admitted(
    policy: &Policy,
    from: &str,
    options: &std::collections::BTreeMap<String, String>,
) -> Result<Admitted, Denial> {
    let option = |name: &str, other: &'static str| options.get(name).map_or(other, String::as_str);
    let port: u16 = option("port", PORT).parse().unwrap();
    let facts = ConnectionFacts {
        client: ClientAddr::new((option("ip", CLIENT).parse::<std::net::IpAddr>().unwrap(), 40_000).into()),
        destination: (option("to", "10.9.0.2").parse::<std::net::IpAddr>().unwrap(), port).into(),
        port,
        sni: options.get("sni").cloned(),
    };
    let own = TrustDomain::parse("cluster.local").unwrap();
    let mode = policy.inbound.mode(port, now());
    if from == "plaintext" {
        return admit(&mode, Caller::Plaintext, facts, &own);
    }
    admit(&mode, Caller::Verified(&peer(from)), facts, &own)
}

/// A peer out of a real handshake; each is made once.
fn peer(workload: &str) -> VerifiedPeer {
    static PEERS: OnceLock<Mutex<HashMap<String, VerifiedPeer>>> = OnceLock::new();
    let mut peers = PEERS.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    peers.entry(workload.to_owned()).or_insert_with(|| shake_hands(workload)).clone()
}

fn shake_hands(workload: &str) -> VerifiedPeer {
    let (namespace, account) = workload.split_once('/').unwrap();
    let id = format!("spiffe://cluster.local/ns/{namespace}/sa/{account}");
    let mesh = Mesh::new();
    let (client, server) = (mesh.identity(&id), mesh.identity(&id));
    let (near, far) = tokio::io::duplex(64 * 1024);
    let sni = ServerName::try_from("api").unwrap();
    let expected = ExpectedPeer::one_of(vec![SpiffeId::parse(&id).unwrap()]).unwrap();
    let deadline = Duration::from_secs(20);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (terminated, originated) = tokio::join!(
            terminate(far, &server, deadline),
            originate(near, &client, &sni, &expected, &[], deadline)
        );
        originated.unwrap();
        terminated.unwrap().peer
    })
}
