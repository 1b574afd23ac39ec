//! The small texts of configuration: names, labels, hosts, durations, addresses. Pure, errors without place.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::decode::{Entry, Node};
use super::report::{Faults, quoted};

/// Bytes of one DNS label (RFC 1035), of a namespace and of a label value (Kubernetes).
const MAX_LABEL: usize = 63;
/// Bytes of a DNS name (RFC 1035) and of a Kubernetes object's name.
const MAX_NAME: usize = 253;

/// A duration: `500ms`, `10s`, `5m`, `24h`, `30d`.
pub fn duration(text: &str) -> Result<Duration, String> {
    const HELP: &str = "not a duration: write a whole number and ms, s, m, h or d, such as 500ms or 10s";
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).ok_or(HELP)?;
    let number: u64 = number.parse().map_err(|_| HELP)?;
    let seconds = match unit {
        "ms" => return Ok(Duration::from_millis(number)),
        "s" => Some(number),
        "m" => number.checked_mul(60),
        "h" => number.checked_mul(3600),
        "d" => number.checked_mul(86_400),
        _ => return Err(HELP.to_owned()),
    };
    seconds.map(Duration::from_secs).ok_or_else(|| "longer than any clock can count".to_owned())
}

/// A duration as Istio takes it: numbers with units, one after the other, such as `1h30m`, `1.5s` or `250ms`.
/// Whole milliseconds.
pub(super) fn istio_duration(text: &str) -> Result<Duration, String> {
    const HELP: &str = "not a duration: write numbers with h, m, s or ms, such as 1h30m, 1.5s or 250ms";
    const NANOS: [(&str, u64); 4] =
        [("ms", 1_000_000), ("s", 1_000_000_000), ("m", 60_000_000_000), ("h", 3_600_000_000_000)];
    let mut rest = text;
    let mut nanos: u64 = 0;
    while !rest.is_empty() || text.is_empty() {
        let number = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let (number, behind) = rest.split_at_checked(number).ok_or(HELP)?;
        let unit = behind.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, behind) = behind.split_at_checked(unit).ok_or(HELP)?;
        let (_, scale) = NANOS.iter().find(|(name, _)| *name == unit).ok_or(HELP)?;
        let part = scaled(number, *scale).ok_or(HELP)?;
        nanos = nanos.checked_add(part).ok_or("longer than any clock can count")?;
        rest = behind;
    }
    let duration = Duration::from_nanos(nanos);
    if duration.subsec_nanos().is_multiple_of(1_000_000) {
        Ok(duration)
    } else {
        Err("finer than a millisecond".to_owned())
    }
}

/// `1.5` times a scale, exactly: `None` when it is no number, or not a whole multiple of a nanosecond.
fn scaled(number: &str, scale: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.len() > 9 {
        return None;
    }
    let digits = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<u64>().ok() };
    let divisor = 10_u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let fraction = digits(fraction)?.checked_mul(scale)?;
    (fraction % divisor == 0).then_some(())?;
    digits(whole)?.checked_mul(scale)?.checked_add(fraction / divisor)
}

/// A DNS label: namespaces.
pub(super) fn dns_label(text: &str) -> Result<String, String> {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let edges = text.bytes().next().is_some_and(inner) && text.bytes().next_back().is_some_and(inner);
    if text.len() <= MAX_LABEL && edges && text.bytes().all(|b| inner(b) || b == b'-') {
        Ok(text.to_owned())
    } else {
        Err("not a name: 1 to 63 of a-z 0-9 -, starting and ending with a letter or digit".to_owned())
    }
}

/// DNS labels joined by dots: object names, service accounts, hosts.
pub(super) fn dns_name(text: &str) -> Result<String, String> {
    if text.len() > MAX_NAME {
        return Err(format!("{} bytes long, the limit is {MAX_NAME}", text.len()));
    }
    match text.split('.').find(|label| dns_label(label).is_err()) {
        None => Ok(text.to_owned()),
        Some(_) if text.bytes().any(|b| b.is_ascii_uppercase()) => Err("write it in lower case".to_owned()),
        Some(_) => Err("not a DNS name: labels of a-z 0-9 - joined by dots".to_owned()),
    }
}

/// A host to call: a DNS name that is not an IP address.
pub(super) fn host(text: &str) -> Result<String, String> {
    if text.parse::<IpAddr>().is_ok() {
        return Err("a host is a name; an IP address goes into addresses".to_owned());
    }
    dns_name(text)
}

/// A port written as text, as in map keys.
pub(super) fn port(text: &str) -> Result<u16, String> {
    let port = Some(text).filter(|text| !text.starts_with(['0', '+'])).and_then(|text| text.parse().ok());
    port.ok_or_else(|| "not a port: a whole number from 1 to 65535".to_owned())
}

/// An address and port to listen on.
pub(super) fn socket_address(text: &str) -> Result<SocketAddr, String> {
    const HELP: &str = "not an address with a port: write 127.0.0.1:15000 or [::1]:15000";
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => {
            Err("port 0 is another one at every start, so nobody would find it: write the port".to_owned())
        }
        address => address.map_err(|_| HELP.to_owned()),
    }
}

