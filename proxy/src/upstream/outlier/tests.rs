use super::*;

const FIVE: StatusCode = StatusCode::INTERNAL_SERVER_ERROR;
const GATEWAY: StatusCode = StatusCode::BAD_GATEWAY;

fn settings() -> OutlierDetection {
    OutlierDetection {
        consecutive_5xx: Some(3),
        consecutive_gateway: Some(2),
        interval: Duration::from_secs(10),
        base_ejection: Duration::from_secs(30),
        max_ejection_percent: 50,
        min_health_percent: 0,
    }
}

fn addr(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 80))
}

fn all(count: u8) -> impl Iterator<Item = SocketAddr> + Clone {
    (1..=count).map(addr)
}

fn fail(outliers: &mut Outliers, server: u8, of: u8) {
    for _ in 0..3 {
        outliers.record(addr(server), Outcome::Answered(FIVE), all(of), Instant::now());
    }
}

#[tokio::test(start_paused = true)]
async fn failures_in_a_row_count_and_a_success_ends_the_row() {
    let table: [(&[Outcome], bool); 8] = [
        (&[Outcome::Answered(FIVE); 2], false),
        (&[Outcome::Answered(FIVE); 3], true),
        (&[Outcome::Answered(GATEWAY); 1], false),
        (&[Outcome::Answered(GATEWAY); 2], true),
        (&[Outcome::NoAnswer, Outcome::Answered(GATEWAY)], true),
        (&[Outcome::Answered(GATEWAY), Outcome::Answered(FIVE), Outcome::Answered(GATEWAY)], true),
        (&[Outcome::Answered(FIVE), Outcome::Answered(StatusCode::OK), Outcome::NoAnswer], false),
        (&[Outcome::Answered(StatusCode::NOT_FOUND); 9], false),
    ];
    for (outcomes, ejected) in table {
        let mut outliers = Outliers::new(settings(), Instant::now());
        for outcome in outcomes {
            outliers.record(addr(1), *outcome, all(4), Instant::now());
        }
        assert_eq!(outliers.is_ejected(addr(1), Instant::now()), ejected, "{outcomes:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_repeated_ejection_lasts_longer_and_good_conduct_is_remembered() {
    let mut outliers = Outliers::new(settings(), Instant::now());
    let secs = Duration::from_secs;
    for times in 1..=3 {
        fail(&mut outliers, 1, 4);
        tokio::time::advance(secs(30 * times - 1)).await;
        assert!(outliers.is_ejected(addr(1), Instant::now()), "time {times}");
        tokio::time::advance(secs(1)).await;
        assert!(!outliers.is_ejected(addr(1), Instant::now()), "time {times}");
    }
    // Three intervals in use: it is as if it had never been out.
    tokio::time::advance(secs(30)).await;
    fail(&mut outliers, 1, 4);
    tokio::time::advance(secs(30)).await;
    assert!(!outliers.is_ejected(addr(1), Instant::now()));
}

#[tokio::test(start_paused = true)]
async fn an_ejection_ends_at_the_next_look_and_has_a_longest() {
    let mut outliers = Outliers::new(settings(), Instant::now());
    tokio::time::advance(Duration::from_secs(3)).await;
    fail(&mut outliers, 1, 4);
    tokio::time::advance(Duration::from_secs(36)).await;
    assert!(outliers.is_ejected(addr(1), Instant::now()), "33 s is rounded up to 40 s");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(!outliers.is_ejected(addr(1), Instant::now()));
    for _ in 0..20 {
        fail(&mut outliers, 1, 4);
        tokio::time::advance(Duration::from_secs(310)).await;
        assert!(!outliers.is_ejected(addr(1), Instant::now()), "never much more than 300 s");
    }
}

#[tokio::test(start_paused = true)]
async fn only_a_share_may_be_out_but_one_always() {
    for (servers, percent, out) in [(4, 50, 2), (4, 49, 1), (4, 100, 4), (2, 10, 1), (1, 0, 1), (10, 30, 3)] {
        let settings = OutlierDetection { max_ejection_percent: percent, ..settings() };
        let mut outliers = Outliers::new(settings, Instant::now());
        for server in 1..=servers {
            fail(&mut outliers, server, servers);
        }
        assert_eq!(outliers.ejected(Instant::now()).len(), out, "{servers} servers, {percent} %");
    }
}

#[tokio::test(start_paused = true)]
async fn with_too_few_left_all_are_used_again() {
    for (percent, servers, failing, suspended) in
        [(0, 4, 3, false), (0, 4, 4, true), (50, 4, 2, false), (50, 4, 3, true), (100, 4, 1, true)]
    {
        let settings =
            OutlierDetection { max_ejection_percent: 100, min_health_percent: percent, ..settings() };
        let mut outliers = Outliers::new(settings, Instant::now());
        for server in 1..=failing {
            fail(&mut outliers, server, servers);
        }
        let found = outliers.is_suspended(all(servers), Instant::now());
        assert_eq!(found, suspended, "{percent} %, {failing} of {servers} failing");
    }
}
