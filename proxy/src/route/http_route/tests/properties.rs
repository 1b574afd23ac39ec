//! What holds for any policy and any request.

use std::collections::HashMap;

use http::HeaderValue;
use proptest::prelude::*;

use super::*;
use crate::route::{Destination, HttpDecision, OutboundPolicy, testing};

fn destination(port: u16, routes: HttpRules) -> Destination {
    Destination { port, routes, ..testing::destination() }
}

/// Forwards to one of the three destinations, or answers.
fn action(kind: usize) -> HttpAction {
    if kind == 0 {
        let body = bytes::Bytes::new();
        return HttpAction::Respond(DirectResponse { status: StatusCode::OK, body });
    }
    let target = |id| HttpTarget { id: DestinationId(id), headers: HeaderRules::default() };
    HttpAction::Forward(Forward {
        targets: Targets::new(vec![(target(0), 0), (target(kind), 3), (target(0), 1)]).unwrap(),
        timeout: None,
        retries: RetryPolicy::default(),
        rewrite: None,
        mirrors: Vec::new(),
    })
}

fn text() -> impl Strategy<Value = TextMatch> {
    prop_oneof![
        prop::sample::select(vec!["/", "/a", "/a/b", "GET", "api", "1", ""]).prop_map(exact),
        prop::sample::select(vec!["/", "/a", "G", "a"]).prop_map(prefix),
        prop::sample::select(vec!["/a.*", ".*", "[0-9]+", "GET|POST", "(a|b)*"]).prop_map(regex),
    ]
}

fn value() -> impl Strategy<Value = ValueMatch> {
    prop_oneof![Just(ValueMatch::Present), text().prop_map(ValueMatch::Text)]
}

fn field() -> impl Strategy<Value = HeaderName> {
    prop::sample::select(vec!["x", "y", "cookie", "host"]).prop_map(HeaderName::from_static)
}

prop_compose! {
    fn condition()(
        uri in prop::option::of((text(), any::<bool>())),
        method in prop::option::weighted(0.2, text()),
        authority in prop::option::weighted(0.2, text()),
        headers in prop::collection::vec((field(), value()), 0..2),
        without_headers in prop::collection::vec((field(), value()), 0..2),
        query in prop::collection::vec((prop::sample::select(vec!["q", "", "a"]), value()), 0..2),
    ) -> HttpMatch {
        HttpMatch {
            uri: uri.map(|(text, ignore_case)| UriMatch { text, ignore_case }),
            scheme: None,
            method,
            authority,
            headers,
            without_headers,
            query_params: query.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        }
    }
}

