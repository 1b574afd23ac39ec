//! Which setting meets a goal, why by Little's law, and where more load stops paying.
//!
//! The recommended setting is the tightest that meets the goal with headroom: a limit protects the upstream only as
//! far as it is tight, and one that only just met its goal may miss it when measured again.

mod goal;
mod knee;
mod law;
#[cfg(test)]
pub(in crate::bench) mod tests;
mod yaml;

pub use goal::{Bound, Goal, GoalError, Quantile};
pub use knee::{Knee, knee};
pub use law::{LittlesLaw, in_use};
pub use yaml::{EXAMPLE_HOST, destination_rule_yaml, namespace_of};

use super::grid::{Limits, Proxy};
use super::result::{Measured, Sweep};

/// Headroom: every figure stays below this part of its bound, and connections are busy for less than this part of
/// the time. Close to either, chance decides whether the goal is met.
const HEADROOM: f64 = 0.9;

/// A setting that meets a goal.
#[derive(Debug, Clone, PartialEq)]
pub struct Recommendation {
    /// What was asked.
    pub goal: Goal,
    /// The setting.
    pub limits: Limits,
    /// The point that shows it.
    pub measured: Measured,
    /// Whether it meets the goal with headroom; if not, no setting does.
    pub headroom: bool,
    /// What Little's law says of it; `None` when the upstream's time is not known.
    pub littles_law: Option<LittlesLaw>,
    /// All settings that met the goal, tightest first.
    pub candidates: Vec<Limits>,
}

/// Why no setting is recommended.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NoSetting {
    /// The goal's load was never offered.
    #[error(
        "nothing was measured at {}/s or above{}: sweep with a rate of at least {}/s",
        grouped(u64::from(*.rate)),
        highest.map(|highest| format!(" (the highest is {}/s)", grouped(u64::from(highest)))).unwrap_or_default(),
        grouped(u64::from(*.rate))
    )]
    NotMeasured {
        /// The goal's rate.
        rate: u32,
        /// The highest that was measured.
        highest: Option<u32>,
    },
    /// Every setting missed it.
    #[error("no setting meets `{goal}`; {} came nearest at {}/s: {by}; {advice}", describe(nearest), grouped(u64::from(*.rate)))]
    Missed {
        /// What was asked.
        goal: Box<Goal>,
        /// Which setting came nearest.
        nearest: Limits,
        /// The load that was offered to it.
        rate: u32,
        /// What it missed, and by how much.
        by: String,
        /// What to try.
        advice: String,
    },
}

/// The tightest setting that meets `goal`: fewest connections, then fewest pending requests, then fewest requests.
///
/// Considered are our own points at the lowest measured rate that is at least the goal's. Of the settings that meet
/// the goal there, the tightest one with headroom is taken: every figure below 90 % of its bound, and by Little's law
/// connections busy for less than 90 % of the time. If none has headroom, the tightest one that meets it is.
///
/// # Errors
///
/// [`NoSetting`], with what came nearest and what to try.
pub fn recommend(sweep: &Sweep, goal: &Goal) -> Result<Recommendation, NoSetting> {
    let ours = || sweep.points.iter().filter(|measured| measured.point.proxy == Proxy::Portcullis);
    let rates = || ours().map(|measured| measured.point.rate);
    let Some(rate) = rates().filter(|rate| *rate >= goal.rate).min() else {
        return Err(NoSetting::NotMeasured { rate: goal.rate, highest: rates().max() });
    };
    let mut considered: Vec<&Measured> = ours().filter(|measured| measured.point.rate == rate).collect();
    considered.sort_by_key(|measured| measured.point.limits.order());
    let meeting: Vec<&Measured> =
        considered.iter().copied().filter(|measured| goal.is_met_by(measured)).collect();
    let roomy = meeting.iter().copied().find(|measured| has_headroom(sweep, goal, measured));
    let Some(chosen) = roomy.or_else(|| meeting.first().copied()) else {
        return Err(missed(sweep, goal, &considered));
    };
    Ok(Recommendation {
        goal: goal.clone(),
        limits: chosen.point.limits,
        measured: chosen.clone(),
        headroom: roomy.is_some(),
        littles_law: LittlesLaw::of(sweep, chosen),
        candidates: meeting.iter().map(|measured| measured.point.limits).collect(),
    })
}

