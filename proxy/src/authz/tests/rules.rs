//! What policies say of connections and requests, one table for each promise.

use http::Request;
use http::request::Parts;

use super::*;
use crate::authz::Verdict::{self, Denied, DependsOnRequest, Permitted};

pub(super) fn admitted(peer: Option<&VerifiedPeer>, port: u16) -> Admitted {
    let client = ClientAddr::new(([10, 0, 0, 1], 40_000).into());
    let sni = peer.map(|_| "api.example".to_owned());
    let facts = ConnectionFacts { client, destination: ([10, 0, 0, 2], port).into(), port, sni };
    let own = TrustDomain::parse("cluster.local").unwrap();
    admit(&plaintext(), peer.map_or(Caller::Plaintext, Caller::Verified), facts, &own).unwrap()
}

pub(super) fn head(method: &str, path: &str, host: &str, fields: &[(&str, &str)]) -> Parts {
    let mut builder = Request::builder().method(method).uri(path).header("host", host);
    for (name, value) in fields {
        builder = builder.header(*name, *value);
    }
    builder.body(()).unwrap().into_parts().0
}

pub(super) fn texts<T, E: std::fmt::Debug>(
    any: &[&str],
    none: &[&str],
    parse: fn(&str) -> Result<T, E>,
) -> Listed<T> {
    let all = |texts: &[&str]| texts.iter().map(|text| parse(text).unwrap()).collect();
    Listed { any: all(any), none: all(none) }
}

pub(super) fn policy(action: Action, name: &str, rules: Vec<AuthorizationRule>) -> AuthorizationPolicy {
    let rule = RuleRef::resource("AuthorizationPolicy", "production", name);
    AuthorizationPolicy { rule, action, rules }
}

pub(super) fn rule(
    name: &str,
    from: Vec<Source>,
    to: Vec<Operation>,
    when: Vec<Condition>,
) -> AuthorizationRule {
    let rule = RuleRef::resource("AuthorizationPolicy", "production", name).with_remark("rules[0]");
    AuthorizationRule { rule, from, to, when }
}

pub(super) fn inbound(policies: Vec<AuthorizationPolicy>) -> InboundPolicy {
    InboundPolicy::strict_everywhere().with_authorization(Authorization::new(policies))
}

fn principals(any: &[&str], none: &[&str]) -> Source {
    Source { principals: texts(any, none, PrincipalMatch::parse), ..Source::default() }
}

fn namespaces(any: &[&str], none: &[&str]) -> Source {
    Source { namespaces: texts(any, none, StringMatch::parse), ..Source::default() }
}

fn paths(any: &[&str], none: &[&str]) -> Operation {
    Operation { paths: texts(any, none, PathMatch::parse), ..Operation::default() }
}

fn methods(any: &[&str], none: &[&str]) -> Operation {
    Operation { methods: texts(any, none, StringMatch::parse), ..Operation::default() }
}

fn port(number: u16) -> Operation {
    Operation { ports: Listed { any: vec![number], none: vec![] }, ..Operation::default() }
}

fn one(action: Action, from: Vec<Source>, to: Vec<Operation>, when: Vec<Condition>) -> InboundPolicy {
    inbound(vec![policy(action, "x", vec![rule("x", from, to, when)])])
}

