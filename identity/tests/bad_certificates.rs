//! Certificates that must be refused, each with the name of its defect.
//!
//! Every row is the good certificate of [`leaf`] or [`issuer`] changed in one thing, so a row that is refused for
//! another reason than its own shows; the good ones, and changes that are allowed, are the positive control.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod forge;

use forge::{
    NOW, edited_issuer, edited_leaf, extension, issuer, leaf, leaf_named, now, patched, raw_san, san,
    valid_from, valid_until, with_version,
};
use portcullis_identity::{IdDefect, SvidDefect, check_issuer, check_leaf, issuer_namespace_oid};
use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose as Eku, IsCa, KeyUsagePurpose as Ku, SerialNumber};

type Row = (&'static str, Vec<u8>, SvidDefect);

const KEY_USAGE: &[u64] = &[2, 5, 29, 15];
const SUBJECT_ALT_NAME: &[u64] = &[2, 5, 29, 17];
const BASIC_CONSTRAINTS: &[u64] = &[2, 5, 29, 19];
const CERTIFICATE_POLICIES: &[u64] = &[2, 5, 29, 32];
const EXTENDED_KEY_USAGE: &[u64] = &[2, 5, 29, 37];
const PRIVATE: &[u64] = &[1, 3, 6, 1, 4, 1, 99_999, 1];
/// BIT STRING with digitalSignature alone.
const DIGITAL_SIGNATURE: &[u8] = &[0x03, 0x02, 0x07, 0x80];
/// BIT STRING with keyCertSign alone.
const KEY_CERT_SIGN: &[u8] = &[0x03, 0x02, 0x02, 0x04];

fn not_certificates() -> Vec<Row> {
    let good = leaf();
    let half = good.len() / 2;
    let malformed = [
        ("nothing", vec![]),
        ("one byte", vec![0x30]),
        ("zeroes", vec![0; 64]),
        ("the last byte missing", good[..good.len() - 1].to_vec()),
        ("the second half missing", good[..half].to_vec()),
        ("a byte after the end", [&good[..], &[0]].concat()),
        ("two certificates in one", [&good[..], &good[..]].concat()),
        ("PEM", format!("-----BEGIN CERTIFICATE-----\n{}", "MIIB".repeat(99)).into_bytes()),
        ("an outer length one too long", patched(&good, |der| der[3] = der[3].wrapping_add(1))),
        ("an indefinite length", patched(&good, |der| der[1] = 0x80)),
        ("a SET outside", patched(&good, |der| der[0] = 0x31)),
        ("a public key", forge::public_key()),
        ("a signing request", forge::signing_request()),
        ("a thousand nested sequences", [0x30, 0x80].repeat(1000)),
    ];
    malformed.into_iter().map(|(name, der)| (name, der, SvidDefect::Malformed)).collect()
}

fn fields() -> Vec<Row> {
    let serial = |octets: &[u8]| edited_leaf(|p| p.serial_number = Some(SerialNumber::from_slice(octets)));
    let negative = {
        let der = serial(&[0x11; 16]);
        let at = der.windows(16).position(|window| window == [0x11; 16]).unwrap();
        patched(&der, |der| der[at] = 0x91)
    };
    vec![
        ("version 1", with_version(0), SvidDefect::Version),
        ("version 2", with_version(1), SvidDefect::Version),
        ("version 4", with_version(3), SvidDefect::Version),
        ("serial zero", serial(&[0]), SvidDefect::Serial),
        ("a negative serial", negative, SvidDefect::Serial),
        ("a serial of 21 octets", serial(&[0x11; 21]), SvidDefect::Serial),
        (
            "not valid for 61 s yet",
            valid_from(61),
            SvidDefect::NotYetValid { not_before: NOW + 61, ahead_s: 61 },
        ),
        (
            "not valid for a year yet",
            valid_from(31_536_000),
            SvidDefect::NotYetValid { not_before: NOW + 31_536_000, ahead_s: 31_536_000 },
        ),
        ("expired a second ago", valid_until(-1), SvidDefect::Expired { ago_s: 1 }),
        ("expired an hour ago", valid_until(-3600), SvidDefect::Expired { ago_s: 3600 }),
        ("expired in 1970", valid_until(-NOW.cast_signed() + 1), SvidDefect::Expired { ago_s: NOW - 1 }),
    ]
}

fn names() -> Vec<Row> {
    let uri = |text: &str| edited_leaf(|p| p.subject_alt_names = vec![san::uri(text)]);
    let sans = |names: Vec<rcgen::SanType>| edited_leaf(|p| p.subject_alt_names = names);
    let (good, other) = ("spiffe://td/ns/a/sa/b", "spiffe://td/ns/a/sa/c");
    let mut rows = vec![
        ("no SAN extension", sans(vec![]), SvidDefect::NoUriSan),
        ("an empty SAN extension", raw_san(true, &[]), SvidDefect::NoUriSan),
        ("a DNS name alone", sans(vec![san::dns("td")]), SvidDefect::NoUriSan),
        ("an address alone", sans(vec![san::ip()]), SvidDefect::NoUriSan),
        ("an e-mail address alone", sans(vec![san::email()]), SvidDefect::NoUriSan),
        ("two SPIFFE IDs", sans(vec![san::uri(good), san::uri(other)]), SvidDefect::ManyUriSans(2)),
        ("the same ID twice", sans(vec![san::uri(good), san::uri(good)]), SvidDefect::ManyUriSans(2)),
        (
            "an ID and a web address",
            sans(vec![san::uri(good), san::uri("https://td/")]),
            SvidDefect::ManyUriSans(2),
        ),
        ("a hundred URIs", sans(vec![san::uri(good); 100]), SvidDefect::ManyUriSans(100)),
        (
            "a second URI that is not text",
            raw_san(true, &[(0x86, good.as_bytes()), (0x86, b"spiffe://td/\xff")]),
            SvidDefect::Malformed,
        ),
        ("a URI that is not text", raw_san(true, &[(0x86, b"\xff\xfe")]), SvidDefect::Malformed),
        (
            "no subject, SAN not critical",
            raw_san(false, &[(0x86, good.as_bytes())]),
            SvidDefect::SanNotCritical,
        ),
        (
            "a letter outside ASCII",
            raw_san(true, &[(0x86, "spiffe://td/ä".as_bytes())]),
            IdDefect::PathCharacter('ä').into(),
        ),
    ];
    let (long_id, long_domain) = (format!("spiffe://td/{}", "a".repeat(2037)), "a".repeat(256));
    let ids = [
        ("an empty URI", "", IdDefect::Scheme),
        ("a web address", "https://td/ns/a/sa/b", IdDefect::Scheme),
        ("a scheme in capitals", "SPIFFE://td/ns/a/sa/b", IdDefect::Scheme),
        ("a space before the scheme", " spiffe://td/a", IdDefect::Scheme),
        ("an ID without trust domain", "spiffe:///ns/a/sa/b", IdDefect::EmptyTrustDomain),
        ("a trust domain in capitals", "spiffe://TD/ns/a/sa/b", IdDefect::TrustDomainCharacter('T')),
        ("a backslash in the trust domain", "spiffe://td\\x/a", IdDefect::TrustDomainCharacter('\\')),
        (
            "a trust domain of 256 bytes",
            &format!("spiffe://{long_domain}/a"),
            IdDefect::TrustDomainTooLong(256),
        ),
        ("a user part", "spiffe://u@td/ns/a/sa/b", IdDefect::UserInfo),
        ("a port", "spiffe://td:443/ns/a/sa/b", IdDefect::Port),
        ("a query", "spiffe://td/ns/a/sa/b?x=y", IdDefect::Query),
        ("a fragment", "spiffe://td/ns/a/sa/b#x", IdDefect::Fragment),
        ("percent-encoding", "spiffe://td/ns/%61/sa/b", IdDefect::PercentEncoded),
        ("the ID of a trust domain", "spiffe://td", IdDefect::NoPath),
        ("an empty path", "spiffe://td/", IdDefect::TrailingSlash),
        ("a slash at the end", "spiffe://td/ns/a/sa/b/", IdDefect::TrailingSlash),
        ("two slashes", "spiffe://td/ns//sa/b", IdDefect::EmptySegment),
        ("a dot segment", "spiffe://td/ns/./sa/b", IdDefect::DotSegment),
        ("two dots", "spiffe://td/ns/a/../b", IdDefect::DotSegment),
        ("a NUL", "spiffe://td/ns/a/sa/b\0", IdDefect::PathCharacter('\0')),
        ("a semicolon", "spiffe://td/ns/a;x/sa/b", IdDefect::PathCharacter(';')),
        ("an ID of 2,049 bytes", &long_id, IdDefect::TooLong(2049)),
    ];
    rows.extend(ids.into_iter().map(|(name, text, defect)| (name, uri(text), defect.into())));
    rows
}

fn usages() -> Vec<Row> {
    let ku = |usages: &[Ku]| edited_leaf(|p| p.key_usages = usages.to_vec());
    let eku = |usages: &[Eku]| edited_leaf(|p| p.extended_key_usages = usages.to_vec());
    let ca = |is_ca: IsCa| edited_leaf(|p| p.is_ca = is_ca);
    let instead_of_ku = |critical, content: &[u8]| {
        edited_leaf(|p| {
            p.key_usages.clear();
            p.custom_extensions.push(extension(KEY_USAGE, critical, content));
        })
    };
    vec![
        ("a CA", ca(IsCa::Ca(BasicConstraints::Unconstrained)), SvidDefect::LeafIsCa),
        ("a CA of path length 0", ca(IsCa::Ca(BasicConstraints::Constrained(0))), SvidDefect::LeafIsCa),
        ("no key usage", ku(&[]), SvidDefect::NoKeyUsage),
        ("key usage not critical", instead_of_ku(false, DIGITAL_SIGNATURE), SvidDefect::KeyUsageNotCritical),
        ("key usage without a bit", instead_of_ku(true, &[0x03, 0x01, 0x00]), SvidDefect::NoDigitalSignature),
        ("keyEncipherment alone", ku(&[Ku::KeyEncipherment]), SvidDefect::NoDigitalSignature),
        ("keyCertSign alone", ku(&[Ku::KeyCertSign]), SvidDefect::NoDigitalSignature),
        (
            "digitalSignature and keyCertSign",
            ku(&[Ku::DigitalSignature, Ku::KeyCertSign]),
            SvidDefect::LeafMaySignCertificates,
        ),
        (
            "digitalSignature and cRLSign",
            ku(&[Ku::DigitalSignature, Ku::CrlSign]),
            SvidDefect::LeafMaySignCrls,
        ),
        ("no extended key usage", eku(&[]), SvidDefect::NoExtendedKeyUsage),
        ("clientAuth alone", eku(&[Eku::ClientAuth]), SvidDefect::NoServerAuth),
        ("serverAuth alone", eku(&[Eku::ServerAuth]), SvidDefect::NoClientAuth),
        ("any extended key usage", eku(&[Eku::Any]), SvidDefect::NoServerAuth),
        ("code signing", eku(&[Eku::CodeSigning]), SvidDefect::NoServerAuth),
    ]
}

fn extensions() -> Vec<Row> {
    let with = |oid: &'static [u64], critical, content: &[u8]| {
        edited_leaf(|p| p.custom_extensions.push(extension(oid, critical, content)))
    };
    let without_ku = |content: &[u8]| {
        edited_leaf(|p| {
            p.key_usages.clear();
            p.custom_extensions.push(extension(KEY_USAGE, true, content));
        })
    };
    let twice = edited_leaf(|p| {
        p.custom_extensions = vec![extension(PRIVATE, false, &[5, 0]), extension(PRIVATE, false, &[5, 0])];
    });
    let without_eku = edited_leaf(|p| {
        p.extended_key_usages.clear();
        p.custom_extensions.push(extension(EXTENDED_KEY_USAGE, false, &[0x04, 0x01, 0x00]));
    });
    let without_constraints = |content: &[u8]| {
        edited_leaf(|p| {
            p.is_ca = IsCa::NoCa;
            p.custom_extensions.push(extension(BASIC_CONSTRAINTS, true, content));
        })
    };
    let unknown = |oid: &str| SvidDefect::UnknownCriticalExtension(oid.to_owned());
    let duplicate = SvidDefect::DuplicateExtension;
    vec![
        ("key usage twice", with(KEY_USAGE, true, DIGITAL_SIGNATURE), duplicate.clone()),
        (
            "alternative names twice",
            with(SUBJECT_ALT_NAME, true, &forge::one_name("spiffe://td/x")),
            duplicate.clone(),
        ),
        ("a private extension twice", twice, duplicate),
        ("an unknown critical extension", with(PRIVATE, true, &[5, 0]), unknown("1.3.6.1.4.1.99999.1")),
        ("critical certificate policies", with(CERTIFICATE_POLICIES, true, &[0x30, 0]), unknown("2.5.29.32")),
        ("critical inhibitAnyPolicy", with(&[2, 5, 29, 54], true, &[2, 1, 0]), unknown("2.5.29.54")),
        ("key usage of another type", without_ku(&[0x04, 0x01, 0x80]), SvidDefect::Malformed),
        (
            "key usage and two bytes more",
            without_ku(&[DIGITAL_SIGNATURE, &[5, 0]].concat()),
            SvidDefect::Malformed,
        ),
        ("extended key usage of another type", without_eku, SvidDefect::Malformed),
        ("basic constraints of another type", without_constraints(&[5, 0]), SvidDefect::Malformed),
        (
            "CA:FALSE, and a second sequence that says CA:TRUE",
            without_constraints(&[0x30, 0, 0x30, 3, 1, 1, 0xff]),
            SvidDefect::Malformed,
        ),
        ("alternative names and a second sequence", forge::two_san_sequences(), SvidDefect::Malformed),
    ]
}

