//! Mutual TLS between workloads: handshakes that end in a [`VerifiedPeer`] or in a reason why not.
//!
//! [`terminate`] is the server's side, [`originate`] the client's; both judge a certificate with the one
//! [`verifier`](self), and both use the configurations that an [`Identity`] was built with. [`first_bytes`]
//! tells TLS from plaintext without consuming a byte. Nothing here knows ports, policies or where a
//! connection came from: that a peer is verified does not yet mean that it may come in.

mod callbacks;
mod client;
mod configs;
mod egress;
mod failure;
mod identity;
mod peer;
mod server;
mod sniff;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod verifier;

pub use client::{EgressOriginated, Originated, originate, originate_egress};
pub use configs::MinVersion;
pub use egress::{EgressTls, EgressTlsError};
pub use failure::{NoMutualTls, PeerDefect};
pub use identity::{Identity, IdentityError};
pub use peer::{ExpectedPeer, VerifiedPeer};
pub use server::{Terminated, terminate};
pub use sniff::{FirstBytes, classify, first_bytes};

pub(crate) use callbacks::{ServerVerifier, signatures_by};
pub(crate) use configs::{anonymous_client, provider};
pub(crate) use portcullis_identity::Role;
pub(crate) use verifier::Verifier;

/// What ALPN (RFC 7301) settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alpn {
    /// `http/1.1`.
    Http1,
    /// `h2`.
    Http2,
    /// Nothing: the bytes are opaque.
    None,
}

impl Alpn {
    /// As it stands in the ClientHello; `None` for no protocol.
    fn wire(self) -> Option<Vec<u8>> {
        match self {
            Self::Http1 => Some(b"http/1.1".to_vec()),
            Self::Http2 => Some(b"h2".to_vec()),
            Self::None => None,
        }
    }

    fn settled(protocol: Option<&[u8]>) -> Self {
        match protocol {
            Some(b"http/1.1") => Self::Http1,
            Some(b"h2") => Self::Http2,
            _ => Self::None,
        }
    }
}
