//! Little's law beside a measurement: requests under way = rate x time each takes.

use super::super::grid::Proxy;
use super::super::result::{Measured, Sweep};

/// How many connections a load keeps busy, by calculation and as measured.
///
/// HTTP/1.1 carries one request per connection, so requests under way are connections in use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LittlesLaw {
    /// Offered load, in requests per second.
    pub rate: f64,
    /// Mean time of a request in the upstream, in milliseconds.
    pub upstream: f64,
    /// What the pair of sidecars adds, in milliseconds: mean latency less the upstream's mean, the lowest that any
    /// setting shows at the lowest measured load, where next to nothing queues.
    pub added: f64,
    /// Connections busy on average by the law: rate x (upstream + added).
    pub needed: f64,
    /// The limit that is set.
    pub limit: Option<u32>,
    /// Connections in use on average, as sampled in the sidecar.
    pub in_use: Option<f64>,
    /// Requests per second that succeeded.
    pub throughput: f64,
}

impl LittlesLaw {
    /// Of one point of a sweep; `None` when the upstream's time is not known.
    #[must_use]
    pub fn of(sweep: &Sweep, measured: &Measured) -> Option<Self> {
        let upstream = measured.upstream.filter(|seen| seen.answered > 0)?.mean;
        let added = added(sweep).unwrap_or(0.0);
        let rate = f64::from(measured.point.rate);
        let needed = rate * (upstream + added) / 1000.0;
        needed.is_finite().then(|| Self {
            rate,
            upstream,
            added,
            needed,
            limit: measured.point.limits.max_connections,
            in_use: in_use(measured),
            throughput: measured.throughput(),
        })
    }

    /// Milliseconds for which one request keeps a connection.
    #[must_use]
    pub fn time(&self) -> f64 {
        self.upstream + self.added
    }

    /// The fewest connections with which no queue grows without end.
    #[must_use]
    pub fn connections(&self) -> f64 {
        self.needed.ceil().max(1.0)
    }

    /// The part of the limit that is busy on average; from 1 on, a queue grows.
    #[must_use]
    pub fn utilisation(&self) -> Option<f64> {
        self.limit.filter(|limit| *limit > 0).map(|limit| self.needed / f64::from(limit))
    }

    /// The most requests per second that the limit lets through.
    #[must_use]
    pub fn ceiling(&self) -> Option<f64> {
        let limit = self.limit?;
        (self.time() > 0.0).then(|| f64::from(limit) * 1000.0 / self.time())
    }
}

/// Connections that carried a request, on average over the measured time.
#[must_use]
pub fn in_use(measured: &Measured) -> Option<f64> {
    let mean = |sum: f64| sum / count(measured.occupancy.len());
    let busy = measured.occupancy.iter().map(|moment| number(moment.connections.saturating_sub(moment.idle)));
    (!measured.occupancy.is_empty()).then(|| mean(busy.sum()))
}

fn added(sweep: &Sweep) -> Option<f64> {
    let ours = || sweep.points.iter().filter(|measured| measured.point.proxy == Proxy::Portcullis);
    let usable = || ours().filter(|measured| measured.counts.succeeded > 0 && measured.upstream.is_some());
    let lowest = usable().map(|measured| measured.point.rate).min()?;
    usable()
        .filter(|measured| measured.point.rate == lowest)
        .filter_map(|measured| Some((measured.latency.mean - measured.upstream?.mean).max(0.0)))
        .min_by(f64::total_cmp)
}

#[allow(clippy::cast_precision_loss, reason = "fewer than 2^52")]
fn number(count: u64) -> f64 {
    count as f64
}

#[allow(clippy::cast_precision_loss, reason = "fewer than 2^52")]
fn count(samples: usize) -> f64 {
    samples as f64
}
