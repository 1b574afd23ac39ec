use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const IDEMPOTENT: [Method; 6] =
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::PUT, Method::DELETE];
const OTHERS: [Method; 3] = [Method::POST, Method::PATCH, Method::CONNECT];

fn answered(status: u16, grpc: Option<u8>) -> Outcome {
    Outcome::Answered { status: StatusCode::from_u16(status).unwrap(), grpc }
}

fn everything() -> RetryOn {
    RetryOn {
        connect_failure: true,
        refused_stream: true,
        reset: true,
        reset_before_request: true,
        statuses: (400..600).collect(),
        grpc: (0..=16).collect(),
    }
}

#[test]
fn what_is_provably_unsent_is_sent_again_whatever_the_method_if_the_rules_name_it() {
    let none = RetryOn::default();
    let connect = RetryOn { connect_failure: true, ..RetryOn::default() };
    let refused = RetryOn { refused_stream: true, ..RetryOn::default() };
    let before = RetryOn { reset_before_request: true, ..RetryOn::default() };
    let reset = RetryOn { reset: true, ..RetryOn::default() };
    for method in IDEMPOTENT.iter().chain(&OTHERS) {
        for (stage, on, again) in [
            (Stage::Connecting, &none, false),
            (Stage::Connecting, &connect, true),
            (Stage::Connecting, &refused, false),
            (Stage::Connecting, &before, true),
            (Stage::Connecting, &reset, true),
            (Stage::Unsent, &none, false),
            (Stage::Unsent, &connect, true),
            (Stage::Unsent, &refused, true),
            (Stage::Unsent, &before, true),
            (Stage::Unsent, &reset, true),
            (Stage::Refused, &everything(), false),
        ] {
            assert_eq!(is_retriable(method, Outcome::Failed(stage), on), again, "{method} {stage:?} {on:?}");
        }
    }
}

#[test]
fn what_may_have_been_acted_upon_is_sent_again_only_if_that_does_no_harm() {
    let reset = RetryOn { reset: true, ..RetryOn::default() };
    let statuses = RetryOn { statuses: BTreeSet::from([503, 504]), ..RetryOn::default() };
    let grpc = RetryOn { grpc: BTreeSet::from([14]), ..RetryOn::default() };
    let before = RetryOn { connect_failure: true, reset_before_request: true, ..RetryOn::default() };
    for (outcome, on, named) in [
        (Outcome::Failed(Stage::Sent), &reset, true),
        (Outcome::Failed(Stage::Sent), &before, false),
        (Outcome::Failed(Stage::Sent), &statuses, false),
        (Outcome::TooSlow, &reset, true),
        (Outcome::TooSlow, &statuses, true),
        (Outcome::TooSlow, &before, false),
        (answered(503, None), &statuses, true),
        (answered(500, None), &statuses, false),
        (answered(200, None), &statuses, false),
        (answered(503, None), &reset, false),
        (answered(200, Some(14)), &grpc, true),
        (answered(200, Some(13)), &grpc, false),
        (answered(200, None), &grpc, false),
    ] {
        for method in &IDEMPOTENT {
            assert_eq!(is_retriable(method, outcome, on), named, "{method} {outcome:?} {on:?}");
        }
        for method in &OTHERS {
            assert!(!is_retriable(method, outcome, on), "{method} {outcome:?} {on:?}");
        }
    }
}

#[test]
fn the_default_is_istios() {
    let on = crate::route::RetryPolicy::default().on;
    assert!(is_retriable(&Method::GET, answered(503, None), &on));
    assert!(!is_retriable(&Method::GET, answered(500, None), &on));
    assert!(!is_retriable(&Method::GET, Outcome::Failed(Stage::Sent), &on));
    assert!(is_retriable(&Method::POST, Outcome::Failed(Stage::Connecting), &on));
}

#[test]
fn the_backoff_doubles_up_to_ten_times_the_first_and_is_rolled_for() {
    let longest = |retry| backoff(retry, |end| end - 1).as_millis();
    assert_eq!([1, 2, 3, 4, 5, 60].map(longest), [24, 49, 99, 199, 249, 249]);
    assert_eq!(backoff(3, |_| 0), Duration::ZERO);
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        Just(Outcome::Failed(Stage::Sent)),
        Just(Outcome::TooSlow),
        (100_u16..600, proptest::option::of(0_u8..20)).prop_map(|(status, grpc)| answered(status, grpc)),
    ]
}

proptest! {
    #[test]
    fn no_rule_makes_a_request_be_sent_again_that_may_have_been_acted_upon(
        outcome in outcomes(),
        flags in proptest::array::uniform4(any::<bool>()),
        statuses in proptest::collection::btree_set(100_u16..600, 0..50),
        grpc in proptest::collection::btree_set(0_u8..20, 0..20),
        method in "POST|PATCH|CONNECT|get|[A-Z]{3,12}",
    ) {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let [connect_failure, refused_stream, reset, reset_before_request] = flags;
        let on = RetryOn { connect_failure, refused_stream, reset, reset_before_request, statuses, grpc };
        prop_assume!(!IDEMPOTENT.contains(&method));
        prop_assert!(!is_retriable(&method, outcome, &on));
    }
}
