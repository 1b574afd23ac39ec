//! A report as a table for people and as JSON for programs, without colour.

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Value, json};

use super::server::Version;
use super::{Report, Server, Verdict};

/// What the server shows, every attempt with its end, and one line that sums up.
#[must_use]
pub fn table(report: &Report) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["ATTEMPT", "", "HOW IT ENDED", "TIME"]);
    for tried in &report.attempts {
        let verdict = match tried.outcome.verdict {
            Verdict::Refused => "refused",
            Verdict::GotIn => "GOT IN",
            Verdict::Unclear => "UNCLEAR",
            Verdict::Information => "info",
        };
        let took = format!("{} ms", tried.took.as_millis());
        table.add_row([tried.what.as_str(), verdict, &tried.outcome.how, &took]);
    }
    let mut text = format!("{} ({})\n{}\n", report.target, report.addr, shows(&report.server));
    text.extend(table.lines().map(|line| format!("{}\n", line.trim_end())));
    format!("{text}\n{}\n", summary(report))
}

fn shows(server: &Server) -> String {
    if server.chain.is_empty() {
        return "It shows no certificate.\n".to_owned();
    }
    let id = server.id.as_ref().map_or_else(|| "no SPIFFE ID".to_owned(), ToString::to_string);
    let trusted = match &server.trusted {
        None => String::new(),
        Some(Ok(())) => ", which the CA bundle vouches for".to_owned(),
        Some(Err(why)) => format!(", which the CA bundle does not vouch for: {why}"),
    };
    let version = |name: &str, version: Option<Version>| match version {
        Some(Version { spoken: true, asks: true }) => format!("{name} asks for a client certificate. "),
        Some(Version { spoken: true, asks: false }) => {
            format!("{name} does NOT ask for a client certificate. ")
        }
        Some(Version { spoken: false, .. }) => format!("{name} is not spoken. "),
        None => String::new(),
    };
    let versions = [version("TLS 1.3", server.tls13), version("TLS 1.2", server.tls12)].concat();
    format!("It shows {id}{trusted}.\n{}\n", versions.trim_end())
}

fn summary(report: &Report) -> String {
    let count = |verdict| report.attempts.iter().filter(|tried| tried.outcome.verdict == verdict).count();
    match (count(Verdict::GotIn), count(Verdict::Unclear)) {
        (0, 0) => format!("nothing got in: {} attempts refused", count(Verdict::Refused)),
        (0, unclear) => format!("nothing is known to have got in, and {unclear} attempts were not refused"),
        (got_in, unclear) => format!("{got_in} attempts got in, {unclear} were not refused"),
    }
}

/// The report as one JSON object; its fields only ever become more.
#[must_use]
pub fn json(report: &Report) -> Value {
    let version = |version: Option<Version>| {
        version.map(|v| json!({ "spoken": v.spoken, "asks_for_certificate": v.asks }))
    };
    let server = &report.server;
    let attempts = report.attempts.iter().map(|tried| {
        json!({
            "name": tried.name, "what": tried.what, "verdict": tried.outcome.verdict.label(),
            "how": tried.outcome.how, "ms": u64::try_from(tried.took.as_millis()).unwrap_or(u64::MAX),
        })
    });
    json!({
        "target": report.target,
        "address": report.addr.to_string(),
        "server": {
            "id": server.id.as_ref().map(ToString::to_string),
            "trusted": server.trusted.as_ref().map(Result::is_ok),
            "tls13": version(server.tls13),
            "tls12": version(server.tls12),
        },
        "attempts": attempts.collect::<Vec<_>>(),
        "failures": report.failures(),
    })
}
