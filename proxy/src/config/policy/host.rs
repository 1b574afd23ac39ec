//! Hosts as rules name them: exact, short or with a wildcard; and the namespaces that rules are for.

use std::fmt;

use crate::config::decode::Node;
use crate::config::report::Faults;
use crate::config::values::{dns_label, host};

/// What short names of services end in. Kubernetes' default, and Istio's.
const CLUSTER_DOMAIN: &str = "cluster.local";

/// A host, or a family of hosts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum HostPattern {
    /// `*`.
    Any,
    /// `*.example.com`, kept as `.example.com`.
    Suffix(String),
    /// One host.
    Exact(String),
}

impl HostPattern {
    /// Parses what a rule in `namespace` says; a name without dots is a service of that namespace.
    pub(super) fn parse(text: &str, namespace: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        match text.strip_prefix('*') {
            Some(suffix) => {
                host(suffix.strip_prefix('.').unwrap_or_default())?;
                Ok(Self::Suffix(suffix.to_owned()))
            }
            None => full_name(text, namespace).map(Self::Exact),
        }
    }

    /// How closely the pattern fits `host`, if it does: an exact one closest, then the longest suffix.
    pub(super) fn closeness(&self, host: &str) -> Option<usize> {
        match self {
            Self::Any => Some(0),
            Self::Suffix(suffix) => {
                (host.len() > suffix.len() && host.ends_with(suffix)).then_some(suffix.len())
            }
            Self::Exact(exact) => (exact == host).then_some(usize::MAX),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Suffix(suffix) => write!(f, "*{suffix}"),
            Self::Exact(exact) => f.write_str(exact),
        }
    }
}

/// The full name of a host that a rule in `namespace` names.
pub(super) fn full_name(text: &str, namespace: &str) -> Result<String, String> {
    if text.contains('.') {
        return host(text);
    }
    let name = dns_label(text)?;
    Ok(format!("{name}.{namespace}.svc.{CLUSTER_DOMAIN}"))
}

/// `NS` of `NAME.NS.svc.DOMAIN`.
#[must_use]
pub fn service_namespace(host: &str) -> Option<&str> {
    let mut labels = host.splitn(4, '.');
    let (_, namespace, svc, _) = (labels.next()?, labels.next()?, labels.next()?, labels.next()?);
    (svc == "svc").then_some(namespace)
}

/// `exportTo`: the namespaces whose workloads a resource is for.
#[derive(Debug, Clone, Default)]
pub(super) struct Exports {
    /// `None`: all of them.
    namespaces: Option<Vec<String>>,
}

impl Exports {
    pub(super) fn read(node: &Node<'_>, faults: &mut Faults) -> Self {
        let namespace = |text: &str| match text {
            "." | "*" => Ok(text.to_owned()),
            "~" => Err("not supported: an export to nobody; remove the resource".to_owned()),
            other => dns_label(other).map_err(|_| "write \"*\", \".\" or the name of a namespace".to_owned()),
        };
        // Istio takes an empty list for an absent one.
        if node.is_empty_list() {
            return Self::default();
        }
        let names = node.list(faults, |node, faults| node.parsed(faults, namespace));
        let all = names.iter().any(|name| name == "*");
        Self { namespaces: (!all).then_some(names) }
    }

    /// Whether a workload in `namespace` sees a resource of the namespace `own`.
    pub(super) fn reach(&self, namespace: &str, own: &str) -> bool {
        let named = |name: &String| name == namespace || (name == "." && own == namespace);
        self.namespaces.as_ref().is_none_or(|names| names.iter().any(named))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_belong_to_the_rules_namespace() {
        for (text, shown) in [
            ("api", "api.production.svc.cluster.local"),
            ("api.other.svc.cluster.local", "api.other.svc.cluster.local"),
            ("example.com", "example.com"),
            ("*.example.com", "*.example.com"),
            ("*", "*"),
        ] {
            assert_eq!(HostPattern::parse(text, "production").unwrap().to_string(), shown);
        }
        for text in ["", "*.", "**", "*a.b", "a.*.b", "*.*", "A", "a_b", "10.0.0.1", "a..b"] {
            assert!(HostPattern::parse(text, "production").is_err(), "{text}");
        }
    }

    #[test]
    fn the_closest_pattern_is_exact_then_the_longest_suffix() {
        let host = "api.production.svc.cluster.local";
        let closeness = |text| HostPattern::parse(text, "x").unwrap().closeness(host);
        let ordered = ["*", "*.local", "*.svc.cluster.local", "*.production.svc.cluster.local", host];
        for pair in ordered.windows(2) {
            assert!(closeness(pair[0]).unwrap() < closeness(pair[1]).unwrap(), "{pair:?}");
        }
        assert_eq!(closeness("*.other.svc.cluster.local"), None);
        assert_eq!(closeness("api"), None, "a short name is a service of the rule's own namespace");
        assert_eq!(
            HostPattern::parse("*.a.b", "x").unwrap().closeness("a.b"),
            None,
            "a wildcard is at least one label"
        );
    }

    #[test]
    fn only_a_kubernetes_name_tells_its_namespace() {
        assert_eq!(service_namespace("api.production.svc.cluster.local"), Some("production"));
        for host in ["api.production.svc", "api.production.svcx.local", "svc.example.com", "example.com"] {
            assert_eq!(service_namespace(host), None, "{host}");
        }
    }
}
