//! Numbers as people read them, and text that is no markup.

use super::super::grid::{Limits, Proxy};
use super::super::recommend::{grouped, text};

/// At least three digits: `0.12`, `12.3`, `1,234`. A dash where there is no number.
pub(super) fn number(value: f64) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    match value.abs() {
        size if size < 10.0 => format!("{value:.2}"),
        size if size < 100.0 => format!("{value:.1}"),
        _ => whole(value),
    }
}

/// `1,234`.
pub(super) fn whole(value: f64) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast saturates")]
    let size = value.abs().round() as u64;
    if value < 0.0 && size > 0 { format!("-{}", grouped(size)) } else { grouped(size) }
}

/// `0.12 %`; never `0.00 %` for what is more than nothing.
pub(super) fn percent(share: f64) -> String {
    match share * 100.0 {
        value if value > 0.0 && value < 0.01 => "<0.01 %".to_owned(),
        value if !value.is_finite() => "–".to_owned(),
        value => format!("{value:.2} %"),
    }
}

/// `2,000/s`.
pub(super) fn per_second(rate: u32) -> String {
    format!("{}/s", grouped(u64::from(rate)))
}

/// `10 / 100 / none`: connections, pending, requests.
pub(super) fn short(limits: &Limits) -> String {
    [limits.max_connections, limits.max_pending, limits.max_requests].map(text).join(" / ")
}

pub(super) fn proxy_name(proxy: Proxy) -> &'static str {
    match proxy {
        Proxy::Portcullis => "Portcullis",
        Proxy::Envoy => "Envoy",
    }
}

/// Fewer than 2^52 of anything.
#[allow(clippy::cast_precision_loss, reason = "fewer than 2^52")]
pub(super) fn float(count: u64) -> f64 {
    count as f64
}

/// The mean of what there is.
pub(super) fn mean(values: impl Iterator<Item = u64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0_u64), |(sum, count), value| (sum + float(value), count + 1));
    (count > 0).then(|| sum / float(count))
}

/// As text of an element or of a quoted attribute. Control characters, which a page may not hold, become spaces.
pub(super) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\n' => safe.push('\n'),
            letter if letter.is_control() => safe.push(' '),
            letter => safe.push(letter),
        }
    }
    safe
}
