use http::StatusCode;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

use super::*;
use crate::route::Share;

const TEAPOT: FaultStatus = FaultStatus::Http(StatusCode::IM_A_TEAPOT);
const ROLLS: u32 = 100_000;

fn fault(delayed: f64, aborted: f64) -> Fault {
    Fault {
        delay: Some((Duration::from_secs(5), Share::percent(delayed).unwrap())),
        abort: Some((TEAPOT, Share::percent(aborted).unwrap())),
    }
}

#[test]
fn each_fault_meets_its_share_of_the_requests_independently_of_the_other() {
    for (delayed, aborted) in [(0.0, 0.0), (100.0, 100.0), (10.0, 50.0), (0.1, 99.9)] {
        let mut dice = StdRng::seed_from_u64(7);
        let fault = fault(delayed, aborted);
        let (mut delays, mut aborts, mut both) = (0_u32, 0_u32, 0_u32);
        for _ in 0..ROLLS {
            let chosen = Chosen::by(&fault, |end| dice.random_range(0..end));
            delays += u32::from(chosen.delay.is_some());
            aborts += u32::from(chosen.abort.is_some());
            both += u32::from(chosen.delay.is_some() && chosen.abort.is_some());
        }
        let near = |count: u32, percent: f64| {
            let (expected, share) = (f64::from(ROLLS) * percent / 100.0, percent / 100.0);
            // Five standard deviations of a binomial count.
            let spread = 5.0 * (f64::from(ROLLS) * share * (1.0 - share)).sqrt();
            assert!((f64::from(count) - expected).abs() <= spread, "{count} of {expected}");
        };
        near(delays, delayed);
        near(aborts, aborted);
        near(both, delayed * aborted / 100.0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_delayed_request_waits_for_the_delay_and_no_longer_than_the_sidecar_runs() {
    let (metrics, drain) = (Metrics::new(), Drain::new());
    let chosen = Chosen { delay: Some(Duration::from_secs(5)), abort: None };
    let mut record = Record::default();
    let started = Instant::now();
    assert!(inject(chosen, (&metrics, &drain), &mut record).await.is_none());
    assert_eq!(started.elapsed(), Duration::from_secs(5));
    assert!(record.delayed && !record.aborted);

    let _ = drain.finish(Duration::ZERO).await;
    let started = Instant::now();
    assert!(inject(chosen, (&metrics, &drain), &mut record).await.is_none());
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn an_abort_answers_with_its_status_or_with_that_of_grpc() {
    let (metrics, drain) = (Metrics::new(), Drain::new());
    let mut record = Record::default();
    let mut abort = async |status| {
        let chosen = Chosen { delay: None, abort: Some(status) };
        inject(chosen, (&metrics, &drain), &mut record).await.unwrap()
    };
    assert_eq!(abort(TEAPOT).await.status(), StatusCode::IM_A_TEAPOT);
    let grpc = abort(FaultStatus::Grpc(8)).await;
    assert_eq!((grpc.status(), &grpc.headers()["grpc-status"]), (StatusCode::OK, &"8".parse().unwrap()));
    assert!(record.aborted);
}
