//! The fields of the bootstrap file, one reader each.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use portcullis_identity::{TrustDomain, Workload};

use super::{Admin, Bootstrap, Ca, Direction, ExceptionPlans, Interception, JoinToken, Limits, Listener};
use crate::config::decode::{Fields, Node};
use crate::config::report::Faults;
use crate::config::values::{
    dns_label, dns_name, duration, host_and_port, labels, port as port_number, socket_address,
};
use crate::tls::MinVersion;

/// Highest `limits.connections`: file descriptors, two for each, end long before.
const MAX_CONNECTIONS: u64 = 1_000_000;
/// Longest of any deadline.
const MAX_DEADLINE: Duration = Duration::from_secs(3600);

pub(super) fn bootstrap(document: &Node<'_>, directory: &Path, faults: &mut Faults) -> Option<Bootstrap> {
    let mut fields = document.fields(faults)?;
    let trust_domain = fields.take("trustDomain");
    let trust_domain = trust_domain.map_or_else(
        || TrustDomain::parse("cluster.local").ok(),
        |node| node.parsed(faults, TrustDomain::parse),
    );
    let workload =
        fields.require("workload", faults).and_then(|node| workload(&node, trust_domain.as_ref(), faults));
    let root_namespace = fields.take("rootNamespace").map(|node| node.parsed(faults, dns_label));
    let ca = fields.require("ca", faults).and_then(|node| ca(&node, directory, faults));
    let state = fields.take("state").map(|node| path(&node, directory, faults));
    let policy = fields.take("policy");
    let policy = policy.map(|node| node.list(faults, |node, faults| path(node, directory, faults)));
    let plans = [("warn", ExceptionPlans::Warn), ("require", ExceptionPlans::Require)];
    let exception_plans = fields.take("exceptionPlans").map(|node| node.word(faults, &plans));
    let interception = fields
        .take("interception")
        .map_or(Some(Some(Interception { inbound: 15006, outbound: 15001 })), |node| {
            interception(&node, faults)
        });
    let listeners = fields.take("listeners").map(|node| listeners(&node, faults)).unwrap_or_default();
    let probes = address(&mut fields, "probes", [0, 0, 0, 0], 15021, faults);
    let metrics = address(&mut fields, "metrics", [0, 0, 0, 0], 15090, faults);
    let admin = fields.take("admin").map_or_else(
        || Some(Admin::Tcp(SocketAddr::from(([127, 0, 0, 1], 15000)))),
        |node| admin(&node, directory, faults),
    );
    let min_tls = fields.take("tls").map_or(Some(MinVersion::Tls12), |node| min_tls(&node, faults));
    let limits = fields.take("limits").map_or(Some(Limits::default()), |node| limits(&node, faults));
    fields.finish(&[], faults);
    let (workload, labels) = workload?;
    let bootstrap = Bootstrap {
        workload,
        labels,
        root_namespace: root_namespace.unwrap_or_else(|| Some("istio-system".to_owned()))?,
        ca: ca?,
        state: state.map_or(Some(None), |path| path.map(Some))?,
        policy: policy.unwrap_or_default(),
        exception_plans: exception_plans.unwrap_or(Some(ExceptionPlans::Warn))?,
        interception: interception?,
        listeners,
        probes: probes?,
        metrics: metrics?,
        admin: admin?,
        min_tls: min_tls?,
        limits: limits?,
    };
    distinct_ports(&bootstrap, document, faults);
    Some(bootstrap)
}

fn workload(
    node: &Node<'_>,
    trust_domain: Option<&TrustDomain>,
    faults: &mut Faults,
) -> Option<(Workload, BTreeMap<String, String>)> {
    let mut fields = node.fields(faults)?;
    let namespace = fields.require("namespace", faults).and_then(|node| node.parsed(faults, dns_label));
    let account = fields.require("serviceAccount", faults).and_then(|node| node.parsed(faults, dns_name));
    let labels = fields.take("labels").map(|node| labels(&node, faults)).unwrap_or_default();
    fields.finish(&[], faults);
    match Workload::new(trust_domain?, &namespace?, &account?) {
        Ok(workload) => Some((workload, labels)),
        Err(defect) => {
            node.fault(faults, format!("no SPIFFE ID can be made of this: {defect}"));
            None
        }
    }
}