fn issuers() -> Vec<Row> {
    let namespace = |content: &[u8]| {
        edited_issuer(|p| p.custom_extensions.push(extension(issuer_namespace_oid(), false, content)))
    };
    let uris = |names: &[&str]| {
        edited_issuer(|p| p.subject_alt_names = names.iter().map(|name| san::uri(name)).collect())
    };
    let constraints = |critical, content: &[u8]| {
        edited_issuer(|p| {
            p.is_ca = IsCa::NoCa;
            p.custom_extensions.push(extension(BASIC_CONSTRAINTS, critical, content));
        })
    };
    let instead_of_ku = edited_issuer(|p| {
        p.key_usages.clear();
        p.custom_extensions.push(extension(KEY_USAGE, false, KEY_CERT_SIGN));
    });
    let workload = "spiffe://td/ns/a/sa/b".parse().unwrap();
    vec![
        ("a leaf", leaf(), SvidDefect::IssuerNotCa),
        ("no basic constraints", edited_issuer(|p| p.is_ca = IsCa::NoCa), SvidDefect::IssuerNotCa),
        ("CA:FALSE", edited_issuer(|p| p.is_ca = IsCa::ExplicitNoCa), SvidDefect::IssuerNotCa),
        (
            "basic constraints not critical",
            constraints(false, &[0x30, 3, 1, 1, 0xff]),
            SvidDefect::BasicConstraintsNotCritical,
        ),
        ("no key usage", edited_issuer(|p| p.key_usages.clear()), SvidDefect::NoKeyUsage),
        ("key usage not critical", instead_of_ku, SvidDefect::KeyUsageNotCritical),
        ("cRLSign alone", edited_issuer(|p| p.key_usages = vec![Ku::CrlSign]), SvidDefect::IssuerMayNotSign),
        ("a workload's ID", uris(&["spiffe://td/ns/a/sa/b"]), SvidDefect::IssuerIsWorkload(workload)),
        ("two trust domains", uris(&["spiffe://td", "spiffe://other"]), SvidDefect::ManyUriSans(2)),
        ("a web address", uris(&["https://td"]), IdDefect::Scheme.into()),
        ("a slash after the trust domain", uris(&["spiffe://td/"]), IdDefect::TrailingSlash.into()),
        ("an empty namespace", namespace(&[0x0c, 0]), IdDefect::EmptySegment.into()),
        ("a namespace of two segments", namespace(b"\x0c\x04a/sa"), IdDefect::PathCharacter('/').into()),
        ("a namespace that is another type", namespace(b"\x04\x01a"), SvidDefect::Malformed),
        ("a namespace that is not text", namespace(b"\x0c\x01\xff"), SvidDefect::Malformed),
        ("a namespace longer than it says", namespace(b"\x0c\x01ab"), SvidDefect::Malformed),
        ("a byte after the end", [&issuer()[..], &[0]].concat(), SvidDefect::Malformed),
        (
            "expired a minute ago",
            edited_issuer(|p| p.not_after = forge::at(-60)),
            SvidDefect::Expired { ago_s: 60 },
        ),
        (
            "not valid for an hour yet",
            edited_issuer(|p| p.not_before = forge::at(3600)),
            SvidDefect::NotYetValid { not_before: NOW + 3600, ahead_s: 3600 },
        ),
    ]
}

