//! All AuthorizationPolicies of one workload, and their order: DENY, then ALLOW; AUDIT beside them.

use super::policy::{Action, AuthorizationPolicy, AuthorizationRule, Facts, Readings, Truth};
use super::{RuleRef, Verdict};

/// Most ALLOW policies that a refusal names.
const NAMED: usize = 4;
/// Most AUDIT rules that one permit records.
const RECORDED: usize = 16;

/// The AuthorizationPolicies that hold for one workload.
#[derive(Debug, Clone)]
pub struct Authorization {
    policies: Vec<AuthorizationPolicy>,
    /// What a refusal cites when there are ALLOW policies and none is met; `None`: there are none.
    allow: Option<RuleRef>,
    looks_at_headers: bool,
    looks_at_paths: bool,
}

impl Default for Authorization {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

/// What the rules of one kind say together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Strongest<'a> {
    pub(super) truth: Truth,
    /// The first rule of which that is so; `None` when it is so for want of policies.
    pub(super) rule: Option<&'a RuleRef>,
}

/// What DENY and ALLOW policies say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weighed<'a> {
    pub(super) deny: Strongest<'a>,
    pub(super) allow: Strongest<'a>,
}

impl Weighed<'_> {
    pub(super) fn verdict(&self) -> Verdict {
        match (self.deny.truth, self.allow.truth) {
            (Truth::Yes, _) | (_, Truth::No) => Verdict::Denied,
            (Truth::No, Truth::Yes) => Verdict::Permitted,
            (Truth::Unknown, Truth::Unknown | Truth::Yes) | (Truth::No, Truth::Unknown) => {
                Verdict::DependsOnRequest
            }
        }
    }
}

impl Authorization {
    /// All of `policies`.
    #[must_use]
    pub fn new(policies: Vec<AuthorizationPolicy>) -> Self {
        let allow = policies.iter().filter(|policy| policy.action == Action::Allow);
        let names: Vec<&str> = allow.map(|policy| policy.rule.name()).collect();
        let allow = (!names.is_empty()).then(|| RuleRef::stated(&no_match(&names)));
        let any =
            |asks: fn(&AuthorizationRule) -> bool| policies.iter().flat_map(|policy| &policy.rules).any(asks);
        let looks_at_headers = any(AuthorizationRule::looks_at_headers);
        let looks_at_paths = any(AuthorizationRule::looks_at_paths);
        Self { policies, allow, looks_at_headers, looks_at_paths }
    }

    /// The policies, in the order of the files.
    #[must_use]
    pub fn policies(&self) -> &[AuthorizationPolicy] {
        &self.policies
    }

    /// Whether an ALLOW policy holds, so that what none of them allows is refused.
    #[must_use]
    pub fn is_allow_list(&self) -> bool {
        self.allow.is_some()
    }

    pub(super) fn looks_at_headers(&self) -> bool {
        self.looks_at_headers
    }

    pub(super) fn looks_at_paths(&self) -> bool {
        self.looks_at_paths
    }

    /// What a refusal cites when no ALLOW policy is met.
    pub(super) fn nothing_allows(&self) -> Option<&RuleRef> {
        self.allow.as_ref()
    }

    fn rules(&self, action: Action) -> impl Iterator<Item = &AuthorizationRule> {
        self.policies.iter().filter(move |policy| policy.action == action).flat_map(|policy| &policy.rules)
    }

    fn strongest(&self, action: Action, facts: Facts<'_>) -> Strongest<'_> {
        let facts = Facts { readings: readings(action), ..facts };
        let mut strongest = Strongest { truth: Truth::No, rule: None };
        for rule in self.rules(action) {
            let truth = rule.truth(&facts);
            if truth > strongest.truth {
                strongest = Strongest { truth, rule: Some(&rule.rule) };
            }
            if truth == Truth::Yes {
                break;
            }
        }
        strongest
    }

    pub(super) fn weigh(&self, facts: Facts<'_>) -> Weighed<'_> {
        let deny = self.strongest(Action::Deny, facts);
        let allow = if self.is_allow_list() {
            self.strongest(Action::Allow, facts)
        } else {
            Strongest { truth: Truth::Yes, rule: None }
        };
        Weighed { deny, allow }
    }

    /// The first rule that asks about paths and that the connection leaves open. `facts` are those of a connection.
    pub(super) fn asks_about_path(&self, facts: Facts<'_>) -> Option<&RuleRef> {
        [Action::Deny, Action::Allow].into_iter().find_map(|action| {
            let facts = Facts { readings: readings(action), ..facts };
            let mut rules = self.rules(action).filter(|rule| rule.looks_at_paths());
            rules.find(|rule| rule.truth(&facts) == Truth::Unknown).map(|rule| &rule.rule)
        })
    }

    /// The AUDIT rules that are met, and those of which it cannot be told when `in_doubt`.
    pub(super) fn audits(&self, facts: Facts<'_>, in_doubt: bool) -> Vec<RuleRef> {
        let facts = Facts { readings: readings(Action::Audit), ..facts };
        let least = if in_doubt { Truth::Unknown } else { Truth::Yes };
        let met = self.rules(Action::Audit).filter(|rule| rule.truth(&facts) >= least);
        met.take(RECORDED).map(|rule| rule.rule.clone()).collect()
    }
}

fn readings(action: Action) -> Readings {
    match action {
        Action::Allow => Readings::Every,
        Action::Deny | Action::Audit => Readings::Any,
    }
}

fn no_match(names: &[&str]) -> String {
    let shown: Vec<&str> = names.iter().take(NAMED).copied().collect();
    let more = match names.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("no ALLOW policy matches: {}{more}", shown.join(", "))
}
