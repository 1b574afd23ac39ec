//! The sweep on a terminal.

use comfy_table::{CellAlignment, ContentArrangement, presets};

use super::super::recommend::{Goal, in_use, text};
use super::super::result::{Measured, Sweep};
use super::groups::knee_of;
use super::numbers::{number, per_second, percent, proxy_name, whole};

/// The columns, as on the page.
pub(super) const HEADER: [&str; 14] = [
    "proxy",
    "connections",
    "pending",
    "requests",
    "offered",
    "throughput",
    "p50 ms",
    "p99 ms",
    "p99.9 ms",
    "refused",
    "failed",
    "in use",
    "goal",
    "note",
];
/// Columns of text; the others hold numbers.
const WORDS: [usize; 3] = [0, 12, 13];

/// All points, by proxy and setting from tight to loose, then by load.
///
/// `goal` says `met` or `missed` of points at its rate or above. The note marks the knee of a setting, and points that
/// are not to be trusted because the load generator could not send all that was due.
#[must_use]
pub fn table(sweep: &Sweep, goal: Option<&Goal>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(HEADER);
    for measured in ordered(sweep) {
        table.add_row(cells(sweep, goal, measured));
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        if !WORDS.contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut lines: String = table.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    if sweep.points.is_empty() {
        lines.push_str(" nothing was measured\n");
    }
    lines
}

/// By proxy, setting and load.
pub(super) fn ordered(sweep: &Sweep) -> Vec<&Measured> {
    let mut points: Vec<&Measured> = sweep.points.iter().collect();
    points.sort_by_key(|measured| {
        let point = measured.point;
        (point.proxy, point.limits.order(), point.rate)
    });
    points
}

/// One row.
pub(super) fn cells(sweep: &Sweep, goal: Option<&Goal>, measured: &Measured) -> [String; HEADER.len()] {
    let (point, counts, latency) = (measured.point, &measured.counts, &measured.latency);
    let millis = |value: f64| if counts.succeeded > 0 { number(value) } else { "–".to_owned() };
    let verdict = match goal {
        Some(goal) if point.rate >= goal.rate && goal.is_met_by(measured) => "met",
        Some(goal) if point.rate >= goal.rate => "missed",
        Some(_) | None => "",
    };
    [
        proxy_name(point.proxy).to_owned(),
        text(point.limits.max_connections),
        text(point.limits.max_pending),
        text(point.limits.max_requests),
        per_second(point.rate),
        format!("{}/s", whole(measured.throughput())),
        millis(latency.p50),
        millis(latency.p99),
        millis(latency.p999),
        percent(measured.refused_share()),
        percent(measured.failed_share()),
        in_use(measured).map_or_else(|| "–".to_owned(), number),
        verdict.to_owned(),
        note(sweep, measured),
    ]
}

fn note(sweep: &Sweep, measured: &Measured) -> String {
    let point = measured.point;
    if measured.counts.unsent > 0 {
        return format!("not to be trusted: {} unsent", measured.counts.unsent);
    }
    let at_knee = knee_of(sweep, point.proxy, &point.limits).rate() == Some(point.rate);
    if at_knee { "knee".to_owned() } else { String::new() }
}