prop_compose! {
    /// Any request that the parser lets through, bytes beyond ASCII included.
    fn request()(
        method in prop::sample::select(vec!["GET", "POST", "OPTIONS", "brew"]),
        target in prop_oneof![
            prop::sample::select(vec!["/", "/a", "/A/b?q=1", "/a?a&q", "*", "//x", "/%zz?%"]).prop_map(str::to_owned),
            "/[!-~]{0,30}",
        ],
        fields in prop::collection::vec((field(), prop::collection::vec(0x20_u8..=0xff, 0..8)), 0..5),
    ) -> Option<Parts> {
        let mut request = http::Request::builder().method(method).uri(target);
        for (name, value) in fields {
            // DEL is no byte of a value.
            request = request.header(name, HeaderValue::from_bytes(&value).ok()?);
        }
        request.body(()).ok().map(|request| request.into_parts().0)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_first_route_that_is_met_decides_and_without_one_none_does(
        routes in prop::collection::vec((prop::collection::vec(condition(), 0..3), 0_usize..3), 0..5),
        request in request(),
        roll in any::<u64>(),
    ) {
        let Some(request) = request else { return Ok(()) };
        let routes: Vec<Arc<HttpRoute>> = routes.into_iter().enumerate().map(|(index, (matches, kind))| {
            Arc::new(HttpRoute {
                rule: RuleRef::built_in().with_remark(&index.to_string()),
                matches,
                fault: None,
                headers: HeaderRules::default(),
                action: action(kind),
            })
        }).collect();
        let expected = routes.iter().find(|route| {
            route.matches.is_empty() || route.matches.iter().any(|condition| condition.is_met(&request))
        }).cloned();
        let rules = HttpRules::Ordered { rule: RuleRef::built_in(), routes };
        let all = vec![destination(1, rules), destination(2, HttpRules::Direct), destination(3, HttpRules::Direct)];
        let policy = OutboundPolicy::new(all, HashMap::new());
        let asked = policy.destination_by_host("api", 1).unwrap();
        let decision = policy.route_http(asked, &request, |total| roll % total);
        match (expected, decision) {
            (None, Err(none)) => prop_assert_eq!(none.label(), "no_route"),
            (Some(expected), Ok(HttpDecision::Answer(route))) => prop_assert!(Arc::ptr_eq(&route, &expected)),
            (Some(expected), Ok(HttpDecision::Forward { route, target, destination })) => {
                prop_assert!(Arc::ptr_eq(&route, &expected));
                prop_assert!(Arc::ptr_eq(policy.get(target.id).unwrap(), &destination));
            }
            (expected, decision) => prop_assert!(false, "{:?} but {:?}", expected, decision),
        }
    }

    #[test]
    fn no_change_makes_or_takes_a_reserved_field(
        names in prop::collection::vec(prop_oneof![
            "[a-zA-Z0-9_.~-]{1,12}",
            prop::sample::select(vec![
                "host", "Content-Length", "transfer_encoding", "te", "x-portcullis-x", "x_forwarded_client_cert",
            ]).prop_map(str::to_owned),
        ], 0..12),
    ) {
        let names: Vec<HeaderName> = names.iter().filter_map(|name| name.parse().ok()).collect();
        let value = HeaderValue::from_static("policy");
        let pairs: Vec<_> = names.iter().map(|name| (name.clone(), value.clone())).collect();
        let mut headers = http::HeaderMap::new();
        for name in ["host", "content-length", "transfer-encoding", "x-forwarded-client-cert"] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static("own"));
        }
        HeaderChanges { remove: names, set: pairs.clone(), add: pairs }.apply(&mut headers);
        for (name, value) in &headers {
            prop_assert!(Reserved::of(name).is_none() || value == "own", "{}", name);
        }
        prop_assert_eq!(headers.keys().filter(|name| Reserved::of(name).is_some()).count(), 4);
    }

    #[test]
    fn a_rewrite_makes_a_request_target_or_none(
        request in request(),
        new in "/[a-z/%2]{0,10}",
        expression in prop::sample::select(vec!["a", "/", "^/a", "(.)", "%", "", "[^/]*"]),
        with in prop::sample::select(vec!["", "/", r"\0", r"\\", "x%", "%41"]),
        by_prefix in any::<bool>(),
    ) {
        let Some(request) = request else { return Ok(()) };
        let matched = UriMatch { text: prefix("/a"), ignore_case: true };
        let matched = by_prefix.then_some(&matched);
        for uri in [UriRewrite::Replace(new), UriRewrite::regex(expression, with).unwrap()] {
            let mut head = head("GET /", &[]);
            head.uri = request.uri.clone();
            let query = head.uri.query().map(str::to_owned);
            if (Rewrite { uri: Some(uri), authority: None }).apply(&mut head, matched).is_ok() {
                prop_assert!(head.uri.path() == "*" || is_path(head.uri.path()), "{}", head.uri);
                prop_assert!(head.uri.authority().is_none() && head.uri.scheme().is_none());
                prop_assert_eq!(head.uri.query().map(str::to_owned), query);
            } else {
                prop_assert_eq!(&head.uri, &request.uri);
            }
        }
    }

    #[test]
    fn a_redirect_is_a_header_value_and_leads_to_no_third_place(request in request(), https in any::<bool>()) {
        let Some(request) = request else { return Ok(()) };
        let redirect = Redirect {
            status: StatusCode::FOUND,
            uri: None,
            authority: None,
            scheme: https.then(|| "https".to_owned()),
            port: RedirectPort::AsAsked,
        };
        let location = redirect.location(&request);
        prop_assert!(HeaderValue::try_from(&location).is_ok(), "{}", location);
        prop_assert!(!location.starts_with("//"), "{}", location);
    }
}
