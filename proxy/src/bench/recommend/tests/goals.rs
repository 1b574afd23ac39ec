//! What is a goal, what is none, and who meets it.

use super::*;

#[test]
fn a_goal_is_read() {
    let read = goal("p99 < 50 ms at 2,000/s, refused < 0.1 %");
    let bound = |quantile, micros| Bound { quantile, below: Duration::from_micros(micros) };
    assert_eq!(read.latency, [bound(Quantile::P99, 50_000)]);
    assert_eq!((read.rate, read.refused, read.failed), (2000, 0.001, 0.001));
    let read = goal("P99.9<1.5s,failed<2%,  p50 < 250us , refused < 100 %, at 1/s");
    assert_eq!(read.latency, [bound(Quantile::P50, 250), bound(Quantile::P999, 1_500_000)]);
    assert_eq!((read.rate, read.refused, read.failed), (1, 1.0, 0.02));
    assert_eq!(goal("p90 < 1,000 µs at 12/s").latency, [bound(Quantile::P90, 1000)]);
}

#[test]
fn what_a_goal_is_written_as_is_read_as_the_same_goal() {
    for (text, written) in [
        ("p99<50ms at 2000/s", "p99 < 50 ms at 2,000/s, refused < 0.1 %, failed < 0.1 %"),
        (
            "at 7/s, p99.9 < 2.5 s, p50 < 1.5 ms, refused < 12.5 %",
            "p50 < 1500 us, p99.9 < 2500 ms at 7/s, refused < 12.5 %, failed < 0.1 %",
        ),
        (
            "p90 < 3,600 s at 4,294,967,295/s, failed < 0.000001 %",
            "p90 < 3600 s at 4,294,967,295/s, refused < 0.1 %, failed < 0.000001 %",
        ),
        ("p50 < 1 us at 1/s, refused < 100 %", "p50 < 1 us at 1/s, refused < 100 %, failed < 0.1 %"),
    ] {
        let read = goal(text);
        assert_eq!(read.to_string(), written);
        assert_eq!(goal(written), read, "{text}");
    }
}

#[test]
fn what_is_no_goal_is_refused_with_the_part_that_is_meant() {
    let cases: [(&str, GoalError); 29] = [
        ("", GoalError::NoBound(String::new())),
        ("p99", GoalError::NoBound("p99".to_owned())),
        ("p99 < 50 ms at 1/s,", GoalError::NoBound(String::new())),
        ("p99 <= 50 ms at 1/s", GoalError::Number("= 50".to_owned())),
        ("p95 < 50 ms at 1/s", GoalError::Name("p95".to_owned())),
        ("latency < 50 ms at 1/s", GoalError::Name("latency".to_owned())),
        ("p99 < x ms at 1/s", GoalError::Time("x ms".to_owned())),
        ("p99 < 5..0 ms at 1/s", GoalError::Number("5..0".to_owned())),
        ("p99 < 5. ms at 1/s", GoalError::Number("5.".to_owned())),
        ("p99 < -5 ms at 1/s", GoalError::Number("-5".to_owned())),
        ("p99 < 2,00 ms at 1/s", GoalError::Number("2,00".to_owned())),
        ("p99 < ms at 1/s", GoalError::Number(String::new())),
        ("p99 < 50 at 1/s", GoalError::Time("50".to_owned())),
        ("p99 < 50 min at 1/s", GoalError::Time("50 min".to_owned())),
        ("p99 < 0 ms at 1/s", GoalError::TimeRange("0 ms".to_owned())),
        ("p99 < 0.4 us at 1/s", GoalError::TimeRange("0.4 us".to_owned())),
        ("p99 < 3601 s at 1/s", GoalError::TimeRange("3601 s".to_owned())),
        ("p99 < 1 ms at 1/s, refused < 0.1", GoalError::Share("0.1".to_owned())),
        ("p99 < 1 ms at 1/s, refused < 0 %", GoalError::Share("0 %".to_owned())),
        ("p99 < 1 ms at 1/s, failed < 101 %", GoalError::Share("101 %".to_owned())),
        ("p99 < 1 ms at 0/s", GoalError::Rate("0/s".to_owned())),
        ("p99 < 1 ms at 2000", GoalError::Rate("2000".to_owned())),
        ("p99 < 1 ms at 1.5/s", GoalError::Rate("1.5/s".to_owned())),
        ("p99 < 1 ms at 4,294,967,296/s", GoalError::Rate("4,294,967,296/s".to_owned())),
        ("p99 < 1 ms at 1/s, P99 < 2 ms", GoalError::Twice("P99".to_owned())),
        ("p99 < 1 ms at 1/s, refused < 1 %, refused < 1 %", GoalError::Twice("refused".to_owned())),
        ("p99 < 1 ms at 1/s, at 2/s", GoalError::Twice("2/s".to_owned())),
        ("p99 < 1 ms, refused < 1 %", GoalError::NoRate("p99 < 1 ms, refused < 1 %".to_owned())),
        ("refused < 1 % at 1/s", GoalError::NoLatency("refused < 1 % at 1/s".to_owned())),
    ];
    for (text, expected) in cases {
        assert_eq!(text.parse::<Goal>(), Err(expected), "{text:?}");
    }
}

