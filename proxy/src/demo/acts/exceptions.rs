//! The two kinds of plaintext exception: for ever and flagged, and until its day.

use std::time::Duration;

use portcullis_identity::Clock;

use super::super::SOON;
use super::super::error::{DemoError, ensure};
use super::super::plan::{PLANNED_PORT, Plan, UNPLANNED_PORT};
use super::super::probe::{self, Reply};
use super::super::site::{Pair, Site};

pub(crate) fn unplanned_is_open(site: &Site) -> Result<String, DemoError> {
    let body = plaintext(site, &site.day, UNPLANNED_PORT)?.accepted()?;
    ensure(probe::caller(&body).is_none(), || format!("the app was told of a caller: {body}"))?;
    Ok("200; the app is told of no identity".into())
}

/// A warning at load, in the sidecar's log.
pub(crate) fn unplanned_is_flagged(site: &Site) -> Result<String, DemoError> {
    let port = UNPLANNED_PORT.to_string();
    let flagged =
        |line: &str| line.contains("WARN") && line.contains(&port) && line.contains("without a plan");
    let line = site.day.server.line(flagged, SOON)?;
    let event: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
    Ok(event.get("message").and_then(serde_json::Value::as_str).unwrap_or(&line).to_owned())
}

pub(crate) fn planned_is_open(site: &Site, plan: &Plan, clock: &Clock) -> Result<String, DemoError> {
    plaintext(site, &site.fast, PLANNED_PORT)?.accepted()?;
    let left = plan.ends.saturating_sub(clock.now());
    ensure(!left.is_zero(), || "that day has come before it could be shown".into())?;
    Ok(format!("200; its day, {}, is made to begin in {} s", plan.day, left.as_secs()))
}

/// Waits for the day.
pub(crate) fn planned_closes(site: &Site, plan: &Plan, clock: &Clock) -> Result<String, DemoError> {
    // The day begins within the second: the sidecar's clock and ours are the same one.
    let left = plan.ends.saturating_sub(clock.now()) + Duration::from_secs(1);
    std::thread::sleep(left);
    let evidence = plaintext(site, &site.fast, PLANNED_PORT)?.refused()?;
    site.fast.call("/")?.accepted()?;
    Ok(evidence)
}

/// What the intruder gets in plaintext.
fn plaintext(site: &Site, pair: &Pair, port: u16) -> Result<Reply, DemoError> {
    probe::get(&site.intruder, pair.door(port), "anyone", "/")
}
