//! What is asked of a setting: `p99 < 50 ms at 2,000/s, refused < 0.1 %`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::super::result::{Latency, Measured, millis};

/// What `refused` and `failed` are held to unless the goal says otherwise.
const DEFAULT_SHARE: f64 = 0.001;
/// A bound above an hour is a typing error.
const LONGEST: f64 = 3_600_000_000.0;

/// Bounds that hold together, at one offered load.
///
/// Written as `p99 < 50 ms at 2,000/s, refused < 0.1 %`: one or more latencies (`p50`, `p90`, `p99`, `p99.9`, in `us`,
/// `ms` or `s`), one rate, and optionally the shares of requests that limits may refuse and that may fail otherwise
/// (0.1 % each unless given).
#[derive(Debug, Clone, PartialEq)]
pub struct Goal {
    /// At least one, each quantile once, in ascending order of it.
    pub latency: Vec<Bound>,
    /// Offered load, in requests per second.
    pub rate: u32,
    /// The share of requests that limits refuse stays below this, 0 to 1.
    pub refused: f64,
    /// The share of requests that fail otherwise stays below this, 0 to 1.
    pub failed: f64,
}

/// A latency that is not reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// Of which requests.
    pub quantile: Quantile,
    /// Whole microseconds, at least one.
    pub below: Duration,
}

/// A quantile that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quantile {
    /// The median.
    P50,
    /// 90 of 100.
    P90,
    /// 99 of 100.
    P99,
    /// 999 of 1,000.
    P999,
}

/// Why a text is no goal. Each variant carries the part that is meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GoalError {
    /// Not of the form `NAME < VALUE`.
    #[error("`{0}` is no bound: write it like `p99 < 50 ms`, `refused < 0.1 %` or `failed < 0.1 %`")]
    NoBound(String),
    /// Something that is not measured.
    #[error("`{0}` is not measured: a goal bounds p50, p90, p99, p99.9, refused or failed")]
    Name(String),
    /// A number that cannot be read.
    #[error("`{0}` is no number: write it like `50`, `0.5` or `2,000`")]
    Number(String),
    /// A latency without a unit that is known.
    #[error("`{0}` is no time: write a number and a unit, us, ms or s, like `50 ms`")]
    Time(String),
    /// A latency that is zero or absurdly long.
    #[error("`{0}` cannot be held: a time is at least 1 us and at most 3600 s")]
    TimeRange(String),
    /// A share without `%`, or out of range.
    #[error("`{0}` is no share: write a percentage above 0 and up to 100, like `0.1 %`")]
    Share(String),
    /// A rate that cannot be read.
    #[error("`{0}` is no rate: write whole requests per second, at least 1, like `2,000/s`")]
    Rate(String),
    /// The same thing twice.
    #[error("`{0}` is given twice: say it once")]
    Twice(String),
    /// No rate.
    #[error("`{0}` does not say at what load: add a rate, like `at 2,000/s`")]
    NoRate(String),
    /// No latency.
    #[error("`{0}` bounds no latency: add one, like `p99 < 50 ms`")]
    NoLatency(String),
}

impl Quantile {
    /// All that are measured.
    pub const ALL: [Self; 4] = [Self::P50, Self::P90, Self::P99, Self::P999];

    /// `p99.9`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::P50 => "p50",
            Self::P90 => "p90",
            Self::P99 => "p99",
            Self::P999 => "p99.9",
        }
    }

    /// Its value, in milliseconds.
    #[must_use]
    pub fn of(self, latency: &Latency) -> f64 {
        match self {
            Self::P50 => latency.p50,
            Self::P90 => latency.p90,
            Self::P99 => latency.p99,
            Self::P999 => latency.p999,
        }
    }
}

impl Goal {
    /// Whether a point shows that the goal is met: it was measured at the goal's rate or above, keeps every bound, and
    /// can be trusted: something succeeded, and the load generator sent all that was due.
    #[must_use]
    pub fn is_met_by(&self, measured: &Measured) -> bool {
        self.is_met_within(measured, 1.0)
    }

    /// As [`Self::is_met_by`], with every bound multiplied by `part`.
    pub(super) fn is_met_within(&self, measured: &Measured, part: f64) -> bool {
        measured.point.rate >= self.rate
            && measured.counts.unsent == 0
            && measured.counts.succeeded > 0
            && self.figures(measured).iter().all(|figure| figure.value < figure.bound * part)
    }

    /// Every bound, with what was measured of it.
    pub(super) fn figures(&self, measured: &Measured) -> Vec<Figure> {
        let latency = self.latency.iter().map(|bound| Figure {
            name: bound.quantile.name(),
            unit: "ms",
            value: bound.quantile.of(&measured.latency),
            bound: millis(bound.below),
        });
        let share = |name, value: f64, bound: f64| Figure {
            name,
            unit: "%",
            value: value * 100.0,
            bound: bound * 100.0,
        };
        let shares = [
            share("refused", measured.refused_share(), self.refused),
            share("failed", measured.failed_share(), self.failed),
        ];
        latency.chain(shares).collect()
    }
}

/// One bound beside what was measured of it, in the same unit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Figure {
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    pub(super) value: f64,
    pub(super) bound: f64,
}

impl FromStr for Goal {
    type Err = GoalError;

