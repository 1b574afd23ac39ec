//! An AuthorizationPolicy, put in place and changed while the pair is at work.

use std::time::Duration;

use portcullis_identity::Clock;

use super::super::SOON;
use super::super::error::{DemoError, ensure};
use super::super::files;
use super::super::probe::{self, Reply};
use super::super::site::Site;

const FILE: &str = "authorization-policy.yaml";
const RULE: &str = "AuthorizationPolicy production/readers";
/// What the rule allows at first, and what it allows in its place later.
const FIRST: &str = "/catalogue";
const THEN: &str = "/reports";
/// From the change of the file to its effect.
const IN_FORCE: Duration = Duration::from_secs(1);

/// The rule is put in place; what it does not name gets no further than the service's sidecar.
pub(crate) fn refused(site: &Site) -> Result<String, DemoError> {
    allow(site, FIRST)?;
    probe::poll(SOON, "the rule in force", || Ok(refusal(site, THEN)?.map(drop)))?;
    let before = site.day.served()?;
    let body = refusal(site, THEN)?.ok_or_else(|| DemoError::Unexpected("it was answered".into()))?;
    let after = site.day.served()?;
    ensure(before == after, || format!("the app has served {} more requests", after - before))?;
    Ok(format!("status 403: {body}"))
}

pub(crate) fn permitted(site: &Site) -> Result<String, DemoError> {
    let body = site.day.call(FIRST)?.accepted()?;
    let caller = probe::caller(&body).unwrap_or_else(|| "nobody".into());
    Ok(format!("200 for {FIRST}; the app saw {caller}"))
}

/// The other path in place of the first: both answers turn round.
pub(crate) fn changed(site: &Site, clock: &Clock) -> Result<String, DemoError> {
    allow(site, THEN)?;
    let start = clock.now();
    probe::poll(SOON, "the changed rule in force", || refusal(site, FIRST))?;
    let took = clock.now().saturating_sub(start);
    ensure(took <= IN_FORCE, || format!("it took {} ms", took.as_millis()))?;
    site.day.call(THEN)?.accepted()?;
    Ok(format!("after {} ms: 200 for {THEN}, 403 for {FIRST}", took.as_millis()))
}

/// As it was before, for the acts that follow.
pub(crate) fn withdraw(site: &Site) -> Result<(), DemoError> {
    site.day.withdraw_policy(FILE)?;
    let allowed = || Ok(site.day.call("/")?.accepted().ok().map(drop));
    probe::poll(SOON, "the rule gone", allowed)
}

fn allow(site: &Site, path: &str) -> Result<(), DemoError> {
    site.day.put_policy(FILE, &files::one_path_allowed("api-service", "production", "client", path))
}

/// The words of a 403 that names the rule; `None` when the app has answered.
fn refusal(site: &Site, path: &str) -> Result<Option<String>, DemoError> {
    match site.day.call(path)? {
        Reply::Answer { status: 200..=299, .. } => Ok(None),
        Reply::Answer { status: 403, body } if body.contains(RULE) => Ok(Some(body)),
        reply @ (Reply::Answer { .. } | Reply::Refused(_)) => reply.refused().and_then(|seen| {
            Err(DemoError::Unexpected(format!("neither answered nor refused by {RULE}: {seen}")))
        }),
    }
}