#[tokio::test]
async fn sources_are_alternatives_and_their_fields_add_up() {
    let peer = verified_peer().await;
    let blocks = |text: &str| Listed { any: vec![text.parse().unwrap()], none: vec![] };
    let both = |namespace, block| Source { ip_blocks: blocks(block), ..namespaces(&[namespace], &[]) };
    let web = "cluster.local/ns/production/sa/web";
    let accounts = |text: &str| Source {
        service_accounts: Listed {
            any: vec![ServiceAccount::parse(text, "production").unwrap()],
            none: vec![],
        },
        ..Source::default()
    };
    // Whether the peer is met, and whether a plaintext caller is, who has no identity.
    for (from, met, met_without_identity) in [
        (vec![], true, true),
        (vec![principals(&[web], &[])], true, false),
        (vec![principals(&["*"], &[])], true, false),
        (vec![principals(&["x/y", web], &[])], true, false),
        (vec![principals(&["x/y"], &[])], false, false),
        (vec![principals(&["x/y"], &[]), principals(&[web], &[])], true, false),
        (vec![principals(&[], &[web])], false, true),
        (vec![principals(&[], &["*"])], false, true),
        (vec![principals(&[], &["x/y"])], true, true),
        (vec![principals(&["*"], &[web])], false, false),
        (vec![namespaces(&["production"], &[])], true, false),
        (vec![namespaces(&["prod*"], &["*duction"])], false, false),
        (vec![namespaces(&[], &["other"])], true, true),
        (vec![accounts("web")], true, false),
        (vec![accounts("other/web")], false, false),
        (vec![both("production", "10.0.0.0/24")], true, false),
        (vec![both("production", "10.0.1.0/24")], false, false),
        (vec![both("other", "10.0.0.0/24")], false, false),
        (vec![Source { ip_blocks: blocks("10.0.0.1/32"), ..Source::default() }], true, true),
    ] {
        let policy = one(Action::Allow, from.clone(), vec![], vec![]);
        for (caller, met) in [(Some(&peer), met), (None, met_without_identity)] {
            let expected = if met { Permitted } else { Denied };
            assert_eq!(admitted(caller, 80).verdict(&policy), expected, "{from:?} {}", caller.is_some());
        }
    }
}

#[tokio::test]
async fn operations_are_alternatives_and_wait_for_the_request_only_where_they_must() {
    let peer = verified_peer().await;
    let get = head("GET", "/a?q=/b", "example.com:80", &[]);
    let both = Operation { paths: texts(&["/a"], &[], PathMatch::parse), ..methods(&["GET"], &[]) };
    let on = |number, operation: Operation| Operation { ports: port(number).ports, ..operation };
    let hosts = |any: &[&str]| Operation { hosts: texts(any, &[], HostMatch::parse), ..Operation::default() };
    for (to, verdict, permitted) in [
        (vec![port(80)], Permitted, true),
        (vec![port(81)], Denied, false),
        (vec![methods(&["GET"], &[])], DependsOnRequest, true),
        (vec![methods(&["get"], &[])], DependsOnRequest, false),
        (vec![methods(&[], &["GET"])], DependsOnRequest, false),
        (vec![paths(&["/a"], &[])], DependsOnRequest, true),
        (vec![paths(&["/b"], &[])], DependsOnRequest, false),
        (vec![paths(&["/*"], &["/a"])], DependsOnRequest, false),
        (vec![both.clone()], DependsOnRequest, true),
        (vec![Operation { methods: methods(&["PUT"], &[]).methods, ..both }], DependsOnRequest, false),
        (vec![methods(&["PUT"], &[]), paths(&["/a"], &[])], DependsOnRequest, true),
        (vec![on(81, methods(&["GET"], &[]))], Denied, false),
        (vec![on(81, methods(&["GET"], &[])), port(80)], Permitted, true),
        (vec![hosts(&["EXAMPLE.com"])], DependsOnRequest, true),
        (vec![hosts(&["example.com:81"])], DependsOnRequest, false),
    ] {
        let policy = one(Action::Allow, vec![], to.clone(), vec![]);
        let admitted = admitted(Some(&peer), 80);
        assert_eq!(admitted.verdict(&policy), verdict, "{to:?}");
        assert_eq!(admitted.request(&policy, &get).is_ok(), permitted, "{to:?}");
        assert_eq!(admitted.stream(&policy).is_ok(), verdict == Permitted, "{to:?}");
        let facts = RequestFacts::of(&get, &policy);
        assert_eq!(admitted.request_again(&policy, &facts).is_ok(), permitted, "{to:?}");
    }
    // Who is not met by the source is not asked for a request.
    let other = one(Action::Allow, vec![namespaces(&["other"], &[])], vec![methods(&["GET"], &[])], vec![]);
    assert_eq!(admitted(Some(&peer), 80).verdict(&other), Denied);
}