    fn from_str(text: &str) -> Result<Self, GoalError> {
        let (mut latency, mut rate, mut refused, mut failed) = (Vec::<Bound>::new(), None, None, None);
        for part in parts(text) {
            let (bound, at) = split_rate(&part);
            if let Some(at) = at {
                once(&mut rate, parse_rate(at)?, at)?;
            }
            if bound.is_empty() && at.is_some() {
                continue;
            }
            let (name, value) = bound.split_once('<').ok_or_else(|| GoalError::NoBound(bound.to_owned()))?;
            let (name, value) = (name.trim(), value.trim());
            match name.to_ascii_lowercase().as_str() {
                "refused" => once(&mut refused, parse_share(value)?, name)?,
                "failed" => once(&mut failed, parse_share(value)?, name)?,
                other => {
                    let quantile = Quantile::ALL.into_iter().find(|quantile| quantile.name() == other);
                    let quantile = quantile.ok_or_else(|| GoalError::Name(name.to_owned()))?;
                    if latency.iter().any(|bound| bound.quantile == quantile) {
                        return Err(GoalError::Twice(name.to_owned()));
                    }
                    latency.push(Bound { quantile, below: parse_time(value)? });
                }
            }
        }
        latency.sort_by_key(|bound| bound.quantile);
        if latency.is_empty() {
            return Err(GoalError::NoLatency(text.trim().to_owned()));
        }
        Ok(Self {
            latency,
            rate: rate.ok_or_else(|| GoalError::NoRate(text.trim().to_owned()))?,
            refused: refused.unwrap_or(DEFAULT_SHARE),
            failed: failed.unwrap_or(DEFAULT_SHARE),
        })
    }
}

/// At commas, other than those between the digits of a number.
fn parts(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut before = None;
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let digit = |letter: Option<&char>| letter.is_some_and(char::is_ascii_digit);
        let separates = letter == ',' && !(digit(before.as_ref()) && digit(letters.peek()));
        if separates {
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(letter);
        }
        before = Some(letter);
    }
    parts.iter().map(|part| part.trim().to_owned()).collect()
}

/// `p99 < 50 ms at 2,000/s` is a bound and a rate; `at 2,000/s` is a rate.
fn split_rate(part: &str) -> (&str, Option<&str>) {
    if let Some(rate) = part.strip_prefix("at ") {
        return ("", Some(rate.trim()));
    }
    match part.split_once(" at ") {
        Some((bound, rate)) => (bound.trim(), Some(rate.trim())),
        None => (part, None),
    }
}

fn once<T>(slot: &mut Option<T>, value: T, name: &str) -> Result<(), GoalError> {
    match slot.replace(value) {
        Some(_) => Err(GoalError::Twice(name.to_owned())),
        None => Ok(()),
    }
}

fn parse_rate(text: &str) -> Result<u32, GoalError> {
    let error = || GoalError::Rate(text.to_owned());
    let digits = text.strip_suffix("/s").ok_or_else(error)?.trim_end();
    let plain = ungrouped(digits).ok_or_else(error)?;
    plain.parse().ok().filter(|rate| *rate > 0).ok_or_else(error)
}

fn parse_share(text: &str) -> Result<f64, GoalError> {
    let error = || GoalError::Share(text.to_owned());
    let percent = parse_number(text.strip_suffix('%').ok_or_else(error)?.trim_end())?;
    // Six decimals, so that what is written is what is read again.
    let percent = (percent * 1e6).round() / 1e6;
    if percent > 0.0 && percent <= 100.0 { Ok(percent / 100.0) } else { Err(error()) }
}

fn parse_time(text: &str) -> Result<Duration, GoalError> {
    let error = || GoalError::Time(text.to_owned());
    let unit_at = text.find(|letter: char| letter.is_alphabetic()).ok_or_else(error)?;
    let (number, unit) = text.split_at_checked(unit_at).ok_or_else(error)?;
    let micros = match unit {
        "us" | "µs" | "μs" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        _ => return Err(error()),
    };
    let micros = (parse_number(number.trim_end())? * micros).round();
    if !(1.0..=LONGEST).contains(&micros) {
        return Err(GoalError::TimeRange(text.to_owned()));
    }
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole, between 1 and LONGEST"
    )]
    let micros = micros as u64;
    Ok(Duration::from_micros(micros))
}

fn parse_number(text: &str) -> Result<f64, GoalError> {
    let error = || GoalError::Number(text.to_owned());
    let (whole, fraction) = text.split_once('.').map_or((text, None), |(whole, rest)| (whole, Some(rest)));
    let whole = ungrouped(whole).ok_or_else(error)?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match fraction {
        None => whole.parse().map_err(|_| error()),
        Some(fraction) if digits(fraction) => format!("{whole}.{fraction}").parse().map_err(|_| error()),
        Some(_) => Err(error()),
    }
}

/// `2,000` as `2000`. Groups are of three digits: `2,00` is a typing error, not 200.
fn ungrouped(text: &str) -> Option<String> {
    let mut groups = text.split(',');
    let first = groups.next()?;
    let grouped = text.contains(',');
    let digits = |group: &str| !group.is_empty() && group.bytes().all(|byte| byte.is_ascii_digit());
    let fits = digits(first)
        && first.len() <= if grouped { 3 } else { 12 }
        && groups.all(|group| digits(group) && group.len() == 3);
    fits.then(|| text.replace(',', ""))
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, bound) in self.latency.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{bound}")?;
        }
        write!(f, " at {}/s", super::grouped(u64::from(self.rate)))?;
        write!(f, ", refused < {} %, failed < {} %", percent(self.refused), percent(self.failed))
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = u64::try_from(self.below.as_micros()).unwrap_or(u64::MAX);
        let (value, unit) = match micros {
            micros if micros.is_multiple_of(1_000_000) => (micros / 1_000_000, "s"),
            micros if micros.is_multiple_of(1000) => (micros / 1000, "ms"),
            micros => (micros, "us"),
        };
        write!(f, "{} < {value} {unit}", self.quantile.name())
    }
}

fn percent(share: f64) -> String {
    let text = format!("{:.6}", share * 100.0);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
