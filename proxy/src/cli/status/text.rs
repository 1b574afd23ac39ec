//! The `status` page for people.

use std::fmt::Write as _;

use crate::cli::admin::plain;
use crate::cli::table::{Table, ago, when};
use crate::status::{
    DestinationReport, ExceptionReport, IdentityReport, InboundReport, LimitsReport, Listener, NameStatus,
    PolicyReport, PoolStatus, Refusals, Status, TransportReport,
};

/// Refusals shown; `verify failures` shows all.
const MAX_REFUSALS: usize = 10;

pub(super) fn page(status: &Status) -> String {
    let draining = if status.draining { ", draining" } else { "" };
    let mut page = format!("portcullis {} at {}{draining}\n", plain(&status.version), plain(&status.at));
    let mut section = |title: &str, text: String| {
        page += &format!("\n{title}\n");
        for line in text.lines() {
            page += &format!("  {line}\n");
        }
    };
    section("IDENTITY", identity(&status.identity));
    section("POLICY", policy(&status.policy));
    section("LISTENERS", listeners(&status.listeners));
    section("INBOUND", inbound(&status.inbound));
    section("OUTBOUND", outbound(&status.outbound));
    if !status.names.is_empty() {
        section("DNS", names(&status.names));
    }
    section("POOLS", pools(&status.pools));
    section("RECENT REFUSALS", refusals(&status.refusals));
    if status.omitted > 0 {
        section("OMITTED", format!("{} items of the lists above: they are too many", status.omitted));
    }
    page.trim_end().to_owned()
}

fn identity(identity: &IdentityReport) -> String {
    let mut table = Table::new(&[]);
    let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
    row("id", identity.id.clone());
    row("state", identity.detail.clone());
    if let Some(certificate) = &identity.certificate {
        row("certificate", format!("serial {}, generation {}", certificate.serial, certificate.generation));
        row("received", ago(certificate.age_s.max(0).unsigned_abs()));
        row("not before", certificate.not_before.clone());
        row("not after", format!("{} ({})", certificate.not_after, when(certificate.left_s)));
    }
    row(
        "next renewal",
        match (&identity.renewal, identity.renewal_in_s) {
            (Some(at), Some(seconds)) => format!("{at} ({})", when(seconds)),
            _ => "under way".to_owned(),
        },
    );
    for trust in &identity.trust {
        row("trusts", format!("{}, bundle generation {}", trust.trust_domain, trust.generation));
        for anchor in &trust.anchors {
            let short: String = anchor.fingerprint.chars().take(16).collect();
            let ends = match (&anchor.not_after, anchor.left_s) {
                (Some(at), Some(left)) => format!("until {at} ({})", when(left)),
                _ => "with an end that cannot be read".to_owned(),
            };
            row("root", format!("{short}... {ends}"));
        }
    }
    table.to_string()
}

fn policy(policy: &PolicyReport) -> String {
    let mut text = format!(
        "generation {}, loaded at {} ({})\n",
        policy.generation,
        plain(&policy.loaded_at),
        ago(policy.age_s.max(0).unsigned_abs())
    );
    match policy.sources.as_slice() {
        [] => text += "from nothing: every port is STRICT, and no destination is known\n",
        sources => sources.iter().for_each(|source| text += &format!("from {}\n", plain(source))),
    }
    if let Some(fault) = &policy.fault {
        let _ = writeln!(text, "FAULT at {}: the files are not in force as they are now", plain(&fault.at));
        fault.report.lines().for_each(|line| text += &format!("  {}\n", plain(line)));
    }
    policy.warnings.iter().for_each(|warning| text += &format!("warning: {}\n", plain(warning)));
    text
}

fn listeners(listeners: &[Listener]) -> String {
    let mut table = Table::new(&["ADDRESS", "DIRECTION", "FOR"]);
    for Listener { address, direction, purpose } in listeners {
        table.row([address.clone(), direction.clone(), purpose.clone()]);
    }
    table.to_string()
}

fn inbound(inbound: &InboundReport) -> String {
    let mut table = Table::new(&["PORT", "MODE", "PROTOCOL", "RULE", "EXCEPTION"]);
    for port in &inbound.ports {
        let exception = port.exception.as_ref().map_or_else(|| "-".to_owned(), exception);
        table.row([
            port.port.to_string(),
            port.mode.clone(),
            port.protocol.clone(),
            port.rule.clone(),
            exception,
        ]);
    }
    let others = ["others", "STRICT", "-", &inbound.default_rule, "-"];
    table.row(others.map(str::to_owned));
    let mut text = table.to_string();
    if inbound.authorization.is_empty() {
        text += "\nno AuthorizationPolicy: every proven peer of the trust domain may call\n";
        return text;
    }
    let mut table = Table::new(&["ACTION", "RULES", "AUTHORIZATION POLICY"]);
    for policy in &inbound.authorization {
        table.row([policy.action.clone(), policy.rules.to_string(), policy.rule.clone()]);
    }
    format!("{text}\n{table}")
}