#[test]
fn an_error_says_what_to_write() {
    for (text, message) in [
        (
            "p99 = 1",
            "`p99 = 1` is no bound: write it like `p99 < 50 ms`, `refused < 0.1 %` or `failed < 0.1 %`",
        ),
        ("p99 < 1 ms", "`p99 < 1 ms` does not say at what load: add a rate, like `at 2,000/s`"),
        ("p99 < 1 h at 1/s", "`1 h` is no time: write a number and a unit, us, ms or s, like `50 ms`"),
    ] {
        assert_eq!(text.parse::<Goal>().unwrap_err().to_string(), message);
    }
}

#[test]
fn a_goal_is_met_below_every_bound_and_missed_at_one() {
    let goal = goal("p50 < 30 ms, p99 < 50 ms at 1,000/s, refused < 0.2 %, failed < 0.1 %");
    let good = point(limits(4, 8), 1000, 49.9);
    assert!(goal.is_met_by(&good));
    assert!(goal.is_met_by(&refusing(limits(4, 8), 1000, 49.9, 1)), "1 of 1,000 is 0.1 %");
    assert!(!goal.is_met_by(&refusing(limits(4, 8), 1000, 49.9, 2)), "0.2 % is not below 0.2 %");
    assert!(!goal.is_met_by(&point(limits(4, 8), 1000, 50.0)), "50 ms is not below 50 ms");
    assert!(!goal.is_met_by(&point(limits(4, 8), 999, 1.0)), "less was offered");
    let mut slow = good.clone();
    slow.latency.p50 = 30.0;
    assert!(!goal.is_met_by(&slow), "the other quantile");
    let mut failing = good.clone();
    failing.counts.succeeded -= 1;
    failing.counts.failed.insert("timeout".to_owned(), 1);
    assert!(!goal.is_met_by(&failing));
}

/// Shares as wide as they can be: only that something was not sent, or that nothing came back, can be against it.
#[test]
fn a_measurement_that_cannot_be_trusted_meets_no_goal() {
    let goal = goal("p99 < 50 ms at 1,000/s, refused < 100 %, failed < 100 %");
    let mut measured = point(limits(4, 8), 1000, 10.0);
    assert!(goal.is_met_by(&measured));
    measured.counts.unsent = 1;
    measured.counts.succeeded -= 1;
    assert!(!goal.is_met_by(&measured));
    let mut nothing = refusing(limits(4, 8), 1000, 10.0, 999);
    assert!(goal.is_met_by(&nothing));
    nothing.counts.succeeded = 0;
    nothing.latency = Latency::default();
    assert!(!goal.is_met_by(&nothing), "the latency of nothing is no latency");
}