#[tokio::test]
async fn every_condition_has_to_be_met() {
    let peer = verified_peer().await;
    let header = |any: &[&str], none: &[&str]| {
        Condition::Header("x-role".parse().unwrap(), texts(any, none, StringMatch::parse))
    };
    let sni = |any: &[&str], none: &[&str]| Condition::Sni(texts(any, none, HostMatch::parse));
    let ip = |text: &str| Condition::DestinationIp(Listed { any: vec![text.parse().unwrap()], none: vec![] });
    let at = |number| Condition::DestinationPort(Listed { any: vec![number], none: vec![] });
    let role = |values: &[&'static str]| -> Vec<(&'static str, &'static str)> {
        values.iter().map(|value| ("x-role", *value)).collect()
    };
    let none = role(&[]);
    for (when, fields, verdict, allowed, denied) in [
        (vec![at(80), ip("10.0.0.2/32")], none.clone(), Permitted, true, true),
        (vec![at(80), ip("10.0.0.3/32")], none.clone(), Denied, false, false),
        (vec![sni(&["API.example"], &[])], none.clone(), Permitted, true, true),
        (vec![sni(&["*.other"], &[])], none.clone(), Denied, false, false),
        (vec![sni(&[], &["*.other"])], none.clone(), Permitted, true, true),
        (
            vec![Condition::Source(namespaces(&["production"], &[])), at(80)],
            none.clone(),
            Permitted,
            true,
            true,
        ),
        (vec![header(&["admin"], &[])], role(&["admin"]), DependsOnRequest, true, true),
        (vec![header(&["admin"], &[])], role(&["Admin"]), DependsOnRequest, false, false),
        (vec![header(&["admin"], &[])], none.clone(), DependsOnRequest, false, false),
        (vec![header(&["*"], &[])], role(&[""]), DependsOnRequest, true, true),
        (vec![header(&[], &["admin"])], none.clone(), DependsOnRequest, true, true),
        (vec![header(&[], &["admin"])], role(&["admin"]), DependsOnRequest, false, false),
        // Twice: not allowed unless each reading is, denied as soon as one is.
        (vec![header(&["admin"], &[])], role(&["user", "admin"]), DependsOnRequest, false, true),
        (vec![header(&["a*"], &[])], role(&["a", "ab"]), DependsOnRequest, true, true),
        (vec![header(&[], &["admin"])], role(&["user", "admin"]), DependsOnRequest, false, true),
        (vec![header(&["admin"], &[]), at(81)], role(&["admin"]), Denied, false, false),
    ] {
        let request = head("GET", "/", "a", &fields);
        let admitted = admitted(Some(&peer), 80);
        let allow = one(Action::Allow, vec![], vec![], when.clone());
        assert_eq!(admitted.verdict(&allow), verdict, "{when:?}");
        assert_eq!(admitted.request(&allow, &request).is_ok(), allowed, "{when:?} {fields:?}");
        let deny = one(Action::Deny, vec![], vec![], when.clone());
        assert_eq!(admitted.request(&deny, &request).is_err(), denied, "{when:?} {fields:?}");
    }
}

#[tokio::test]
async fn deny_goes_before_allow_and_without_allow_any_peer_may_come_in() {
    let peer = verified_peer().await;
    let admitted = admitted(Some(&peer), 80);
    let all = |action, name| policy(action, name, vec![rule(name, vec![], vec![], vec![])]);
    let none = |action, name| policy(action, name, vec![]);
    let default = "PeerAuthentication production/default (no ALLOW policy: any peer of the trust domain)";
    let by = |name| format!("AuthorizationPolicy production/{name} (rules[0])");
    let no_match = "no ALLOW policy matches: AuthorizationPolicy production/a".to_owned();
    use Action::{Allow, Audit, Deny};
    for (policies, verdict, cited) in [
        (vec![], Permitted, default.to_owned()),
        (vec![none(Deny, "d")], Permitted, default.to_owned()),
        (vec![none(Audit, "r"), all(Audit, "s")], Permitted, default.to_owned()),
        (vec![none(Allow, "a")], Denied, no_match.clone()),
        (vec![all(Allow, "a")], Permitted, by("a")),
        (vec![none(Allow, "a"), all(Allow, "b")], Permitted, by("b")),
        (vec![all(Deny, "d")], Denied, by("d")),
        (vec![all(Allow, "a"), all(Deny, "d")], Denied, by("d")),
        (vec![none(Allow, "a"), none(Deny, "d")], Denied, no_match),
    ] {
        let names: Vec<_> = policies.iter().map(|policy| policy.rule.to_string()).collect();
        let policy = inbound(policies);
        assert_eq!(admitted.verdict(&policy), verdict, "{names:?}");
        for decided in [admitted.stream(&policy), admitted.request(&policy, &head("GET", "/", "a", &[]))] {
            let rule = decided.as_ref().map_or_else(|denial| denial.rule(), |permit| permit.rule());
            assert_eq!(
                (rule.to_string(), decided.is_ok()),
                (cited.clone(), verdict == Permitted),
                "{names:?}"
            );
        }
    }
    let many = (0..9).map(|n| policy(Allow, &format!("p{n}"), vec![])).collect();
    let text = admitted.stream(&inbound(many)).unwrap_err().to_string();
    assert!(text.starts_with(WEB) && text.ends_with("production/p3 and 5 more"), "{text}");
}

