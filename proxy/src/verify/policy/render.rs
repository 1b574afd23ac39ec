//! A report as a table for people and as JSON for programs. Without colour, so that a pipe gets the same text.

use std::fmt::Write;

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Value, json};

use super::{Finding, Opened, PortMode, PortName, Report, Row, Severity};

/// The table, the findings with places and advice, and one line that sums up.
#[must_use]
pub fn table(report: &Report) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["WORKLOAD", "PORT", "MODE", "DECIDED BY", "EXCEPTION"]);
    let mut before = "";
    for row in &report.rows {
        let workload = if row.workload == before { "" } else { row.workload.as_str() };
        before = &row.workload;
        let exception = row.exception.as_ref().map(opened).unwrap_or_default();
        table.add_row([workload, &row.port.to_string(), row.mode.as_str(), &row.rule, &exception]);
    }
    let mut text: String = table.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    if report.rows.iter().all(|row| row.mode == PortMode::Strict) {
        text.push_str("\nSTRICT everywhere: nothing is let in or sent without mutual TLS.\n");
    }
    for finding in &report.findings {
        text.push('\n');
        text.push_str(&shown(finding));
    }
    text.push('\n');
    text.push_str(&summary(report));
    text.push('\n');
    text
}

/// Reason, then owner and end in a line of their own.
fn opened(exception: &Opened) -> String {
    let Some(plan) = &exception.plan else { return "no plan".to_owned() };
    let left = match exception.days_left {
        Some(1) => "1 day left".to_owned(),
        Some(days @ 2..) => format!("{days} days left"),
        Some(..=0) | None => "over".to_owned(),
    };
    format!("{}\n{}, until {}: {left}", plan.reason, plan.owner, plan.expires)
}

fn shown(finding: &Finding) -> String {
    let place = finding.place.as_ref().map(|place| {
        let path = if place.path().is_empty() { String::new() } else { format!(" {}", place.path()) };
        format!("{}{path}", place.short())
    });
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{} {}", finding.severity(), place.as_deref().unwrap_or(&finding.rule));
    let _ = writeln!(text, "  {}", finding.what);
    let _ = writeln!(text, "  -> {}", finding.advice);
    text
}

fn summary(report: &Report) -> String {
    let count =
        |severity: Severity| report.findings.iter().filter(|finding| finding.severity() == severity).count();
    let number = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    let notes = match count(Severity::Note) {
        0 => String::new(),
        notes => format!(", {}", number(notes, "note")),
    };
    match report.failures() {
        0 => format!("nothing to change{notes}"),
        _ => format!(
            "{}, {}{notes}",
            number(count(Severity::Fault), "fault"),
            number(count(Severity::Warning), "warning")
        ),
    }
}

/// The report as one JSON object; its fields only ever become more.
#[must_use]
pub fn json(report: &Report) -> Value {
    json!({
        "rows": report.rows.iter().map(row).collect::<Vec<_>>(),
        "findings": report.findings.iter().map(finding).collect::<Vec<_>>(),
        "failures": report.failures(),
    })
}

fn row(row: &Row) -> Value {
    let (direction, host, port) = match &row.port {
        PortName::Own(port) => ("inbound", None, Some(port)),
        PortName::Others => ("inbound", None, None),
        PortName::To { host, port } => ("outbound", Some(host), Some(port)),
    };
    let exception = row.exception.as_ref().map(|exception| {
        let plan = exception.plan.as_ref();
        json!({
            "reason": plan.map(|plan| &plan.reason),
            "owner": plan.map(|plan| &plan.owner),
            "expires": plan.map(|plan| plan.expires.to_string()),
            "days_left": exception.days_left,
        })
    });
    json!({
        "workload": row.workload, "direction": direction, "host": host, "port": port,
        "mode": row.mode.as_str(), "rule": row.rule, "exception": exception,
    })
}

fn finding(finding: &Finding) -> Value {
    let place = finding.place.as_ref();
    json!({
        "severity": finding.severity().to_string(), "check": finding.check.label(), "rule": finding.rule,
        "file": place.map(|place| place.file()), "line": place.map(|place| place.line()),
        "path": place.map(|place| place.path()), "what": finding.what, "todo": finding.advice,
    })
}
