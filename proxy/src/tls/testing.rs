//! Authorities and leaves for tests, good ones and bad ones.

use std::sync::Arc;
use std::time::Duration;

use portcullis_identity::{ManualClock, Svid, TrustBundle, TrustBundles, TrustDomain};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::{Identity, MinVersion};

/// Where test clocks stand: 2026-01-01.
pub(crate) const NOW: Duration = Duration::from_secs(1_767_225_600);

pub(crate) fn moment(since_epoch: Duration) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(since_epoch.as_secs().try_into().unwrap()).unwrap()
}

pub(crate) fn trust_domain() -> TrustDomain {
    "cluster.local".parse().unwrap()
}

pub(crate) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

/// A certificate authority: the root, or signed by another.
pub(crate) struct Ca {
    pub(crate) issuer: Issuer<'static, KeyPair>,
    /// Its own certificate, then those of its issuers; the root last.
    pub(crate) chain: Vec<CertificateDer<'static>>,
}

/// A leaf with its intermediates, without root, and its key.
pub(crate) struct Leaf {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: KeyPair,
}

pub(crate) fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.subject_alt_names = vec![uri("spiffe://cluster.local")];
    (params.not_before, params.not_after) =
        (moment(NOW - Duration::from_secs(86_400)), moment(NOW + Duration::from_secs(86_400 * 30)));
    params
}

pub(crate) fn leaf_params(id: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![uri(id)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    (params.not_before, params.not_after) =
        (moment(NOW - Duration::from_secs(120)), moment(NOW + Duration::from_secs(3600)));
    params
}

impl Ca {
    pub(crate) fn root(params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let chain = vec![params.self_signed(&key).unwrap().into()];
        Self { issuer: Issuer::new(params, key), chain }
    }

    pub(crate) fn sub(&self, params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let own = params.signed_by(&key, &self.issuer).unwrap();
        let chain = [vec![own.into()], self.chain.clone()].concat();
        Self { issuer: Issuer::new(params, key), chain }
    }

    pub(crate) fn leaf(&self, params: &CertificateParams) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let own = params.signed_by(&key, &self.issuer).unwrap();
        let issuers = self.chain.len() - 1;
        let chain = [vec![own.into()], self.chain[..issuers].to_vec()].concat();
        Leaf { chain, key }
    }

    pub(crate) fn root_der(&self) -> CertificateDer<'static> {
        self.chain.last().unwrap().clone()
    }
}

impl Leaf {
    pub(crate) fn svid(&self, clock: &ManualClock) -> Svid {
        let key = Zeroizing::new(self.key.serialize_der());
        Svid::new(self.chain.clone(), key, clock.clock().unix_time()).unwrap()
    }
}

pub(crate) fn pem(certificates: &[CertificateDer<'static>]) -> String {
    let one = |der: &CertificateDer<'_>| {
        let lines = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
        format!("-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n")
    };
    certificates.iter().map(one).collect()
}

pub(crate) fn bundles(roots: Vec<CertificateDer<'static>>) -> TrustBundles {
    let mut bundles = TrustBundles::default();
    bundles.insert(TrustBundle::new(trust_domain(), 1, roots).unwrap());
    bundles
}

/// A root, an intermediate, and a clock that stands at [`NOW`].
pub(crate) struct Mesh {
    pub(crate) root: Ca,
    pub(crate) intermediate: Ca,
    pub(crate) clock: ManualClock,
}

impl Mesh {
    pub(crate) fn new() -> Self {
        let root = Ca::root(ca_params("root"));
        let intermediate = root.sub(ca_params("intermediate"));
        Self { root, intermediate, clock: ManualClock::at(NOW) }
    }

    pub(crate) fn identity(&self, id: &str) -> Identity {
        self.identity_with(id, MinVersion::Tls12)
    }

    pub(crate) fn identity_with(&self, id: &str, min_version: MinVersion) -> Identity {
        let svid = Arc::new(self.intermediate.leaf(&leaf_params(id)).svid(&self.clock));
        let bundles = bundles(vec![self.root.root_der()]);
        Identity::new(1, svid, bundles, self.clock.clock(), min_version).unwrap()
    }
}
