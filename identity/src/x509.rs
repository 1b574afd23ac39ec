//! The rules that a leaf and its issuer must meet beyond what a TLS stack checks.
//!
//! webpki builds the chain and checks signatures, but it ignores key usage, takes two URI SANs and never looks
//! at the anchor's dates. [`check_leaf`] and [`check_issuer`] close those gaps on the bare DER
//! (X509-SVID sections 2 to 5, RFC 5280 section 4.2.1).

use std::fmt;
use std::time::Duration;

use aws_lc_rs::digest;
use rustls_pki_types::UnixTime;
use x509_parser::asn1_rs::Any;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, KeyUsage, ParsedExtension, X509Extension};
use x509_parser::oid_registry::Oid;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

use crate::id::check_segment;
use crate::{IdDefect, SpiffeId, SvidDefect, TrustDomain};

/// How far a peer's clock may run ahead of ours: tolerated before NotBefore, never after NotAfter.
pub(crate) const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// An object identifier comes from the peer and ends in a log line.
const MAX_OID_TEXT: usize = 64;

/// Arc of the extension that confines an intermediate to one namespace (non-critical; content: UTF8String).
const ISSUER_NAMESPACE: &[u64] = &[2, 25, 4_163_552_317_801_742_113, 1];

/// Object identifier of the issuer-namespace extension, as components.
#[must_use]
pub fn issuer_namespace_oid() -> &'static [u64] {
    ISSUER_NAMESPACE
}

/// SHA-256 of a certificate's DER.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Hashes DER.
    #[must_use]
    pub fn of(der: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, der).as_ref());
        Self(bytes)
    }

    /// From its 32 bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Serial number: 1 to 20 octets, big-endian.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Serial(Vec<u8>);

impl Serial {
    /// The octets, without leading zeroes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|b| write!(f, "{b:02x}"))
}

macro_rules! shown_as_hex {
    ($($t:ty),*) => {$(
        impl fmt::Display for $t {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { hex(&self.0, f) }
        }
        impl fmt::Debug for $t {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { hex(&self.0, f) }
        }
    )*};
}
shown_as_hex!(Fingerprint, Serial);

/// What a checked leaf says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    /// The one URI SAN: a SPIFFE ID with a path.
    pub id: SpiffeId,
    /// Serial number.
    pub serial: Serial,
    /// SHA-256 of the DER.
    pub fingerprint: Fingerprint,
    /// Seconds since the epoch.
    pub not_before: u64,
    /// Seconds since the epoch; the certificate is good up to and including this second.
    pub not_after: u64,
}

/// What a checked issuer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerFacts {
    /// Trust domain that the issuer names, if it names one.
    pub trust_domain: Option<TrustDomain>,
    /// The only namespace it may issue for, if it is confined.
    pub namespace: Option<String>,
    /// Serial number.
    pub serial: Serial,
    /// SHA-256 of the DER.
    pub fingerprint: Fingerprint,
    /// Seconds since the epoch.
    pub not_after: u64,
}

impl IssuerFacts {
    /// Whether this issuer may issue for `leaf`.
    ///
    /// # Errors
    /// [`SvidDefect::IssuerTrustDomain`], [`SvidDefect::IssuerNamespace`].
    pub fn may_issue(&self, leaf: &SpiffeId) -> Result<(), SvidDefect> {
        if let Some(issuer) = &self.trust_domain
            && issuer != leaf.trust_domain()
        {
            return Err(SvidDefect::IssuerTrustDomain {
                issuer: issuer.clone(),
                leaf: leaf.trust_domain().clone(),
            });
        }
        match &self.namespace {
            Some(namespace) if !leaf.path().starts_with(&format!("/ns/{namespace}/")) => {
                Err(SvidDefect::IssuerNamespace { issuer: namespace.clone(), leaf: leaf.clone() })
            }
            _ => Ok(()),
        }
    }
}

