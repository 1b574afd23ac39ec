//! Why a connection is not mutual TLS: the text is the log line, the label the metric's.

use std::io;
use std::time::Duration;

use portcullis_identity::{ChainDefect, Fingerprint, SpiffeId};
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

use super::ExpectedPeer;

/// What is wrong with the certificates a peer showed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PeerDefect {
    /// No chain from a valid leaf to a root.
    #[error(transparent)]
    Chain(#[from] ChainDefect),
    /// First contact with the authority, by a token that names its root.
    #[error("the authority does not show the root {pinned} of the join token: wrong address or wrong token")]
    WrongRoot {
        /// Of the root in the token.
        pinned: Fingerprint,
    },
    /// A valid identity, but not the one that was called.
    #[error("the server is {found}, expected {expected}")]
    UnexpectedPeer {
        /// The server's verified identity.
        found: SpiffeId,
        /// Whom we called.
        expected: ExpectedPeer,
    },
}

impl PeerDefect {
    /// Metric label.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Chain(defect) => defect.label(),
            Self::WrongRoot { .. } => "wrong_root",
            Self::UnexpectedPeer { .. } => "unexpected_peer",
        }
    }
}

/// The only way through rustls that keeps the whole cause; the peer gets the alert `certificate_unknown`.
impl From<PeerDefect> for Error {
    fn from(defect: PeerDefect) -> Self {
        CertificateError::Other(rustls::OtherError(std::sync::Arc::new(defect))).into()
    }
}

/// Why there is no mutual TLS on a connection.
#[derive(Debug, thiserror::Error)]
pub enum NoMutualTls {
    /// The handshake did not end in time.
    #[error("no complete TLS handshake within {0:?}")]
    Timeout(Duration),
    /// The peer closed the connection before the handshake ended.
    #[error("the peer closed the connection during the TLS handshake")]
    Closed,
    /// The socket failed.
    #[error("the connection failed during the TLS handshake: {0}")]
    Io(#[source] io::Error),
    /// The peer's bytes are no TLS records.
    #[error("the peer does not speak TLS")]
    NotTls,
    /// TLS, but the client showed no certificate.
    #[error("the client shows no certificate")]
    NoClientCertificate,
    /// TLS, but the server never asked who we are.
    #[error("the server does not ask for a client certificate")]
    NotMutual,
    /// The peer's certificates were refused.
    #[error(transparent)]
    Peer(#[from] PeerDefect),
    /// The peer does not hold the key of the certificate it shows.
    #[error("the peer's signature of the handshake is wrong")]
    BadSignature,
    /// TLS 1.1 or older, or 1.2 where it is switched off.
    #[error("the peer offers no TLS version that is allowed here")]
    TlsVersion,
    /// The client offers application protocols and none of ours.
    #[error("no application protocol (ALPN) in common")]
    NoCommonAlpn,
    /// No cipher suite, group or signature scheme in common.
    #[error("no TLS parameters in common: {0:?}")]
    Incompatible(PeerIncompatible),
    /// The peer refused us; what it says is all there is to know.
    #[error("the peer refused the handshake with the alert {0:?}")]
    Refused(AlertDescription),
    /// The peer broke the TLS protocol.
    #[error("TLS protocol error: {0}")]
    Protocol(#[source] Error),
    /// Our own certificate has run out, so no handshake was tried.
    #[error("the own certificate expired {ago_s} s ago and was not renewed")]
    OwnCertificateExpired {
        /// Seconds since NotAfter.
        ago_s: u64,
    },
}

impl NoMutualTls {
    /// Metric label.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Timeout(_) => "handshake_timeout",
            Self::Closed => "closed",
            Self::Io(_) => "io",
            Self::NotTls => "not_tls",
            Self::NoClientCertificate => "no_client_certificate",
            Self::NotMutual => "not_mutual",
            Self::Peer(defect) => defect.label(),
            Self::BadSignature => "bad_signature",
            Self::TlsVersion => "tls_version",
            Self::NoCommonAlpn => "no_common_alpn",
            Self::Incompatible(_) => "incompatible",
            Self::Refused(_) => "refused_by_peer",
            Self::Protocol(_) => "protocol",
            Self::OwnCertificateExpired { .. } => "own_certificate_expired",
        }
    }

    /// The cause behind an error of a TLS stream. In TLS 1.3 a server's refusal of the client's certificate
    /// arrives only after [`originate`](super::originate) has returned, as an error of the first read.
    #[must_use]
    pub fn of_io(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(tls) => Self::of_tls(tls.clone()),
            None if error.kind() == io::ErrorKind::UnexpectedEof => Self::Closed,
            None => Self::Io(error),
        }
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "rustls' enums are open and grow")]
    fn of_tls(error: Error) -> Self {
        match &error {
            Error::InvalidCertificate(CertificateError::Other(other)) => {
                match other.0.downcast_ref::<PeerDefect>() {
                    Some(defect) => Self::Peer(defect.clone()),
                    None => Self::Protocol(error),
                }
            }
            Error::InvalidCertificate(CertificateError::BadSignature) => Self::BadSignature,
            Error::NoCertificatesPresented => Self::NoClientCertificate,
            Error::NoApplicationProtocol => Self::NoCommonAlpn,
            Error::AlertReceived(AlertDescription::ProtocolVersion) => Self::TlsVersion,
            Error::AlertReceived(AlertDescription::NoApplicationProtocol) => Self::NoCommonAlpn,
            Error::AlertReceived(alert) => Self::Refused(*alert),
            Error::PeerIncompatible(
                PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
                | PeerIncompatible::SupportedVersionsExtensionRequired
                | PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled
                // What rustls misses first in the hello of a client that stops at TLS 1.1: the extension came
                // with 1.2 (RFC 5246, 7.4.1.4.1).
                | PeerIncompatible::SignatureAlgorithmsExtensionRequired,
            ) => Self::TlsVersion,
            Error::PeerIncompatible(cause) => Self::Incompatible(cause.clone()),
            // The record header is where plaintext shows: an HTTP method is no content type, version or
            // length.
            Error::InvalidMessage(
                InvalidMessage::InvalidContentType
                | InvalidMessage::UnknownProtocolVersion
                | InvalidMessage::MessageTooLarge
                | InvalidMessage::InvalidEmptyPayload,
            ) => Self::NotTls,
            _ => Self::Protocol(error),
        }
    }
}
