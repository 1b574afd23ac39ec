//! Certificates that nobody should accept, made for one attack and forgotten with it.

use std::sync::Arc;
use std::time::Duration;

use portcullis_identity::TrustDomain;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;

use super::CannotProbe;
use super::server::{Roots, Server};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
/// Claimed where the server does not say what the mesh's is.
const USUAL_TRUST_DOMAIN: &str = "cluster.local";
/// Nobody's (RFC 2606).
const OTHER_TRUST_DOMAIN: &str = "portcullis-probe.invalid";

/// What is wrong with a forged certificate; what is not said here is as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Forgery {
    SelfSigned,
    WrongCa,
    /// The issuer has the name and the key identifier of the real one.
    Impostor,
    OtherTrustDomain,
    Expired,
    NotYetValid,
    NoSpiffeId,
    /// The server's own certificate, without its key.
    Borrowed,
}

/// Makes forgeries that look as much as possible like what the server knows.
pub(super) struct Forger {
    trust_domain: TrustDomain,
    /// The SPIFFE ID that is claimed: the server's own, if it shows one.
    id: String,
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
    /// The certificate of the server's own issuer.
    real_issuer: Option<CertificateDer<'static>>,
    server_chain: Vec<CertificateDer<'static>>,
    now: Duration,
}

impl Forger {
    pub(super) fn new(server: &Server, roots: Option<&Roots>, now: Duration) -> Result<Self, CannotProbe> {
        let trust_domain = match &server.id {
            Some(id) => id.trust_domain().clone(),
            None => {
                TrustDomain::parse(USUAL_TRUST_DOMAIN).map_err(|_| rcgen::Error::CouldNotParseCertificate)?
            }
        };
        let made_up = || format!("spiffe://{trust_domain}/ns/default/sa/portcullis-probe");
        let id = server.id.as_ref().map_or_else(made_up, ToString::to_string);
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "portcullis probe, not an authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.subject_alt_names = vec![uri(&format!("spiffe://{trust_domain}"))?];
        (params.not_before, params.not_after) = (moment(now.saturating_sub(DAY)), moment(now + DAY));
        let root = params.self_signed(&key)?.der().clone();
        let real_issuer = server.chain.get(1).or(roots.and_then(Roots::first)).cloned();
        let (issuer, server_chain) = (Issuer::new(params, key), server.chain.clone());
        Ok(Self { trust_domain, id, issuer, root, real_issuer, server_chain, now })
    }

    /// Whom the forgeries name.
    pub(super) fn claimed(&self) -> &str {
        &self.id
    }

    /// The trust domain that is attacked.
    pub(super) fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// Whether there is what the forgery needs.
    pub(super) fn can(&self, forgery: Forgery) -> bool {
        match forgery {
            Forgery::Impostor => self.real_issuer.is_some(),
            Forgery::Borrowed => !self.server_chain.is_empty(),
            Forgery::SelfSigned
            | Forgery::WrongCa
            | Forgery::OtherTrustDomain
            | Forgery::Expired
            | Forgery::NotYetValid
            | Forgery::NoSpiffeId => true,
        }
    }

    /// A chain and a key. That they fit is not looked at.
    pub(super) fn make(&self, forgery: Forgery) -> Result<Arc<CertifiedKey>, CannotProbe> {
        let key = KeyPair::generate()?;
        let mut params = self.leaf()?;
        match forgery {
            Forgery::OtherTrustDomain => {
                params.subject_alt_names =
                    vec![uri(&format!("spiffe://{OTHER_TRUST_DOMAIN}/ns/default/sa/probe"))?];
            }
            Forgery::Expired => {
                (params.not_before, params.not_after) =
                    (moment(self.now.saturating_sub(DAY)), moment(self.now.saturating_sub(HOUR)));
            }
            Forgery::NotYetValid => params.not_before = moment(self.now + HOUR),
            Forgery::NoSpiffeId => {
                params.subject_alt_names = vec![SanType::DnsName("portcullis-probe.invalid".try_into()?)];
            }
            Forgery::SelfSigned | Forgery::WrongCa | Forgery::Impostor | Forgery::Borrowed => {}
        }
        let chain = match (forgery, &self.real_issuer) {
            (Forgery::Borrowed, _) => self.server_chain.clone(),
            (Forgery::SelfSigned, _) => vec![params.self_signed(&key)?.der().clone()],
            (Forgery::Impostor, Some(real)) => {
                let issuer = Issuer::from_ca_cert_der(real, KeyPair::generate()?)?;
                vec![params.signed_by(&key, &issuer)?.der().clone(), real.clone()]
            }
            _ => vec![params.signed_by(&key, &self.issuer)?.der().clone(), self.root.clone()],
        };
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        Ok(Arc::new(CertifiedKey::new(chain, aws_lc_rs::sign::any_supported_type(&key)?)))
    }

    /// A leaf as the mesh's own authority makes them.
    fn leaf(&self) -> Result<CertificateParams, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![uri(&self.id)?];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        (params.not_before, params.not_after) =
            (moment(self.now.saturating_sub(HOUR)), moment(self.now + DAY));
        Ok(params)
    }
}

fn uri(text: &str) -> Result<SanType, rcgen::Error> {
    Ok(SanType::URI(text.try_into()?))
}

/// A moment since the epoch. Beyond what a certificate can say (year 9999) nothing is tried.
fn moment(since_epoch: Duration) -> OffsetDateTime {
    let seconds = i64::try_from(since_epoch.as_secs()).unwrap_or_default();
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}
