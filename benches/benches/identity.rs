//! What a handshake pays for identity: parsing a SPIFFE ID, and the rules of a leaf and of an issuer on their DER.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a bench stops at the first surprise; criterion's macro"
)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use portcullis_identity::{Clock, SpiffeId, TrustBundle, TrustDomain, check_issuer, check_leaf};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
};

const ID: &str = "spiffe://cluster.local/ns/production/sa/api-service";

fn certificate(id: &str, is_ca: IsCa, usage: KeyUsagePurpose) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
    params.is_ca = is_ca;
    params.key_usages = vec![usage];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

fn identity(c: &mut Criterion) {
    let now = Clock::system().unix_time();
    let leaf = certificate(ID, IsCa::ExplicitNoCa, KeyUsagePurpose::DigitalSignature);
    let constraints = IsCa::Ca(BasicConstraints::Constrained(0));
    let issuer = certificate("spiffe://cluster.local", constraints, KeyUsagePurpose::KeyCertSign);
    let trust_domain = TrustDomain::parse("cluster.local").unwrap();
    let jwks = TrustBundle::new(trust_domain.clone(), 1, vec![issuer.clone().into()]).unwrap().to_jwks();

    c.bench_function("parse a SPIFFE ID", |b| b.iter(|| SpiffeId::parse(black_box(ID)).unwrap()));
    c.bench_function("check a leaf", |b| b.iter(|| check_leaf(black_box(&leaf), now).unwrap()));
    c.bench_function("check an issuer", |b| b.iter(|| check_issuer(black_box(&issuer), now).unwrap()));
    c.bench_function("read a bundle of one root", |b| {
        b.iter(|| TrustBundle::from_jwks(trust_domain.clone(), black_box(&jwks)).unwrap());
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(2));
    targets = identity
}
criterion_main!(benches);
