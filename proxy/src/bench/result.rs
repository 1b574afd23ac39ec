//! What was measured, as it is kept and reported.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::grid::{Grid, Point};

/// Under what circumstances a sweep was made. Points of different ones are never mixed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Conditions {
    /// `portcullis` version.
    pub version: String,
    /// How the upstream behaves, as on the command line: `lognormal:10ms,0.5` or the like.
    pub latency: String,
    /// Requests that the upstream works on at a time; the others wait in it.
    pub concurrency: Option<u32>,
    /// Bytes of each answer's body.
    pub body: u32,
    /// Seconds for which each point is measured, after its warm-up.
    pub seconds: f64,
    /// What is swept.
    pub grid: Grid,
    /// The URL measured instead of a pair that the bench starts.
    pub target: Option<String>,
    /// What ran: CPUs, kernel, versions of compared proxies; by name.
    pub machine: BTreeMap<String, String>,
}

/// One measured point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Measured {
    /// What.
    pub point: Point,
    /// Seconds over which requests were due.
    pub seconds: f64,
    /// What became of the requests.
    pub counts: Counts,
    /// Of requests that succeeded, from the moment each was due, in milliseconds.
    pub latency: Latency,
    /// What the upstream saw; `None` when it is not ours.
    pub upstream: Option<Upstream>,
    /// The client sidecar's pool over time; empty when it cannot be asked.
    pub occupancy: Vec<Occupancy>,
    /// CPU seconds that the sidecars took, together; `None` when they are not ours to see.
    pub cpu: Option<f64>,
}

/// Requests, each counted once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Due in the measured time.
    pub due: u64,
    /// Answered with a status below 400.
    pub succeeded: u64,
    /// Refused by a limit, by the limit's name (`x-portcullis-overflow`; `unnamed` for Envoy's `x-envoy-overloaded`).
    pub refused: BTreeMap<String, u64>,
    /// Answered with any other status of 400 and above, not answered, or broken; by what.
    pub failed: BTreeMap<String, u64>,
    /// Not sent, because the load generator itself had no connection left: the measurement is not to be trusted.
    pub unsent: u64,
    /// Sent more than a millisecond after they were due; they are measured from when they were due all the same.
    pub late: u64,
}

impl Counts {
    /// All that a limit refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.values().sum()
    }

    /// All that failed otherwise, those never sent included.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failed.values().sum::<u64>() + self.unsent
    }
}

/// Percentiles, in milliseconds; zero when nothing succeeded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Latency {
    /// Arithmetic mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 90 of 100 took no longer.
    pub p90: f64,
    /// 99 of 100.
    pub p99: f64,
    /// 999 of 1,000.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

/// What the upstream saw while a point was measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Upstream {
    /// Requests that it answered.
    pub answered: u64,
    /// Mean time it took for one, waiting for its own concurrency included, in milliseconds.
    pub mean: f64,
    /// Most requests under way in it at any instant.
    pub peak_requests: u64,
}

/// The client sidecar's pool at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Occupancy {
    /// Milliseconds since the measurement began.
    pub at: u64,
    /// Connections open.
    pub connections: u64,
    /// Of those, without a request.
    pub idle: u64,
    /// Requests under way.
    pub active: u64,
    /// Requests that wait for a connection.
    pub waiting: u64,
}

/// A whole sweep, or as much of it as was done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sweep {
    /// Under what circumstances.
    pub conditions: Conditions,
    /// In the order in which they were measured.
    pub points: Vec<Measured>,
}

impl Measured {
    /// Requests per second that succeeded.
    #[must_use]
    pub fn throughput(&self) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "fewer than 2^52 requests")]
        let succeeded = self.counts.succeeded as f64;
        if self.seconds > 0.0 { succeeded / self.seconds } else { 0.0 }
    }

    /// The share of the due requests that limits refused, 0 to 1.
    #[must_use]
    pub fn refused_share(&self) -> f64 {
        share(self.counts.refused(), self.counts.due)
    }

    /// The share of the due requests that failed otherwise, 0 to 1.
    #[must_use]
    pub fn failed_share(&self) -> f64 {
        share(self.counts.failed(), self.counts.due)
    }
}

#[allow(clippy::cast_precision_loss, reason = "fewer than 2^52 requests")]
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Milliseconds, with their fraction.
#[must_use]
pub fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
