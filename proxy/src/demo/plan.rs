//! Who takes part, and when the planned exception ends.

use std::time::Duration;

use portcullis_identity::Clock;
use time::{OffsetDateTime, Time};

use super::error::DemoError;
use super::files;
use super::lab::Isolation;
use super::programs::Programs;
use super::site::{Ground, Pair, PairPlan, RunDir, Site};

/// The port of the exception without a plan, in the sample policy.
pub(super) const UNPLANNED_PORT: u16 = 8080;
/// The port of the exception with one.
pub(super) const PLANNED_PORT: u16 = 9090;
/// How long after the start of its sidecar the planned exception ends.
const OPEN_FOR: Duration = Duration::from_secs(10);

pub(super) const LOOPBACK_OMITS: &str =
    "not shown: what interception does (bypass, captures), which takes root or user namespaces";

/// What the viewer should know of the machine's part.
pub(super) fn setting(isolation: Isolation) -> &'static str {
    match isolation {
        Isolation::Root => {
            "six hosts in network namespaces of their own; nftables intercepts on four of them"
        }
        Isolation::UserNamespace => "six hosts in network namespaces, inside a user namespace",
        Isolation::None => {
            "no right to make namespaces here: explicit listeners on loopback, and no interception"
        }
    }
}

/// When the exception of [`PLANNED_PORT`] is over.
pub(super) struct Plan {
    /// `YYYY-MM-DD`: its day begins at 00:00 UTC.
    pub day: String,
    /// The same moment, by this machine's clock.
    pub ends: Duration,
}

/// Starts everything and waits until it is ready.
pub(super) fn build(dir: RunDir, isolation: Isolation, clock: &Clock) -> Result<(Site, Plan), DemoError> {
    let programs = Programs::beside_this()?;
    let mut ground = Ground::new(isolation)?;
    let authorities = ground.host("ca")?;
    let day = Pair::start(
        &mut ground,
        &authorities,
        &programs,
        dir.path(),
        PairPlan {
            namespace: "production",
            service: "api-service",
            client: "client",
            authority_port: 8443,
            leaf_life: "24h",
            second_port: UNPLANNED_PORT,
            policy: files::SAMPLE.map(|(name, text)| (name, text.to_owned())).to_vec(),
            server_arguments: vec![],
        },
    )?;
    let (plan, ahead) = plan_exception(clock)?;
    let fast = Pair::start(
        &mut ground,
        &authorities,
        &programs,
        dir.path(),
        PairPlan {
            namespace: "staging",
            service: "batch",
            client: "batch-client",
            authority_port: 9443,
            leaf_life: "4s",
            second_port: PLANNED_PORT,
            policy: vec![("exception.yaml", files::planned_exception("staging", PLANNED_PORT, &plan.day))],
            server_arguments: vec!["--exceptions-ahead".into(), format!("{}s", ahead.as_secs())],
        },
    )?;
    let intruder = ground.host("intruder")?;
    for sidecar in [&day.server, &day.client, &fast.server, &fast.client] {
        sidecar.ready()?;
    }
    Ok((Site { day, fast, intruder, ground, dir }, plan))
}

/// The day after tomorrow, and how far ahead its sidecar must look for that day to begin after [`OPEN_FOR`].
fn plan_exception(clock: &Clock) -> Result<(Plan, Duration), DemoError> {
    let now = clock.now();
    let far = |_| DemoError::Unexpected("this machine's clock is far off".into());
    let today = OffsetDateTime::UNIX_EPOCH + time::Duration::try_from(now).map_err(far)?;
    let day = today.replace_time(Time::MIDNIGHT) + time::Duration::days(2);
    let begins = Duration::try_from(day - OffsetDateTime::UNIX_EPOCH).map_err(far)?;
    // Whole seconds, as the option takes them.
    let ends = Duration::from_secs(now.as_secs()) + OPEN_FOR;
    Ok((Plan { day: day.date().to_string(), ends }, begins.saturating_sub(ends)))
}

#[cfg(test)]
mod tests {
    use portcullis_identity::ManualClock;

    use super::*;

    #[test]
    fn the_planned_day_begins_ten_seconds_after_the_start() {
        // 2026-02-27T23:59:58.5Z
        let now = Duration::from_millis(1_772_236_798_500);
        let (plan, ahead) = plan_exception(&ManualClock::at(now).clock()).unwrap();
        assert_eq!(plan.day, "2026-03-01");
        let midnight = Duration::from_secs(1_772_323_200);
        assert_eq!(plan.ends + ahead, midnight);
        assert!((Duration::from_secs(9)..=OPEN_FOR).contains(&plan.ends.saturating_sub(now)));
    }
}
