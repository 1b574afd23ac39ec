//! Makes certificates, good ones and any others: rcgen where it can, bytes where it cannot.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose as Eku, IsCa, KeyPair, KeyUsagePurpose as Ku, PublicKeyData, SanType,
    SerialNumber,
};
use rustls_pki_types::UnixTime;
use time::OffsetDateTime;

/// The moment at which every certificate here is checked, in seconds since the epoch.
pub(crate) const NOW: u64 = 1_900_000_000;

const ID: &str = "spiffe://td/ns/a/sa/b";

pub(crate) fn now() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(NOW))
}

/// `NOW` and so many seconds.
pub(crate) fn at(offset_s: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(NOW.cast_signed() + offset_s).unwrap()
}

/// The good leaf.
pub(crate) fn leaf() -> Vec<u8> {
    edited_leaf(|_| {})
}

pub(crate) fn leaf_named(id: &str) -> Vec<u8> {
    edited_leaf(|p| p.subject_alt_names = vec![san::uri(id)])
}

/// The good leaf with one thing changed. Self-signed: who signed it is not what is checked here.
pub(crate) fn edited_leaf(edit: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = base();
    params.subject_alt_names = vec![san::uri(ID)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![Ku::DigitalSignature];
    params.extended_key_usages = vec![Eku::ServerAuth, Eku::ClientAuth];
    edit(&mut params);
    signed(&params)
}

/// The good issuer.
pub(crate) fn issuer() -> Vec<u8> {
    edited_issuer(|_| {})
}

/// The good issuer with one thing changed.
pub(crate) fn edited_issuer(edit: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = base();
    params.subject_alt_names = vec![san::uri("spiffe://td")];
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![Ku::KeyCertSign, Ku::CrlSign];
    edit(&mut params);
    signed(&params)
}

fn base() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.serial_number = Some(SerialNumber::from_slice(&[0x42; 16]));
    params.not_before = at(-120);
    params.not_after = at(3600);
    params
}

fn signed(params: &CertificateParams) -> Vec<u8> {
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

pub(crate) fn valid_from(offset_s: i64) -> Vec<u8> {
    edited_leaf(|p| {
        p.not_before = at(offset_s);
        p.not_after = at(offset_s + 3600);
    })
}

pub(crate) fn valid_until(offset_s: i64) -> Vec<u8> {
    edited_leaf(|p| {
        p.not_before = at((offset_s - 3600).max(-NOW.cast_signed()));
        p.not_after = at(offset_s);
    })
}

pub(crate) fn name_subject(params: &mut CertificateParams) {
    params.distinguished_name.push(DnType::CommonName, "b");
}

pub(crate) fn patched(der: &[u8], patch: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut der = der.to_vec();
    patch(&mut der);
    der
}

/// `[0] EXPLICIT INTEGER`: the version, counted from zero.
pub(crate) fn with_version(version: u8) -> Vec<u8> {
    let der = leaf();
    let at = der.windows(5).position(|window| window == [0xa0, 3, 2, 1, 2]).unwrap();
    patched(&der, |der| der[at + 4] = version)
}

pub(crate) fn public_key() -> Vec<u8> {
    KeyPair::generate().unwrap().subject_public_key_info()
}

pub(crate) fn signing_request() -> Vec<u8> {
    CertificateParams::default().serialize_request(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

pub(crate) fn extension(oid: &[u64], critical: bool, content: &[u8]) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(oid, content.to_vec());
    extension.set_criticality(critical);
    extension
}

/// A leaf without subject and with these general names (context tag, content) in its SAN extension.
pub(crate) fn raw_san(critical: bool, names: &[(u8, &[u8])]) -> Vec<u8> {
    san_extension(critical, &sequence_of(names))
}

/// A SAN extension that holds the good name, and after it a second sequence.
pub(crate) fn two_san_sequences() -> Vec<u8> {
    san_extension(true, &[one_name(ID), one_name("spiffe://td/ns/other/sa/x")].concat())
}

/// GeneralNames with one URI.
pub(crate) fn one_name(uri: &str) -> Vec<u8> {
    sequence_of(&[(0x86, uri.as_bytes())])
}

fn san_extension(critical: bool, content: &[u8]) -> Vec<u8> {
    edited_leaf(|p| {
        p.subject_alt_names.clear();
        p.custom_extensions.push(extension(&[2, 5, 29, 17], critical, content));
    })
}

fn sequence_of(names: &[(u8, &[u8])]) -> Vec<u8> {
    let short = |content: &[u8]| u8::try_from(content.len()).ok().filter(|length| *length < 0x80).unwrap();
    let names: Vec<u8> =
        names.iter().flat_map(|(tag, text)| [&[*tag, short(text)], *text].concat()).collect();
    [&[0x30, short(&names)], &names[..]].concat()
}

/// General names by kind.
pub(crate) mod san {
    use super::SanType;

    pub(crate) fn uri(text: &str) -> SanType {
        SanType::URI(text.try_into().unwrap())
    }

    pub(crate) fn dns(name: &str) -> SanType {
        SanType::DnsName(name.try_into().unwrap())
    }

    pub(crate) fn email() -> SanType {
        SanType::Rfc822Name("b@td".try_into().unwrap())
    }

    pub(crate) fn ip() -> SanType {
        SanType::IpAddress(std::net::Ipv4Addr::LOCALHOST.into())
    }
}
