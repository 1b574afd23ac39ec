//! What each kind of certificate looks like: root, intermediate, leaf.
//!
//! Every field is chosen here. Nothing is copied from a request but the public key, and nothing is left to a
//! default of the library (whose serial is a hash of the key). Knows neither store nor evidence.

use std::time::Duration;

use aws_lc_rs::rand;
use portcullis_identity::{
    BadAnchor, BundleError, CertificateFacts, ChainDefect, ChainVerifier, Fingerprint, IdDefect, Role,
    SvidDefect, TrustBundle, TrustBundles, TrustDomain, Workload, check_issuer, check_leaf,
};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use time::OffsetDateTime;

use crate::seal::SigningKey;

/// How far NotBefore lies back, for peers whose clock is behind.
const BACKDATED: Duration = Duration::from_secs(120);

/// Why a certificate could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// The X.509 or cryptographic library refused.
    #[error("the certificate could not be made: {0}")]
    Library(#[from] rcgen::Error),
    /// No randomness for the serial.
    #[error("no randomness for a serial number")]
    Random,
    /// A date outside what X.509 can say.
    #[error("the date {0} s after the epoch cannot be written in a certificate")]
    Date(u64),
    /// The issuer has nothing left to give.
    #[error("the issuer ends {not_after} s after the epoch, that is now or past")]
    IssuerEnds {
        /// Seconds since the epoch.
        not_after: u64,
    },
    /// What was made breaks a rule: it is not handed out.
    #[error("the certificate made breaks a rule: {0}")]
    Defect(#[from] SvidDefect),
    /// The intermediate does not verify under its root, as when the root has constraints or an unusual name.
    #[error("leaves would not verify under the root: {0}")]
    Chain(#[from] ChainDefect),
    /// The root cannot be an anchor at all.
    #[error(transparent)]
    Anchor(#[from] BadAnchor),
    /// The root makes no trust bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The authority's own name cannot be formed.
    #[error("the authority's own identity: {0}")]
    OwnIdentity(#[from] IdDefect),
}

/// An authority that can sign: certificate and key.
pub(crate) struct Signer {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) key: SigningKey,
    /// Seconds since the epoch.
    pub(crate) not_after: u64,
}

impl Signer {
    /// Takes an authority's certificate and key after checking the certificate.
    pub(crate) fn new(
        certificate: CertificateDer<'static>,
        key: SigningKey,
        now: UnixTime,
    ) -> Result<Self, SvidDefect> {
        let not_after = check_issuer(&certificate, now)?.not_after;
        Ok(Self { certificate, key, not_after })
    }

    /// How the store calls it: the hash of its certificate, in hexadecimal.
    pub(crate) fn id(&self) -> String {
        Fingerprint::of(&self.certificate).to_string()
    }

    fn issuer(&self) -> Result<Issuer<'static, &KeyPair>, ProfileError> {
        Ok(Issuer::from_ca_cert_der(&self.certificate, self.key.key_pair())?)
    }
}

/// A leaf fit to be handed out, and what it says.
pub(crate) struct Leaf {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) facts: CertificateFacts,
}

/// Makes a self-signed root with a new key.
pub(crate) fn root(
    trust_domain: &TrustDomain,
    now: Duration,
    life: Duration,
) -> Result<Signer, ProfileError> {
    let key = KeyPair::generate()?;
    let mut params = authority_params(trust_domain, "root", now)?;
    params.not_after = date((now + life).as_secs())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key)?.der().clone();
    Ok(Signer::new(certificate, SigningKey::new(key), UnixTime::since_unix_epoch(now))?)
}

/// Makes an intermediate with a new key, clamped to the root's end, and checks that it verifies under the root.
pub(crate) fn intermediate(
    trust_domain: &TrustDomain,
    root: &Signer,
    now: Duration,
    life: Duration,
) -> Result<Signer, ProfileError> {
    let key = KeyPair::generate()?;
    let mut params = authority_params(trust_domain, "intermediate", now)?;
    params.not_after = date(clamped(now, life, root)?)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&key, &root.issuer()?)?.der().clone();
    let made = Signer::new(certificate, SigningKey::new(key), UnixTime::since_unix_epoch(now))?;
    check_chain(trust_domain, root, &made, now)?;
    Ok(made)
}

/// Makes a leaf for the identity and the key given, clamped to the issuer's end, and checks every rule of a leaf.
pub(crate) fn leaf(
    workload: &Workload,
    public_key: &impl PublicKeyData,
    issuer: &Signer,
    now: Duration,
    life: Duration,
) -> Result<Leaf, ProfileError> {
    let mut params = base_params(now)?;
    params.not_after = date(clamped(now, life, issuer)?)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.subject_alt_names = vec![SanType::URI(workload.id().as_str().try_into()?)];
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(public_key, &issuer.issuer()?)?.der().clone();
    let facts = check_leaf(&certificate, UnixTime::since_unix_epoch(now))?;
    Ok(Leaf { certificate, facts })
}

/// The end of what `issuer` can issue now: seconds since the epoch.
pub(crate) fn clamped(now: Duration, life: Duration, issuer: &Signer) -> Result<u64, ProfileError> {
    if issuer.not_after <= now.as_secs() {
        return Err(ProfileError::IssuerEnds { not_after: issuer.not_after });
    }
    Ok((now + life).as_secs().min(issuer.not_after))
}

fn base_params(now: Duration) -> Result<CertificateParams, ProfileError> {
    let mut serial = [0; 16];
    rand::fill(&mut serial).map_err(|_| ProfileError::Random)?;
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    // Empty: the name is the URI, whose extension is critical then (RFC 5280, 4.2.1.6).
    params.distinguished_name = DistinguishedName::new();
    params.not_before = date(now.saturating_sub(BACKDATED).as_secs())?;
    Ok(params)
}

