//! Who gets which certificate, by which evidence.

use std::time::Duration;

use portcullis_ca::{CsrDefect, Lives, RequestedKey, TokenError};
use portcullis_identity::{TrustDomain, Workload};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PublicKeyData, SanType,
};
use tonic::Code;

use crate::fixture::{DAY, Fixture, TTL, csr, workload};

#[tokio::test]
async fn a_token_gets_a_leaf_for_its_identity() {
    let ca = Fixture::start().await;
    let held = ca.join("api").await;
    assert_eq!(held.facts.id, *workload("api").id());
    assert_eq!(held.facts.not_after, (ca.clock.clock().now() + DAY).as_secs());
    assert_eq!(held.chain.len(), 2, "leaf and intermediate, no root");
    assert_eq!(held.bundle.generation, 1);
    let audit = "SELECT identity || ' ' || serial || ' ' || evidence FROM audit WHERE evidence = 'token'";
    assert_eq!(ca.rows(audit).await, [format!("{} {} token", held.facts.id, held.facts.serial)]);
}

#[tokio::test]
async fn a_lost_answer_can_be_asked_for_again() {
    let ca = Fixture::start().await;
    let token = ca.token("api").await;
    let key = KeyPair::generate().unwrap();
    let mut serials = Vec::new();
    for _ in 0..3 {
        let mut client = ca.client().connect(None).await.unwrap();
        let (chain, _) = client.issue_csr(csr(&key), &token.to_text()).await.unwrap();
        serials.push(chain[0].to_vec());
    }
    serials.sort();
    serials.dedup();
    assert_eq!(serials.len(), 3, "each answer is a certificate of its own");
}

#[tokio::test]
async fn a_token_is_bound_to_the_first_key_it_was_used_for() {
    let ca = Fixture::start().await;
    let token = ca.token("api").await;
    ca.client().join(&token).await.unwrap();
    let error = ca.client().join(&token).await.err().unwrap();
    let reason = format!("the join token has been used for another key; it is for {}", workload("api"));
    assert_eq!((error.code(), error.message()), (Code::Unauthenticated, &*reason));
    assert_eq!(ca.rows("SELECT reason FROM audit WHERE outcome = 'refused'").await, [reason]);
}

#[tokio::test]
async fn of_many_keys_racing_for_one_token_one_wins() {
    let ca = Fixture::start().await;
    let token = ca.token("api").await;
    let racers: Vec<_> = (0..16)
        .map(|_| {
            let (client, token) = (ca.client(), token.clone());
            tokio::spawn(async move { client.join(&token).await.is_ok() })
        })
        .collect();
    let mut won = 0;
    for racer in racers {
        won += usize::from(racer.await.unwrap());
    }
    assert_eq!(won, 1);
}

#[tokio::test]
async fn a_token_ends_with_its_time() {
    let ca = Fixture::start().await;
    let token = ca.token("api").await;
    let key = KeyPair::generate().unwrap();
    let mut client = ca.client().connect(None).await.unwrap();
    ca.clock.advance(TTL - Duration::from_secs(1));
    client.issue_csr(csr(&key), &token.to_text()).await.unwrap();
    ca.clock.advance(Duration::from_secs(1));
    let error = client.issue_csr(csr(&key), &token.to_text()).await.unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (Code::Unauthenticated, &*format!("the join token has expired; it was for {}", workload("api")))
    );
}

#[tokio::test]
async fn no_evidence_and_broken_tokens_are_unauthenticated() {
    let ca = Fixture::start().await;
    let elsewhere = Fixture::start().await;
    let other = elsewhere.token("api").await.to_text().to_string();
    for token in ["", "pcj1.", "pcj1.AAAA", "hello", &"x".repeat(5000), &other] {
        let mut client = ca.client().connect(None).await.unwrap();
        let error = client.issue(KeyPair::generate().unwrap(), token).await.err().unwrap();
        assert_eq!(error.code(), Code::Unauthenticated, "{token}: {error}");
    }
    assert_eq!(ca.rows("SELECT serial FROM leaves WHERE identity NOT LIKE '%portcullis-ca'").await.len(), 0);
    ca.join("api").await;
}

