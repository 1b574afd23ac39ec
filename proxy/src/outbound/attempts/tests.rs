//! The loop itself, with servers that do as a script says, under paused time.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use http::{Method, StatusCode};
use proptest::prelude::*;

use super::super::budget::Budgets;
use super::super::testing::destination;
use super::*;
use crate::pool::Stage;
use crate::route::RetryOn;

const FIRST: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

/// What the server does with one attempt.
#[derive(Debug, Clone, Copy)]
enum Act {
    Answer(u16),
    Fail(Stage),
    Hang,
}

/// Does one act after the other; the last one for ever.
struct Script {
    acts: Mutex<VecDeque<Act>>,
    last: Act,
    seen: Mutex<Vec<(Act, Target)>>,
}

impl Script {
    fn new(acts: &[Act]) -> Self {
        Self {
            acts: Mutex::new(acts.iter().copied().collect()),
            last: acts[acts.len() - 1],
            seen: Mutex::default(),
        }
    }

    fn sent(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

impl Wire for Script {
    type Answer = u16;

    async fn send(&self, target: &Target, _request: Request<RequestBody>) -> Result<u16, Failed> {
        let act = self.acts.lock().unwrap().pop_front().unwrap_or(self.last);
        self.seen.lock().unwrap().push((act, target.clone()));
        match act {
            Act::Answer(status) => Ok(status),
            Act::Fail(stage) => {
                let refusal = Refusal::NoEndpoints { destination: "api:80".into() };
                Err(Failed { refusal, stage, unsent: None, endpoint: Some(FIRST) })
            }
            Act::Hang => std::future::pending().await,
        }
    }

    fn look(&self, answer: &u16) -> (Outcome, Option<SocketAddr>) {
        let status = StatusCode::from_u16(*answer).unwrap();
        (Outcome::Answered { status, grpc: None }, Some(FIRST))
    }

    fn discard(&self, _answer: u16) {}
}

fn policy(attempts: u32) -> RetryPolicy {
    let on = RetryOn {
        connect_failure: true,
        refused_stream: true,
        reset: true,
        reset_before_request: true,
        statuses: BTreeSet::from([503, 504]),
        grpc: BTreeSet::from([14]),
    };
    RetryPolicy { attempts, per_try_timeout: None, on }
}

struct Case {
    method: Method,
    retries: RetryPolicy,
    timeout: Option<Duration>,
    max_retries: u32,
}

impl Case {
    fn of(method: Method, attempts: u32) -> Self {
        Self { method, retries: policy(attempts), timeout: None, max_retries: u32::MAX }
    }

    async fn run(&self, script: &Script) -> (Result<u16, String>, Record) {
        let budgets = Budgets::default();
        let destination = Arc::new(destination("api", 80, &[]));
        let active = budgets.enter(&destination);
        let bounds = Bounds {
            rule: &RuleRef::built_in(),
            timeout: self.timeout,
            retries: &self.retries,
            max_retries: self.max_retries,
        };
        let target = Target { destination, original: None, avoid: None, fresh: false };
        let (head, ()) = Request::builder().method(&self.method).uri("/").body(()).unwrap().into_parts();
        let (metrics, mut record) = (Metrics::new(), Record::default());
        let sent =
            send(script, target, (head, RequestBody::Empty), &bounds, (&active, &metrics), &mut record);
        let result = sent.await.map(|(answer, _)| answer).map_err(|refusal| refusal.label().to_owned());
        (result, record)
    }
}

#[tokio::test(start_paused = true)]
async fn a_get_is_sent_again_after_a_503_and_prefers_another_server() {
    let script = Script::new(&[Act::Answer(503), Act::Fail(Stage::Sent), Act::Answer(200)]);
    let (result, record) = Case::of(Method::GET, 2).run(&script).await;
    assert_eq!((result, record.attempts, record.not_retried), (Ok(200), 3, None));
    let avoided: Vec<_> = script.seen.lock().unwrap().iter().map(|(_, target)| target.avoid).collect();
    assert_eq!(avoided, [None, Some(FIRST), Some(FIRST)]);
}

#[tokio::test(start_paused = true)]
async fn a_post_is_sent_again_when_it_was_never_sent_and_at_no_other_time() {
    for (act, sent) in [
        (Act::Fail(Stage::Connecting), 2),
        (Act::Fail(Stage::Unsent), 2),
        (Act::Fail(Stage::Refused), 1),
        (Act::Fail(Stage::Sent), 1),
        (Act::Answer(503), 1),
    ] {
        let script = Script::new(&[act, Act::Answer(200)]);
        let (result, record) = Case::of(Method::POST, 2).run(&script).await;
        assert_eq!(script.sent(), sent, "{act:?}");
        assert_eq!(result == Ok(200), sent == 2, "{act:?} {result:?}");
        assert_eq!(record.not_retried, None, "{act:?} is nothing that could have been retried");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_used_connection_lost_is_sent_again_once_whatever_the_rules_say() {
    let (lost, ok) = (Act::Fail(Stage::Ended), Act::Answer(200));
    let stale = Act::Fail(Stage::Stale);
    for (method, acts, sent, result) in [
        (Method::GET, [lost, ok, ok], 2, Ok(200)),
        (Method::PUT, [lost, ok, ok], 2, Ok(200)),
        (Method::GET, [lost, lost, ok], 2, Err("no_endpoints".to_owned())),
        (Method::GET, [Act::Fail(Stage::Sent), ok, ok], 1, Err("no_endpoints".to_owned())),
        (Method::POST, [lost, ok, ok], 1, Err("no_endpoints".to_owned())),
        (Method::PATCH, [lost, ok, ok], 1, Err("no_endpoints".to_owned())),
        (Method::POST, [stale, ok, ok], 2, Ok(200)),
        (Method::POST, [stale, stale, ok], 2, Err("no_endpoints".to_owned())),
        (Method::POST, [stale, lost, ok], 2, Err("no_endpoints".to_owned())),
    ] {
        let script = Script::new(&acts);
        let (seen, record) = Case::of(method.clone(), 0).run(&script).await;
        assert_eq!((seen, script.sent()), (result, sent), "{method} {acts:?}");
        assert_eq!(record.not_retried, None);
        let fresh: Vec<bool> = script.seen.lock().unwrap().iter().map(|(_, target)| target.fresh).collect();
        assert_eq!(fresh, [false, true][..sent], "the second one is not to meet another dead connection");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_used_connection_lost_uses_up_no_retry_of_the_rules() {
    let script = Script::new(&[Act::Fail(Stage::Ended), Act::Answer(503), Act::Answer(200)]);
    let (result, record) = Case::of(Method::GET, 1).run(&script).await;
    assert_eq!((result, record.attempts), (Ok(200), 3));
    let avoided: Vec<_> = script.seen.lock().unwrap().iter().map(|(_, target)| target.avoid).collect();
    assert_eq!(
        avoided,
        [None, None, Some(FIRST)],
        "a server that closed an idle connection did nothing wrong"
    );
}

#[tokio::test(start_paused = true)]
async fn attempts_end_and_the_answer_says_so() {
    let script = Script::new(&[Act::Answer(503)]);
    let (result, record) = Case::of(Method::GET, 2).run(&script).await;
    assert_eq!((result, script.sent()), (Ok(503), 3));
    assert_eq!(record.not_retried, Some(NotRetried::Exhausted));

    let (result, record) = Case::of(Method::GET, 0).run(&script).await;
    assert_eq!((result, record.attempts, record.not_retried), (Ok(503), 1, None), "none were asked for");
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_is_used_up_refuses_the_retry() {
    let script = Script::new(&[Act::Answer(503), Act::Answer(200)]);
    let case = Case { max_retries: 0, ..Case::of(Method::GET, 2) };
    let (result, record) = case.run(&script).await;
    assert_eq!((result, record.not_retried), (Ok(503), Some(NotRetried::Budget)));

    let script = Script::new(&[Act::Answer(503), Act::Answer(200)]);
    let case = Case { max_retries: 1, ..Case::of(Method::GET, 2) };
    assert_eq!(case.run(&script).await.0, Ok(200), "control: with room for one");
}

#[tokio::test(start_paused = true)]
async fn the_timeout_holds_over_all_attempts() {
    let (second, started) = (Duration::from_secs(1), Instant::now());
    let slow = RetryPolicy { per_try_timeout: Some(second), ..policy(10) };
    let case = Case { retries: slow, timeout: Some(second * 3), ..Case::of(Method::GET, 10) };
    let script = Script::new(&[Act::Hang]);
    let (result, record) = case.run(&script).await;
    assert_eq!(result, Err("timeout".to_owned()));
    assert_eq!((record.attempts, started.elapsed()), (3, second * 3));
}

#[tokio::test(start_paused = true)]
async fn one_attempt_that_is_too_slow_makes_room_for_the_next_and_a_post_has_only_one() {
    let second = Duration::from_secs(1);
    let case = |method| {
        let retries = RetryPolicy { per_try_timeout: Some(second), ..policy(1) };
        Case { retries, ..Case::of(method, 1) }
    };
    let acts = [Act::Hang, Act::Answer(200)];
    assert_eq!(case(Method::GET).run(&Script::new(&acts)).await.0, Ok(200));

    let (script, started) = (Script::new(&acts), Instant::now());
    let (result, record) = case(Method::POST).run(&script).await;
    assert_eq!((result, record.attempts, script.sent()), (Err("timeout".to_owned()), 1, 1));
    assert_eq!(started.elapsed(), second);
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        prop_oneof![Just(200_u16), Just(404), Just(500), Just(503), Just(504)].prop_map(Act::Answer),
        prop_oneof![
            Just(Stage::Refused),
            Just(Stage::Connecting),
            Just(Stage::Unsent),
            Just(Stage::Stale),
            Just(Stage::Ended),
            Just(Stage::Sent)
        ]
        .prop_map(Act::Fail),
        Just(Act::Hang),
    ]
}

fn may_have_been_acted_upon(act: Act) -> bool {
    match act {
        Act::Answer(_) | Act::Hang | Act::Fail(Stage::Sent | Stage::Ended) => true,
        Act::Fail(Stage::Refused | Stage::Connecting | Stage::Unsent | Stage::Stale) => false,
    }
}

proptest! {
    #[test]
    fn nothing_that_may_have_been_acted_upon_is_sent_again_unless_that_does_no_harm(
        script in proptest::collection::vec(acts(), 1..8),
        attempts in 0_u32..6,
        method in prop_oneof![Just(Method::POST), Just(Method::PATCH), Just(Method::GET), Just(Method::PUT)],
    ) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let retries = RetryPolicy { per_try_timeout: Some(Duration::from_secs(1)), ..policy(attempts) };
        let timeout = Some(Duration::from_secs(60));
        let case = Case { retries, timeout, ..Case::of(method.clone(), attempts) };
        let script = Script::new(&script);
        let (_, record) = runtime.block_on(case.run(&script));
        let seen = script.seen.lock().unwrap().clone();
        let ended = seen.iter().any(|(act, _)| matches!(act, Act::Fail(Stage::Ended)));
        let stale = seen.iter().any(|(act, _)| matches!(act, Act::Fail(Stage::Stale)));
        let once_more = usize::from(stale || ended && method.is_idempotent());
        prop_assert!(seen.len() <= attempts as usize + 1 + once_more);
        prop_assert_eq!(seen.len(), record.attempts as usize);
        if !method.is_idempotent() {
            let before_the_last = &seen[..seen.len() - 1];
            prop_assert!(!before_the_last.iter().any(|(act, _)| may_have_been_acted_upon(*act)), "{seen:?}");
        }
    }
}