fn has_headroom(sweep: &Sweep, goal: &Goal, measured: &Measured) -> bool {
    let busy = LittlesLaw::of(sweep, measured).and_then(|law| law.utilisation());
    goal.is_met_within(measured, HEADROOM) && busy.is_none_or(|busy| busy < HEADROOM)
}

fn missed(sweep: &Sweep, goal: &Goal, considered: &[&Measured]) -> NoSetting {
    let nearest = considered.iter().min_by(|a, b| distance(goal, a).total_cmp(&distance(goal, b)));
    let Some(nearest) = nearest else {
        return NoSetting::NotMeasured { rate: goal.rate, highest: None };
    };
    NoSetting::Missed {
        goal: Box::new(goal.clone()),
        nearest: nearest.point.limits,
        rate: nearest.point.rate,
        by: misses(goal, nearest),
        advice: advice(sweep, goal, nearest),
    }
}

/// How many times its bound the worst figure is; a measurement that cannot be trusted is farther than any.
fn distance(goal: &Goal, measured: &Measured) -> f64 {
    if measured.counts.unsent > 0 || measured.counts.succeeded == 0 {
        return f64::INFINITY;
    }
    goal.figures(measured).iter().map(|figure| figure.value / figure.bound).fold(0.0, f64::max)
}

fn misses(goal: &Goal, measured: &Measured) -> String {
    if measured.counts.succeeded == 0 {
        return "nothing succeeded".to_owned();
    }
    if measured.counts.unsent > 0 {
        return format!("{} requests were not sent at all", grouped(measured.counts.unsent));
    }
    let figures = goal.figures(measured);
    let over = figures.iter().filter(|figure| figure.value >= figure.bound).map(|figure| {
        let above = (figure.value / figure.bound - 1.0) * 100.0;
        let goal::Figure { name, unit, value, bound } = figure;
        format!("{name} is {value:.2} {unit}, {above:.0} % above {bound} {unit}")
    });
    over.collect::<Vec<_>>().join(", ")
}

fn advice(sweep: &Sweep, goal: &Goal, nearest: &Measured) -> String {
    let counts = &nearest.counts;
    if counts.unsent > 0 {
        return "the load generator ran out of connections: give it more, or offer less".to_owned();
    }
    let most = |reasons: &std::collections::BTreeMap<String, u64>| {
        reasons.iter().max_by_key(|(_, count)| **count).map(|(name, _)| name.clone())
    };
    if nearest.failed_share() >= goal.failed
        && let Some(reason) = most(&counts.failed)
    {
        return format!("most failures are `{reason}`, which no limit causes: look into those first");
    }
    let law = LittlesLaw::of(sweep, nearest);
    let needed = law.map(|law| {
        format!(
            " (by Little's law {:.1} are busy on average at {}/s)",
            law.needed,
            grouped(u64::from(nearest.point.rate))
        )
    });
    let needed = needed.unwrap_or_default();
    if nearest.refused_share() >= goal.refused
        && let Some(limit) = most(&counts.refused)
    {
        return format!(
            "most are refused by {limit}: sweep higher values of it, or more connections{needed}"
        );
    }
    let hopeless = nearest.upstream.is_some_and(|upstream| {
        goal.latency.iter().any(|bound| upstream.mean >= super::result::millis(bound.below))
    });
    if hopeless {
        return "the upstream alone takes longer than that on average: ask for less, or make it faster"
            .to_owned();
    }
    if law.and_then(|law| law.utilisation()).is_some_and(|busy| busy > HEADROOM) {
        return format!("sweep more connections{needed}, or ask for a lower rate");
    }
    "sweep more connections, fewer pending requests, or ask for a lower rate".to_owned()
}

/// `maxConnections 10, http1MaxPendingRequests none, http2MaxRequests 100`.
#[must_use]
pub fn describe(limits: &Limits) -> String {
    let [connections, pending, requests] =
        fields(limits).map(|(name, value)| format!("{name} {}", text(value)));
    format!("{connections}, {pending}, {requests}")
}

/// The limits by the names that a DestinationRule gives them.
#[must_use]
pub fn fields(limits: &Limits) -> [(&'static str, Option<u32>); 3] {
    [
        ("maxConnections", limits.max_connections),
        ("http1MaxPendingRequests", limits.max_pending),
        ("http2MaxRequests", limits.max_requests),
    ]
}

/// A limit, or `none`.
#[must_use]
pub fn text(limit: Option<u32>) -> String {
    limit.map_or_else(|| "none".to_owned(), |limit| grouped(u64::from(limit)))
}

/// `12,345`.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
