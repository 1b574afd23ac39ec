//! The SPIFFE bundle format, in and out, as this and other implementations write it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops at the first surprise")]

#[allow(dead_code, reason = "the table of bad certificates uses the rest")]
mod forge;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use portcullis_identity::{BundleError, Fingerprint, TrustBundle, TrustBundles, TrustDomain};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, SignatureAlgorithm};
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};

fn trust_domain() -> TrustDomain {
    TrustDomain::parse("td").unwrap()
}

fn root() -> CertificateDer<'static> {
    forge::issuer().into()
}

fn root_with(algorithm: &'static SignatureAlgorithm) -> CertificateDer<'static> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.self_signed(&KeyPair::generate_for(algorithm).unwrap()).unwrap().der().clone()
}

fn read(document: &Value) -> Result<TrustBundle, BundleError> {
    TrustBundle::from_jwks(trust_domain(), &document.to_string())
}

fn x509_key(root: &[u8]) -> Value {
    json!({ "use": "x509-svid", "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "x5c": [STANDARD.encode(root)] })
}

#[test]
fn what_is_written_is_read_back() {
    for count in [1, 2, 32] {
        let roots: Vec<_> = (0..count).map(|_| root()).collect();
        let bundle = TrustBundle::new(trust_domain(), u64::MAX, roots.clone()).unwrap();
        let again = TrustBundle::from_jwks(trust_domain(), &bundle.to_jwks()).unwrap();
        assert_eq!(again, bundle);
        assert_eq!((again.generation(), again.roots()), (u64::MAX, &roots[..]));
    }
}

#[test]
fn each_kind_of_key_is_written_with_its_own_parameters() {
    for (algorithm, kty, curve, length) in [
        (&rcgen::PKCS_ECDSA_P256_SHA256, "EC", "P-256", 43),
        (&rcgen::PKCS_ECDSA_P384_SHA384, "EC", "P-384", 64),
        (&rcgen::PKCS_ECDSA_P521_SHA512, "EC", "P-521", 88),
        (&rcgen::PKCS_ED25519, "OKP", "Ed25519", 43),
    ] {
        let root = root_with(algorithm);
        let bundle = TrustBundle::new(trust_domain(), 7, vec![root.clone()]).unwrap();
        let document: Value = serde_json::from_str(&bundle.to_jwks()).unwrap();
        let key = &document["keys"][0];
        assert_eq!(
            (&key["kty"], &key["crv"], &key["use"]),
            (&json!(kty), &json!(curve), &json!("x509-svid"))
        );
        assert_eq!(key["x"].as_str().unwrap().len(), length, "{curve}: base64url without padding");
        assert_eq!(key["y"].as_str().map(str::len), (kty == "EC").then_some(length));
        assert_eq!(key["x5c"], json!([STANDARD.encode(&root)]));
        assert_eq!(key.get("kid"), None, "X509-SVID 6.1 forbids it");
        assert_eq!(document["spiffe_sequence"], json!(7));
        assert_eq!(read(&document).unwrap(), bundle);
    }
}

/// The shapes of SPIRE and Istio: members we do not know, keys that are not ours.
#[test]
fn documents_of_other_implementations_are_read() {
    let (first, second) = (root(), root());
    let jwt = json!({ "use": "jwt-svid", "kty": "EC", "kid": "C6vs25welZOx6WksNYfbMfiw9l96pMnD",
        "crv": "P-256", "x": "ngLYQnlfF6GsojUwqtcEE3WgTNG2RUlsGhK73RNEl5k", "y": "tKbiDSUSsQ3F1P7wteeHNXIcU-cx6CgSbroeQrQHTLM" });
    let rich = json!({ "keys": [jwt, x509_key(&first), x509_key(&second)], "spiffe_sequence": 12,
        "spiffe_refresh_hint": 2_419_200, "x_vendor": { "a": [1, 2, null] } });
    let bundle = read(&rich).unwrap();
    assert_eq!((bundle.generation(), bundle.roots()), (12, &[first.clone(), second][..]));

    let bare = json!({ "keys": [{ "kty": "RSA", "use": "x509-svid", "x5c": [STANDARD.encode(&first)], "kid": "x" }] });
    assert_eq!(read(&bare).unwrap().generation(), 0, "spiffe_sequence is only a SHOULD");

    let odd_neighbours = json!({ "keys": [
        { "use": 7, "kty": ["EC"], "x5c": 3 },
        { "use": "sig", "kty": "RSA", "x5c": "not a list" },
        { "use": "X509-SVID", "kty": "EC", "x5c": ["!"] },
        { "use": "x509-svid", "kty": "of tomorrow", "x5c": ["!"] },
        { "use": "x509-svid", "x5c": ["!"] },
        { "use": "x509-svid", "kty": "EC" },
        { "use": "x509-svid", "kty": "EC", "x5c": [] },
        "not even an object",
        x509_key(&first),
    ]});
    assert_eq!(read(&odd_neighbours).unwrap().roots(), std::slice::from_ref(&first), "these MUST be ignored");

    let mut several = x509_key(&first);
    several["x5c"] = json!([STANDARD.encode(&first), STANDARD.encode(root()), "!"]);
    assert_eq!(
        read(&json!({ "keys": [several] })).unwrap().roots(),
        [first],
        "all but the first MUST be ignored"
    );
}

#[test]
fn broken_documents_are_refused() {
    let good = root();
    for text in ["", "null", "[]", "{}", "{\"keys\":{}}", "{\"keys\":null}", "{\"keys\":[]", "\u{0}", "pem"] {
        let refused = TrustBundle::from_jwks(trust_domain(), text).unwrap_err();
        assert!(matches!(refused, BundleError::Json(_)), "{text:?}: {refused}");
    }
    for sequence in [json!(-1), json!("1"), json!(1.5), json!(null)] {
        let refused = read(&json!({ "keys": [x509_key(&good)], "spiffe_sequence": sequence })).unwrap_err();
        assert!(matches!(refused, BundleError::Json(_)), "{sequence}: {refused}");
    }
    for keys in [json!([]), json!([{ "use": "jwt-svid", "kty": "EC" }]), json!([{}])] {
        assert!(matches!(read(&json!({ "keys": keys })), Err(BundleError::Empty)), "{keys}");
    }
    let key = |x5c: Value| json!({ "use": "x509-svid", "kty": "EC", "x5c": [x5c] });
    for (bad, expected) in [
        (json!("!"), "x5c is not base64"),
        (json!(7), "x5c is not base64"),
        (json!(STANDARD.encode([0; 40])), "not an X.509 certificate"),
        (json!(STANDARD.encode([&good[..], &[0]].concat())), "not an X.509 certificate"),
        (json!(STANDARD.encode(forge::leaf())), "not a CA certificate"),
    ] {
        match read(&json!({ "keys": [x509_key(&good), key(bad)] })) {
            Err(BundleError::Key { index: 1, defect }) => assert_eq!(defect, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
}

#[test]
fn a_bundle_is_bounded_and_never_empty() {
    assert!(matches!(TrustBundle::new(trust_domain(), 1, vec![]), Err(BundleError::Empty)));
    let many = vec![root(); 33];
    assert!(matches!(TrustBundle::new(trust_domain(), 1, many.clone()), Err(BundleError::TooMany(33))));
    let keys: Vec<_> = many.iter().map(|root| x509_key(root)).collect();
    assert!(matches!(read(&json!({ "keys": keys })), Err(BundleError::TooMany(33))));

    let text = TrustBundle::new(trust_domain(), 1, vec![root()]).unwrap().to_jwks();
    let padded = |length: usize| format!("{text}{}", " ".repeat(length - text.len()));
    assert!(TrustBundle::from_jwks(trust_domain(), &padded(256 * 1024)).is_ok());
    let too_long = TrustBundle::from_jwks(trust_domain(), &padded(256 * 1024 + 1));
    assert!(matches!(too_long, Err(BundleError::TooLong(262_145))));
}

#[test]
fn a_trust_domain_is_vouched_for_by_its_own_bundle_alone() {
    let (mut bundles, other) = (TrustBundles::default(), TrustDomain::parse("other").unwrap());
    let (first, second) = (root(), root());
    bundles.insert(TrustBundle::new(trust_domain(), 1, vec![first.clone()]).unwrap());
    assert!(bundles.get(&other).is_none());
    bundles.insert(TrustBundle::new(trust_domain(), 2, vec![second.clone()]).unwrap());
    let now = bundles.get(&trust_domain()).unwrap();
    assert_eq!((bundles.iter().count(), now.generation()), (1, 2), "a newer generation replaces the older");
    assert_eq!(now.root(&Fingerprint::of(&second)), Some(&second));
    assert_eq!(now.root(&Fingerprint::of(&first)), None);
}
