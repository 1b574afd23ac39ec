//! Plaintext exceptions: the annotation with the plan, and the judgement whether an exception takes effect.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use time::Date;
use time::format_description::StaticFormatDescription;
use time::macros::format_description;

use super::ExceptionPlans;
use super::resource::Meta;
use super::warning::{Opening, Warning};
use crate::authz::{Exception, Plan};
use crate::config::decode::{Entry, Node};
use crate::config::report::{Faults, Place, quoted};
use crate::config::values::port;

pub(super) const DOMAIN: &str = "portcullis.dev/";
const PREFIX: &str = "exception-";
/// No plan, but read elsewhere.
pub(super) const QUEUE_TIMEOUT: &str = "queue-timeout";
/// Would make `sourceLabels` a boundary on the server's side.
const ENFORCE_LABELS: &str = "enforce-source-labels";
const DATE: StaticFormatDescription = format_description!("[year]-[month]-[day]");
/// Days before its end from which a plan is warned about.
const SOON: i64 = 14;
/// Bytes of a reason or owner: they go into logs and reports.
const MAX_TEXT: usize = 256;

/// A plan and where it is written. The plan is absent when it had a fault.
pub(super) struct Annotated {
    plan: Option<Plan>,
    place: Place,
}

/// The plans among the annotations. Annotations of others are theirs.
pub(super) fn read_plans(node: &Node<'_>, allowed: bool, faults: &mut Faults) -> BTreeMap<u16, Annotated> {
    let mut plans = BTreeMap::new();
    for Entry { key, place, value } in node.entries(faults) {
        let Some(name) = key.strip_prefix(DOMAIN) else { continue };
        if name == ENFORCE_LABELS {
            let message = "not supported yet: needs labels signed into certificates; remove it, and do not take \
                           sourceLabels for a boundary";
            faults.add(place, message);
            continue;
        }
        if name == QUEUE_TIMEOUT {
            continue;
        }
        let Some(number) = name.strip_prefix(PREFIX) else {
            let known = format!("{DOMAIN}{PREFIX}PORT, {DOMAIN}{QUEUE_TIMEOUT}");
            faults.add(place, format!("unknown annotation; known: {known}"));
            continue;
        };
        if !allowed {
            faults.add(place, "a resource of this kind has no plaintext exceptions: remove the annotation");
            continue;
        }
        match port(number) {
            Ok(number) => {
                let plan = value.text(faults).and_then(|text| read_plan(text, &value, faults));
                plans.insert(number, Annotated { plan, place });
            }
            Err(message) => faults.add(place, format!("{}: {message}", quoted(number))),
        }
    }
    plans
}

/// `reason=...; owner=...; expires=YYYY-MM-DD`, in any order, each once.
fn read_plan(text: &str, node: &Node<'_>, faults: &mut Faults) -> Option<Plan> {
    let mut values: BTreeMap<&str, &str> = BTreeMap::new();
    for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        let (key, value) = part.split_once('=').map_or((part, ""), |(key, value)| (key.trim(), value.trim()));
        if !matches!(key, "reason" | "owner" | "expires") {
            node.fault(
                faults,
                format!("{} is no part of a plan; parts: reason=, owner=, expires=", quoted(key)),
            );
        } else if values.insert(key, value).is_some() {
            node.fault(faults, format!("{key}= appears twice"));
        }
    }
    let mut part = |key: &str| {
        let value = values.get(key).copied().filter(|value| !value.is_empty());
        match value {
            None => node.fault(
                faults,
                format!("the plan lacks {key}=; write \"reason=...; owner=...; expires=YYYY-MM-DD\""),
            ),
            Some(value) if value.len() > MAX_TEXT => {
                node.fault(faults, format!("{key}= is longer than {MAX_TEXT} bytes"))
            }
            Some(value) if value.chars().any(char::is_control) => {
                node.fault(faults, format!("{key}= has a control character"))
            }
            Some(_) => {}
        }
        value
    };
    let (reason, owner, expires) = (part("reason"), part("owner"), part("expires"));
    let expires = expires.and_then(|text| {
        let date = Date::parse(text, DATE).ok().filter(|_| text.len() == "YYYY-MM-DD".len());
        if date.is_none() {
            node.fault(faults, format!("expires={} is not a date: write YYYY-MM-DD", quoted(text)));
        }
        date
    });
    Some(Plan { reason: reason?.to_owned(), owner: owner?.to_owned(), expires: expires? })
}

impl Meta {
    /// A plan for a port that is no exception is a mistake: perhaps the other port is open without one.
    pub(super) fn check_plans(&self, is_exception: impl Fn(u16) -> bool, faults: &mut Faults) {
        for (port, annotated) in self.plans.iter().filter(|(port, _)| !is_exception(**port)) {
            let message = format!(
                "port {port} has no plaintext exception here: remove the annotation, or correct its port"
            );
            faults.add(annotated.place.clone(), message);
        }
    }

    fn plan(&self, port: u16) -> Option<&Plan> {
        self.plans.get(&port).and_then(|annotated| annotated.plan.as_ref())
    }
}

/// Decides on exceptions, and keeps what is worth a warning.
pub(super) struct Judge<'a> {
    pub(super) plans: ExceptionPlans,
    /// Since the epoch.
    pub(super) now: Duration,
    pub(super) warnings: &'a mut Vec<Warning>,
}

impl Judge<'_> {
    /// The exception of `port` that `meta` makes; `None` when it has no plan and needs one.
    pub(super) fn judge(&mut self, meta: &Meta, port: u16, opening: Opening) -> Option<Arc<Exception>> {
        let rule = meta.rule.clone();
        let plan = meta.plan(port).cloned();
        let (warning, allowed) = match (&plan, self.plans) {
            (None, ExceptionPlans::Warn) => (Some(Warning::NoPlan { rule, opening }), true),
            (None, ExceptionPlans::Require) => (Some(Warning::PlanRequired { rule, opening }), false),
            (Some(plan), _) => {
                let plan = plan.clone();
                let warning = match plan.days_left(self.now) {
                    ..=0 => Some(Warning::PlanOver { rule, opening, plan }),
                    days_left @ 1..SOON => Some(Warning::PlanEndsSoon { rule, opening, plan, days_left }),
                    SOON.. => None,
                };
                (warning, true)
            }
        };
        // A destination and its subsets may rest on one exception.
        self.warnings.extend(warning.filter(|warning| !self.warnings.contains(warning)));
        allowed.then(|| Arc::new(Exception { port, plan }))
    }
}
