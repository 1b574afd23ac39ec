//! Plaintext by exception, and the plan that ends it.

use std::fmt;
use std::time::Duration;

use time::{Date, OffsetDateTime};

/// Why an exception exists, who answers for it, and when it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Why plaintext is needed.
    pub reason: String,
    /// Who answers for it.
    pub owner: String,
    /// The exception is over at 00:00 UTC of this day.
    pub expires: Date,
}

impl Plan {
    /// The annotation that carries the plan of `port`, for messages that say what to write.
    #[must_use]
    pub fn annotation(port: u16) -> String {
        format!("portcullis.dev/exception-{port}: \"reason=...; owner=...; expires=YYYY-MM-DD\"")
    }

    /// Whole days from the day of `now` (since the epoch) to the end; 0 or less: over.
    #[must_use]
    pub fn days_left(&self, now: Duration) -> i64 {
        i64::from(self.expires.to_julian_day()) - day(now)
    }
}

impl Plan {
    /// The moment it is over, since the epoch.
    #[must_use]
    pub fn ends(&self) -> Duration {
        let seconds = self.expires.midnight().assume_utc().unix_timestamp();
        Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, owner {}, until {}", self.reason, self.owner, self.expires)
    }
}

/// Julian day number of a moment, in UTC.
fn day(now: Duration) -> i64 {
    let days = i64::try_from(now.as_secs() / 86_400).unwrap_or(i64::MAX);
    days.saturating_add(i64::from(OffsetDateTime::UNIX_EPOCH.to_julian_day()))
}

/// One port open to plaintext.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exception {
    /// The workload's port (inbound) or the service's port (outbound).
    pub port: u16,
    /// Without a plan the exception never ends by itself.
    pub plan: Option<Plan>,
}

impl Exception {
    /// Whether plaintext is allowed at `now`: until the plan's day begins, or for ever without a plan.
    #[must_use]
    pub fn is_open(&self, now: Duration) -> bool {
        self.plan.as_ref().is_none_or(|plan| plan.days_left(now) > 0)
    }

    /// When it is over, since the epoch; `None` without a plan.
    #[must_use]
    pub fn ends(&self) -> Option<Duration> {
        self.plan.as_ref().map(Plan::ends)
    }

    /// Whether somebody wrote down why, who and until when.
    #[must_use]
    pub fn is_justified(&self) -> bool {
        self.plan.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::{date, datetime};

    fn at(moment: OffsetDateTime) -> Duration {
        Duration::from_secs(u64::try_from(moment.unix_timestamp()).unwrap())
    }

    fn until(expires: Date) -> Exception {
        let plan = Plan { reason: "r".into(), owner: "o".into(), expires };
        Exception { port: 8080, plan: Some(plan) }
    }

    #[test]
    fn an_exception_ends_with_the_first_second_of_its_day() {
        let exception = until(date!(2027 - 03 - 01));
        for (now, open) in [
            (datetime!(2026-11-23 12:00 UTC), true),
            (datetime!(2027-02-28 23:59:59 UTC), true),
            (datetime!(2027-03-01 00:00:00 UTC), false),
            (datetime!(2027-03-01 00:00:01 UTC), false),
            (datetime!(2040-01-01 00:00 UTC), false),
        ] {
            assert_eq!(exception.is_open(at(now)), open, "{now}");
            assert_eq!(at(now) < exception.ends().unwrap(), open, "{now}");
        }
        assert!(exception.is_open(at(datetime!(2027-02-28 23:59:59 UTC)) + Duration::from_millis(999)));
    }

    #[test]
    fn days_are_counted_on_the_calendar() {
        let plan = until(date!(2028 - 03 - 01)).plan.unwrap();
        assert_eq!(plan.days_left(at(datetime!(2028-02-28 23:59 UTC))), 2, "a leap year");
        assert_eq!(plan.days_left(at(datetime!(2028-03-01 0:00 UTC))), 0);
        assert_eq!(plan.days_left(at(datetime!(2028-03-08 0:00 UTC))), -7);
        assert!(plan.days_left(Duration::MAX) < 0);
        assert!(plan.days_left(Duration::ZERO) > 0);
    }

    #[test]
    fn without_a_plan_it_never_ends_and_is_not_justified() {
        let exception = Exception { port: 1, plan: None };
        assert!(exception.is_open(Duration::MAX) && !exception.is_justified());
    }
}
