//! What came of the requests, and the one line of JSON that says so.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::client::Failure;

/// A request that leaves this much after it was due is counted as late: the load was not quite what was asked for.
const LATE: Duration = Duration::from_millis(10);

#[derive(Default)]
pub(crate) struct Report {
    sent: u64,
    late: u64,
    failed: u64,
    errors: BTreeMap<String, u64>,
    /// Words of the first failure of each reason.
    examples: BTreeMap<String, String>,
    peers: BTreeMap<String, u64>,
    latencies_us: Vec<u64>,
}

impl Report {
    pub(crate) fn sent(&mut self, after_due: Duration) {
        self.sent += 1;
        self.late += u64::from(after_due > LATE);
    }

    /// An answer, `latency` after the request was due, that shows the certificate hash `peer`.
    pub(crate) fn ok(&mut self, latency: Duration, peer: Option<String>) {
        self.latencies_us.push(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
        if let Some(peer) = peer {
            *self.peers.entry(peer).or_default() += 1;
        }
    }

    pub(crate) fn failed(&mut self, failure: &Failure) {
        self.failed += 1;
        *self.errors.entry(failure.reason()).or_default() += 1;
        self.examples.entry(failure.reason()).or_insert_with(|| failure.to_string());
    }

    /// Requests that were due and never left, because all connections were waiting.
    pub(crate) fn unsent(&mut self, count: u64) {
        if count > 0 {
            self.failed += count;
            self.errors.insert("unsent".into(), count);
        }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.sent += other.sent;
        self.late += other.late;
        self.failed += other.failed;
        for (total, part) in [(&mut self.errors, other.errors), (&mut self.peers, other.peers)] {
            for (key, count) in part {
                *total.entry(key).or_default() += count;
            }
        }
        for (reason, example) in other.examples {
            self.examples.entry(reason).or_insert(example);
        }
        self.latencies_us.extend(other.latencies_us);
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.failed == 0
    }

    pub(crate) fn finish(&mut self) -> Value {
        self.latencies_us.sort_unstable();
        json!({
            "sent": self.sent,
            "ok": self.latencies_us.len(),
            "failed": self.failed,
            "late": self.late,
            "errors": self.errors,
            "examples": self.examples,
            "peers": self.peers,
            "p50_us": self.percentile(50),
            "p99_us": self.percentile(99),
            "max_us": self.percentile(100),
        })
    }

    /// Nearest rank: the smallest latency that so many of a hundred do not exceed. `None` without any answer.
    fn percentile(&self, percent: usize) -> Option<u64> {
        let rank = (self.latencies_us.len() * percent).div_ceil(100);
        self.latencies_us.get(rank.saturating_sub(1)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let report = |latencies: &[u64]| {
            let mut report = Report::default();
            for us in latencies.iter().rev() {
                report.ok(Duration::from_micros(*us), None);
            }
            report.finish()
        };
        let hundred: Vec<u64> = (1..=100).collect();
        for (latencies, p50, p99, max) in
            [(&hundred[..], 50, 99, 100), (&[7], 7, 7, 7), (&[1, 2, 3], 2, 3, 3)]
        {
            let line = report(latencies);
            assert_eq!([&line["p50_us"], &line["p99_us"], &line["max_us"]], [p50, p99, max]);
        }
        assert_eq!(report(&[])["p50_us"], Value::Null);
    }

    #[test]
    fn parts_add_up() {
        let part = |peer: &str| {
            let mut part = Report::default();
            part.sent(Duration::ZERO);
            part.ok(Duration::from_micros(1), Some(peer.into()));
            part.sent(Duration::from_secs(1));
            part.failed(&Failure::Status(503, "no".into()));
            part
        };
        let mut report = part("aa");
        report.merge(part("aa"));
        report.merge(part("bb"));
        report.unsent(2);
        let line = report.finish();
        assert_eq!([&line["sent"], &line["ok"], &line["failed"], &line["late"]], [6, 3, 5, 3]);
        assert_eq!(line["peers"], json!({ "aa": 2, "bb": 1 }));
        assert_eq!(line["errors"], json!({ "status 503": 3, "unsent": 2 }));
        assert!(!report.is_clean());
    }
}
