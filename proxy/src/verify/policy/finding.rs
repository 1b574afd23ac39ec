//! What a check has found, where, and what to do about it; and what the loader itself warns of.

use std::fmt;

use super::Scene;
use crate::authz::{Plan, RuleRef};
use crate::config::{Opening, Outline, Place, Spec, Warning};

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something is open that nobody justified, or does not work.
    Fault,
    /// Something is about to end, or has no effect.
    Warning,
    /// Good to know; nothing to change.
    Note,
}

/// What was looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    /// A plaintext exception that nobody justified.
    NoPlan,
    /// A plaintext exception without effect, since plans are required.
    PlanRequired,
    /// A client that does not use mutual TLS towards a STRICT port.
    NotMutual,
    /// A plaintext exception whose day has come.
    PlanOver,
    /// A plaintext exception that ends within two weeks.
    PlanEndsSoon,
    /// A rule for a host that no ServiceEntry declares.
    DeadRule,
    /// A subset without endpoints.
    EmptySubset,
    /// A selector that selects no declared workload.
    DeadSelector,
    /// A port that no declared workload has.
    DeadPort,
    /// A principal of another trust domain.
    ForeignPrincipal,
    /// A source, operation or policy that no request can meet.
    NeverMatches,
    /// An open port that callers with a sidecar reach by mutual TLS.
    MutualToOpen,
    /// `sourceLabels`, which the caller's sidecar matches.
    SourceLabels,
}

impl Check {
    /// Its name in JSON; one of a closed set.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::NoPlan => "no_plan",
            Self::PlanRequired => "plan_required",
            Self::NotMutual => "not_mutual_to_strict",
            Self::PlanOver => "plan_over",
            Self::PlanEndsSoon => "plan_ends_soon",
            Self::DeadRule => "dead_rule",
            Self::EmptySubset => "empty_subset",
            Self::DeadSelector => "dead_selector",
            Self::DeadPort => "dead_port",
            Self::ForeignPrincipal => "foreign_principal",
            Self::NeverMatches => "never_matches",
            Self::MutualToOpen => "mutual_to_open",
            Self::SourceLabels => "source_labels",
        }
    }

    /// How much it matters.
    #[must_use]
    pub fn severity(self) -> Severity {
        match self {
            Self::NoPlan | Self::PlanRequired | Self::NotMutual => Severity::Fault,
            Self::PlanOver
            | Self::PlanEndsSoon
            | Self::DeadRule
            | Self::EmptySubset
            | Self::DeadSelector
            | Self::DeadPort
            | Self::ForeignPrincipal
            | Self::NeverMatches => Severity::Warning,
            Self::MutualToOpen | Self::SourceLabels => Severity::Note,
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fault => "fault",
            Self::Warning => "warning",
            Self::Note => "note",
        })
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked for.
    pub check: Check,
    /// The resource, `KIND NAMESPACE/NAME`.
    pub rule: String,
    /// Where it is written, if it is.
    pub place: Option<Place>,
    /// What was found.
    pub what: String,
    /// What to do.
    pub advice: String,
}

impl Finding {
    /// How much it matters.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.check.severity()
    }
}

/// Faults first, each finding once, in the order of the files.
pub(super) fn sort(findings: &mut Vec<Finding>) {
    let key = |finding: &Finding| {
        (finding.severity(), finding.place.clone(), finding.check, finding.what.clone(), finding.rule.clone())
    };
    findings.sort_by_key(key);
    findings.dedup();
}

/// What the loader warns of, for whichever workload.
pub(super) fn of_warnings(scene: &Scene<'_>) -> Vec<Finding> {
    let warnings = scene.workloads.iter().flat_map(|workload| &workload.warnings);
    warnings.map(|warning| of_warning(warning, scene.outline)).collect()
}

fn of_warning(warning: &Warning, outline: &Outline) -> Finding {
    let (check, rule, opening, advice) = match warning {
        Warning::Unreachable { rule, .. } => {
            return Finding {
                check: Check::NeverMatches,
                rule: rule.name().to_owned(),
                place: outline.find(rule).map(|resource| resource.place.clone()),
                what: what(warning),
                advice: "put it before the rule without conditions, or remove it".to_owned(),
            };
        }
        Warning::NoPlan { rule, opening } => {
            (Check::NoPlan, rule, opening, format!("add the annotation {}", Plan::annotation(port(opening))))
        }
        Warning::PlanRequired { rule, opening } => {
            let annotation = Plan::annotation(port(opening));
            (
                Check::PlanRequired,
                rule,
                opening,
                format!("add the annotation {annotation}, or remove the exception"),
            )
        }
        Warning::PlanOver { rule, opening, .. } => {
            (Check::PlanOver, rule, opening, "remove the exception and its annotation".to_owned())
        }
        Warning::PlanEndsSoon { rule, opening, .. } => {
            let advice = "see that nothing needs it any more: the port will be STRICT by itself";
            (Check::PlanEndsSoon, rule, opening, advice.to_owned())
        }
    };
    Finding {
        check,
        rule: rule.name().to_owned(),
        place: place_of_exception(outline, rule, opening),
        what: what(warning),
        advice,
    }
}

fn what(warning: &Warning) -> String {
    match warning {
        Warning::NoPlan { rule, opening } => {
            format!("{rule} allows {opening}, and no plan says why and until when")
        }
        Warning::PlanRequired { rule, opening } => {
            format!("{rule} asks for {opening} without a plan: plans are required here, so it is refused")
        }
        Warning::Unreachable { .. } => warning.to_string(),
        Warning::PlanOver { .. } | Warning::PlanEndsSoon { .. } => {
            let text = warning.to_string();
            text.strip_suffix("; remove it").unwrap_or(&text).to_owned()
        }
    }
}

fn port(opening: &Opening) -> u16 {
    match opening {
        Opening::Inbound { port } | Opening::Outbound { port, .. } => *port,
    }
}

fn place_of_exception(outline: &Outline, rule: &RuleRef, opening: &Opening) -> Option<Place> {
    let resource = outline.find(rule)?;
    let place = match &resource.spec {
        Spec::PeerAuthentication { ports, .. } => ports.get(&port(opening)),
        Spec::DestinationRule { modes, .. } => mode_place(modes, port(opening)),
        Spec::ServiceEntry { .. } | Spec::VirtualService { .. } | Spec::AuthorizationPolicy { .. } => None,
    };
    Some(place.unwrap_or(&resource.place).clone())
}

/// The mode of the port, or else that of all ports.
pub(super) fn mode_place(modes: &[(Option<u16>, Place)], port: u16) -> Option<&Place> {
    let of = |wanted: Option<u16>| modes.iter().find(|(port, _)| *port == wanted).map(|(_, place)| place);
    of(Some(port)).or_else(|| of(None))
}
