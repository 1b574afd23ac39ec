//! Trust bundles: which roots vouch for which trust domain, in the SPIFFE bundle format (a JWKS).

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rustls_pki_types::CertificateDer;
use serde::Deserialize;
use serde_json::{Value, json};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

use crate::{Fingerprint, TrustDomain};

/// Most roots that one bundle may hold; rotation needs two or three.
const MAX_ROOTS: usize = 32;
/// Longest bundle document, in bytes: 32 RSA-4096 roots take some 100 KiB.
const MAX_TEXT: usize = 256 * 1024;
/// Key types of the roots that can be verified with; elements of other types are passed over (4.2.1).
const KEY_TYPES: [&str; 3] = ["EC", "RSA", "OKP"];

/// Why a text is not a trust bundle.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// Not JSON, or not the shape of a JWKS.
    #[error("not a SPIFFE bundle: {0}")]
    Json(#[from] serde_json::Error),
    /// A broken `x509-svid` key. Keys of other uses and types are none of ours and skipped.
    #[error("key {index} of the bundle: {defect}")]
    Key {
        /// Position in `keys`, from 0.
        index: usize,
        /// What is wrong with it.
        defect: &'static str,
    },
    /// No root left: nothing could be verified.
    #[error("the bundle holds no x509-svid root")]
    Empty,
    /// More than 32 roots.
    #[error("the bundle holds {0} roots, the limit is 32")]
    TooMany(usize),
    /// More than 256 KiB of text.
    #[error("the bundle has {0} bytes, the limit is 262144")]
    TooLong(usize),
}

/// The roots of one trust domain, at one generation. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustBundle {
    trust_domain: TrustDomain,
    generation: u64,
    roots: Vec<CertificateDer<'static>>,
}

impl TrustBundle {
    /// Takes root certificates (DER).
    ///
    /// # Errors
    /// [`BundleError::Empty`], [`BundleError::TooMany`], [`BundleError::Key`] when one is not a CA's certificate.
    pub fn new(
        trust_domain: TrustDomain,
        generation: u64,
        roots: Vec<CertificateDer<'static>>,
    ) -> Result<Self, BundleError> {
        if roots.is_empty() {
            return Err(BundleError::Empty);
        }
        if roots.len() > MAX_ROOTS {
            return Err(BundleError::TooMany(roots.len()));
        }
        for (index, root) in roots.iter().enumerate() {
            let defect = match X509Certificate::from_der(root) {
                Ok(([], certificate)) if certificate.is_ca() => continue,
                Ok(([], _)) => "not a CA certificate",
                _ => "not an X.509 certificate",
            };
            return Err(BundleError::Key { index, defect });
        }
        Ok(Self { trust_domain, generation, roots })
    }

    /// Reads a SPIFFE bundle document. Keys of other uses (`jwt-svid`) and of unknown types are passed over,
    /// whatever they look like.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn from_jwks(trust_domain: TrustDomain, jwks: &str) -> Result<Self, BundleError> {
        if jwks.len() > MAX_TEXT {
            return Err(BundleError::TooLong(jwks.len()));
        }
        let document: Document = serde_json::from_str(jwks)?;
        let mut roots = Vec::new();
        for (index, key) in document.keys.iter().enumerate() {
            let text = |name| key.get(name).and_then(Value::as_str);
            let ours =
                text("use") == Some("x509-svid") && text("kty").is_some_and(|t| KEY_TYPES.contains(&t));
            if !ours {
                continue;
            }
            // X509-SVID 6.2: without x5c the key is ignored, and so is all but the first value.
            let Some(certificate) = key.get("x5c").and_then(|x5c| x5c.get(0)) else { continue };
            let der = certificate.as_str().and_then(|text| STANDARD.decode(text).ok());
            let der = der.ok_or(BundleError::Key { index, defect: "x5c is not base64" })?;
            roots.push(der.into());
        }
        Self::new(trust_domain, document.spiffe_sequence, roots)
    }

    /// Writes the SPIFFE bundle document.
    #[must_use]
    pub fn to_jwks(&self) -> String {
        let keys: Vec<Value> = self.roots.iter().map(|root| jwk(root)).collect();
        json!({ "keys": keys, "spiffe_sequence": self.generation }).to_string()
    }

    /// Whom the roots vouch for.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// Rises whenever the set of roots changes.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Root certificates, DER.
    #[must_use]
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// The root whose SHA-256 is `fingerprint`.
    #[must_use]
    pub fn root(&self, fingerprint: &Fingerprint) -> Option<&CertificateDer<'static>> {
        self.roots.iter().find(|root| Fingerprint::of(root) == *fingerprint)
    }
}

/// Bundles by trust domain: the own one and, later, federated ones.
#[derive(Debug, Clone, Default)]
pub struct TrustBundles(BTreeMap<TrustDomain, TrustBundle>);

impl TrustBundles {
    /// Adds or replaces the bundle of its trust domain.
    pub fn insert(&mut self, bundle: TrustBundle) {
        self.0.insert(bundle.trust_domain.clone(), bundle);
    }

    /// The bundle that vouches for `trust_domain`: no other may.
    #[must_use]
    pub fn get(&self, trust_domain: &TrustDomain) -> Option<&TrustBundle> {
        self.0.get(trust_domain)
    }

    /// All bundles.
    pub fn iter(&self) -> impl Iterator<Item = &TrustBundle> {
        self.0.values()
    }
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
    #[serde(default)]
    spiffe_sequence: u64,
}

/// One root as a JWK. RFC 7517 wants the key's own parameters beside `x5c`, so that any JWKS reader can use the
/// document; `kid` must not be set (X509-SVID 6.1).
fn jwk(root: &CertificateDer<'_>) -> Value {
    let mut jwk = json!({ "use": "x509-svid", "x5c": [STANDARD.encode(root)] });
    if let (Ok((_, certificate)), Some(members)) = (X509Certificate::from_der(root), jwk.as_object_mut()) {
        members.extend(
            public_key(&certificate).into_iter().map(|(name, value)| (name.to_owned(), value.into())),
        );
    }
    jwk
}

/// Parameters of the public key by RFC 7518, section 6, and RFC 8037.
fn public_key(certificate: &X509Certificate<'_>) -> Vec<(&'static str, String)> {
    let encode = |bytes| URL_SAFE_NO_PAD.encode::<&[u8]>(bytes);
    match certificate.public_key().parsed() {
        Ok(PublicKey::EC(point)) => {
            // Uncompressed point: 0x04, then x and y of equal length.
            let coordinates = point.data().get(1..).unwrap_or_default();
            let (x, y) = coordinates.split_at(coordinates.len() / 2);
            let curve = match x.len() {
                32 => "P-256",
                48 => "P-384",
                _ => "P-521",
            };
            vec![("kty", "EC".into()), ("crv", curve.into()), ("x", encode(x)), ("y", encode(y))]
        }
        Ok(PublicKey::RSA(rsa)) => {
            let trim = |n: &[u8]| n.iter().copied().skip_while(|b| *b == 0).collect::<Vec<_>>();
            vec![("kty", "RSA".into()), ("n", encode(&trim(rsa.modulus))), ("e", encode(&trim(rsa.exponent)))]
        }
        // Ed25519 is the one other kind of key that the TLS stack verifies with.
        _ => {
            let raw = &certificate.public_key().subject_public_key.data;
            vec![("kty", "OKP".into()), ("crv", "Ed25519".into()), ("x", encode(raw))]
        }
    }
}