fn authority_params(
    trust_domain: &TrustDomain,
    role: &str,
    now: Duration,
) -> Result<CertificateParams, ProfileError> {
    let mut params = base_params(now)?;
    // An issuer's subject must not be empty (RFC 5280, 4.1.2.6); the serial keeps two generations apart.
    let number = params.serial_number.as_ref().map(ToString::to_string).unwrap_or_default();
    params.distinguished_name.push(DnType::OrganizationName, "Portcullis");
    params.distinguished_name.push(DnType::CommonName, format!("{role} {}", number.replace(':', "")));
    params.subject_alt_names = vec![SanType::URI(trust_domain.id().as_str().try_into()?)];
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn date(seconds: u64) -> Result<OffsetDateTime, ProfileError> {
    let bad = || ProfileError::Date(seconds);
    OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).map_err(|_| bad())?).map_err(|_| bad())
}

/// Issues a throw-away leaf and verifies it up to the root, as a peer would: what a given root forbids shows at once.
fn check_chain(
    trust_domain: &TrustDomain,
    root: &Signer,
    intermediate: &Signer,
    now: Duration,
) -> Result<(), ProfileError> {
    let key = KeyPair::generate()?;
    let probe = crate::own_workload(trust_domain)?;
    let leaf = leaf(&probe, &key, intermediate, now, Duration::from_secs(60))?;
    let mut bundles = TrustBundles::default();
    bundles.insert(TrustBundle::new(trust_domain.clone(), 0, vec![root.certificate.clone()])?);
    let chains = ChainVerifier::new(bundles, webpki::ALL_VERIFICATION_ALGS)?;
    let others = std::slice::from_ref(&intermediate.certificate);
    chains.verify(&leaf.certificate, others, Role::Client, UnixTime::since_unix_epoch(now))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use x509_parser::prelude::*;

    use super::*;

    const NOW: Duration = Duration::from_secs(1_800_000_000);
    const DAY: Duration = Duration::from_secs(86_400);

    fn made() -> (Signer, Signer, Leaf) {
        let trust_domain = TrustDomain::parse("td").unwrap();
        let root = root(&trust_domain, NOW, DAY * 100).unwrap();
        let intermediate = intermediate(&trust_domain, &root, NOW, DAY * 30).unwrap();
        let workload = Workload::new(&trust_domain, "a", "b").unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = leaf(&workload, &key, &intermediate, NOW, DAY).unwrap();
        (root, intermediate, leaf)
    }

    #[test]
    fn a_leaf_says_exactly_what_the_profile_says() {
        let (_, _, leaf) = made();
        let (_, parsed) = X509Certificate::from_der(&leaf.certificate).unwrap();
        assert_eq!(parsed.subject().iter().count(), 0);
        let names = parsed.subject_alternative_name().unwrap().unwrap();
        assert!(names.critical);
        assert_eq!(names.value.general_names, [GeneralName::URI("spiffe://td/ns/a/sa/b")]);
        let usage = parsed.key_usage().unwrap().unwrap();
        assert!(usage.critical);
        assert_eq!(usage.value.flags, 1, "digitalSignature alone");
        let constraints = parsed.basic_constraints().unwrap().unwrap();
        assert!(constraints.critical && !constraints.value.ca);
        let extended = parsed.extended_key_usage().unwrap().unwrap().value;
        assert!(extended.client_auth && extended.server_auth && !extended.any);
        assert!((15..=16).contains(&leaf.facts.serial.as_bytes().len()));
        assert_eq!(leaf.facts.not_before, NOW.as_secs() - 120);
        assert_eq!(leaf.facts.not_after, (NOW + DAY).as_secs());
    }

    #[test]
    fn an_intermediate_cannot_have_intermediates() {
        let (root, intermediate, _) = made();
        let (_, parsed) = X509Certificate::from_der(&intermediate.certificate).unwrap();
        let constraints = parsed.basic_constraints().unwrap().unwrap();
        assert!(constraints.critical && constraints.value.ca);
        assert_eq!(constraints.value.path_len_constraint, Some(0));
        let (_, root) = X509Certificate::from_der(&root.certificate).unwrap();
        assert_eq!(root.basic_constraints().unwrap().unwrap().value.path_len_constraint, None);
        for authority in [&parsed, &root] {
            let usage = authority.key_usage().unwrap().unwrap();
            assert!(usage.critical && usage.value.key_cert_sign() && usage.value.crl_sign());
            assert!(!usage.value.digital_signature());
        }
    }

    #[test]
    fn nothing_outlives_its_issuer() {
        let trust_domain = TrustDomain::parse("td").unwrap();
        let root = root(&trust_domain, NOW, DAY).unwrap();
        let later = NOW + DAY / 2;
        let intermediate = intermediate(&trust_domain, &root, later, DAY * 30).unwrap();
        assert_eq!(intermediate.not_after, root.not_after);
        let workload = Workload::new(&trust_domain, "a", "b").unwrap();
        let key = KeyPair::generate().unwrap();
        let short = leaf(&workload, &key, &intermediate, later, DAY).unwrap();
        assert_eq!(short.facts.not_after, root.not_after);
        let over = leaf(&workload, &key, &intermediate, NOW + DAY, DAY);
        assert!(matches!(over, Err(ProfileError::IssuerEnds { .. })));
    }

    #[test]
    fn serials_differ_for_one_key() {
        let (_, intermediate, _) = made();
        let workload = Workload::new(&TrustDomain::parse("td").unwrap(), "a", "b").unwrap();
        let key = KeyPair::generate().unwrap();
        let serial = || leaf(&workload, &key, &intermediate, NOW, DAY).unwrap().facts.serial;
        assert_ne!(serial(), serial());
    }
}