#[test]
fn every_bad_leaf_is_refused_by_its_own_name() {
    let rows = [not_certificates(), fields(), names(), usages(), extensions()].concat();
    assert!(rows.len() >= 60, "{} rows", rows.len());
    for (name, der, defect) in rows {
        assert_eq!(check_leaf(&der, now()), Err(defect), "{name}");
    }
}

#[test]
fn every_bad_issuer_is_refused_by_its_own_name() {
    for (name, der, defect) in issuers() {
        assert_eq!(check_issuer(&der, now()), Err(defect), "{name}");
    }
}

#[test]
fn what_is_allowed_is_accepted() {
    let leaves = [
        ("the good leaf", leaf()),
        ("an ID of 2,048 bytes", leaf_named(&format!("spiffe://td/{}", "a".repeat(2036)))),
        ("a DNS name beside the ID", edited_leaf(|p| p.subject_alt_names.push(san::dns("td")))),
        ("keyEncipherment beside digitalSignature", edited_leaf(|p| p.key_usages.push(Ku::KeyEncipherment))),
        ("a third extended key usage", edited_leaf(|p| p.extended_key_usages.push(Eku::CodeSigning))),
        ("an unknown extension, not critical", {
            edited_leaf(|p| p.custom_extensions.push(extension(PRIVATE, false, &[5, 0])))
        }),
        ("no basic constraints", edited_leaf(|p| p.is_ca = IsCa::NoCa)),
        ("a subject, and names not critical", edited_leaf(forge::name_subject)),
        ("a serial of 20 octets", edited_leaf(|p| p.serial_number = Some(vec![0x7f; 20].into()))),
        ("valid from 60 s ahead, within the skew", valid_from(60)),
        ("valid up to and including this second", valid_until(0)),
    ];
    for (name, der) in leaves {
        check_leaf(&der, now()).unwrap_or_else(|defect| panic!("{name}: {defect}"));
    }
    for (name, der) in [
        ("the good issuer", issuer()),
        ("no name", edited_issuer(|p| p.subject_alt_names.clear())),
        ("a path length", edited_issuer(|p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)))),
    ] {
        check_issuer(&der, now()).unwrap_or_else(|defect| panic!("{name}: {defect}"));
    }
}