#[tokio::test]
async fn audit_records_and_changes_nothing() {
    let peer = verified_peer().await;
    let admitted = admitted(Some(&peer), 80);
    let audit = |name: &str, to| policy(Action::Audit, name, vec![rule(name, vec![], to, vec![])]);
    let policy = inbound(vec![
        audit("all", vec![]),
        audit("put", vec![methods(&["PUT"], &[])]),
        audit("path", vec![paths(&["/a"], &[])]),
        audit("other", vec![port(81)]),
    ]);
    let recorded = |permit: Permit| -> Vec<String> {
        permit.audits().iter().map(|rule| rule.name().rsplit('/').next().unwrap().to_owned()).collect()
    };
    assert_eq!(admitted.verdict(&policy), Permitted);
    assert_eq!(recorded(admitted.stream(&policy).unwrap()), ["all"]);
    for (method, path, expected) in [
        ("GET", "/b", &["all"][..]),
        ("PUT", "/b", &["all", "put"]),
        ("GET", "/a", &["all", "path"]),
        // What could be the path asked about is recorded, and no reason to refuse.
        ("GET", "/b%2f", &["all", "path"]),
    ] {
        let request = head(method, path, "a", &[]);
        assert_eq!(recorded(admitted.request(&policy, &request).unwrap()), expected, "{method} {path}");
    }
}

#[tokio::test]
async fn an_ambiguous_path_is_a_bad_request_where_a_rule_asks_about_paths() {
    let peer = verified_peer().await;
    let admitted = admitted(Some(&peer), 80);
    let odd = ["/a%2fb", "/%252e", "/a/..;/b", "/a\\b", "/%00", "/a//../b", "/%c0%af", "/%zz"];
    let deny = one(Action::Deny, vec![], vec![paths(&["/admin*"], &[])], vec![]);
    let allow = one(Action::Allow, vec![], vec![paths(&["/*"], &[])], vec![]);
    let elsewhere = Operation { ports: port(81).ports, ..paths(&["/admin*"], &[]) };
    for path in odd {
        let request = head("GET", path, "a", &[]);
        for policy in [&deny, &allow] {
            let denial = admitted.request(policy, &request).unwrap_err();
            assert!(denial.is_bad_request() && denial.label() == "ambiguous_path", "{path}: {denial}");
            assert_eq!(denial.rule().name(), "AuthorizationPolicy production/x");
        }
        for policy in [
            InboundPolicy::strict_everywhere(),
            one(Action::Deny, vec![], vec![methods(&["PUT"], &[])], vec![]),
            one(Action::Deny, vec![], vec![elsewhere.clone()], vec![]),
        ] {
            assert!(admitted.request(&policy, &request).is_ok(), "{path}");
        }
    }
    // Every reading of a path has to be allowed, and none may be denied.
    for (path, denied, allowed) in [
        ("/admin", true, false),
        ("//admin", true, false),
        ("/%61dmin", true, false),
        ("/public/../admin", true, false),
        ("/admin/../public/a", true, false),
        ("/public/./a", false, true),
        ("/public//a", false, true),
        ("/public/%2e%2e/public/a", false, true),
        ("/x/../public/a", false, false),
    ] {
        let request = head("GET", path, "a", &[]);
        assert_eq!(admitted.request(&deny, &request).is_err(), denied, "{path}");
        let allow = one(Action::Allow, vec![], vec![paths(&["/public/*"], &[])], vec![]);
        assert_eq!(admitted.request(&allow, &request).is_ok(), allowed, "{path}");
    }
}

