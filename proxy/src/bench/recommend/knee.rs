//! Where more load stops paying.

use super::super::result::Measured;

/// A load holds when at least this part of it succeeds.
const FOLLOWS: f64 = 0.99;
/// A load holds when its p99 is at most this many times the p99 of an unloaded pool.
const TAKES_OFF: f64 = 3.0;
/// Below this many milliseconds above the unloaded pool, a p99 has not taken off: a scheduler's hiccup is as long.
const HICCUP: f64 = 2.0;

/// Up to where one setting carries load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Knee {
    /// Nothing was measured.
    Unknown,
    /// Not even the lowest measured load holds; it is given.
    Below(u32),
    /// The highest load that holds, while a higher one does not.
    At(u32),
    /// Every measured load holds; the highest is given.
    Beyond(u32),
}

impl Knee {
    /// The load, if the knee lies within what was measured.
    #[must_use]
    pub fn rate(self) -> Option<u32> {
        match self {
            Self::At(rate) => Some(rate),
            Self::Unknown | Self::Below(_) | Self::Beyond(_) => None,
        }
    }
}

/// The knee of one setting, given its points at several loads, in any order.
///
/// A load *holds* when at least 99 % of it succeeds and its p99 has not taken off: it is at most three times the
/// unloaded p99, or less than 2 ms above it. The unloaded p99 is the lowest one of a load that is followed to 99 %.
/// The knee is the highest load that holds. So one load spoilt by noise does not move it: what holds at a higher load
/// would have held at that one too.
#[must_use]
pub fn knee(points: &[&Measured]) -> Knee {
    let rates = || points.iter().map(|measured| measured.point.rate);
    let (Some(lowest), Some(highest)) = (rates().min(), rates().max()) else {
        return Knee::Unknown;
    };
    let following = || points.iter().filter(|measured| follows(measured));
    let unloaded = following().map(|measured| measured.latency.p99).fold(f64::INFINITY, f64::min);
    let holding = following().filter(|measured| {
        let p99 = measured.latency.p99;
        p99 <= unloaded * TAKES_OFF || p99 <= unloaded + HICCUP
    });
    match holding.map(|measured| measured.point.rate).max() {
        None => Knee::Below(lowest),
        Some(rate) if rate == highest => Knee::Beyond(rate),
        Some(rate) => Knee::At(rate),
    }
}

fn follows(measured: &Measured) -> bool {
    let offered = f64::from(measured.point.rate);
    measured.counts.succeeded > 0 && measured.counts.unsent == 0 && measured.throughput() >= offered * FOLLOWS
}
