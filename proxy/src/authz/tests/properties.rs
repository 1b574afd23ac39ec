//! What holds for any policies and any requests.

use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::strategy::ValueTree;

use super::rules::{admitted, head, inbound, policy, rule};
use super::*;

static PEERS: LazyLock<[VerifiedPeer; 3]> = LazyLock::new(|| {
    let ids = [WEB, "spiffe://cluster.local/ns/ops/sa/admin", "spiffe://cluster.local/ns/dev/sa/web"];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    ids.map(|id| runtime.block_on(verified(id)))
});

fn listed<T: Clone + std::fmt::Debug + 'static, E: std::fmt::Debug>(
    words: &'static [&'static str],
    parse: fn(&str) -> Result<T, E>,
) -> impl Strategy<Value = Listed<T>> {
    let all: Vec<T> = words.iter().map(|word| parse(word).unwrap()).collect();
    // Lists are empty more often than not, so that rules are met often enough.
    let part = move || prop_oneof![3 => Just(vec![]), 1 => subsequence(all.clone(), 0..=2)];
    (part(), part()).prop_map(|(any, none)| Listed { any, none })
}

fn source() -> impl Strategy<Value = Source> {
    let principals = [
        "*",
        "cluster.local/ns/production/sa/web",
        "*/sa/admin",
        "cluster.local/ns/ops/*",
        "cluster.local/ns/dev/sa/web",
    ];
    (
        listed(Box::leak(Box::new(principals)), PrincipalMatch::parse),
        listed(&["production", "ops", "*", "pro*"], StringMatch::parse),
        listed(&["web", "ops/admin"], |text| ServiceAccount::parse(text, "production")),
        listed(&["10.0.0.0/8", "10.0.0.1/32", "fd00::/8"], str::parse),
    )
        .prop_map(|(principals, namespaces, service_accounts, ip_blocks)| Source {
            principals,
            namespaces,
            service_accounts,
            ip_blocks,
        })
}

fn operation() -> impl Strategy<Value = Operation> {
    (
        listed(&["80", "81"], str::parse),
        listed(&["GET", "P*", "*"], StringMatch::parse),
        listed(&["/", "/a", "/a/*", "*.x", "/{*}/b", "/{**}", "*"], PathMatch::parse),
        listed(&["a.example", "*.example", "a.example:80"], HostMatch::parse),
    )
        .prop_map(|(ports, methods, paths, hosts)| Operation { ports, methods, paths, hosts })
}

fn condition() -> impl Strategy<Value = Condition> {
    let name = || select(vec!["x-a", "x-b"]).prop_map(|name| name.parse().unwrap());
    prop_oneof![
        source().prop_map(Condition::Source),
        listed(&["80", "81"], str::parse).prop_map(Condition::DestinationPort),
        listed(&["10.0.0.2/32", "10.0.0.3/32"], str::parse).prop_map(Condition::DestinationIp),
        listed(&["api.example", "*.other"], HostMatch::parse).prop_map(Condition::Sni),
        (name(), listed(&["1", "2*", "*"], StringMatch::parse))
            .prop_map(|(name, values)| Condition::Header(name, values)),
    ]
}

fn any_rule() -> impl Strategy<Value = AuthorizationRule> {
    let part = |n| 0..=n;
    (
        prop::collection::vec(source(), part(2)),
        prop::collection::vec(operation(), part(2)),
        prop::collection::vec(condition(), part(1)),
    )
        .prop_map(|(from, to, when)| rule("r", from, to, when))
}

/// The rules get names of their own, so that a permit's can be found again.
fn policies() -> impl Strategy<Value = Vec<AuthorizationPolicy>> {
    let action = select(vec![Action::Allow, Action::Deny, Action::Audit]);
    let one = (action, prop::collection::vec(any_rule(), 0..3));
    prop::collection::vec(one, 0..4).prop_map(|policies| {
        let named = policies.into_iter().enumerate().map(|(number, (action, rules))| {
            let name = format!("p{number}");
            let mut made = policy(action, &name, rules);
            for (index, rule) in made.rules.iter_mut().enumerate() {
                rule.rule = made.rule.with_remark(&format!("rules[{index}]"));
            }
            made
        });
        named.collect()
    })
}

fn request() -> impl Strategy<Value = http::request::Parts> {
    let paths = vec![
        "/",
        "/a",
        "/a/b",
        "/a/",
        "//a",
        "/a/../a/b",
        "/%61",
        "/a%2fb",
        "/b.x",
        "/x/b",
        "/a;b",
        "/%252e",
        "*",
        "/a//../b",
    ];
    let fields = prop::collection::vec((select(vec!["x-a", "x-b"]), select(vec!["1", "2", "22", ""])), 0..4);
    let hosts = vec!["a.example", "A.EXAMPLE:80", "b.example", "other"];
    (select(vec!["GET", "PUT", "POST"]), select(paths), select(hosts), fields)
        .prop_map(|(method, path, host, fields)| head(method, path, host, &fields))
}

fn callers() -> impl Strategy<Value = Admitted> {
    (prop::option::weighted(0.8, 0_usize..3), select(vec![80_u16, 81]))
        .prop_map(|(peer, port)| admitted(peer.map(|peer| &PEERS[peer]), port))
}

