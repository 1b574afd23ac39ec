//! What is done with a request that meets a route.

use std::collections::BTreeSet;
use std::time::Duration;

use http::StatusCode;

use super::*;
use crate::config::Report;
use crate::route::{FaultStatus, RetryPolicy, Share};

#[test]
fn timeouts_and_retries_have_istios_defaults() {
    let policy = api(
        "http: [
          {match: [{uri: {exact: /a}}], route: [{destination: {host: api}}]},
          {match: [{uri: {exact: /b}}], timeout: 0s, retries: {attempts: 3, retryIgnorePreviousHosts: true},
            route: [{destination: {host: api}}]},
          {match: [{uri: {exact: /c}}], timeout: 1m0.5s, retries: {attempts: 0, perTryTimeout: 250ms,
            retryOn: 'gateway-error, 429,retriable-4xx,resource-exhausted'}, route: [{destination: {host: api}}]}]",
    );
    let [a, b, c] = routes(&policy, 80) else { panic!("three routes") };
    let (a, b, c) = (forward(a), forward(b), forward(c));
    assert_eq!((a.timeout, &a.retries), (None, &RetryPolicy::default()));
    assert_eq!((b.timeout, &b.retries), (None, &RetryPolicy { attempts: 3, ..RetryPolicy::default() }));
    assert!(b.retries.on.wants_status(503) && !b.retries.on.wants_status(500) && b.retries.on.wants_grpc(14));
    assert_eq!((c.timeout, c.retries.attempts), (Some(Duration::from_millis(60_500)), 0));
    assert_eq!(c.retries.per_try_timeout, Some(Duration::from_millis(250)));
    let on = &c.retries.on;
    assert_eq!(on.statuses, BTreeSet::from([409, 429, 502, 503, 504]));
    assert_eq!(on.grpc, BTreeSet::from([8]));
    assert!(on.reset && on.connect_failure && on.refused_stream && on.reset_before_request);
}

#[test]
fn each_condition_to_retry_means_what_envoy_means() {
    let on = |text: &str| {
        let policy = api(&format!(
            "http: [{{retries: {{attempts: 1, retryOn: '{text}'}}, route: [{{destination: {{host: api}}}}]}}]"
        ));
        forward(&routes(&policy, 80)[0]).retries.on.clone()
    };
    for (text, statuses, grpc, flags) in [
        ("5xx", vec![500, 599], vec![], [true; 4]),
        ("gateway-error", vec![502, 503, 504], vec![], [true; 4]),
        ("reset", vec![], vec![], [true; 4]),
        ("connect-failure", vec![], vec![], [true, false, false, false]),
        ("refused-stream", vec![], vec![], [false, true, false, false]),
        ("reset-before-request", vec![], vec![], [false, false, false, true]),
        ("retriable-status-codes,418", vec![418], vec![], [false; 4]),
        ("cancelled,deadline-exceeded,internal,unavailable", vec![], vec![1, 4, 13, 14], [false; 4]),
    ] {
        let on = on(text);
        assert!(statuses.iter().all(|status| on.wants_status(*status)), "{text}: {on:?}");
        assert!(!on.wants_status(200) && !on.wants_status(600), "{text}");
        assert_eq!(on.grpc.iter().copied().collect::<Vec<_>>(), grpc, "{text}");
        let found = [on.connect_failure, on.refused_stream, on.reset, on.reset_before_request];
        assert_eq!(found, flags, "{text}");
    }
}

#[test]
fn answers_are_given_as_written() {
    let policy = api(
        "http: [
          {match: [{uri: {exact: /r}}], redirect: {uri: /new, authority: 'new.example', redirectCode: 308}},
          {match: [{uri: {exact: /p}}], redirect: {derivePort: FROM_REQUEST_PORT, scheme: https}},
          {match: [{uri: {exact: /d}}], redirect: {derivePort: FROM_PROTOCOL_DEFAULT, scheme: https}},
          {match: [{uri: {exact: /s}}], directResponse: {status: 503, body: {string: down}}, headers: {response:
            {set: {retry-after: '5'}}}},
          {match: [{uri: {exact: /b}}], directResponse: {status: 200, body: {bytes: AAH/}}},
          {match: [{uri: {exact: /n}}], directResponse: {status: 204}}]",
    );
    let location = |port, target: &str| {
        let head = get(target);
        let route = routes(&policy, port).iter().find(|route| route.is_met(&head)).unwrap();
        let HttpAction::Redirect(redirect) = &route.action else { panic!("{route:?}") };
        format!("{} {}", redirect.status.as_u16(), redirect.location(&head))
    };
    assert_eq!(location(80, "/r?q=1"), "308 http://new.example/new?q=1");
    assert_eq!(location(81, "/p"), "301 https://api:81/p");
    assert_eq!(location(80, "/d"), "301 https://api/d");
    let answer = |target: &str| {
        let route = routes(&policy, 80).iter().find(|route| route.is_met(&get(target))).unwrap();
        let HttpAction::Respond(response) = &route.action else { panic!("{route:?}") };
        (response.status.as_u16(), response.body.to_vec(), route.headers.response.set.len())
    };
    assert_eq!(answer("/s"), (503, b"down".to_vec(), 1));
    assert_eq!(answer("/b"), (200, vec![0, 1, 255], 0));
    assert_eq!(answer("/n"), (204, Vec::new(), 0));
    assert_eq!(served(&policy, "/n"), "answered by VirtualService production/api (http[5])");
    // As large as an answer may be, and one byte more.
    for (size, loads) in [(64 * 1024, true), (64 * 1024 + 1, false)] {
        let body = "x".repeat(size);
        let spec = format!(
            "{{hosts: [api], http: [{{directResponse: {{status: 200, body: {{string: {body}}}}}}}]}}"
        );
        let loaded: Result<Policy, Report> =
            load_for(&scope("v1"), &format!("{SERVICES}{}", virtual_service("api", &spec)));
        assert_eq!(loaded.is_ok(), loads, "{size}");
    }
}

