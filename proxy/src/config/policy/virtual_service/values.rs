//! Durations, percentages and names as Istio writes them.

use std::time::Duration;

use crate::config::decode::{Fields, Node};
use crate::config::report::Faults;
use crate::config::values::istio_duration;
use crate::route::Share;

/// Longer is a typing error.
const LONGEST: Duration = Duration::from_secs(86_400);
/// Bytes of the name of a route or condition: it goes into reports.
const MAX_NAME: usize = 63;

/// A duration as Istio takes it: `1h30m`, `1.5s`, `250ms`. At least a millisecond, at most a day.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    match zero_or_duration(text)? {
        Duration::ZERO => Err("not between 1ms and 24h".to_owned()),
        duration => Ok(duration),
    }
}

/// The same, or 0.
pub(super) fn zero_or_duration(text: &str) -> Result<Duration, String> {
    let duration = istio_duration(text)?;
    if duration > LONGEST { Err("not between 1ms and 24h".to_owned()) } else { Ok(duration) }
}

/// `{value: 12.5}`.
pub(super) fn share(node: &Node<'_>, faults: &mut Faults) -> Option<Share> {
    let mut fields = node.fields(faults)?;
    let value = fields.require("value", faults).and_then(|node| {
        let share = node.percentage(faults).map(|percent| (percent, Share::percent(percent)))?;
        if share.0 > 0.0 && share.1.is_some_and(|share| !share.has(0)) {
            node.fault(faults, "finer than 0.0001 percent");
        }
        share.1
    });
    fields.finish(&[], faults);
    value
}

/// The new `percentage` or the old `percent` under their names; all when neither is there. `None` after a fault.
pub(super) fn either_share(
    fields: &mut Fields<'_>,
    names: (&'static str, &'static str),
    faults: &mut Faults,
) -> Option<Share> {
    match (fields.take(names.0), fields.take(names.1)) {
        (Some(_), Some(old)) => {
            old.fault(faults, format!("{} and {} say the same thing: keep {}", names.0, names.1, names.0));
            None
        }
        (Some(new), None) => share(&new, faults),
        (None, Some(old)) => {
            old.integer::<u32>(faults, 0..=100).and_then(|percent| Share::percent(percent.into()))
        }
        (None, None) => Some(Share::ALL),
    }
}

/// The name of a route or condition, for reports alone.
pub(super) fn name(text: &str) -> Result<String, String> {
    let printable = text.bytes().all(|b| (b' '..=b'~').contains(&b));
    if !text.is_empty() && text.len() <= MAX_NAME && printable {
        Ok(text.to_owned())
    } else {
        Err(format!("not a name: 1 to {MAX_NAME} printable characters of ASCII"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_sums_of_numbers_with_units() {
        for (text, millis) in [
            ("5s", 5_000),
            ("0.5s", 500),
            (".5s", 500),
            ("1.s", 1_000),
            ("250ms", 250),
            ("1m", 60_000),
            ("1h30m", 5_400_000),
            ("1m0.001s", 60_001),
            ("24h", 86_400_000),
            ("0s", 0),
        ] {
            assert_eq!(zero_or_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "",
            "5",
            "0",
            "s",
            ".s",
            "-1s",
            "1 s",
            "1S",
            "1d",
            "1us",
            "0.1ms",
            "1.0001s",
            "24h1ms",
            "1s2",
            "1..5s",
            "99999999999999999999h",
            "0.0000000001h",
            "1é",
            "infinity",
            "+1s",
            "1h-1m",
        ] {
            assert!(zero_or_duration(text).is_err(), "{text}");
        }
        assert!(duration("0s").is_err() && duration("0ms").is_err() && duration("1ms").is_ok());
    }
}
