//! Every way in which no setting is recommended says what came nearest, and what to try.

use super::*;

fn said(points: Vec<Measured>, text: &str) -> String {
    recommend(&sweep(points), &goal(text)).unwrap_err().to_string()
}

const START: &str = "no setting meets `p99 < 50 ms at 100/s, refused < 0.1 %, failed < 0.1 %`; maxConnections 4, \
                     http1MaxPendingRequests 8, http2MaxRequests none came nearest at 100/s: ";

/// What is said of one point, after which setting it was.
fn missed(measured: Measured) -> String {
    let said = said(vec![measured], "p99 < 50 ms at 100/s");
    said.strip_prefix(START).unwrap_or_else(|| panic!("{said}")).to_owned()
}

fn upstream(mean: f64) -> Option<Upstream> {
    Some(Upstream { answered: 100, mean, peak_requests: 4 })
}

#[test]
fn the_load_was_not_offered() {
    let text = "p99 < 50 ms at 2,000/s";
    assert_eq!(
        said(vec![point(limits(4, 8), 1000, 1.0)], text),
        "nothing was measured at 2,000/s or above (the highest is 1,000/s): sweep with a rate of at least 2,000/s"
    );
    assert_eq!(
        said(Vec::new(), text),
        "nothing was measured at 2,000/s or above: sweep with a rate of at least 2,000/s"
    );
    let mut theirs = point(limits(4, 8), 2000, 1.0);
    theirs.point.proxy = Proxy::Envoy;
    assert!(said(vec![theirs], text).starts_with("nothing was measured"), "Envoy's points are none of ours");
}

#[test]
fn the_nearest_is_named_with_what_it_missed() {
    let points =
        vec![point(limits(2, 8), 100, 200.0), point(limits(4, 8), 100, 60.0), point(limits(8, 8), 100, 70.0)];
    assert_eq!(
        said(points, "p99 < 50 ms at 100/s"),
        format!(
            "{START}p99 is 60.00 ms, 20 % above 50 ms; sweep more connections, fewer pending requests, or ask for a \
             lower rate"
        )
    );
}

#[test]
fn refusals_name_the_limit_and_what_the_law_needs() {
    assert_eq!(
        missed(refusing(limits(4, 8), 100, 10.0, 20)),
        "refused is 20.00 %, 19900 % above 0.1 %; most are refused by max-pending: sweep higher values of it, or more \
         connections"
    );
    let mut measured = refusing(limits(4, 8), 100, 10.0, 20);
    measured.upstream = upstream(5.0);
    measured.latency.mean = 10.0;
    assert!(
        missed(measured).ends_with(
            "most are refused by max-pending: sweep higher values of it, or more connections (by Little's law 1.0 are busy \
             on average at 100/s)"
        )
    );
}

#[test]
fn failures_are_not_blamed_on_limits() {
    let mut measured = point(limits(4, 8), 100, 10.0);
    measured.counts.succeeded -= 3;
    measured.counts.failed.extend([("timeout".to_owned(), 2), ("status-500".to_owned(), 1)]);
    assert_eq!(
        missed(measured),
        "failed is 3.00 %, 2900 % above 0.1 %; most failures are `timeout`, which no limit causes: look into those first"
    );
}

#[test]
fn a_generator_at_its_end_is_named() {
    let mut measured = point(limits(4, 8), 100, 10.0);
    measured.counts.unsent = 7;
    measured.counts.succeeded -= 7;
    assert_eq!(
        missed(measured),
        "7 requests were not sent at all; the load generator ran out of connections: give it more, or offer less"
    );
}

#[test]
fn nothing_succeeded() {
    let mut measured = refusing(limits(4, 8), 100, 0.0, 100);
    measured.latency = Latency::default();
    assert_eq!(
        missed(measured),
        "nothing succeeded; most are refused by max-pending: sweep higher values of it, or more connections"
    );
}

/// Where both count against them, the one that can be trusted is nearer.
#[test]
fn a_point_that_cannot_be_trusted_is_never_the_nearest() {
    let mut unsent = point(limits(2, 8), 100, 51.0);
    unsent.counts.unsent = 1;
    let said = said(vec![unsent, point(limits(4, 8), 100, 5000.0)], "p99 < 50 ms at 100/s");
    assert!(said.starts_with(START), "{said}");
}

#[test]
fn an_upstream_that_is_slower_than_the_bound_is_hopeless() {
    let mut measured = point(limits(4, 8), 100, 80.0);
    measured.upstream = upstream(50.0);
    assert_eq!(
        missed(measured),
        "p99 is 80.00 ms, 60 % above 50 ms; the upstream alone takes longer than that on average: ask for less, or make it \
         faster"
    );
}

/// By hand: 100/s x 38 ms = 3.8 busy of 4 connections, 95 %.
#[test]
fn a_pool_that_is_busy_all_the_time_is_too_small() {
    let mut measured = point(limits(4, 8), 100, 80.0);
    measured.upstream = upstream(38.0);
    measured.latency.mean = 38.0;
    assert_eq!(
        missed(measured),
        "p99 is 80.00 ms, 60 % above 50 ms; sweep more connections (by Little's law 3.8 are busy on average at 100/s), or ask \
         for a lower rate"
    );
}
