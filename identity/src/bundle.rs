//! Trust bundles: which roots vouch for which trust domain, in the SPIFFE bundle format (a JWKS).

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

use crate::{Fingerprint, TrustDomain};

/// Most roots that one bundle may hold; rotation needs two or three.
const MAX_ROOTS: usize = 32;

/// Why a text is not a trust bundle.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// Not JSON, or not the shape of a JWKS.
    #[error("not a SPIFFE bundle: {0}")]
    Json(#[from] serde_json::Error),
    /// A key without `use`, or of a use the standard does not name, is skipped; this is a broken `x509-svid` key.
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
    /// [`BundleError::Empty`], [`BundleError::TooMany`], [`BundleError::Key`] when one is not a certificate.
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
            match X509Certificate::from_der(root) {
                Ok(([], _)) => {}
                _ => return Err(BundleError::Key { index, defect: "not an X.509 certificate" }),
            }
        }
        Ok(Self { trust_domain, generation, roots })
    }

    /// Reads a SPIFFE bundle document. Keys of other uses (`jwt-svid`) are passed over.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn from_jwks(trust_domain: TrustDomain, jwks: &str) -> Result<Self, BundleError> {
        let document: Document = serde_json::from_str(jwks)?;
        let mut roots = Vec::new();
        for (index, key) in document.keys.iter().enumerate() {
            if key.usage.as_deref() != Some("x509-svid") {
                continue;
            }
            // SPIFFE Trust Domain and Bundle, 4.2.2: x5c holds exactly one certificate.
            let [certificate] = key.x5c.as_slice() else {
                return Err(BundleError::Key { index, defect: "x5c must hold exactly one certificate" });
            };
            let der = STANDARD
                .decode(certificate)
                .map_err(|_| BundleError::Key { index, defect: "x5c is not base64" })?;
            roots.push(der.into());
        }
        Self::new(trust_domain, document.spiffe_sequence, roots)
    }

    /// Writes the SPIFFE bundle document.
    #[must_use]
    pub fn to_jwks(&self) -> String {
        let keys = self.roots.iter().map(|root| Key::of_root(root)).collect();
        let document = Document { keys, spiffe_sequence: self.generation };
        serde_json::to_string(&document).unwrap_or_default()
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

#[derive(Serialize, Deserialize)]
struct Document {
    keys: Vec<Key>,
    #[serde(default)]
    spiffe_sequence: u64,
}

#[derive(Serialize, Deserialize, Default)]
struct Key {
    #[serde(rename = "use", skip_serializing_if = "Option::is_none")]
    usage: Option<String>,
    kty: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    crv: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    x: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    y: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    e: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    x5c: Vec<String>,
}

impl Key {
    /// RFC 7517 wants the key's own parameters beside `x5c`, so that any JWKS reader can use the document.
    fn of_root(root: &CertificateDer<'_>) -> Self {
        let mut key =
            Self { usage: Some("x509-svid".into()), x5c: vec![STANDARD.encode(root)], ..Self::default() };
        let Ok((_, certificate)) = X509Certificate::from_der(root) else { return key };
        match certificate.public_key().parsed() {
            Ok(PublicKey::EC(point)) => {
                // Uncompressed point: 0x04, then x and y of equal length.
                let coordinates = point.data().get(1..).unwrap_or_default();
                let (x, y) = coordinates.split_at(coordinates.len() / 2);
                key.kty = "EC".into();
                key.crv = Some(if x.len() == 48 { "P-384" } else { "P-256" }.into());
                key.x = Some(URL_SAFE_NO_PAD.encode(x));
                key.y = Some(URL_SAFE_NO_PAD.encode(y));
            }
            Ok(PublicKey::RSA(rsa)) => {
                let trim = |n: &[u8]| n.iter().copied().skip_while(|b| *b == 0).collect::<Vec<_>>();
                key.kty = "RSA".into();
                key.n = Some(URL_SAFE_NO_PAD.encode(trim(rsa.modulus)));
                key.e = Some(URL_SAFE_NO_PAD.encode(trim(rsa.exponent)));
            }
            _ => key.kty = "OKP".into(),
        }
        key
    }
}