fn names(names: &[NameStatus]) -> String {
    let mut table = Table::new(&["NAME", "CONFIRMED", "ADDRESSES"]);
    for NameStatus { name, addresses, age_s, failing } in names {
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let failing = if *failing { ", the last lookup failed" } else { "" };
        table.row([
            name.clone(),
            age_s.map_or_else(|| "never".to_owned(), |age| format!("{}{failing}", ago(age))),
            if addresses.is_empty() { "-".to_owned() } else { addresses.join(", ") },
        ]);
    }
    table.to_string()
}

fn exception(exception: &ExceptionReport) -> String {
    let state = if exception.open { "open" } else { "closed" };
    match (&exception.reason, &exception.owner, &exception.expires, exception.days_left) {
        (Some(reason), Some(owner), Some(expires), Some(days)) => {
            let left = if days > 0 { format!("{days} days left") } else { "over".to_owned() };
            format!("{state}, until {expires} ({left}): {reason}, owner {owner}")
        }
        _ => format!("{state}, without a plan"),
    }
}

fn outbound(destinations: &[DestinationReport]) -> String {
    if destinations.is_empty() {
        return "no destination is known\n".to_owned();
    }
    let mut text = String::new();
    for destination in destinations {
        let routes = [&destination.http_routes[..], &destination.tcp_routes].concat();
        let routes = if routes.is_empty() { "direct".to_owned() } else { routes.join("; ") };
        let _ = writeln!(text, "{} ({})", plain(&destination.destination), plain(&destination.protocol));
        let mut table = Table::new(&[]);
        for (name, value) in [
            ("transport", transport(&destination.transport)),
            ("endpoints", format!("{}, {}", destination.endpoints.join(", "), destination.balancer)),
            ("routes", routes),
            ("limits", limits(&destination.limits, destination.outlier_detection)),
            ("rule", destination.rule.clone()),
        ] {
            table.row([name.to_owned(), value]);
        }
        table.to_string().lines().for_each(|line| text += &format!("  {line}\n"));
    }
    text
}

fn transport(transport: &TransportReport) -> String {
    let mut text = transport.kind.clone();
    let parts = [("SNI", &transport.sni), ("expects", &transport.expected), ("because", &transport.reason)];
    for (name, value) in parts {
        if let Some(value) = value {
            let _ = write!(text, ", {name} {value}");
        }
    }
    if let Some(of) = &transport.exception {
        let _ = write!(text, ", exception {}", exception(of));
    }
    text
}

fn limits(limits: &LimitsReport, outliers: bool) -> String {
    let counts = [
        ("connections", limits.max_connections),
        ("pending", limits.http1_max_pending_requests),
        ("requests", limits.http2_max_requests),
        ("per connection", limits.max_requests_per_connection),
        ("retries", limits.max_retries),
        ("streams", limits.max_concurrent_streams),
    ];
    let mut parts: Vec<String> =
        counts.iter().filter_map(|(name, most)| most.map(|most| format!("{name} {most}"))).collect();
    parts.push(format!("connect {} ms", limits.connect_timeout_ms));
    parts.extend(outliers.then(|| "outliers left out".to_owned()));
    parts.join(", ")
}

fn pools(pools: &[PoolStatus]) -> String {
    if pools.is_empty() {
        return "none yet\n".to_owned();
    }
    let mut table = Table::new(&["DESTINATION", "CONNECTIONS", "IDLE", "REQUESTS", "WAITING", "LEFT OUT"]);
    for pool in pools {
        let of = |count: usize, most: Option<u32>| match most {
            Some(most) => format!("{count}/{most}"),
            None => count.to_string(),
        };
        let ejected: Vec<String> = pool.ejected.iter().map(ToString::to_string).collect();
        table.row([
            pool.destination.clone(),
            of(pool.connections, pool.max_connections),
            pool.idle.to_string(),
            of(pool.active, pool.max_requests),
            of(pool.waiting, pool.max_pending),
            if ejected.is_empty() { "-".to_owned() } else { ejected.join(",") },
        ]);
    }
    table.to_string()
}

fn refusals(refusals: &Refusals) -> String {
    if refusals.recent.is_empty() {
        return "none\n".to_owned();
    }
    let mut table = Table::new(&["LAST", "COUNT", "DIRECTION", "PEER", "PORT", "REASON", "LAST TEXT"]);
    for refusal in refusals.recent.iter().take(MAX_REFUSALS) {
        table.row([
            ago(refusal.last_ago_s),
            refusal.count.to_string(),
            refusal.direction.clone(),
            refusal.identity.as_ref().unwrap_or(&refusal.peer).clone(),
            refusal.port.map_or_else(|| "-".to_owned(), |port| port.to_string()),
            refusal.reason.clone(),
            refusal.text.clone(),
        ]);
    }
    let mut text = table.to_string();
    let beyond = refusals.recent.len().saturating_sub(MAX_REFUSALS);
    if beyond > 0 || refusals.unlisted > 0 {
        let _ = writeln!(text, "and {beyond} kinds more; `portcullis verify failures` shows them");
    }
    text
}