fn without(policies: &[AuthorizationPolicy], action: Action) -> Vec<AuthorizationPolicy> {
    policies.iter().filter(|policy| policy.action != action).cloned().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// A permit cites an ALLOW rule that is met by itself and that no DENY rule crosses, or the default, and then
    /// there is no ALLOW policy.
    #[test]
    fn every_permit_rests_on_a_rule_that_is_met_or_on_the_stated_default(
        policies in policies(), caller in callers(), request in request(),
    ) {
        let policy = inbound(policies.clone());
        let decided = [caller.request(&policy, &request), caller.stream(&policy)];
        for (permit, is_request) in decided.into_iter().zip([true, false]).filter_map(|(p, r)| Some((p.ok()?, r))) {
            let has_allow = policies.iter().any(|policy| policy.action == Action::Allow);
            let text = permit.rule().to_string();
            if text.contains("no ALLOW policy") {
                prop_assert!(!has_allow && text.starts_with("PeerAuthentication production/default ("));
            } else {
                let allow = policies.iter().filter(|policy| policy.action == Action::Allow);
                let cited = allow.flat_map(|policy| &policy.rules).find(|rule| rule.rule == *permit.rule());
                let alone = AuthorizationPolicy {
                    rule: RuleRef::built_in(), action: Action::Allow, rules: vec![cited.unwrap().clone()],
                };
                let alone = inbound(vec![alone]);
                let met = if is_request { caller.request(&alone, &request) } else { caller.stream(&alone) };
                prop_assert!(met.is_ok(), "{} is not met", text);
            }
            for deny in policies.iter().filter(|policy| policy.action == Action::Deny) {
                let alone = inbound(vec![deny.clone()]);
                let met = if is_request { caller.request(&alone, &request) } else { caller.stream(&alone) };
                prop_assert!(met.is_ok(), "{} crosses it", deny.rule);
            }
        }
    }

    #[test]
    fn a_verdict_on_the_connection_holds_for_every_request(
        policies in policies(), caller in callers(), requests in prop::collection::vec(request(), 1..6),
    ) {
        let policy = inbound(policies);
        let verdict = caller.verdict(&policy);
        prop_assert_eq!(caller.stream(&policy).is_ok(), verdict == Verdict::Permitted);
        for request in &requests {
            let decided = caller.request(&policy, request);
            match verdict {
                Verdict::Permitted => prop_assert!(decided.is_ok(), "{:?}", decided),
                Verdict::Denied => prop_assert!(decided.is_err(), "{:?}", decided),
                Verdict::DependsOnRequest => {}
            }
            // The same question has the same answer, from what is kept as well.
            let facts = RequestFacts::of(request, &policy);
            prop_assert_eq!(caller.request_again(&policy, &facts).is_ok(), decided.is_ok());
        }
    }

    #[test]
    fn another_deny_policy_never_lets_anybody_in_and_audit_changes_nothing(
        policies in policies(), more in any_rule(), at in 0_usize..5, caller in callers(), request in request(),
    ) {
        let before = inbound(policies.clone());
        let mut denying = policies.clone();
        denying.insert(at.min(policies.len()), policy(Action::Deny, "more", vec![more.clone()]));
        let after = inbound(denying);
        prop_assert!(caller.request(&before, &request).is_ok() || caller.request(&after, &request).is_err());
        prop_assert!(caller.stream(&before).is_ok() || caller.stream(&after).is_err());

        let unaudited = inbound(without(&policies, Action::Audit));
        prop_assert_eq!(caller.request(&before, &request).is_ok(), caller.request(&unaudited, &request).is_ok());
        prop_assert_eq!(caller.verdict(&before), caller.verdict(&unaudited));
    }

    /// What was not kept never helps: a new policy permits by the kept facts only what it would permit anyway.
    #[test]
    fn facts_that_were_not_kept_never_permit(
        old in policies(), new in policies(), caller in callers(), request in request(),
    ) {
        let (old, new) = (inbound(old), inbound(new));
        let kept = RequestFacts::of(&request, &old);
        prop_assert!(caller.request_again(&new, &kept).is_err() || caller.request(&new, &request).is_ok());
    }

    #[test]
    fn no_path_or_host_makes_a_decision_panic(path in "/[!-~]{0,20}", host in "[!-~]{0,20}", policies in policies(), caller in callers()) {
        let mut head = head("GET", "/", "a", &[]);
        if let Ok(uri) = path.parse() {
            head.uri = uri;
        }
        if let Ok(host) = host.parse() {
            head.headers.insert("host", host);
        }
        let _ = caller.request(&inbound(policies), &head);
    }
}

/// The properties say something only if all outcomes occur.
#[test]
fn random_policies_and_requests_have_every_outcome() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen = std::collections::BTreeMap::<&str, u32>::new();
    let inputs = (policies(), callers(), request());
    for _ in 0..3000 {
        let (policies, caller, request) = inputs.new_tree(&mut runner).unwrap().current();
        let policy = inbound(policies);
        let outcome = match caller.request(&policy, &request) {
            Ok(permit) if permit.rule().to_string().contains("no ALLOW") => "default",
            Ok(_) => "allowed",
            Err(denial) => denial.label(),
        };
        *seen.entry(outcome).or_default() += 1;
        let verdict = match caller.verdict(&policy) {
            Verdict::Permitted => "permitted",
            Verdict::Denied => "denied",
            Verdict::DependsOnRequest => "depends",
        };
        *seen.entry(verdict).or_default() += 1;
    }
    let outcomes = [
        "default",
        "allowed",
        "denied_by_policy",
        "not_allowed",
        "ambiguous_path",
        "permitted",
        "denied",
        "depends",
    ];
    for outcome in outcomes {
        assert!(seen.get(outcome).is_some_and(|count| *count >= 30), "{outcome}: {seen:?}");
    }
}
