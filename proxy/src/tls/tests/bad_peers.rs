//! Certificates that break one rule each, shown as client and as server.

use std::time::Duration;

use portcullis_identity::issuer_namespace_oid;
use rcgen::{BasicConstraints, CustomExtension, IsCa, KeyPair, KeyUsagePurpose};

use super::super::testing::{Ca, NOW, ca_params, leaf_params, moment, uri};
use super::*;

fn ago(seconds: u64) -> time::OffsetDateTime {
    moment(NOW - Duration::from_secs(seconds))
}

fn ahead(seconds: u64) -> time::OffsetDateTime {
    moment(NOW + Duration::from_secs(seconds))
}

/// An intermediate confined to one namespace.
fn confined(mesh: &Mesh, namespace: &str) -> Ca {
    let mut params = ca_params("confined");
    let text = [&[0x0c, u8::try_from(namespace.len()).unwrap()], namespace.as_bytes()].concat();
    params.custom_extensions = vec![CustomExtension::from_oid_content(issuer_namespace_oid(), text)];
    mesh.root.sub(params)
}

type Change = fn(&mut rcgen::CertificateParams);

/// Leaves that differ from a good one in one point.
const LEAVES: &[(&str, &str, Change)] = &[
    ("as it should be", "ok", |_| {}),
    ("no URI", "not_an_svid", |p| p.subject_alt_names.clear()),
    ("two URIs", "not_an_svid", |p| p.subject_alt_names.push(uri(WEB))),
    ("other trust domain", "wrong_trust_domain", |p| {
        p.subject_alt_names = vec![uri("spiffe://other/ns/a/sa/b")]
    }),
    ("cased trust domain", "not_an_svid", |p| {
        p.subject_alt_names = vec![uri("spiffe://Cluster.local/ns/production/sa/api")];
    }),
    ("dot segment", "not_an_svid", |p| {
        p.subject_alt_names = vec![uri("spiffe://cluster.local/ns/../sa/api")]
    }),
    ("CA as leaf", "not_an_svid", |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
    ("no key usage", "not_an_svid", |p| p.key_usages.clear()),
    ("may sign certificates", "not_an_svid", |p| p.key_usages.push(KeyUsagePurpose::KeyCertSign)),
    ("no extended key usage", "not_an_svid", |p| p.extended_key_usages.clear()),
    ("server only", "not_an_svid", |p| p.extended_key_usages.truncate(1)),
    ("expired", "expired", |p| p.not_after = ago(1)),
    ("last second", "ok", |p| p.not_after = ahead(0)),
    ("not yet valid", "not_an_svid", |p| p.not_before = ahead(61)),
    ("within the clock skew", "ok", |p| p.not_before = ahead(59)),
];

async fn both_ways(mesh: &Mesh, leaf: &Leaf) -> (&'static str, &'static str) {
    let ours = mesh.identity(WEB);
    let as_client = label(call(foreign_client(Some(leaf), &BOTH), &ours).await);
    let as_old_client = label(call(foreign_client(Some(leaf), &OLD), &ours).await);
    assert_eq!(as_client, as_old_client, "TLS 1.2 judges as 1.3 does");
    let as_server = label(serve(foreign_server(leaf, &ours), &ours, &expecting(API)).await);
    (as_client, as_server)
}

#[tokio::test]
async fn a_leaf_that_breaks_one_rule_is_refused_as_client_and_as_server() {
    let mesh = Mesh::new();
    for (name, expected, change) in LEAVES {
        let mut params = leaf_params(API);
        change(&mut params);
        let leaf = mesh.intermediate.leaf(&params);
        assert_eq!(both_ways(&mesh, &leaf).await, (*expected, *expected), "{name}");
    }
}

#[tokio::test]
async fn an_issuer_that_may_not_vouch_is_refused_as_client_and_as_server() {
    let mesh = Mesh::new();
    let issuer = |change: fn(&mut rcgen::CertificateParams)| {
        let mut params = ca_params("intermediate 2");
        change(&mut params);
        mesh.root.sub(params)
    };
    let impostor = Ca::root(ca_params("root")).sub(ca_params("intermediate"));
    let workload = issuer(|p| {
        p.is_ca = IsCa::NoCa;
        p.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    });
    for (name, expected, issuer) in [
        ("control: another good intermediate", "ok", issuer(|_| {})),
        ("control: skewed issuer", "ok", issuer(|p| p.not_before = ahead(30))),
        ("control: own namespace", "ok", confined(&mesh, "production")),
        ("other namespace", "bad_issuer", confined(&mesh, "staging")),
        ("prefix of the namespace", "bad_issuer", confined(&mesh, "prod")),
        ("other trust domain", "bad_issuer", issuer(|p| p.subject_alt_names = vec![uri("spiffe://other")])),
        ("no keyCertSign", "bad_issuer", issuer(|p| p.key_usages = vec![KeyUsagePurpose::CrlSign])),
        ("expired intermediate", "untrusted_issuer", issuer(|p| p.not_after = ago(1))),
        ("a leaf as issuer", "untrusted_issuer", workload),
        ("a root of the same name and another key", "untrusted_issuer", impostor),
    ] {
        let leaf = issuer.leaf(&leaf_params(API));
        assert_eq!(both_ways(&mesh, &leaf).await, (expected, expected), "{name}");
    }
}

#[tokio::test]
async fn a_self_signed_leaf_is_refused() {
    let mesh = Mesh::new();
    let key = KeyPair::generate().unwrap();
    let chain = vec![leaf_params(API).self_signed(&key).unwrap().into()];
    let leaf = Leaf { chain, key };
    assert_eq!(both_ways(&mesh, &leaf).await, ("untrusted_issuer", "untrusted_issuer"));
}

#[tokio::test]
async fn an_expired_root_vouches_for_nobody() {
    let mesh = Mesh::new();
    let mut params = ca_params("old root");
    params.not_after = ahead(10);
    let old = Ca::root(params);
    let leaf = old.leaf(&leaf_params(API));
    let roots = || testing::bundles(vec![mesh.root.root_der(), old.root_der()]);
    let svid = std::sync::Arc::clone(mesh.identity(WEB).svid());
    let ours = Identity::new(1, svid, roots(), mesh.clock.clock(), MinVersion::Tls12).unwrap();

    let while_valid = call(foreign_client(Some(&leaf), &BOTH), &ours).await.unwrap();
    assert_eq!(while_valid.peer.not_after(), NOW + Duration::from_secs(10), "the proof ends with the root");
    mesh.clock.advance(Duration::from_secs(11));
    assert_eq!(label(call(foreign_client(Some(&leaf), &BOTH), &ours).await), "bad_issuer");
}

#[tokio::test]
async fn after_a_rotation_the_old_root_vouches_for_nobody() {
    let (mesh, old) = (Mesh::new(), Ca::root(ca_params("old root")));
    let leaf = old.leaf(&leaf_params(API));
    let svid = std::sync::Arc::clone(mesh.identity(WEB).svid());
    let during = testing::bundles(vec![old.root_der(), mesh.root.root_der()]);
    let during = Identity::new(1, svid, during, mesh.clock.clock(), MinVersion::Tls12).unwrap();
    assert_eq!(label(call(foreign_client(Some(&leaf), &BOTH), &during).await), "ok");
    assert_eq!(
        label(call(foreign_client(Some(&leaf), &BOTH), &mesh.identity(WEB)).await),
        "untrusted_issuer"
    );
}

#[tokio::test]
async fn a_hundred_cross_signed_intermediates_cost_nothing() {
    let mesh = Mesh::new();
    let mut leaf = mesh.intermediate.leaf(&leaf_params(API));
    for _ in 0..99 {
        leaf.chain.push(mesh.root.sub(ca_params("intermediate")).chain[0].clone());
    }
    let ours = mesh.identity(WEB);
    let before = ours.verifier().remembered();
    assert_eq!(both_ways(&mesh, &leaf).await, ("too_many_certificates", "too_many_certificates"));
    assert_eq!(ours.verifier().remembered(), before);
    leaf.chain.truncate(6);
    assert_eq!(both_ways(&mesh, &leaf).await, ("ok", "ok"), "a few unneeded ones do no harm");
}

#[tokio::test]
async fn a_valid_certificate_of_another_service_does_not_pass_as_the_one_called() {
    let mesh = Mesh::new();
    let ours = mesh.identity(WEB);
    let other = mesh.intermediate.leaf(&leaf_params("spiffe://cluster.local/ns/production/sa/other"));
    let refused = serve(foreign_server(&other, &ours), &ours, &expecting(API)).await.err().unwrap();
    assert_eq!(refused.label(), "unexpected_peer");
    assert_eq!(
        refused.to_string(),
        "the server is spiffe://cluster.local/ns/production/sa/other, \
         expected spiffe://cluster.local/ns/production/sa/api"
    );
    let any = ExpectedPeer::AnyIn { trust_domain: testing::trust_domain(), namespace: "production".into() };
    assert_eq!(label(serve(foreign_server(&other, &ours), &ours, &any).await), "ok");
    let elsewhere =
        ExpectedPeer::AnyIn { trust_domain: testing::trust_domain(), namespace: "staging".into() };
    assert_eq!(label(serve(foreign_server(&other, &ours), &ours, &elsewhere).await), "unexpected_peer");
    let nobody = ExpectedPeer::OneOf(vec![]);
    assert_eq!(label(serve(foreign_server(&other, &ours), &ours, &nobody).await), "unexpected_peer");
}

#[tokio::test]
async fn a_certificate_without_its_key_is_worth_nothing_even_when_remembered() {
    let mesh = Mesh::new();
    let ours = mesh.identity(WEB);
    let good = mesh.intermediate.leaf(&leaf_params(API));
    assert_eq!(label(call(foreign_client(Some(&good), &BOTH), &ours).await), "ok");
    let thief = Leaf { chain: good.chain.clone(), key: KeyPair::generate().unwrap() };
    assert_eq!(both_ways(&mesh, &thief).await, ("bad_signature", "bad_signature"));
    assert_eq!(label(call(foreign_client(Some(&thief), &BOTH), &ours).await), "bad_signature");
}

#[tokio::test]
async fn a_remembered_chain_is_forgotten_when_it_expires() {
    let mesh = Mesh::new();
    let ours = mesh.identity(WEB);
    let mut params = leaf_params(API);
    params.not_after = ahead(5);
    let leaf = mesh.intermediate.leaf(&params);
    assert_eq!(label(call(foreign_client(Some(&leaf), &BOTH), &ours).await), "ok");
    let remembered = ours.verifier().remembered();
    assert_eq!(label(call(foreign_client(Some(&leaf), &BOTH), &ours).await), "ok");
    assert_eq!(ours.verifier().remembered(), remembered, "the second time is no new entry");
    mesh.clock.advance(Duration::from_secs(6));
    assert_eq!(label(call(foreign_client(Some(&leaf), &BOTH), &ours).await), "expired");
    mesh.clock.set(NOW - Duration::from_secs(3600));
    assert_ne!(
        label(call(foreign_client(Some(&leaf), &BOTH), &ours).await),
        "ok",
        "nor when the clock is set back"
    );
}

#[test]
fn no_bit_of_a_certificate_can_be_changed() {
    let mesh = Mesh::new();
    let ours = mesh.identity(WEB);
    let leaf = mesh.intermediate.leaf(&leaf_params(API));
    let judge = |leaf: &[u8], issuer: &CertificateDer<'static>| {
        ours.verifier().verify(&leaf.into(), std::slice::from_ref(issuer), Role::Client).is_ok()
    };
    assert!(judge(&leaf.chain[0], &leaf.chain[1]), "control");
    for position in 0..leaf.chain[0].len() {
        let mut bent = leaf.chain[0].to_vec();
        bent[position] ^= 1 << (position % 8);
        assert!(!judge(&bent, &leaf.chain[1]), "byte {position}");
        assert!(!judge(&leaf.chain[0][..position], &leaf.chain[1]), "cut at {position}");
    }
}
