//! What can be wrong with a certificate, under one name each: the log text and the metric label come from here.

use crate::{IdDefect, SpiffeId, TrustDomain};

/// What is wrong with a certificate: one variant per defect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SvidDefect {
    /// Not DER, not X.509, an extension that cannot be read, or bytes after an end.
    #[error("not an X.509 certificate")]
    Malformed,
    /// Not version 3.
    #[error("not an X.509 version 3 certificate")]
    Version,
    /// The same extension twice.
    #[error("an extension appears twice")]
    DuplicateExtension,
    /// A critical extension that nobody here acts on (RFC 5280, 4.2). The text is cut at 64 bytes.
    #[error("critical extension {0} is not supported here")]
    UnknownCriticalExtension(String),
    /// Serial number zero, negative or above 20 octets (RFC 5280, 4.1.2.2).
    #[error("the serial number is not a positive integer of at most 20 octets")]
    Serial,
    /// No URI among the subject alternative names.
    #[error("no URI among the subject alternative names")]
    NoUriSan,
    /// A certificate without subject whose SAN extension is not critical (X509-SVID 3.1).
    #[error("the subject is empty and the subject alternative names are not critical")]
    SanNotCritical,
    /// More than one URI SAN.
    #[error("{0} URIs among the subject alternative names, an SVID has one")]
    ManyUriSans(usize),
    /// The URI is no SPIFFE ID.
    #[error("the URI is not a SPIFFE ID: {0}")]
    Id(#[from] IdDefect),
    /// basicConstraints CA:TRUE on a leaf.
    #[error("a CA certificate used as a leaf")]
    LeafIsCa,
    /// No keyUsage extension.
    #[error("no key usage")]
    NoKeyUsage,
    /// keyUsage present, not critical.
    #[error("key usage is not critical")]
    KeyUsageNotCritical,
    /// Leaf without digitalSignature.
    #[error("key usage lacks digitalSignature")]
    NoDigitalSignature,
    /// Leaf with keyCertSign.
    #[error("key usage of a leaf has keyCertSign")]
    LeafMaySignCertificates,
    /// Leaf with cRLSign.
    #[error("key usage of a leaf has cRLSign")]
    LeafMaySignCrls,
    /// No extendedKeyUsage extension.
    #[error("no extended key usage")]
    NoExtendedKeyUsage,
    /// Not usable as a TLS server.
    #[error("extended key usage lacks serverAuth")]
    NoServerAuth,
    /// Not usable as a TLS client.
    #[error("extended key usage lacks clientAuth")]
    NoClientAuth,
    /// NotBefore lies more than the tolerated skew ahead.
    #[error("not valid before {not_before}, {ahead_s} s from now")]
    NotYetValid {
        /// Seconds since the epoch.
        not_before: u64,
        /// Seconds until it is valid.
        ahead_s: u64,
    },
    /// NotAfter has passed.
    #[error("expired {ago_s} s ago")]
    Expired {
        /// Seconds since NotAfter.
        ago_s: u64,
    },
    /// An issuer without CA:TRUE.
    #[error("the issuer is not a CA certificate")]
    IssuerNotCa,
    /// An issuer whose basicConstraints is not critical.
    #[error("basic constraints of the issuer are not critical")]
    BasicConstraintsNotCritical,
    /// An issuer without keyCertSign.
    #[error("key usage of the issuer lacks keyCertSign")]
    IssuerMayNotSign,
    /// An issuer with a SPIFFE ID that has a path: a workload posing as a CA.
    #[error("the issuer's SPIFFE ID {0} has a path")]
    IssuerIsWorkload(SpiffeId),
    /// An issuer that names another trust domain than its leaf's.
    #[error("issued by trust domain {issuer}, for a leaf of {leaf}")]
    IssuerTrustDomain {
        /// What the issuer names.
        issuer: TrustDomain,
        /// What the leaf names.
        leaf: TrustDomain,
    },
    /// An issuer confined to another namespace than its leaf's.
    #[error("issued by the authority of namespace {issuer}, for {leaf}")]
    IssuerNamespace {
        /// What the issuer is confined to.
        issuer: String,
        /// The leaf's identity.
        leaf: SpiffeId,
    },
}
