//! Which setting the page stands by, and why.

use std::fmt::Write as _;

use super::super::grid::Limits;
use super::super::recommend::{
    Goal, LittlesLaw, NoSetting, Recommendation, describe, destination_rule_yaml, fields, namespace_of,
    recommend,
};
use super::super::result::{Measured, Sweep};
use super::numbers::{escaped, number};
use super::summary::{chosen, in_words, lines};

/// What the sweep, and measuring again, say of a goal.
pub(super) struct Verdict<'a> {
    goal: &'a Goal,
    found: Result<Recommendation, NoSetting>,
    /// Settings that met the goal in the sweep, measured once more.
    again: Vec<&'a Measured>,
}

impl<'a> Verdict<'a> {
    pub(super) fn of(sweep: &Sweep, goal: &'a Goal, again: &[&'a Measured]) -> Self {
        let found = recommend(sweep, goal);
        let candidate = |measured: &&&Measured| {
            found.as_ref().is_ok_and(|found| found.candidates.contains(&measured.point.limits))
        };
        let again = again.iter().filter(candidate).copied().collect();
        Self { goal, found, again }
    }

    /// The setting to be taken: the one that held when it was measured again, or the recommended one if none was.
    pub(super) fn limits(&self) -> Option<&Limits> {
        let found = self.found.as_ref().ok()?;
        if self.again.is_empty() {
            return Some(&found.limits);
        }
        self.held().map(|measured| &measured.point.limits)
    }

    fn held(&self) -> Option<&'a Measured> {
        self.again.iter().copied().find(|measured| self.goal.is_met_by(measured))
    }
}

/// What is recommended, why, and what measuring it again showed.
pub(super) fn section(sweep: &Sweep, verdict: &Verdict<'_>, host: &str) -> String {
    let goal = escaped(&verdict.goal.to_string());
    let (class, heading, body) = match (&verdict.found, verdict.limits()) {
        (Err(none), _) => {
            ("box none", "No setting is recommended", format!("<p>{}</p>", escaped(&none.to_string())))
        }
        (Ok(found), None) => ("box none", "No setting held the goal", none_held(verdict, found)),
        (Ok(found), Some(limits)) => {
            ("box", "Recommended setting", stood_by(sweep, verdict, (found, limits), host))
        }
    };
    format!(
        "<section class=\"{class}\" id=\"recommendation\"><h2>{heading}</h2><p>Goal: {goal}</p>{body}</section>"
    )
}

fn none_held(verdict: &Verdict<'_>, found: &Recommendation) -> String {
    format!(
        "<p>In the sweep {} met the goal, but it was missed by every setting that was measured again: it is too near to what \
         this machine can do. Ask for less, or measure longer.</p>{}",
        describe(&found.limits),
        again(verdict)
    )
}

fn stood_by(
    sweep: &Sweep,
    verdict: &Verdict<'_>,
    (found, limits): (&Recommendation, &Limits),
    host: &str,
) -> String {
    let mut page = format!("<p class=\"big\">{}</p>", describe(limits));
    let law = if found.limits == *limits {
        let _ = write!(page, "<p>{}</p>", escaped(&chosen(found)));
        found.littles_law
    } else {
        let _ = write!(
            page,
            "<p>In the sweep {} met the goal too, and is tighter, but missed it when it was measured again. This is the \
             tightest that was tried after it and met the goal both times.</p>",
            describe(&found.limits)
        );
        verdict.held().and_then(|measured| LittlesLaw::of(sweep, measured))
    };
    page.push_str(&law.map(|law| littles_law(&law)).unwrap_or_default());
    page.push_str(&again(verdict));
    // Nothing to set where the limits in force are somebody else's.
    if fields(limits).iter().any(|(_, value)| value.is_some()) {
        let yaml = destination_rule_yaml(limits, host, namespace_of(host));
        let _ = write!(
            page,
            "<h3>As a policy</h3><p class=\"soft\">For {}; --yaml --yaml-host prints it for another host.</p>\
             <pre tabindex=\"0\">{}</pre>",
            escaped(host),
            escaped(&yaml)
        );
    }
    page
}

fn littles_law(law: &LittlesLaw) -> String {
    let mut page = String::from(
        "<h3>Little’s law beside the measurement</h3><div class=\"scroll\" tabindex=\"0\" role=\"region\" \
         aria-label=\"Little’s law\"><table><tbody>",
    );
    for line in lines(law) {
        let _ = write!(
            page,
            "<tr><th scope=\"row\" class=\"word\">{}</th><td class=\"word\">{}</td><td class=\"wrap\">{}</td></tr>",
            line.name,
            escaped(&line.value),
            line.meaning
        );
    }
    page.push_str("</tbody></table></div>");
    page
}

fn again(verdict: &Verdict<'_>) -> String {
    let mut page = String::from("<h3>Measured again</h3>");
    if verdict.again.is_empty() {
        page.push_str("<p>It was not measured again.</p>");
    }
    for measured in &verdict.again {
        let (class, said) = if verdict.goal.is_met_by(measured) {
            ("met", "The goal is met.")
        } else {
            ("missed", "The goal is missed.")
        };
        let _ = write!(
            page,
            "<p>{} for {} s at {}. <span class=\"{class}\">{said}</span></p>",
            describe(&measured.point.limits),
            number(measured.seconds),
            escaped(&in_words(measured))
        );
    }
    page
}
