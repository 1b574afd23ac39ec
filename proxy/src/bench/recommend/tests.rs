//! Goals as they are written, knees, what no setting says, Little's law, and the policy.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::grid::{Grid, Point};
use super::super::result::{Conditions, Counts, Latency, Occupancy, Upstream};
use super::*;

mod goals;
mod knees;
mod none;
mod policies;

/// A setting of connections and pending requests.
pub(in crate::bench) fn limits(connections: u32, pending: u32) -> Limits {
    Limits { max_connections: Some(connections), max_pending: Some(pending), max_requests: None }
}

/// One second at `rate`, all of it succeeded, with the p99 in milliseconds and the others below it.
pub(in crate::bench) fn point(limits: Limits, rate: u32, p99: f64) -> Measured {
    let due = u64::from(rate);
    Measured {
        point: Point { proxy: Proxy::Portcullis, limits, rate },
        seconds: 1.0,
        counts: Counts { due, succeeded: due, ..Counts::default() },
        latency: Latency {
            mean: p99 / 2.0,
            p50: p99 / 2.0,
            p90: p99 * 0.9,
            p99,
            p999: p99 * 1.1,
            max: p99 * 1.2,
        },
        upstream: None,
        occupancy: Vec::new(),
        cpu: None,
    }
}

/// As [`point`], with that many requests refused by `max-pending`.
pub(in crate::bench) fn refusing(limits: Limits, rate: u32, p99: f64, refused: u64) -> Measured {
    let mut measured = point(limits, rate, p99);
    measured.counts.succeeded -= refused;
    measured.counts.refused.insert("max-pending".to_owned(), refused);
    measured
}

/// A sweep of these points.
pub(in crate::bench) fn sweep(points: Vec<Measured>) -> Sweep {
    let grid = Grid {
        max_connections: Vec::new(),
        max_pending: Vec::new(),
        max_requests: Vec::new(),
        rates: Vec::new(),
    };
    let conditions = Conditions {
        version: "1.2.3".to_owned(),
        latency: "10ms".to_owned(),
        concurrency: None,
        body: 1024,
        seconds: 1.0,
        grid,
        target: None,
        machine: BTreeMap::from([("cpus".to_owned(), "2".to_owned())]),
    };
    Sweep { conditions, points }
}

/// The goal of this text.
pub(in crate::bench) fn goal(text: &str) -> Goal {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// By hand: 10 ms in the upstream and 2 ms added, so a request keeps a connection for 12 ms. At 400/s that is 400 x 0.012
/// = 4.8 connections; of 6 they are 80 %, and 6 / 0.012 s = 500/s is the most that gets through.
#[test]
fn littles_law_is_as_computed_by_hand() {
    let seen = Upstream { answered: 100, mean: 10.0, peak_requests: 5 };
    let with = |rate, mean| {
        let mut measured = point(limits(6, 8), rate, 60.0);
        measured.upstream = Some(seen);
        measured.latency.mean = mean;
        measured
    };
    let moment = |at, connections, idle| Occupancy { at, connections, idle, active: 4, waiting: 0 };
    let (quiet, mut busy) = (with(100, 12.0), with(400, 30.0));
    busy.occupancy = vec![moment(0, 6, 1), moment(50, 6, 2)];
    let sweep = sweep(vec![quiet, busy.clone()]);
    let law = LittlesLaw::of(&sweep, &busy).unwrap();
    let close =
        |value: f64, expected: f64| assert!((value - expected).abs() < 1e-9, "{value}, not {expected}");
    close(law.added, 2.0);
    close(law.time(), 12.0);
    close(law.needed, 4.8);
    close(law.connections(), 5.0);
    close(law.in_use.unwrap(), 4.5);
    close(law.utilisation().unwrap(), 0.8);
    close(law.ceiling().unwrap(), 500.0);
    close(law.throughput, 400.0);
}

#[test]
fn littles_law_says_nothing_of_an_upstream_that_was_not_seen() {
    let mut measured = point(limits(6, 8), 400, 60.0);
    assert_eq!(LittlesLaw::of(&sweep(vec![measured.clone()]), &measured), None);
    measured.upstream = Some(Upstream::default());
    assert_eq!(LittlesLaw::of(&sweep(vec![measured.clone()]), &measured), None);
    measured.upstream = Some(Upstream { answered: 1, mean: 10.0, peak_requests: 1 });
    measured.point.limits.max_connections = None;
    let law = LittlesLaw::of(&sweep(vec![measured.clone()]), &measured).unwrap();
    assert_eq!((law.utilisation(), law.ceiling()), (None, None), "no limit has neither");
}

/// 45 ms of 50 ms is 90 %: it meets the goal, and has no headroom.
#[test]
fn the_tightest_setting_with_headroom_is_recommended() {
    let goal = goal("p99 < 50 ms at 100/s");
    let points =
        vec![point(limits(16, 8), 100, 20.0), point(limits(8, 8), 100, 44.0), point(limits(4, 8), 100, 45.0)];
    let found = recommend(&sweep(points.clone()), &goal).unwrap();
    assert_eq!((found.limits, found.headroom), (limits(8, 8), true));
    assert_eq!(found.candidates, [limits(4, 8), limits(8, 8), limits(16, 8)]);
    let found = recommend(&sweep(points[2..].to_vec()), &goal).unwrap();
    assert_eq!((found.limits, found.headroom), (limits(4, 8), false));
}

#[test]
fn a_goal_is_judged_at_the_lowest_load_that_is_high_enough_and_by_our_own_points() {
    let mut theirs = point(limits(1, 1), 200, 1.0);
    theirs.point.proxy = Proxy::Envoy;
    let points = vec![
        theirs,
        point(limits(2, 8), 100, 1.0),
        point(limits(4, 8), 200, 10.0),
        point(limits(4, 8), 400, 900.0),
    ];
    let found = recommend(&sweep(points), &goal("p99 < 50 ms at 150/s")).unwrap();
    assert_eq!((found.limits, found.measured.point.rate), (limits(4, 8), 200));
}