#[tokio::test]
async fn a_token_that_names_another_identity_than_it_was_made_for_is_refused() {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let ca = Fixture::start().await;
    let token = ca.token("api").await;
    let text = token.to_text();
    let json = URL_SAFE_NO_PAD.decode(text.strip_prefix("pcj1.").unwrap()).unwrap();
    let forged = String::from_utf8(json).unwrap().replace("sa/api", "sa/root");
    let forged = format!("pcj1.{}", URL_SAFE_NO_PAD.encode(forged));
    let mut client = ca.client().connect(None).await.unwrap();
    let error = client.issue(KeyPair::generate().unwrap(), &forged).await.err().unwrap();
    assert_eq!(error.code(), Code::Unauthenticated);
    ca.client().join(&token).await.expect("the attempt did not burn the token");
}

#[tokio::test]
async fn an_svid_renews_itself_and_nobody_else() {
    let ca = Fixture::start().await;
    let held = ca.join("api").await;
    ca.advance(DAY / 2).await;
    let renewed = ca.client().renew(&held).await.unwrap();
    assert_eq!(renewed.facts.id, held.facts.id);
    assert_eq!(renewed.facts.not_after, held.facts.not_after + 43_200);
    let other = ca.token("other").await;
    let mut client = ca.client().connect(Some(&held)).await.unwrap();
    let error = client.issue(KeyPair::generate().unwrap(), &other.to_text()).await.err().unwrap();
    assert_eq!(error.code(), Code::PermissionDenied, "{error}");
    ca.client().join(&other).await.expect("the attempt did not burn the token");
}

#[tokio::test]
async fn the_authoritys_own_name_is_never_given_out() {
    let ca = Fixture::start().await;
    let own = ca.authority.own().clone();
    let error = ca.authority.create_token(&own, TTL).await.unwrap_err();
    assert!(matches!(error, TokenError::Identity { .. }), "{error}");
    let other = Workload::new(&TrustDomain::parse("elsewhere").unwrap(), "a", "b").unwrap();
    assert!(matches!(ca.authority.create_token(&other, TTL).await, Err(TokenError::Identity { .. })));
    let key = KeyPair::generate().unwrap();
    let requested = RequestedKey::from_public_key(&key.subject_public_key_info()).unwrap();
    assert!(ca.authority.issue_to(&other, &requested).await.is_err());
    let issued = ca.authority.issue_to(&own, &requested).await.unwrap();
    let held = ca.join("api").await;
    let stolen = crate::fixture::Held { key, chain: issued.chain, facts: issued.facts, bundle: held.bundle };
    let error = ca.client().renew(&stolen).await.err().unwrap();
    assert_eq!(error.code(), Code::PermissionDenied, "{error}");
}