#[tokio::test]
async fn a_stream_of_bytes_is_refused_where_a_rule_asks_about_requests() {
    let peer = verified_peer().await;
    let admitted = admitted(Some(&peer), 80);
    for action in [Action::Allow, Action::Deny] {
        let policy = one(action, vec![], vec![methods(&["GET"], &[])], vec![]);
        let denial = admitted.stream(&policy).unwrap_err();
        assert_eq!(denial.label(), "needs_http", "{denial}");
        assert_eq!(denial.rule().to_string(), "AuthorizationPolicy production/x (rules[0])");
    }
    let elsewhere = Operation { ports: port(81).ports, ..methods(&["GET"], &[]) };
    assert!(admitted.stream(&one(Action::Deny, vec![], vec![elsewhere], vec![])).is_ok());
}

#[tokio::test]
async fn a_request_under_way_is_judged_again_by_what_was_kept_of_it() {
    let peer = verified_peer().await;
    let admitted = admitted(Some(&peer), 80);
    let request = head("GET", "/a", "a", &[("x-role", "admin")]);
    let header = |name: &str, any: &[&str]| {
        Condition::Header(name.parse().unwrap(), texts(any, &[], StringMatch::parse))
    };
    let free = InboundPolicy::strict_everywhere();
    let admins = one(Action::Allow, vec![], vec![], vec![header("x-role", &["admin"])]);
    let banned = one(Action::Deny, vec![], vec![], vec![header("x-banned", &["*"])]);
    let get = one(Action::Deny, vec![], vec![methods(&["GET"], &[])], vec![]);
    let kept = RequestFacts::of(&request, &admins);
    assert!(admitted.request_again(&admins, &kept).is_ok());
    assert!(admitted.request_again(&banned, &kept).is_ok());
    assert_eq!(admitted.request_again(&get, &kept).unwrap_err().label(), "denied_by_policy");
    // No policy looked at fields, so none were kept: nobody knows whether they would be allowed.
    let forgotten = RequestFacts::of(&request, &free);
    assert!(admitted.request_again(&free, &forgotten).is_ok());
    assert_eq!(admitted.request_again(&admins, &forgotten).unwrap_err().label(), "not_allowed");
    assert_eq!(admitted.request_again(&banned, &forgotten).unwrap_err().label(), "denied_by_policy");
}

#[test]
fn verdicts_are_three() {
    let caller = admitted(None, 80);
    let verdict = |policies| caller.verdict(&inbound(policies));
    let allow = |to| policy(Action::Allow, "a", vec![rule("a", vec![], to, vec![])]);
    let deny = |to| policy(Action::Deny, "d", vec![rule("d", vec![], to, vec![])]);
    let (yes, no, open) = (|| vec![port(80)], || vec![port(81)], || vec![methods(&["GET"], &[])]);
    let table: [(Vec<AuthorizationPolicy>, Verdict); 9] = [
        (vec![deny(yes()), allow(yes())], Denied),
        (vec![deny(yes()), allow(open())], Denied),
        (vec![deny(yes()), allow(no())], Denied),
        (vec![deny(open()), allow(yes())], DependsOnRequest),
        (vec![deny(open()), allow(open())], DependsOnRequest),
        (vec![deny(open()), allow(no())], Denied),
        (vec![deny(no()), allow(yes())], Permitted),
        (vec![deny(no()), allow(open())], DependsOnRequest),
        (vec![deny(no()), allow(no())], Denied),
    ];
    for (policies, expected) in table {
        assert_eq!(verdict(policies.clone()), expected, "{policies:?}");
    }
}