fn ca(node: &Node<'_>, directory: &Path, faults: &mut Faults) -> Option<Ca> {
    let mut fields = node.fields(faults)?;
    let address = fields
        .require("address", faults)
        .and_then(|node| node.parsed(faults, |text| host_and_port(text).map(|_| text.to_owned())));
    let token = fields.take("joinToken").map(|node| join_token(&node, directory, faults));
    fields.finish(&[], faults);
    Some(Ca { address: address?, join_token: token.map_or(Some(None), |token| token.map(Some))? })
}

fn join_token(node: &Node<'_>, directory: &Path, faults: &mut Faults) -> Option<JoinToken> {
    if node.is_text() {
        // Never quoted: it may be the token itself.
        node.fault(faults, "a token does not belong in this file: write {file: PATH} or {env: NAME}");
        return None;
    }
    let mut fields = node.fields(faults)?;
    let file = fields.take("file").map(|node| path(&node, directory, faults));
    let env = fields.take("env").map(|node| node.parsed(faults, variable));
    fields.finish(&[], faults);
    match (file, env) {
        (Some(file), None) => file.map(JoinToken::File),
        (None, Some(name)) => name.map(JoinToken::Env),
        _ => {
            node.fault(faults, "write one of {file: PATH} and {env: NAME}");
            None
        }
    }
}

/// The name of an environment variable (POSIX).
fn variable(text: &str) -> Result<String, &'static str> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if !text.is_empty() && text.bytes().all(fits) && !text.starts_with(|c: char| c.is_ascii_digit()) {
        Ok(text.to_owned())
    } else {
        Err("not the name of an environment variable")
    }
}

fn path(node: &Node<'_>, directory: &Path, faults: &mut Faults) -> Option<PathBuf> {
    node.parsed(faults, |text| match text {
        _ if text.is_empty() => Err("a path must not be empty"),
        _ if text.contains('\0') => Err("a path has no NUL"),
        _ => Ok(directory.join(text)),
    })
}

fn interception(node: &Node<'_>, faults: &mut Faults) -> Option<Option<Interception>> {
    if node.is_text() {
        return node.word(faults, &[("none", None)]);
    }
    let mut fields = node.fields(faults)?;
    let inbound = fields.take("inbound").map_or(Some(15006), |node| node.port(faults));
    let outbound = fields.take("outbound").map_or(Some(15001), |node| node.port(faults));
    fields.finish(&[], faults);
    Some(Some(Interception { inbound: inbound?, outbound: outbound? }))
}

fn listeners(node: &Node<'_>, faults: &mut Faults) -> Vec<Listener> {
    let mut listeners: Vec<Listener> = Vec::new();
    for item in node.items(faults) {
        let Some(listener) = listener(&item, faults) else { continue };
        if listeners.iter().any(|other| other.bind == listener.bind) {
            item.fault(faults, format!("a second listener on {}", listener.bind));
        }
        listeners.push(listener);
    }
    listeners
}

fn listener(node: &Node<'_>, faults: &mut Faults) -> Option<Listener> {
    let mut fields = node.fields(faults)?;
    let words = [("inbound", true), ("outbound", false)];
    let inbound = fields.require("direction", faults).and_then(|node| node.word(faults, &words))?;
    let bind = fields.require("bind", faults);
    let (bind, direction) = if inbound {
        let bind = bind.and_then(|node| node.parsed(faults, socket_address));
        let port = fields.require("port", faults).and_then(|node| node.port(faults));
        let app = fields.require("app", faults).and_then(|node| node.parsed(faults, loopback));
        fields.finish(&[], faults);
        (bind, Direction::Inbound { port: port?, app: app? })
    } else {
        // Whoever reaches an outbound listener speaks with this workload's identity.
        let bind = bind.and_then(|node| node.parsed(faults, loopback));
        let destination = fields.require("destination", faults).and_then(|node| node.parsed(faults, service));
        fields.finish(&[], faults);
        let (host, port) = destination?;
        (bind, Direction::Outbound { host, port })
    };
    Some(Listener { bind: bind?, direction })
}

fn service(text: &str) -> Result<(String, u16), String> {
    let (name, number) = text.rsplit_once(':').ok_or("write HOST:PORT, as a ServiceEntry declares it")?;
    Ok((crate::config::values::host(name)?, port_number(number)?))
}

