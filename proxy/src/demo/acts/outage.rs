//! Processes that die, and what that may not lead to.

use super::super::SOON;
use super::super::error::{DemoError, ensure};
use super::super::probe::{self, FarEnd, poll};
use super::super::site::{PORT, Site};
use super::super::wire::Wire;

/// The day-long certificates last: without the CA all goes on.
pub(crate) fn authority(site: &mut Site) -> Result<String, DemoError> {
    site.day.authority.kill();
    let report = probe::report(&site.day.load("/", 200, 1)?, probe::PROGRAM)?;
    let (ok, failed) = (probe::count(&report, "ok"), probe::count(&report, "failed"));
    ensure((ok, failed) == (200, 0), || report.to_string())?;
    Ok(format!("{ok} requests after it, {failed} failed"))
}

/// Killed while requests are under way. They carry the canary.
pub(crate) fn client_sidecar(
    site: &mut Site,
    wire: Option<&Wire>,
    canary: &str,
) -> Result<String, DemoError> {
    let before = site.day.served()?;
    let load = site.day.load(&format!("/{canary}"), 200, 2)?;
    poll(SOON, "requests under way", || Ok((site.day.served()? >= before + 50).then_some(())))?;
    site.day.client.kill();
    let after = site.day.call(&format!("/{canary}"))?.refused()?;
    let report = probe::report(&load, probe::PROGRAM)?;
    let (ok, failed) = (probe::count(&report, "ok"), probe::count(&report, "failed"));
    ensure(ok > 0 && failed > 0, || format!("it was not killed in the middle: {report}"))?;
    let evidence = format!("{ok} requests answered before, {failed} refused after: {after}");
    let Some(wire) = wire else { return Ok(evidence) };
    let (frames, leaked) = wire.tally((site.intruder.ipv4(), 9).into())?;
    ensure(leaked == 0, || format!("{leaked} of {frames} frames carry the request in plaintext"))?;
    Ok(format!("{evidence}; {leaked} of {frames} frames leak"))
}

pub(crate) fn server_sidecar(site: &mut Site) -> Result<String, DemoError> {
    let before = site.day.served()?;
    site.day.server.kill();
    let mut evidence = String::new();
    for port in [PORT, super::super::plan::UNPLANNED_PORT] {
        evidence = probe::get(&site.intruder, site.day.door(port), "anyone", "/")?.refused()?;
    }
    ensure(site.day.served()? == before, || "the app was reached".into())?;
    Ok(evidence)
}

pub(crate) fn restart(site: &mut Site) -> Result<String, DemoError> {
    for sidecar in [&mut site.day.server, &mut site.day.client] {
        sidecar.start()?;
    }
    for sidecar in [&site.day.server, &site.day.client] {
        sidecar.ready()?;
    }
    let body = site.day.call("/")?.accepted()?;
    let caller = probe::caller(&body).unwrap_or_default();
    ensure(!caller.is_empty(), || format!("the app was told of no caller: {body}"))?;
    Ok(format!("200; the app saw {caller}"))
}

/// The same attempts as before, with nothing in their way: each must be noticed, or the lines above prove nothing.
pub(crate) fn control(site: &mut Site, wire: &Wire, far: &FarEnd, canary: &str) -> Result<String, DemoError> {
    let marker = (site.intruder.ipv4(), 9).into();
    let (_, before) = wire.tally(marker)?;
    site.day.client.intercept("remove")?;
    // The service's sidecar refuses it, but by then it has crossed the wire.
    site.day.call(&format!("/{canary}"))?.refused()?;
    let (_, after) = wire.tally(marker)?;
    ensure(before == 0 && after > 0, || format!("{before} frames before, {after} after"))?;
    let (mut tcp, mut udp) = far.arrivals()?;
    let mut apps = Vec::new();
    for to in far.addresses() {
        apps.push(site.day.app_load(&format!("http://{to}/"), 1, 1)?);
        probe::datagram(&site.day.client.host, to)?;
    }
    poll(SOON, "two connections and two datagrams at the far end", || {
        let (more_tcp, more_udp) = far.arrivals()?;
        (tcp, udp) = (tcp + more_tcp, udp + more_udp);
        Ok((tcp == 2 && udp == 2).then_some(()))
    })?;
    site.day.client.intercept("apply")?;
    Ok(format!("{after} frames with the canary, {tcp} connections and {udp} datagrams at the far end"))
}
