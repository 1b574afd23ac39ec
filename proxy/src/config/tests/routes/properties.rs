//! A VirtualService with every field loads; no damage to it makes the loader panic, and whatever still loads
//! routes any request without a panic, never to what is not declared.

use proptest::prelude::*;

use super::*;

const EVERYTHING: &str = include_str!("../../testdata/routes.yaml");

const WORDS: &[&str] = &[
    "",
    "~",
    "{}",
    "[]",
    "a",
    "0",
    "-1",
    "1e9",
    "true",
    "\"\"",
    "\"\\r\\n\"",
    "/",
    "*",
    "%",
    "(",
    "\\1",
    ": ",
    ", ",
    "{",
    "}",
    "[",
    "]",
    "\n",
    "5s",
    "99999999999h",
    "{regex: \"(\"}",
    "{exact: \"\"}",
    "host",
    "match",
    "route",
    "redirect",
    "directResponse",
    "weight: 0",
    "port: 81",
    "ä",
    "\u{0}",
    "'",
];

#[test]
fn every_field_loads() {
    let policy = load(&format!("{SERVICES}{EVERYTHING}"));
    assert!(warnings(&policy).is_empty(), "{:?}", warnings(&policy));
    assert_eq!(routes(&policy, 80).len(), 6);
    assert_eq!(served(&policy, "/health"), format!("forward) to {HOST}:80 subset v1"));
    assert_eq!(served(&policy, "/nothing"), "answered by VirtualService production/everything (http[5])");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(768))]

    #[test]
    fn damaged_routes_are_refused_or_route(
        at in 0_usize..EVERYTHING.len(), length in 0_usize..30, word in prop::sample::select(WORDS),
        target in "/[!-~]{0,12}", roll in any::<u64>(),
    ) {
        prop_assume!(EVERYTHING.is_char_boundary(at));
        let (before, rest) = EVERYTHING.split_at(at);
        let text = format!("{SERVICES}{before}{word}{}", rest.get(length..).unwrap_or_default());
        let policy = match load_for(&scope("v1"), &text) {
            Ok(policy) => policy,
            Err(report) => {
                prop_assert!(!report.faults().is_empty());
                return Ok(());
            }
        };
        let Ok(asked) = policy.outbound.destination_by_host(HOST, 80) else { return Ok(()) };
        let Ok(uri) = target.parse::<http::Uri>() else { return Ok(()) };
        let mut head = get("/");
        head.uri = uri;
        match policy.outbound.route_http(asked, &head, |total| roll % total) {
            Ok(HttpDecision::Forward { route, target, destination }) => {
                prop_assert!(route.is_met(&head));
                prop_assert!(policy.outbound.destinations().any(|known| Arc::ptr_eq(known, &destination)));
                if let Some(rewrite) = &forward(&route).rewrite {
                    let matched = route.matched(&head).flatten().and_then(|matched| matched.uri.clone());
                    let _ = rewrite.apply(&mut head, matched.as_ref());
                }
                route.headers.request.apply(&mut head.headers);
                target.headers.request.apply(&mut head.headers);
                prop_assert!(head.headers.contains_key("host"));
            }
            Ok(HttpDecision::Answer(route)) => {
                if let HttpAction::Redirect(redirect) = &route.action {
                    prop_assert!(http::HeaderValue::try_from(redirect.location(&head)).is_ok());
                }
            }
            Ok(HttpDecision::Direct(_)) | Err(_) => {}
        }
    }
}
