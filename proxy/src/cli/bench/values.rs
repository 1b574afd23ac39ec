//! What stands on the command line of a bench, checked.

use http::Uri;

use crate::bench::result::Conditions;

/// Most values of one list.
const MAX_VALUES: usize = 64;
/// Highest limit: more connections than a machine has ports.
const MAX_LIMIT: u32 = 100_000;
/// Highest load that one generator is asked for, per second.
const MAX_RATE: u32 = 100_000;

/// Values of one limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Limits(pub(super) Vec<Option<u32>>);

/// Offered loads, per second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rates(pub(super) Vec<u32>);

/// `4,16,none` or `1..64*2`.
pub(super) fn limits(text: &str) -> Result<Limits, String> {
    let mut values = Vec::new();
    for part in text.split(',').map(str::trim) {
        if part == "none" {
            values.push(None);
        } else {
            values.extend(numbers(part, MAX_LIMIT)?.into_iter().map(Some));
        }
    }
    values.sort_by_key(|limit| limit.unwrap_or(u32::MAX));
    values.dedup();
    few(values).map(Limits)
}

/// `250,500` or `250..2000*2`.
pub(super) fn rates(text: &str) -> Result<Rates, String> {
    let mut rates = Vec::new();
    for part in text.split(',').map(str::trim) {
        if part == "none" {
            return Err("a rate is a number: requests per second".to_owned());
        }
        rates.extend(numbers(part, MAX_RATE)?);
    }
    rates.sort_unstable();
    rates.dedup();
    few(rates).map(Rates)
}

fn few<T>(values: Vec<T>) -> Result<Vec<T>, String> {
    if values.len() > MAX_VALUES {
        return Err(format!("{} values, and {MAX_VALUES} at most", values.len()));
    }
    Ok(values)
}

/// A number, or `FIRST..LAST*FACTOR`, or `FIRST..LAST+STEP`.
fn numbers(part: &str, most: u32) -> Result<Vec<u32>, String> {
    let number = |text: &str| {
        let number = text.trim().parse::<u32>().ok().filter(|number| (1..=most).contains(number));
        number.ok_or_else(|| {
            format!("{text:?} in {part:?} is no number from 1 to {most}; write such as 4,16,none or 1..64*2")
        })
    };
    let Some((first, rest)) = part.split_once("..") else { return Ok(vec![number(part)?]) };
    let malformed = || format!("{part:?} is no range: write FIRST..LAST*FACTOR or FIRST..LAST+STEP");
    let at = rest.find(['*', '+']).ok_or_else(malformed)?;
    let (last, step) = rest.split_at_checked(at).ok_or_else(malformed)?;
    let (first, last) = (number(first)?, number(last)?);
    let factor = step.strip_prefix('*');
    let by = number(factor.or_else(|| step.strip_prefix('+')).ok_or_else(malformed)?)?;
    if first > last || (factor.is_some() && by == 1) {
        return Err(malformed());
    }
    let mut values = vec![first];
    let mut value = first;
    loop {
        value = if factor.is_some() { value.saturating_mul(by) } else { value.saturating_add(by) };
        if value > last {
            return Ok(values);
        }
        values.push(value);
        if values.len() > MAX_VALUES {
            return Err(format!("{part:?} is more than {MAX_VALUES} values"));
        }
    }
}

/// Seconds of one measurement.
pub(super) fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.2..=600.0).contains(seconds));
    seconds.ok_or_else(|| "write seconds from 0.2 to 600, such as 2".to_owned())
}

/// `http://HOST:PORT/PATH`.
pub(super) fn target(text: &str) -> Result<Uri, String> {
    let url: Uri = text.parse().map_err(|error| format!("no URL: {error}; write http://HOST:PORT/PATH"))?;
    match (url.scheme_str(), url.host()) {
        (Some("http"), Some(host)) if !host.is_empty() => Ok(url),
        (Some("https"), _) => {
            Err("the load is sent to a sidecar's own side, which is plaintext: write http://".to_owned())
        }
        _ => Err("write http://HOST:PORT/PATH".to_owned()),
    }
}

/// A Host header.
pub(super) fn host(text: &str) -> Result<String, String> {
    let authority: Result<http::uri::Authority, _> = text.parse();
    authority.map(|_| text.to_owned()).map_err(|error| format!("{error}; write HOST or HOST:PORT"))
}

/// A directory's name for these conditions: the same for the same (FNV-1a).
pub(super) fn name(conditions: &Conditions) -> String {
    let text = serde_json::to_vec(conditions).unwrap_or_default();
    let hash =
        text.iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    format!("pool-{hash:08x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_numbers_ranges_and_none_in_order() {
        let values = |text| limits(text).map(|limits| limits.0);
        assert_eq!(values("16,4,none,4"), Ok(vec![Some(4), Some(16), None]));
        assert_eq!(values("1..10*3"), Ok(vec![Some(1), Some(3), Some(9)]));
        assert_eq!(rates("10..50+20, 7"), Ok(Rates(vec![7, 10, 30, 50])));
    }

    #[test]
    fn what_is_no_list_is_refused_with_the_part() {
        for bad in
            ["", "4,,5", "0", "-1", "x", "100001", "1..5", "5..1*2", "1..5*1", "1..5*0", "1..100+1", "1..*2"]
        {
            assert!(limits(bad).is_err(), "{bad:?}");
        }
        assert!(limits("4,x").unwrap_err().contains(r#""x""#));
        assert!(rates("none").is_err());
    }

    #[test]
    fn a_target_is_a_plaintext_url() {
        assert!(target("http://127.0.0.1:80/a?b").is_ok());
        for bad in ["https://a/", "127.0.0.1:80", "/a", "ftp://a/", "http:///a"] {
            assert!(target(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_measurement_takes_its_time() {
        assert_eq!(seconds("0.5"), Ok(0.5));
        for bad in ["0", "0.1", "601", "NaN", "inf", "-1", "x"] {
            assert!(seconds(bad).is_err(), "{bad:?}");
        }
    }
}
