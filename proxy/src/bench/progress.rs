//! How far a sweep is: a bar on a terminal, else a line for each point. Always on standard error.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::grid::{Point, Proxy};
use super::recommend::describe;
use super::result::Measured;

/// What is left, and how it is told.
pub struct Progress {
    bar: ProgressBar,
    points: u64,
    done: u64,
    each: Duration,
}

impl Progress {
    /// Of so many points, each of which takes about so long.
    #[must_use]
    pub fn new(points: usize, each: Duration) -> Self {
        let points = u64::try_from(points).unwrap_or(u64::MAX);
        let bar = ProgressBar::new(points);
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {prefix} left  {msg}") {
            bar.set_style(style);
        }
        let progress = Self { bar, points, done: 0, each };
        progress.bar.set_prefix(span(progress.left()));
        progress
    }

    /// A point begins.
    pub fn begin(&self, point: &Point) {
        self.bar.set_message(name(point));
    }

    /// A point is done.
    pub fn done(&mut self, measured: &Measured) {
        self.done += 1;
        self.bar.set_prefix(span(self.left()));
        self.bar.inc(1);
        if self.bar.is_hidden() {
            let (done, points) = (self.done, self.points);
            eprintln!(
                "{done:>3}/{points} {}: {:.0}/s, p99 {:.1} ms, refused {:.1} %, failed {:.1} %; {} left",
                name(&measured.point),
                measured.throughput(),
                measured.latency.p99,
                100.0 * measured.refused_share(),
                100.0 * measured.failed_share(),
                span(self.left()),
            );
        }
    }

    /// Takes the bar away.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }

    fn left(&self) -> Duration {
        let points = u32::try_from(self.points.saturating_sub(self.done)).unwrap_or(u32::MAX);
        self.each.saturating_mul(points)
    }
}

/// A point, in a few words.
#[must_use]
pub fn name(point: &Point) -> String {
    let proxy = match point.proxy {
        Proxy::Portcullis => "",
        Proxy::Envoy => "envoy, ",
    };
    format!("{proxy}{} at {}/s", describe(&point.limits), point.rate)
}

/// `2m 05s`.
#[must_use]
pub fn span(time: Duration) -> String {
    let seconds = time.as_secs_f64().round();
    let (minutes, rest) = ((seconds / 60.0).floor(), seconds % 60.0);
    if minutes > 0.0 { format!("{minutes:.0}m {rest:02.0}s") } else { format!("{rest:.0}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_minutes_and_seconds() {
        for (millis, text) in [(400, "0s"), (59_400, "59s"), (59_600, "1m 00s"), (125_000, "2m 05s")] {
            assert_eq!(span(Duration::from_millis(millis)), text);
        }
    }
}
