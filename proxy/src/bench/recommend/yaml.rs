//! A setting as a policy.

use std::fmt::Write as _;

use super::super::grid::Limits;
use super::fields;

/// The host of a rule for which none was given.
pub const EXAMPLE_HOST: &str = "api-service.production.svc.cluster.local";

/// The namespace in a service's full name, or else `default`.
#[must_use]
pub fn namespace_of(host: &str) -> &str {
    host.split('.').nth(1).filter(|label| !label.is_empty()).unwrap_or("default")
}

/// The DestinationRule that sets `limits` for `host`, as a YAML document that Portcullis and Istio load. Limits that
/// are not set are left out.
#[must_use]
pub fn destination_rule_yaml(limits: &Limits, host: &str, namespace: &str) -> String {
    let [connections, pending, requests] =
        fields(limits).map(|(name, value)| value.map(|value| format!("        {name}: {value}\n")));
    let mut pool = String::new();
    for (section, lines) in [("tcp", [connections, None]), ("http", [pending, requests])] {
        let lines: String = lines.into_iter().flatten().collect();
        if !lines.is_empty() {
            let _ = write!(pool, "      {section}:\n{lines}");
        }
    }
    let mut yaml = format!(
        "# Limits measured by `portcullis bench pool`, version {}.\n\
         apiVersion: networking.istio.io/v1\n\
         kind: DestinationRule\n\
         metadata:\n  name: {}\n  namespace: {}\n\
         spec:\n  host: {}\n",
        env!("CARGO_PKG_VERSION"),
        quoted(&name(host)),
        quoted(namespace),
        quoted(host),
    );
    if !pool.is_empty() {
        let _ = write!(yaml, "  trafficPolicy:\n    connectionPool:\n{pool}");
    }
    yaml
}

/// Plain where YAML reads it as the same text, else double-quoted: every JSON string is a YAML one.
fn quoted(text: &str) -> String {
    let plain = text.starts_with(|letter: char| letter.is_ascii_lowercase())
        && text
            .chars()
            .all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || ".-".contains(letter))
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&text);
    if plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

/// `api.shop.svc.cluster.local` as `api-pool`: a name that Kubernetes takes.
fn name(host: &str) -> String {
    let label = host.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let letters: String =
        label.chars().filter(|letter| letter.is_ascii_alphanumeric() || *letter == '-').take(50).collect();
    match letters.trim_matches('-') {
        "" => "pool".to_owned(),
        letters => format!("{letters}-pool"),
    }
}