#[tokio::test]
async fn a_request_for_a_ca_with_other_names_gets_a_plain_leaf() {
    let ca = Fixture::start().await;
    let mut params = CertificateParams::new(vec!["bank.example".to_owned(), "10.0.0.1".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any];
    params.subject_alt_names.push(SanType::URI("spiffe://cluster.local/ns/test/sa/root".try_into().unwrap()));
    let key = KeyPair::generate().unwrap();
    let csr = params.serialize_request(&key).unwrap().der().to_vec();
    let token = ca.token("api").await;
    let mut client = ca.client().connect(None).await.unwrap();
    let (chain, _) = client.issue_csr(csr, &token.to_text()).await.unwrap();
    // check_leaf demands a single URI SAN, CA:FALSE and digitalSignature alone.
    let facts = portcullis_identity::check_leaf(&chain[0], ca.clock.clock().unix_time()).unwrap();
    assert_eq!(facts.id, *workload("api").id());
    assert!(!chain[0].windows(4).any(|window| window == b"bank"));
}

#[tokio::test]
async fn bad_requests_are_told_what_is_wrong_and_burn_no_token() {
    let ca = Fixture::start().await;
    let token = ca.token("api").await;
    let good = csr(&KeyPair::generate().unwrap());
    let mut tampered = good.clone();
    *tampered.last_mut().unwrap() ^= 1;
    let ed25519 = csr(&KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap());
    let nested: Vec<u8> = [0x30, 0x80].repeat(7000);
    for (csr, defect) in [
        (tampered, CsrDefect::Signature),
        (ed25519, CsrDefect::KeyKind),
        (Vec::new(), CsrDefect::Malformed),
        (nested, CsrDefect::Malformed),
        (vec![0x30; 16_385], CsrDefect::TooLong(16_385)),
        (rsa_request(1024), CsrDefect::RsaBits(1024)),
        (rsa_request(2048), CsrDefect::Signature),
    ] {
        let mut client = ca.client().connect(None).await.unwrap();
        let error = client.issue_csr(csr, &token.to_text()).await.unwrap_err();
        assert_eq!((error.code(), error.message()), (Code::InvalidArgument, &*defect.to_string()));
    }
    let mut client = ca.client().connect(None).await.unwrap();
    let error = client.issue_csr(vec![0x30; 10_000_000], &token.to_text()).await.unwrap_err();
    assert_eq!(error.code(), Code::OutOfRange, "{error}");
    client.issue_csr(good, &token.to_text()).await.expect("nothing of this burned the token");
}

#[tokio::test]
async fn leaves_of_three_seconds_go_on_across_intermediates() {
    let s = Duration::from_secs;
    let ca = Fixture::start_with(Lives::new(s(3), s(18), s(36_000)).unwrap()).await;
    let mut intermediates = Vec::new();
    for _ in 0..60 {
        ca.clock.advance(s(2));
        ca.authority.maintain().await.unwrap();
        let key = KeyPair::generate().unwrap();
        let requested = RequestedKey::from_public_key(&key.subject_public_key_info()).unwrap();
        let issued = ca.authority.issue_to(&workload("api"), &requested).await.unwrap();
        assert_eq!(issued.facts.not_after, (ca.clock.clock().now() + s(3)).as_secs(), "never cut short");
        intermediates.push(issued.chain[1].clone());
    }
    intermediates.dedup();
    assert!((8..=12).contains(&intermediates.len()), "{} intermediates in 120 s", intermediates.len());
    assert_eq!(ca.rows("SELECT id FROM authorities WHERE state = 'active'").await.len(), 2);
    assert_eq!(ca.rows("SELECT id FROM authorities WHERE role = 'root'").await.len(), 1);
}

#[tokio::test]
async fn near_the_roots_end_leaves_are_cut_to_it_and_no_intermediates_pile_up() {
    let s = Duration::from_secs;
    let ca = Fixture::start_with(Lives::new(s(100), s(600), s(1000)).unwrap()).await;
    for _ in 0..95 {
        ca.clock.advance(s(10));
        ca.authority.maintain().await.unwrap();
    }
    let key = KeyPair::generate().unwrap();
    let requested = RequestedKey::from_public_key(&key.subject_public_key_info()).unwrap();
    let issued = ca.authority.issue_to(&workload("api"), &requested).await.unwrap();
    assert_eq!(issued.facts.not_after, (ca.clock.clock().now() + s(50)).as_secs());
    assert!(ca.rows("SELECT id FROM authorities WHERE role = 'intermediate'").await.len() <= 3);
    ca.clock.advance(s(51));
    assert!(ca.authority.issue_to(&workload("api"), &requested).await.is_err());
}

#[tokio::test]
async fn what_is_over_is_pruned_and_what_lives_is_kept() {
    let ca = Fixture::start().await;
    ca.join("short-lived").await;
    ca.token("unused").await;
    ca.advance(DAY * 2 + Duration::from_secs(1)).await;
    ca.join("alive").await;
    ca.authority.maintain().await.unwrap();
    let identities = ca.rows("SELECT identity FROM leaves WHERE identity LIKE '%/ns/test/%'").await;
    assert_eq!(identities, [workload("alive").id().as_str()]);
    assert_eq!(ca.rows("SELECT identity FROM tokens").await, [workload("alive").id().as_str()]);
    let audit = ca.rows("SELECT identity FROM audit WHERE identity LIKE '%/short-lived'").await;
    assert_eq!(audit.len(), 1, "the audit log remembers longer");
}

#[tokio::test]
async fn the_audit_log_keeps_a_bounded_number_of_refusals() {
    let ca = Fixture::start().await;
    let flood = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10500) \
        INSERT INTO audit (at, outcome, evidence, peer, reason) SELECT i, 'refused', 'none', '', i FROM n";
    crate::fixture::execute(&ca.store, flood).await;
    ca.clock.advance(Duration::from_secs(60));
    ca.authority.maintain().await.unwrap();
    let kept = "SELECT COUNT(*) || ' ' || MIN(at) FROM audit WHERE outcome = 'refused'";
    assert_eq!(ca.rows(kept).await, ["10000 501"]);
}

