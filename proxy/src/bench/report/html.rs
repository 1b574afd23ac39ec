//! The page.

use super::super::recommend::Goal;
use super::super::result::{Measured, Sweep};
use super::verdict::{self, Verdict};
use super::{figures, sections, style};

/// One self-contained page: no script, no reference to anything outside of it.
///
/// `again` are settings that met the goal, measured once more in the order in which they were tried. The page stands by
/// the first one that met it both times, and by none if none did. The rule on the page is for `host`.
#[must_use]
pub fn html(sweep: &Sweep, goal: Option<&Goal>, again: &[&Measured], host: &str) -> String {
    let stated = goal.map(|goal| Verdict::of(sweep, goal, again));
    let kept = stated.as_ref().and_then(Verdict::limits);
    let top = match &stated {
        Some(verdict) => verdict::section(sweep, verdict, host),
        None => "<p>No goal was stated, so no setting is recommended.</p>".to_owned(),
    };
    let frame = if kept.is_some() { " A frame marks the recommended setting." } else { "" };
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>Connection-pool limits under load</title><style>{css}</style></head>\n<body><header>\
         <h1>Connection-pool limits under load</h1><p class=\"soft\">portcullis bench pool: every setting at every offered \
         load, {count} points. Load is sent at a constant rate whatever becomes of it.</p>\
         <nav aria-label=\"Contents\"><a href=\"#load\">Over load</a><a href=\"#limits\">Two limits</a>\
         <a href=\"#pools\">Pools</a><a href=\"#points\">All points</a><a href=\"#conditions\">Conditions</a></nav></header>\n\
         <main>{top}\n<h2 id=\"load\">Over load</h2><p class=\"soft\">The knee is the highest load that holds: at least 99 % of it \
         succeeds, and its p99 is at most three times the unloaded one, or less than 2 ms above it. No ring: all measured \
         loads hold, or none does.</p>{load}\n\
         <h2 id=\"limits\">Two limits against each other</h2><p class=\"soft\">Yellow is high.{frame}</p>{maps}\n\
         <h2 id=\"pools\">Pools over time</h2>{pools}\n{ratios}\n\
         <h2 id=\"points\">All points</h2>{points}\n</main>\n\
         <footer><h2 id=\"conditions\">Conditions</h2>{conditions}</footer></body></html>\n",
        css = style::CSS,
        count = sweep.points.len(),
        load = figures::over_load(sweep, goal, kept),
        maps = figures::maps(sweep, goal, kept),
        pools = figures::pools(sweep, goal, kept),
        ratios = sections::ratios(sweep),
        points = sections::points(sweep, goal),
        conditions = sections::conditions(&sweep.conditions),
    )
}
