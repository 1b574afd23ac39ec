use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::time::Instant;

use super::*;
use crate::route::testing::chi_square;

fn addr(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 8443))
}

fn servers(weights: &[u32]) -> Vec<Candidate> {
    (1..).zip(weights).map(|(last, weight)| Candidate { addr: addr(last), weight: *weight }).collect()
}

fn endpoints(balancer: Balancer) -> Arc<Endpoints> {
    Arc::new(Endpoints::new(balancer, None, Instant::now()))
}

fn all(among: &[Candidate]) -> Wanted<'_> {
    Wanted { among, tried: &[], avoid: None }
}

fn counts(balancer: Balancer, weights: &[u32], picks: usize) -> Vec<u32> {
    let (endpoints, among) = (endpoints(balancer), servers(weights));
    let mut rng = StdRng::seed_from_u64(7);
    let mut counts = vec![0; weights.len()];
    for _ in 0..picks {
        let picked = endpoints.pick(all(&among), Instant::now(), &mut rng).unwrap();
        let at = among.iter().position(|candidate| candidate.addr == picked.addr()).unwrap();
        counts[at] += 1;
    }
    counts
}

#[test]
fn weights_are_honoured() {
    // 0.1 % of fair samples are beyond 16.27 with 3 degrees of freedom.
    let weights = [1, 2, 3, 10];
    for balancer in [Balancer::Random, Balancer::LeastRequest, Balancer::RoundRobin] {
        let counts = counts(balancer, &weights, 100_000);
        assert!(chi_square(&counts, &weights) < 16.27, "{balancer:?}: {counts:?}");
    }
    // The positive control.
    assert!(chi_square(&counts(Balancer::Random, &[1, 1, 1, 1], 10_000), &weights) > 1_000.0);
}

#[test]
fn round_robin_is_exact_and_smooth() {
    let (endpoints, among) = (endpoints(Balancer::RoundRobin), servers(&[3, 1]));
    let mut rng = StdRng::seed_from_u64(1);
    let picks: Vec<_> = (0..8)
        .map(|_| endpoints.pick(all(&among), Instant::now(), &mut rng).unwrap().addr() == addr(2))
        .collect();
    assert_eq!(picks, [false, false, true, false, false, false, true, false]);
}

#[test]
fn the_idle_one_of_two_is_preferred() {
    let (endpoints, among) = (endpoints(Balancer::LeastRequest), servers(&[1, 1]));
    let mut rng = StdRng::seed_from_u64(3);
    let busy = endpoints.pick(all(&among), Instant::now(), &mut rng).unwrap();
    for _ in 0..1_000 {
        let picked = endpoints.pick(all(&among), Instant::now(), &mut rng).unwrap();
        assert_ne!(picked.addr(), busy.addr());
    }
    let was_busy = busy.addr();
    drop(busy);
    let again =
        (0..100).any(|_| endpoints.pick(all(&among), Instant::now(), &mut rng).unwrap().addr() == was_busy);
    assert!(again, "a request that is over no longer counts");
}

#[test]
fn one_that_failed_is_avoided_and_one_that_was_tried_is_out() {
    let (endpoints, among) = (endpoints(Balancer::Random), servers(&[1, 1]));
    let mut rng = StdRng::seed_from_u64(5);
    let mut pick = |tried: &[SocketAddr], avoid| {
        let wanted = Wanted { among: &among, tried, avoid };
        endpoints.pick(wanted, Instant::now(), &mut rng).map(|picked| picked.addr())
    };
    for _ in 0..100 {
        assert_eq!(pick(&[], Some(addr(1))), Some(addr(2)));
        assert_eq!(pick(&[addr(2)], Some(addr(1))), Some(addr(1)), "better than none");
        assert_eq!(pick(&[addr(1), addr(2)], None), None);
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_is_left_out_is_not_chosen_until_its_time_is_over() {
    let settings = OutlierDetection {
        consecutive_5xx: Some(2),
        consecutive_gateway: None,
        interval: Duration::from_secs(1),
        base_ejection: Duration::from_secs(30),
        max_ejection_percent: 100,
        min_health_percent: 0,
    };
    let endpoints = Arc::new(Endpoints::new(Balancer::Random, Some(settings), Instant::now()));
    let among = servers(&[1, 1]);
    let mut rng = StdRng::seed_from_u64(9);
    let mut chosen = || endpoints.pick(all(&among), Instant::now(), &mut rng).unwrap().addr();
    chosen();
    for _ in 0..2 {
        endpoints.record(addr(1), Outcome::Answered(StatusCode::INTERNAL_SERVER_ERROR), Instant::now());
    }
    assert_eq!(endpoints.ejected(Instant::now()), [addr(1)]);
    assert!((0..100).all(|_| chosen() == addr(2)));
    // With all of them out, all are used again.
    for _ in 0..2 {
        endpoints.record(addr(2), Outcome::NoAnswer, Instant::now());
    }
    assert_eq!(endpoints.ejected(Instant::now()).len(), 2);
    assert!((0..100).any(|_| chosen() == addr(1)) && (0..100).any(|_| chosen() == addr(2)));
    tokio::time::advance(Duration::from_secs(30)).await;
    assert!(endpoints.ejected(Instant::now()).is_empty());
}
