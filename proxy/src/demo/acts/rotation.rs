//! Certificates that live for four seconds.

use std::time::Duration;

use super::super::error::{DemoError, ensure};
use super::super::lab::Process;
use super::super::probe::{self, poll};
use super::super::site::Site;

const RATE: u32 = 100;
const SECONDS: u32 = 10;
/// Renewed after 40 to 60 % of four seconds: at least four times in ten.
const LEAST_CERTIFICATES: usize = 4;
/// Four and a half seconds more than a certificate lasts.
const OUTLIVED: Duration = Duration::from_millis(8500);

/// The load runs while other acts are shown.
pub(crate) fn begin(site: &Site) -> Result<Process, DemoError> {
    site.fast.load("/", RATE, SECONDS)
}

pub(crate) fn end(load: &Process) -> Result<String, DemoError> {
    let report = probe::report(load, probe::PROGRAM)?;
    let [sent, ok, failed] = ["sent", "ok", "failed"].map(|field| probe::count(&report, field));
    ensure(failed == 0 && ok == u64::from(RATE * SECONDS), || report.to_string())?;
    let certificates = report.get("peers").and_then(|peers| Some(peers.as_object()?.len())).unwrap_or(0);
    ensure(certificates >= LEAST_CERTIFICATES, || format!("{certificates} certificates seen: {report}"))?;
    let p99_ms = probe::count(&report, "p99_us").div_ceil(1000);
    Ok(format!(
        "{sent} requests in {SECONDS} s, {failed} failed, p99 {p99_ms} ms; the app saw {certificates} certificates"
    ))
}

/// The CA of the pair is killed; what it issued last is soon over.
pub(crate) fn fail_closed(site: &mut Site) -> Result<String, DemoError> {
    site.fast.call("/")?.accepted()?;
    site.fast.authority.kill();
    let mut closed = false;
    poll(OUTLIVED, "refused for want of a valid certificate", || match site.fast.call("/")?.refused() {
        Ok(why) => {
            closed = true;
            Ok(why.contains("certificate").then_some(why))
        }
        // What has been shut stays shut.
        Err(answered) if closed => Err(answered),
        Err(_) => Ok(None),
    })
}