#[test]
fn faults_and_mirrors_have_shares() {
    let policy =
        api("http: [{fault: {delay: {fixedDelay: 5s, percentage: {value: 0.1}}, abort: {httpStatus: 418}},
            mirror: {host: other, port: {number: 80}}, mirrorPercentage: {value: 12.5},
            match: [{uri: {exact: /a}}], route: [{destination: {host: api}}]},
          {fault: {abort: {grpcStatus: UNAVAILABLE, percent: 50}}, mirrors: [{destination: {host: old}},
            {destination: {host: api, subset: v2}, percentage: {value: 100}}], match: [{uri: {exact: /b}}],
            route: [{destination: {host: api}}]},
          {fault: {abort: {grpcStatus: '16'}}, mirror: {host: old}, mirrorPercent: 0,
            route: [{destination: {host: api}}]}]");
    let [a, b, c] = routes(&policy, 80) else { panic!("three routes") };
    let share = |percent| Share::percent(percent).unwrap();
    let fault = |route: &HttpRoute| route.fault.clone().unwrap();
    assert_eq!(fault(a).delay, Some((Duration::from_secs(5), share(0.1))));
    assert_eq!(fault(a).abort, Some((FaultStatus::Http(StatusCode::IM_A_TEAPOT), Share::ALL)));
    assert_eq!((fault(b).delay, fault(b).abort), (None, Some((FaultStatus::Grpc(14), share(50.0)))));
    assert_eq!(fault(c).abort, Some((FaultStatus::Grpc(16), Share::ALL)));
    let mirrors = |route: &HttpRoute| {
        let mirrors = forward(route).mirrors.iter();
        mirrors
            .map(|mirror| (policy.outbound.get(mirror.id).unwrap().to_string(), mirror.share))
            .collect::<Vec<_>>()
    };
    let host = |name: &str| format!("{name}.production.svc.cluster.local");
    assert_eq!(mirrors(a), [(format!("{}:80", host("other")), share(12.5))]);
    let second = (format!("{}:80 subset v2", host("api")), Share::ALL);
    assert_eq!(mirrors(b), [(format!("{}:8080", host("old")), Share::ALL), second]);
    assert_eq!(mirrors(c), [(format!("{}:8080", host("old")), share(0.0))]);
}

#[test]
fn a_rewrite_knows_the_prefix_that_was_matched() {
    let policy = api(
        "http: [
          {match: [{uri: {exact: /health}}, {uri: {prefix: /ratings}}, {method: {exact: PUT}}], rewrite: {uri: \
         /v1/book, authority: 'ratings.example:81'}, route: [{destination: {host: api}}]},
          {rewrite: {uriRegexRewrite: {match: '^/service/([^/]+)(/.*)$', rewrite: '\\2/instance/\\1'}}, route: \
         [{destination: {host: api}}]}]",
    );
    let rewritten = |mut head: Parts| {
        let route = routes(&policy, 80).iter().find(|route| route.is_met(&head)).unwrap();
        let matched = route.matched(&head).flatten().and_then(|matched| matched.uri.clone());
        forward(route).rewrite.as_ref().unwrap().apply(&mut head, matched.as_ref()).unwrap();
        format!("{} {}", head.headers["host"].to_str().unwrap(), head.uri)
    };
    assert_eq!(rewritten(get("/ratings/5?a")), "ratings.example:81 /v1/book/5?a");
    assert_eq!(rewritten(get("/health")), "ratings.example:81 /v1/book");
    let mut put = get("/other");
    put.method = http::Method::PUT;
    assert_eq!(rewritten(put), "ratings.example:81 /v1/book", "without a prefix the whole path");
    assert_eq!(rewritten(get("/service/foo/v1/api")), "api /v1/api/instance/foo");
}
