//! The pair at work.

use super::super::error::{DemoError, ensure};
use super::super::probe;
use super::super::site::Site;
use super::super::wire::Wire;

const CALLER: &str = "spiffe://cluster.local/ns/production/sa/client";

/// A call succeeds, and the app is told who called.
pub(crate) fn call(site: &Site, canary: &str) -> Result<String, DemoError> {
    let body = site.day.call(&format!("/{canary}"))?.accepted()?;
    let caller = probe::caller(&body);
    ensure(caller.as_deref() == Some(CALLER), || format!("the app saw {caller:?} in {body}"))?;
    Ok(format!("200; the app saw {CALLER}"))
}

/// What the call said is in no frame.
pub(crate) fn wire(site: &Site, wire: &Wire) -> Result<String, DemoError> {
    let (frames, leaked) = wire.tally((site.intruder.ipv4(), 9).into())?;
    ensure(leaked == 0, || format!("{leaked} of {frames} frames carry the request in plaintext"))?;
    ensure(frames > 0, || "the capture saw nothing at all".into())?;
    Ok(format!("{frames} frames captured, 0 with the path of the request"))
}