/// An address on which plaintext does not leave the machine.
fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address = socket_address(text)?;
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err("plaintext is spoken here: write a loopback address, such as 127.0.0.1:9443".to_owned())
    }
}

fn address(
    fields: &mut Fields<'_>,
    name: &'static str,
    ip: [u8; 4],
    port: u16,
    faults: &mut Faults,
) -> Option<SocketAddr> {
    let node = fields.take(name);
    node.map_or_else(|| Some(SocketAddr::from((ip, port))), |node| node.parsed(faults, socket_address))
}

fn admin(node: &Node<'_>, directory: &Path, faults: &mut Faults) -> Option<Admin> {
    node.parsed(faults, |text| match text.strip_prefix("unix:") {
        Some(path) if !path.is_empty() && !path.contains('\0') => Ok(Admin::Unix(directory.join(path))),
        Some(_) => Err("unix: needs a path".to_owned()),
        None => loopback(text).map(Admin::Tcp),
    })
}

fn min_tls(node: &Node<'_>, faults: &mut Faults) -> Option<MinVersion> {
    let mut fields = node.fields(faults)?;
    let words = [("1.2", MinVersion::Tls12), ("1.3", MinVersion::Tls13)];
    let version = fields.take("minVersion").map(|node| node.word(faults, &words));
    fields.finish(&[], faults);
    version.unwrap_or(Some(MinVersion::Tls12))
}

fn limits(node: &Node<'_>, faults: &mut Faults) -> Option<Limits> {
    let mut fields = node.fields(faults)?;
    let default = Limits::default();
    let connections = fields.take("connections");
    let connections =
        connections.map_or(Some(default.connections), |node| node.integer(faults, 1..=MAX_CONNECTIONS));
    let mut deadline = |name, default| {
        fields.take(name).map_or(Some(default), |node| node.duration(faults, bounded_duration))
    };
    let handshake_timeout = deadline("handshakeTimeout", default.handshake_timeout);
    let detection_timeout = deadline("detectionTimeout", default.detection_timeout);
    let drain_timeout = deadline("drainTimeout", default.drain_timeout);
    fields.finish(&[], faults);
    Some(Limits {
        connections: connections?,
        handshake_timeout: handshake_timeout?,
        detection_timeout: detection_timeout?,
        drain_timeout: drain_timeout?,
    })
}

fn bounded_duration(text: &str) -> Result<Duration, String> {
    let duration = duration(text)?;
    if duration.is_zero() || duration > MAX_DEADLINE {
        Err("not between 1ms and 1h".to_owned())
    } else {
        Ok(duration)
    }
}

/// Two uses of one port would only show when the second is bound.
fn distinct_ports(bootstrap: &Bootstrap, document: &Node<'_>, faults: &mut Faults) {
    let mut uses: Vec<(String, SocketAddr)> = Vec::new();
    if let Some(ports) = &bootstrap.interception {
        let addresses: [(&str, u16, [IpAddr; 2]); 2] = [
            (
                "interception.inbound",
                ports.inbound,
                [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
            ),
            (
                "interception.outbound",
                ports.outbound,
                [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
            ),
        ];
        for (name, port, ips) in addresses {
            uses.extend(ips.map(|ip| (name.to_owned(), SocketAddr::new(ip, port))));
        }
    }
    uses.push(("probes".to_owned(), bootstrap.probes));
    uses.push(("metrics".to_owned(), bootstrap.metrics));
    if let Admin::Tcp(address) = bootstrap.admin {
        uses.push(("admin".to_owned(), address));
    }
    let own = uses.len();
    let listeners = bootstrap.listeners.iter().enumerate();
    uses.extend(listeners.map(|(index, listener)| (format!("listeners[{index}].bind"), listener.bind)));
    for (index, (name, address)) in uses.iter().enumerate() {
        // Two listeners on one address have been told of where the second stands.
        let before = uses.iter().take(index.min(own));
        for (first, _) in before.filter(|(_, other)| overlap(*other, *address)) {
            let port = address.port();
            document.fault(faults, format!("port {port} is used by both {first} and {name}"));
        }
    }
}

/// IPv6 listeners take IPv6 alone, so the families never meet.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let everywhere = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && one.is_ipv4() == other.is_ipv4() && (everywhere || one.ip() == other.ip())
}
