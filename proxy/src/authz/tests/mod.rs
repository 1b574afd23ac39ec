//! All pairs of mode and caller, with a peer out of a real handshake.

mod matching;
mod properties;
mod rules;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use portcullis_identity::{SpiffeId, TrustDomain};
use proptest::prelude::*;
use rustls_pki_types::ServerName;
use time::Date;

use super::*;
use crate::addr::ClientAddr;
use crate::tls::testing::Mesh;
use crate::tls::{ExpectedPeer, VerifiedPeer, originate, terminate};

const WEB: &str = "spiffe://cluster.local/ns/production/sa/web";

/// The client of a handshake, as the server sees it.
async fn verified_peer() -> VerifiedPeer {
    verified(WEB).await
}

async fn verified(id: &str) -> VerifiedPeer {
    let mesh = Mesh::new();
    let (client, server) = (mesh.identity(id), mesh.identity(WEB));
    let (near, far) = tokio::io::duplex(64 * 1024);
    let sni = ServerName::try_from("web").unwrap();
    let expected = ExpectedPeer::one_of(vec![SpiffeId::parse(WEB).unwrap()]).unwrap();
    let deadline = Duration::from_secs(20);
    let (terminated, originated) = tokio::join!(
        terminate(far, &server, deadline),
        originate(near, &client, &sni, &expected, &[], deadline)
    );
    originated.unwrap();
    terminated.unwrap().peer
}

/// What a stream of bytes on port 80 gets.
fn permit(mode: &PortMode, caller: Caller<'_>, own: &TrustDomain) -> Result<Permit, Denial> {
    let client = ClientAddr::new(([10, 0, 0, 1], 40_000).into());
    let facts = ConnectionFacts { client, destination: ([10, 0, 0, 2], 80).into(), port: 80, sni: None };
    admit(mode, caller, facts, own)?.stream(&InboundPolicy::strict_everywhere())
}

fn strict() -> PortMode {
    PortMode::Strict { rule: RuleRef::resource("PeerAuthentication", "production", "default") }
}

fn plaintext() -> PortMode {
    let exception = Arc::new(Exception { port: 80, plan: None });
    PortMode::Plaintext { exception, rule: RuleRef::resource("PeerAuthentication", "production", "default") }
}

#[tokio::test]
async fn who_may_come_in() {
    let peer = verified_peer().await;
    let own = TrustDomain::parse("cluster.local").unwrap();
    let other = TrustDomain::parse("other.example").unwrap();
    let verified = Caller::Verified(&peer);
    let by = "PeerAuthentication production/default";
    let foreign = format!("{WEB} is not of trust domain other.example; {by}");
    let bare = format!("plaintext on a STRICT port; {by}");
    type Decision<'a> = Result<Option<&'a str>, (&'a str, &'a str)>;
    let table: &[(PortMode, Caller<'_>, &TrustDomain, Decision<'_>)] = &[
        (strict(), verified, &own, Ok(Some(WEB))),
        (strict(), Caller::Plaintext, &own, Err(("plaintext", &bare))),
        (plaintext(), verified, &own, Ok(Some(WEB))),
        (plaintext(), Caller::Plaintext, &own, Ok(None)),
        (strict(), verified, &other, Err(("trust_domain", &foreign))),
        (plaintext(), verified, &other, Err(("trust_domain", &foreign))),
    ];
    for (mode, caller, own, expected) in table {
        match (permit(mode, *caller, own), expected) {
            (Ok(permit), Ok(id)) => {
                assert_eq!(permit.peer().map(|peer| peer.id().as_str()), *id);
                assert_eq!(permit.rule().name(), by);
            }
            (Err(denial), Err((label, text))) => {
                assert_eq!((denial.label(), denial.to_string().as_str()), (*label, *text));
                assert_eq!(denial.rule().name(), by);
            }
            (decided, expected) => panic!("{mode:?} {caller:?}: {decided:?}, not {expected:?}"),
        }
    }
}

#[test]
fn without_policy_every_port_is_strict() {
    let policy = InboundPolicy::strict_everywhere();
    for port in [1, 80, 15006, u16::MAX] {
        let PortMode::Strict { rule } = policy.mode(port, Duration::ZERO) else { panic!("{port} is open") };
        assert_eq!(rule.to_string(), "built-in default (STRICT)");
    }
}

proptest! {
    /// Whatever the rules of the ports and the time: plaintext comes in exactly where an open exception is.
    #[test]
    fn plaintext_needs_an_open_exception(
        rules in prop::collection::btree_map(1_u16..20, prop::option::of(prop::option::of(0_i64..40_000)), 0..8),
        port in 1_u16..20,
        day in 0_i64..40_000,
        second in 0_u64..86_400,
    ) {
        // `None`: STRICT; `Some(None)`: open for ever; `Some(Some(day))`: open until that day since the epoch.
        let julian = i64::from(time::OffsetDateTime::UNIX_EPOCH.to_julian_day());
        let expires = |day: i64| Date::from_julian_day(i32::try_from(julian + day).unwrap()).unwrap();
        let plan = |day| Plan { reason: "r".into(), owner: "o".into(), expires: expires(day) };
        let ports: BTreeMap<_, _> = rules.iter().map(|(port, rule)| {
            let rule_ref = RuleRef::built_in();
            let rule = match rule {
                None => PortRule::Strict(rule_ref),
                Some(end) => PortRule::Plaintext(Arc::new(Exception { port: *port, plan: end.map(plan) }), rule_ref),
            };
            (*port, rule)
        }).collect();
        let policy = InboundPolicy::new(RuleRef::built_in(), ports);
        let now = Duration::from_secs(u64::try_from(day).unwrap() * 86_400 + second);
        let open = matches!(rules.get(&port), Some(Some(end)) if end.is_none_or(|end| day < end));
        let mode = policy.mode(port, now);
        let own = TrustDomain::parse("cluster.local").unwrap();
        prop_assert_eq!(permit(&mode, Caller::Plaintext, &own).is_ok(), open);
        prop_assert_eq!(matches!(mode, PortMode::Plaintext { .. }), open);
    }
}