/// An IP address. IPv4-mapped IPv6 is refused: one peer must not have two spellings.
pub(super) fn ip_address(text: &str) -> Result<IpAddr, String> {
    if text.contains('/') {
        return Err("not supported: a range of addresses; write each address".to_owned());
    }
    match text.parse::<IpAddr>() {
        Ok(address) if address.to_canonical() != address => Err(format!("write {}", address.to_canonical())),
        Ok(address) if address.is_unspecified() || address.is_multicast() => {
            Err("not the address of one host".to_owned())
        }
        Ok(address) => Ok(address),
        Err(_) => Err("not an IP address".to_owned()),
    }
}

/// `host:port`, where the host is a name or an address.
pub(super) fn host_and_port(text: &str) -> Result<(String, u16), String> {
    const HELP: &str = "not a host with a port: write name:8443, 10.0.0.1:8443 or [::1]:8443";
    let (name, number) = text.rsplit_once(':').ok_or(HELP)?;
    let number = port(number)?;
    if text.parse::<SocketAddr>().is_ok() {
        Ok((name.to_owned(), number))
    } else {
        Ok((dns_name(name)?, number))
    }
}

/// Kubernetes labels, faults for keys and values that could never match a pod.
pub(super) fn labels(node: &Node<'_>, faults: &mut Faults) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    for (Entry { key, place, value }, text) in node.text_map(faults) {
        if let Err(message) = label_key(key) {
            faults.add(place, message);
        }
        if !text.is_empty() && !is_label_text(text) {
            value.fault(
                faults,
                format!("{} is not a label value: at most 63 of a-z A-Z 0-9 - _ .", quoted(text)),
            );
        }
        labels.insert(key.to_owned(), text.to_owned());
    }
    labels
}

fn label_key(key: &str) -> Result<(), String> {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    if prefix.is_none_or(|prefix| dns_name(prefix).is_ok()) && is_label_text(name) {
        Ok(())
    } else {
        Err(format!("{} is not a label key: NAME or PREFIX/NAME of a-z A-Z 0-9 - _ .", quoted(key)))
    }
}

fn is_label_text(text: &str) -> bool {
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    text.len() <= MAX_LABEL
        && edge(text.bytes().next())
        && edge(text.bytes().next_back())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_number_and_a_unit() {
        for (text, seconds) in [
            ("10s", 10.0),
            ("500ms", 0.5),
            ("5m", 300.0),
            ("24h", 86_400.0),
            ("30d", 2_592_000.0),
            ("0s", 0.0),
        ] {
            assert!((duration(text).unwrap().as_secs_f64() - seconds).abs() < 1e-9, "{text}");
        }
        for text in [
            "",
            "10",
            "s",
            "-1s",
            "1.5s",
            "10 s",
            "10S",
            "1w",
            "99999999999999999999s",
            "9999999999999999999h",
            "1é",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn istio_writes_durations_with_fractions_and_several_units() {
        for (text, millis) in
            [("1.5s", 1500), ("0.5s", 500), ("1h30m", 5_400_000), ("250ms", 250), (".5s", 500), ("0s", 0)]
        {
            assert_eq!(istio_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "", "1", "s", "-1s", "1.2.3s", "1 s", "1w", "1.0001s", "0.5ms", "1s2", "1e3s", "1é", "1d",
            "9999999h",
        ] {
            assert!(istio_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_follow_kubernetes() {
        for (text, ok) in [
            ("production", true),
            ("a-1", true),
            ("", false),
            ("-a", false),
            ("a-", false),
            ("A", false),
            ("a.b", false),
            ("ä", false),
        ] {
            assert_eq!(dns_label(text).is_ok(), ok, "{text}");
        }
        assert!(dns_label(&"a".repeat(63)).is_ok() && dns_label(&"a".repeat(64)).is_err());
        for (text, ok) in [
            ("api.production.svc.cluster.local", true),
            ("a..b", false),
            (".a", false),
            ("a.", false),
            ("A.b", false),
            ("10.0.0.1", false),
        ] {
            assert_eq!(host(text).is_ok(), ok, "{text}");
        }
    }

    #[test]
    fn addresses_have_one_spelling() {
        for (text, ok) in [
            ("10.0.0.1", true),
            ("fd00::1", true),
            ("::ffff:10.0.0.1", false),
            ("0.0.0.0", false),
            ("::", false),
            ("224.0.0.1", false),
            ("10.0.0.0/8", false),
            ("x", false),
        ] {
            assert_eq!(ip_address(text).is_ok(), ok, "{text}");
        }
        for (text, ok) in [
            ("ca:8443", true),
            ("10.0.0.1:8443", true),
            ("[::1]:8443", true),
            ("::1:8443", false),
            ("ca", false),
            ("ca:0", false),
            ("ca:x", false),
            (":1", false),
        ] {
            assert_eq!(host_and_port(text).is_ok(), ok, "{text}");
        }
    }
}