#[test]
fn an_object_identifier_of_the_peer_cannot_fill_the_log() {
    const LONG: &[u64] = &[1, 3, u64::MAX, u64::MAX, u64::MAX, u64::MAX, u64::MAX, u64::MAX, u64::MAX];
    let der = edited_leaf(|p| p.custom_extensions.push(extension(LONG, true, &[5, 0])));
    let defect = check_leaf(&der, now()).unwrap_err();
    assert!(matches!(defect, SvidDefect::UnknownCriticalExtension(_)), "{defect}");
    assert!(defect.to_string().len() < 128, "{defect}");
}

#[test]
fn an_issuer_is_held_to_its_trust_domain_and_namespace() {
    let confined = edited_issuer(|p| {
        p.custom_extensions.push(extension(issuer_namespace_oid(), false, b"\x0c\x04prod"));
    });
    let issuer = check_issuer(&confined, now()).unwrap();
    assert_eq!(issuer.namespace.as_deref(), Some("prod"));
    let may_issue = |id: &str| issuer.may_issue(&id.parse().unwrap());
    assert_eq!(may_issue("spiffe://td/ns/prod/sa/api"), Ok(()));
    for other in [
        "spiffe://td/ns/production/sa/api",
        "spiffe://td/ns/dev/sa/api",
        "spiffe://td/x",
        "spiffe://td/ns/prod",
    ] {
        assert!(matches!(may_issue(other), Err(SvidDefect::IssuerNamespace { .. })), "{other}");
    }
    let foreign = may_issue("spiffe://other/ns/prod/sa/api");
    assert!(matches!(foreign, Err(SvidDefect::IssuerTrustDomain { .. })), "{foreign:?}");
}