#[tokio::test]
async fn a_flood_of_refusals_is_not_all_written_down() {
    let ca = Fixture::start().await;
    let mut client = ca.client().connect(None).await.unwrap();
    for _ in 0..200 {
        let error = client.issue_csr(Vec::new(), "").await.unwrap_err();
        assert_eq!(error.code(), Code::Unauthenticated);
    }
    assert_eq!(ca.rows("SELECT reason FROM audit WHERE outcome = 'refused'").await.len(), 50);
    ca.join("api").await;
}

#[tokio::test]
async fn two_hundred_workloads_join_at_once() {
    let ca = Fixture::start().await;
    let mut joining = tokio::task::JoinSet::new();
    for number in 0..200 {
        let (client, token) = (ca.client(), ca.token(&format!("w{number}")).await);
        joining.spawn(async move { client.join(&token).await.map(|held| held.facts.id) });
    }
    let mut joined = joining.join_all().await.into_iter().collect::<Result<Vec<_>, _>>().unwrap();
    joined.sort();
    joined.dedup();
    assert_eq!(joined.len(), 200);
}

/// A request with an RSA key of so many bits, all of them ones, and a signature of zeroes. Libraries no longer make
/// keys under 2,048 bits.
fn rsa_request(bits: usize) -> Vec<u8> {
    let tlv = |tag: u8, parts: &[&[u8]]| {
        let value = parts.concat();
        let length = u16::try_from(value.len()).unwrap().to_be_bytes();
        let mut encoded = vec![tag];
        match value.len() {
            0..0x80 => encoded.push(length[1]),
            0x80..0x100 => encoded.extend([0x81, length[1]]),
            _ => encoded.extend([0x82, length[0], length[1]]),
        }
        [encoded, value].concat()
    };
    let rsa_encryption: &[u8] = &[0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 0x05, 0];
    let sha256_with_rsa: &[u8] = &[0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11, 0x05, 0];
    let modulus = tlv(0x02, &[&[0], &vec![0xff; bits / 8]]);
    let key = tlv(0x30, &[&modulus, &[0x02, 3, 1, 0, 1]]);
    let info = tlv(0x30, &[&tlv(0x30, &[rsa_encryption]), &tlv(0x03, &[&[0], &key])]);
    let body = tlv(0x30, &[&[0x02, 1, 0], &[0x30, 0], &info, &[0xa0, 0]]);
    let signature = tlv(0x03, &[&vec![0; 1 + bits / 8]]);
    tlv(0x30, &[&body, &tlv(0x30, &[sha256_with_rsa]), &signature])
}