/// Checks every rule of a leaf that lies in the leaf alone.
///
/// # Errors
/// The first defect met.
pub fn check_leaf(der: &[u8], now: UnixTime) -> Result<CertificateFacts, SvidDefect> {
    let certificate = parse(der)?;
    let serial = serial(&certificate)?;
    let uris = uri_sans(&certificate);
    let id = match uris.as_slice() {
        [] => return Err(SvidDefect::NoUriSan),
        [uri] => SpiffeId::parse(uri)?,
        many => return Err(SvidDefect::ManyUriSans(many.len())),
    };
    if id.path().is_empty() {
        return Err(IdDefect::NoPath.into());
    }
    if certificate.is_ca() {
        return Err(SvidDefect::LeafIsCa);
    }
    let usage = key_usage(&certificate)?;
    if !usage.digital_signature() {
        return Err(SvidDefect::NoDigitalSignature);
    }
    if usage.key_cert_sign() {
        return Err(SvidDefect::LeafMaySignCertificates);
    }
    if usage.crl_sign() {
        return Err(SvidDefect::LeafMaySignCrls);
    }
    let extended =
        certificate.extended_key_usage().ok().flatten().ok_or(SvidDefect::NoExtendedKeyUsage)?.value;
    if !extended.server_auth {
        return Err(SvidDefect::NoServerAuth);
    }
    if !extended.client_auth {
        return Err(SvidDefect::NoClientAuth);
    }
    let (not_before, not_after) = check_dates(&certificate, now)?;
    Ok(CertificateFacts { id, serial, fingerprint: Fingerprint::of(der), not_before, not_after })
}

/// Checks every rule of an issuer, intermediate or anchor, that lies in the issuer alone.
///
/// # Errors
/// The first defect met.
pub fn check_issuer(der: &[u8], now: UnixTime) -> Result<IssuerFacts, SvidDefect> {
    let certificate = parse(der)?;
    let serial = serial(&certificate)?;
    let constraints = certificate.basic_constraints().ok().flatten().ok_or(SvidDefect::IssuerNotCa)?;
    if !constraints.value.ca {
        return Err(SvidDefect::IssuerNotCa);
    }
    if !constraints.critical {
        return Err(SvidDefect::BasicConstraintsNotCritical);
    }
    if !key_usage(&certificate)?.key_cert_sign() {
        return Err(SvidDefect::IssuerMayNotSign);
    }
    let uris = uri_sans(&certificate);
    let trust_domain = match uris.as_slice() {
        [] => None,
        [uri] => {
            let id = SpiffeId::parse(uri)?;
            if !id.path().is_empty() {
                return Err(SvidDefect::IssuerIsWorkload(id));
            }
            Some(id.trust_domain().clone())
        }
        many => return Err(SvidDefect::ManyUriSans(many.len())),
    };
    let (_, not_after) = check_dates(&certificate, now)?;
    let namespace = issuer_namespace(&certificate)?;
    Ok(IssuerFacts { trust_domain, namespace, serial, fingerprint: Fingerprint::of(der), not_after })
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, SvidDefect> {
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| SvidDefect::Malformed)?;
    if !rest.is_empty() {
        return Err(SvidDefect::Malformed);
    }
    if certificate.version() != x509_parser::x509::X509Version::V3 {
        return Err(SvidDefect::Version);
    }
    certificate.extensions_map().map_err(|_| SvidDefect::DuplicateExtension)?;
    for extension in certificate.extensions() {
        check_extension(extension)?;
    }
    let unnamed = certificate.subject().iter().next().is_none();
    let names = certificate.subject_alternative_name().ok().flatten();
    if unnamed && names.is_some_and(|names| !names.critical) {
        return Err(SvidDefect::SanNotCritical);
    }
    Ok(certificate)
}

