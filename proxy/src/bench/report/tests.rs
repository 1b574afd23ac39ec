//! What the page says, and what of it can be seen.

use super::super::grid::Proxy;
use super::super::recommend::tests::{goal, limits, point, refusing, sweep};
use super::super::recommend::{EXAMPLE_HOST, Goal, destination_rule_yaml, namespace_of};
use super::super::result::{Measured, Sweep};
use super::html;

const HOST: &str = "api.shop.svc.cluster.local";

/// Two settings that meet the goal, of which the one with 4 connections is the tightest, and one that does not.
fn measured() -> (Sweep, Goal) {
    let points = vec![
        refusing(limits(1, 8), 100, 10.0, 50),
        point(limits(4, 8), 100, 20.0),
        point(limits(8, 8), 100, 15.0),
    ];
    (sweep(points), goal("p99 < 50 ms at 100/s"))
}

fn page(again: &[&Measured]) -> String {
    let (sweep, goal) = measured();
    html(&sweep, Some(&goal), again, HOST)
}

fn rule(connections: u32) -> String {
    super::numbers::escaped(&destination_rule_yaml(&limits(connections, 8), HOST, "shop"))
}

#[test]
fn a_setting_that_was_not_measured_again_is_said_to_be_so() {
    let page = page(&[]);
    assert!(page.contains("It was not measured again."));
    assert!(page.contains(&rule(4)));
}

#[test]
fn a_setting_that_held_twice_is_stood_by() {
    let page = page(&[&point(limits(4, 8), 100, 30.0)]);
    assert!(page.contains("The goal is met.") && !page.contains("The goal is missed."));
    assert!(page.contains("<h2>Recommended setting</h2>") && page.contains(&rule(4)));
}

#[test]
fn where_the_tightest_did_not_hold_the_next_one_is_stood_by() {
    let page = page(&[&point(limits(4, 8), 100, 70.0), &point(limits(8, 8), 100, 30.0)]);
    assert!(page.contains("The goal is missed.") && page.contains("The goal is met."));
    assert!(page.contains("is tighter, but missed it when it was measured again"));
    assert!(page.contains(&rule(8)) && !page.contains(&rule(4)));
}

#[test]
fn where_none_held_there_is_no_rule() {
    let page = page(&[&point(limits(4, 8), 100, 70.0)]);
    assert!(page.contains("<h2>No setting held the goal</h2>") && page.contains("The goal is missed."));
    assert!(!page.contains("kind: DestinationRule") && !page.contains("A frame marks"));
}

/// Neither one that was never a candidate, nor one that missed the goal in the sweep, confirms anything.
#[test]
fn another_setting_confirms_nothing() {
    for other in [point(limits(2, 2), 100, 1.0), point(limits(1, 8), 100, 1.0)] {
        let page = page(&[&other]);
        assert!(page.contains("It was not measured again.") && !page.contains("The goal is met."));
        assert!(page.contains(&rule(4)));
    }
}

#[test]
fn the_namespace_is_the_hosts() {
    assert_eq!(namespace_of(EXAMPLE_HOST), "production");
    assert_eq!(namespace_of("api"), "default");
    assert_eq!(namespace_of("api..x"), "default");
}

#[test]
fn a_page_needs_nothing_but_itself_and_runs_nothing() {
    let page = page(&[]);
    for outside in ["<script", "<link", "src=", "url(", "@import", "onload"] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(page.starts_with("<!DOCTYPE html>"));
}

#[test]
fn what_others_wrote_is_no_markup() {
    let (mut sweep, goal) = measured();
    sweep.conditions.machine.insert("<b>".to_owned(), "\"><script>1</script>".to_owned());
    let page = html(&sweep, Some(&goal), &[], "<i>.x");
    assert!(!page.contains("<b>") && !page.contains("<script>") && !page.contains("<i>"));
    assert!(page.contains("&lt;script&gt;") && page.contains("&lt;i&gt;"));
}

/// Three settings that succeed alike at both loads: each one's colour is in the line of every segment.
#[test]
fn curves_that_coincide_are_all_seen() {
    let at = |connections, rate| point(limits(connections, 8), rate, 20.0);
    let points: Vec<Measured> = [1, 2, 4].into_iter().flat_map(|one| [at(one, 100), at(one, 200)]).collect();
    let page = html(&sweep(points), None, &[], HOST);
    let plot = page.split("<svg ").find(|part| part.contains("Throughput against offered load")).unwrap();
    for colour in ["#0072B2", "#E69F00", "#009E73"] {
        let dashes = plot.matches(&format!("stroke=\"{colour}\"")).count();
        assert!(dashes >= 3, "{colour}: {dashes}");
    }
}

#[test]
fn only_our_own_knees_are_ringed() {
    let ours = [point(limits(4, 8), 100, 10.0), point(limits(4, 8), 200, 900.0)];
    let theirs = ours.clone().map(|mut measured| {
        measured.point.proxy = Proxy::Envoy;
        measured
    });
    let rings = |points: Vec<Measured>| html(&sweep(points), None, &[], HOST).matches("r=\"10\"").count();
    assert_eq!(rings(ours.to_vec()), 5, "one in each of five plots");
    assert_eq!(rings(theirs.to_vec()), 0);
    assert_eq!(rings(ours.into_iter().chain(theirs).collect()), 5);
}
