//! The tables of a page, and what was measured where.

use std::fmt::Write as _;

use super::super::grid::Proxy;
use super::super::recommend::Goal;
use super::super::result::{Conditions, Measured, Sweep};
use super::groups::{curve, settings};
use super::numbers::{escaped, number, per_second, percent, short};
use super::table::{HEADER, cells, ordered};

/// Portcullis divided by Envoy, where both were measured; nothing when Envoy was not.
pub(super) fn ratios(sweep: &Sweep) -> String {
    let mut rows = String::new();
    for limits in settings(sweep) {
        let envoy = curve(sweep, Proxy::Envoy, &limits);
        for ours in curve(sweep, Proxy::Portcullis, &limits) {
            let Some(theirs) = envoy.iter().find(|theirs| theirs.point.rate == ours.point.rate) else {
                continue;
            };
            let ratio = |of: fn(&Measured) -> f64| {
                let (own, other) = (of(ours), of(theirs));
                if own > 0.0 && other > 0.0 { number(own / other) } else { "–".to_owned() }
            };
            let _ = write!(
                rows,
                "<tr><th scope=\"row\" class=\"word\">{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{} / {}</td></tr>",
                short(&limits),
                per_second(ours.point.rate),
                ratio(Measured::throughput),
                ratio(|measured| measured.latency.p50),
                ratio(|measured| measured.latency.p99),
                ratio(|measured| measured.cpu.unwrap_or(0.0)),
                percent(ours.refused_share()),
                percent(theirs.refused_share())
            );
        }
    }
    if rows.is_empty() {
        return rows;
    }
    format!(
        "<h2 id=\"ratios\">Beside Envoy</h2><div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Ratios\"><table>\
         <caption>Portcullis divided by Envoy: above 1 is more. Settings: connections / pending / requests.</caption>\
         <thead><tr><th scope=\"col\" class=\"word\">setting</th><th scope=\"col\">offered</th><th scope=\"col\">throughput</th>\
         <th scope=\"col\">p50</th><th scope=\"col\">p99</th><th scope=\"col\">CPU</th><th scope=\"col\">refused, ours / Envoy’s</th></tr></thead>\
         <tbody>{rows}</tbody></table></div>"
    )
}

/// Every point.
pub(super) fn points(sweep: &Sweep, goal: Option<&Goal>) -> String {
    let class = |index: usize| if [0, 12, 13].contains(&index) { " class=\"word\"" } else { "" };
    let mut page = String::from(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"All points\"><table><caption>Latencies are of requests that \
         succeeded, from when each was due. Tight settings first.</caption><thead><tr>",
    );
    for (index, name) in HEADER.iter().enumerate() {
        let _ = write!(page, "<th scope=\"col\"{}>{name}</th>", class(index));
    }
    page.push_str("</tr></thead><tbody>");
    for measured in ordered(sweep) {
        page.push_str("<tr>");
        for (index, cell) in cells(sweep, goal, measured).iter().enumerate() {
            let _ = write!(page, "<td{}>{}</td>", class(index), escaped(cell));
        }
        page.push_str("</tr>");
    }
    page.push_str("</tbody></table></div>");
    page
}

/// What ran where.
pub(super) fn conditions(conditions: &Conditions) -> String {
    let mut rows = vec![
        ("portcullis".to_owned(), conditions.version.clone()),
        ("upstream latency".to_owned(), conditions.latency.clone()),
        (
            "upstream concurrency".to_owned(),
            conditions.concurrency.map_or("unlimited".to_owned(), |most| most.to_string()),
        ),
        ("answer body".to_owned(), format!("{} bytes", conditions.body)),
        ("measured per point".to_owned(), format!("{} s", number(conditions.seconds))),
        (
            "target".to_owned(),
            conditions.target.clone().unwrap_or_else(|| "a pair of sidecars started for this".to_owned()),
        ),
    ];
    rows.extend(conditions.machine.iter().map(|(name, value)| (name.clone(), value.clone())));
    let rows: String = rows
        .iter()
        .map(|(name, value)| format!("<dt>{}</dt><dd>{}</dd>", escaped(name), escaped(value)))
        .collect();
    format!("<dl>{rows}</dl>")
}
