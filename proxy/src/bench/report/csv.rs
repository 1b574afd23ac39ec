//! One row per point, with all its numbers.

use std::collections::BTreeMap;
use std::io;

use super::super::grid::Proxy;
use super::super::recommend::in_use;
use super::super::result::{Measured, Sweep};
use super::numbers::mean;

/// The columns. New ones are added at the end.
pub(super) const HEADER: [&str; 34] = [
    "proxy",
    "max_connections",
    "max_pending",
    "max_requests",
    "rate_per_second",
    "seconds",
    "due",
    "succeeded",
    "refused",
    "refused_by",
    "failed",
    "failed_by",
    "unsent",
    "late",
    "throughput_per_second",
    "refused_share",
    "failed_share",
    "mean_ms",
    "p50_ms",
    "p90_ms",
    "p99_ms",
    "p999_ms",
    "max_ms",
    "upstream_answered",
    "upstream_mean_ms",
    "upstream_peak_requests",
    "cpu_seconds",
    "connections_mean",
    "connections_max",
    "in_use_mean",
    "active_mean",
    "waiting_mean",
    "waiting_max",
    "occupancy_samples",
];

/// Writes the sweep as CSV: a header, then one row per point in the order of measuring.
///
/// Limits that are not set, and figures that are not known, are empty cells. Shares are 0 to 1. `refused_by` and
/// `failed_by` list counts by reason, as `reason=count` joined by `;`. Latencies are of requests that succeeded, from
/// the moment each was due, and empty when none did. `in_use_mean` is connections with a request, on average.
///
/// # Errors
///
/// Those of `out`.
pub fn write_csv(sweep: &Sweep, out: impl io::Write) -> Result<(), ::csv::Error> {
    let mut rows = ::csv::Writer::from_writer(out);
    rows.write_record(HEADER)?;
    for measured in &sweep.points {
        rows.write_record(row(measured))?;
    }
    rows.flush()?;
    Ok(())
}

fn row(measured: &Measured) -> [String; HEADER.len()] {
    let Measured { point, counts, latency, upstream, occupancy, .. } = measured;
    let proxy = match point.proxy {
        Proxy::Portcullis => "portcullis",
        Proxy::Envoy => "envoy",
    };
    let millis = |value: f64| if counts.succeeded > 0 { decimals(value) } else { String::new() };
    let most = |of: fn(&super::super::result::Occupancy) -> u64| optional(occupancy.iter().map(of).max());
    let average = |of: fn(&super::super::result::Occupancy) -> u64| known(mean(occupancy.iter().map(of)));
    [
        proxy.to_owned(),
        optional(point.limits.max_connections),
        optional(point.limits.max_pending),
        optional(point.limits.max_requests),
        point.rate.to_string(),
        decimals(measured.seconds),
        counts.due.to_string(),
        counts.succeeded.to_string(),
        counts.refused().to_string(),
        reasons(&counts.refused),
        counts.failed().to_string(),
        reasons(&counts.failed),
        counts.unsent.to_string(),
        counts.late.to_string(),
        decimals(measured.throughput()),
        decimals(measured.refused_share()),
        decimals(measured.failed_share()),
        millis(latency.mean),
        millis(latency.p50),
        millis(latency.p90),
        millis(latency.p99),
        millis(latency.p999),
        millis(latency.max),
        optional(upstream.map(|seen| seen.answered)),
        known(upstream.map(|seen| seen.mean)),
        optional(upstream.map(|seen| seen.peak_requests)),
        known(measured.cpu),
        average(|moment| moment.connections),
        most(|moment| moment.connections),
        known(in_use(measured)),
        average(|moment| moment.active),
        average(|moment| moment.waiting),
        most(|moment| moment.waiting),
        occupancy.len().to_string(),
    ]
}

fn decimals(value: f64) -> String {
    if value.is_finite() { format!("{value:.6}") } else { String::new() }
}

fn known(value: Option<f64>) -> String {
    value.map(decimals).unwrap_or_default()
}

fn optional(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

fn reasons(counts: &BTreeMap<String, u64>) -> String {
    counts.iter().map(|(reason, count)| format!("{reason}={count}")).collect::<Vec<_>>().join(";")
}
