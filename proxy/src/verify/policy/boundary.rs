//! Who may come in, as far as it is written: principals nobody can have, conditions nobody can meet, and conditions
//! that look like a boundary and are none.

use std::collections::BTreeMap;

use super::{Check, Finding, Scene};
use crate::config::{Outlined, Place, SourceRule, Spec};

/// AuthorizationPolicies that cannot match, and routes by `sourceLabels`.
pub(super) fn findings(scene: &Scene<'_>) -> Vec<Finding> {
    scene.outline.resources.iter().flat_map(|resource| of(resource, scene.trust_domain.as_str())).collect()
}

pub(super) fn of(resource: &Outlined, trust_domain: &str) -> Vec<Finding> {
    match &resource.spec {
        Spec::AuthorizationPolicy { action, rules, .. } => match rules {
            // ALLOW without rules allows nobody, and is written for that.
            None if action == "ALLOW" => Vec::new(),
            None => vec![finding(
                Check::NeverMatches,
                resource,
                &resource.place,
                format!("{} has action {action} and no rules: it never matches", resource.rule),
                "write rules, or remove it; rules: [{}] matches everything",
            )],
            Some(rules) => rules.iter().flat_map(|rule| of_rule(resource, rule, trust_domain)).collect(),
        },
        Spec::VirtualService { sources, .. } => sources
            .iter()
            .map(|source| {
                finding(
                    Check::SourceLabels,
                    resource,
                    &source.place,
                    format!(
                        "the sourceLabels of {} are matched by the caller's own sidecar: they choose a route, and keep nobody out",
                        resource.rule
                    ),
                    "who may come in is for an AuthorizationPolicy to say",
                )
            })
            .collect(),
        Spec::PeerAuthentication { .. } | Spec::ServiceEntry { .. } | Spec::DestinationRule { .. } => Vec::new(),
    }
}

fn finding(check: Check, resource: &Outlined, place: &Place, what: String, advice: &str) -> Finding {
    Finding {
        check,
        rule: resource.rule.clone(),
        place: Some(place.clone()),
        what,
        advice: advice.to_owned(),
    }
}

fn of_rule(resource: &Outlined, rule: &SourceRule, trust_domain: &str) -> Vec<Finding> {
    let principals = ["principals", "notPrincipals"].into_iter();
    let principals = principals.flat_map(|field| rule.values.get(field).into_iter().flatten());
    let foreign = principals.filter_map(|(principal, place)| {
        let named = named_trust_domain(principal)?;
        (named != trust_domain).then(|| {
            let what = format!(
                "{} names the principal {principal}, which is of trust domain {named}; this one is {trust_domain}",
                resource.rule
            );
            finding(Check::ForeignPrincipal, resource, place, what, "correct it: peers of other trust domains are refused before any rule is asked")
        })
    });
    let mut findings: Vec<Finding> = foreign.collect();
    findings.extend(contradiction(&rule.values).map(|field| {
        let what = format!(
            "{}: everything in {field} is also excluded by {}: this part of the rule never matches",
            resource.rule,
            negated(field)
        );
        finding(Check::NeverMatches, resource, &rule.place, what, "remove it from one of the two lists")
    }));
    findings
}

/// `TD` of `TD/ns/NS/sa/SA`, unless it is a wildcard.
fn named_trust_domain(principal: &str) -> Option<&str> {
    let (trust_domain, _) = principal.strip_prefix("spiffe://").unwrap_or(principal).split_once('/')?;
    (!trust_domain.contains('*') && !trust_domain.is_empty()).then_some(trust_domain)
}

fn negated(field: &str) -> String {
    let mut letters = field.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    format!("not{}{}", first.into_iter().collect::<String>(), letters.as_str())
}

/// A field whose every value its negation lists too, letter by letter, or excludes by `*`.
fn contradiction(values: &BTreeMap<String, Vec<(String, Place)>>) -> Option<&str> {
    let fields = values.iter().filter(|(_, wanted)| !wanted.is_empty());
    let mut excluded = fields.filter(|(field, wanted)| {
        values.get(&negated(field)).is_some_and(|unwanted| {
            let is_out = |text: &String| unwanted.iter().any(|(out, _)| out == text || out == "*");
            wanted.iter().all(|(text, _)| is_out(text))
        })
    });
    excluded.next().map(|(field, _)| field.as_str())
}
