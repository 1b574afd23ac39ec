//! The recommendation in words, for the terminal.

use std::fmt::Write as _;

use super::super::recommend::{Goal, LittlesLaw, NoSetting, Recommendation, describe, grouped};
use super::super::result::Measured;
use super::numbers::{number, per_second, percent, whole};

/// The recommended setting with its figures and Little's law, or why there is none; lines of plain text.
#[must_use]
pub fn summary(goal: &Goal, result: &Result<Recommendation, NoSetting>) -> String {
    let found = match result {
        Ok(found) => found,
        Err(none) => return format!("Goal: {goal}\nNo recommendation: {none}\n"),
    };
    let mut text = format!("Goal: {goal}\nRecommended: {}\n", describe(&found.limits));
    let _ = writeln!(text, "  {}", chosen(found));
    for Line { name, value, meaning } in found.littles_law.iter().flat_map(lines) {
        let _ = writeln!(text, "  {name}: {value}\n    {meaning}");
    }
    text
}

/// Why this one.
pub(super) fn chosen(found: &Recommendation) -> String {
    let others = match found.candidates.len() {
        0 | 1 => "It is the only setting that met the goal".to_owned(),
        count => format!("{} settings met the goal", grouped(u64::try_from(count).unwrap_or(u64::MAX))),
    };
    let rule = if found.headroom {
        "this is the tightest with headroom (figures below 90 % of their bounds, connections busy below 90 % of the time)"
    } else {
        "no setting has headroom (figures below 90 % of their bounds, connections busy below 90 % of the time), so this \
         is the tightest: measure again before relying on it"
    };
    format!("At {}. {others}; {rule}.", in_words(&found.measured))
}

/// `500/s: 498/s succeeded, p50 12.3 ms, ...`, without a full stop.
pub(super) fn in_words(measured: &Measured) -> String {
    format!(
        "{}: {}/s succeeded, p50 {} ms, p99 {} ms, p99.9 {} ms, {} refused, {} failed",
        per_second(measured.point.rate),
        whole(measured.throughput()),
        number(measured.latency.p50),
        number(measured.latency.p99),
        number(measured.latency.p999),
        percent(measured.refused_share()),
        percent(measured.failed_share()),
    )
}

/// One figure of Little's law.
pub(super) struct Line {
    pub(super) name: &'static str,
    pub(super) value: String,
    pub(super) meaning: &'static str,
}

/// Little's law, line by line, each with a sentence for whoever meets it for the first time.
pub(super) fn lines(law: &LittlesLaw) -> Vec<Line> {
    let line = |name, value, meaning| Line { name, value, meaning };
    let mut lines = vec![
        line(
            "Time per request",
            format!(
                "{} ms = {} ms upstream + {} ms added",
                number(law.time()),
                number(law.upstream),
                number(law.added)
            ),
            "How long one request keeps a connection: the mean time in the upstream, and what the pair of sidecars adds, \
             taken at the lowest load.",
        ),
        line(
            "Connections needed",
            format!(
                "{} = {}/s x {} ms, so at least {}",
                number(law.needed),
                whole(law.rate),
                number(law.time()),
                whole(law.connections())
            ),
            "Little's law: requests under way on average = rate x time each takes; with fewer connections a queue grows.",
        ),
    ];
    if let Some(in_use) = law.in_use {
        lines.push(line(
            "Connections in use, measured",
            format!("{} on average", number(in_use)),
            "Connections with a request, sampled in the sidecar; it should lie near what the law says.",
        ));
    }
    if let Some(busy) = law.utilisation() {
        lines.push(line(
            "Utilisation",
            percent(busy),
            "The part of maxConnections that is busy on average; the nearer to 100 %, the longer requests wait.",
        ));
    }
    if let Some(ceiling) = law.ceiling() {
        lines.push(line(
            "Throughput ceiling",
            format!(
                "{}/s; measured {}/s, {} of it",
                whole(ceiling),
                whole(law.throughput),
                percent(law.throughput / ceiling)
            ),
            "maxConnections / time per request: no more than that gets through, however much is offered.",
        ));
    }
    lines
}