/// Refuses what cannot be read whole, and what is critical without anybody acting on it.
fn check_extension(extension: &X509Extension<'_>) -> Result<(), SvidDefect> {
    let parsed = extension.parsed_extension();
    // x509-parser keeps an unreadable name aside: a second URI must not hide there.
    let hidden = if let ParsedExtension::SubjectAlternativeName(names) = parsed {
        names.general_names.iter().any(|name| matches!(name, GeneralName::Invalid(..)))
    } else {
        false
    };
    if hidden || parsed.error().is_some() {
        return Err(SvidDefect::Malformed);
    }
    // Name constraints are the chain builder's: webpki refuses every URI under a URI constraint.
    let handled = matches!(
        parsed,
        ParsedExtension::KeyUsage(_)
            | ParsedExtension::ExtendedKeyUsage(_)
            | ParsedExtension::BasicConstraints(_)
            | ParsedExtension::SubjectAlternativeName(_)
            | ParsedExtension::NameConstraints(_)
    );
    if handled {
        // x509-parser ignores what follows the value; another reader might not.
        return match Any::from_der(extension.value) {
            Ok(([], _)) => Ok(()),
            _ => Err(SvidDefect::Malformed),
        };
    }
    if extension.critical {
        let mut oid = extension.oid.to_id_string();
        oid.truncate(MAX_OID_TEXT);
        return Err(SvidDefect::UnknownCriticalExtension(oid));
    }
    Ok(())
}

fn serial(certificate: &X509Certificate<'_>) -> Result<Serial, SvidDefect> {
    let raw = certificate.raw_serial();
    let negative = raw.first().is_some_and(|first| first & 0x80 != 0);
    let octets: Vec<u8> = raw.iter().copied().skip_while(|octet| *octet == 0).collect();
    if negative || octets.is_empty() || octets.len() > 20 {
        return Err(SvidDefect::Serial);
    }
    Ok(Serial(octets))
}

fn uri_sans<'a>(certificate: &'a X509Certificate<'_>) -> Vec<&'a str> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    let names = names.value.general_names.iter();
    names.filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None }).collect()
}

fn key_usage<'a>(certificate: &'a X509Certificate<'_>) -> Result<&'a KeyUsage, SvidDefect> {
    let usage = certificate.key_usage().ok().flatten().ok_or(SvidDefect::NoKeyUsage)?;
    if usage.critical { Ok(usage.value) } else { Err(SvidDefect::KeyUsageNotCritical) }
}

/// NotBefore and NotAfter in seconds since the epoch, if `now` lies between them.
fn check_dates(certificate: &X509Certificate<'_>, now: UnixTime) -> Result<(u64, u64), SvidDefect> {
    let seconds = |time: ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0);
    let not_before = seconds(certificate.validity().not_before);
    let not_after = seconds(certificate.validity().not_after);
    let now = now.as_secs();
    if not_before > now.saturating_add(CLOCK_SKEW.as_secs()) {
        return Err(SvidDefect::NotYetValid { not_before, ahead_s: not_before - now });
    }
    if now > not_after {
        return Err(SvidDefect::Expired { ago_s: now - not_after });
    }
    Ok((not_before, not_after))
}

fn issuer_namespace(certificate: &X509Certificate<'_>) -> Result<Option<String>, SvidDefect> {
    let oid = Oid::from(ISSUER_NAMESPACE).map_err(|_| SvidDefect::Malformed)?;
    let Some(extension) = certificate.extensions().iter().find(|extension| extension.oid == oid) else {
        return Ok(None);
    };
    // UTF8String: tag 0x0c, one length octet (a namespace has at most 63 bytes), then the text.
    match extension.value {
        [0x0c, length, text @ ..] if usize::from(*length) == text.len() && *length < 0x80 => {
            // A namespace is one segment of a path: anything else could match more than it says.
            let namespace = std::str::from_utf8(text).map_err(|_| SvidDefect::Malformed)?;
            check_segment(namespace)?;
            Ok(Some(namespace.to_owned()))
        }
        _ => Err(SvidDefect::Malformed),
    }
}
