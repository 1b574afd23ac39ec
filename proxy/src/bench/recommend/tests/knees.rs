//! Where more load stops paying.

use super::*;

fn knee_of(points: &[Measured]) -> Knee {
    knee(&points.iter().collect::<Vec<_>>())
}

/// A p99 in milliseconds at each load, in requests per second; everything succeeds.
fn at(loads: &[(u32, f64)]) -> Vec<Measured> {
    loads.iter().map(|(rate, p99)| point(limits(4, 8), *rate, *p99)).collect()
}

#[test]
fn nothing_measured_has_no_knee() {
    assert_eq!(knee_of(&[]), Knee::Unknown);
    assert_eq!(Knee::Unknown.rate(), None);
}

#[test]
fn a_setting_that_holds_everywhere_has_its_knee_beyond() {
    assert_eq!(knee_of(&at(&[(100, 10.0), (200, 12.0), (400, 29.9)])), Knee::Beyond(400));
    assert_eq!(knee_of(&at(&[(100, 10.0)])), Knee::Beyond(100), "one load that holds");
}

#[test]
fn the_knee_is_the_last_load_before_p99_takes_off() {
    let mut points = at(&[(100, 10.0), (200, 12.0), (400, 30.0), (800, 30.1)]);
    assert_eq!(knee_of(&points), Knee::At(400), "three times the unloaded p99 holds, more does not");
    points.reverse();
    assert_eq!(knee_of(&points), Knee::At(400), "in any order");
    assert_eq!(Knee::At(400).rate(), Some(400));
}

#[test]
fn the_knee_is_the_last_load_that_is_followed_to_99_percent() {
    let with = |refused| {
        let mut points = at(&[(100, 10.0), (200, 10.0)]);
        points.push(refusing(limits(4, 8), 400, 10.0, refused));
        points
    };
    assert_eq!(knee_of(&with(4)), Knee::Beyond(400));
    assert_eq!(knee_of(&with(5)), Knee::At(200));
}

#[test]
fn a_setting_that_never_follows_has_its_knee_below() {
    let points = [refusing(limits(1, 1), 200, 10.0, 50), refusing(limits(1, 1), 100, 10.0, 20)];
    assert_eq!(knee_of(&points), Knee::Below(100));
    let mut nothing = point(limits(1, 1), 100, 0.0);
    nothing.counts.succeeded = 0;
    assert_eq!(knee_of(&[nothing]), Knee::Below(100));
}

/// A generator that could not send says nothing about the pool, whatever came back.
#[test]
fn a_load_that_was_not_all_sent_does_not_hold() {
    let mut points = at(&[(100, 10.0), (10_000, 10.0)]);
    points[1].counts.unsent = 1;
    assert_eq!(knee_of(&points), Knee::At(100));
}

#[test]
fn one_noisy_load_does_not_move_the_knee() {
    let quiet = at(&[(100, 10.0), (200, 11.0), (400, 12.0), (800, 300.0)]);
    assert_eq!(knee_of(&quiet), Knee::At(400));
    let noisy = at(&[(100, 10.0), (200, 500.0), (400, 12.0), (800, 300.0)]);
    assert_eq!(knee_of(&noisy), Knee::At(400));
    let noisy_at_rest = at(&[(100, 500.0), (200, 11.0), (400, 12.0), (800, 300.0)]);
    assert_eq!(knee_of(&noisy_at_rest), Knee::At(400));
}

#[test]
fn two_milliseconds_are_a_hiccup_even_where_they_are_many_times_the_p99() {
    assert_eq!(knee_of(&at(&[(100, 0.2), (200, 2.2)])), Knee::Beyond(200));
    assert_eq!(knee_of(&at(&[(100, 0.2), (200, 2.3)])), Knee::At(100));
}
