//! The server's own certificate: issued by the authority it serves, renewed in place before it ends.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rcgen::{KeyPair, PublicKeyData};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::ServeError;
use crate::authority::Authority;
use crate::csr::RequestedKey;
use crate::issue::IssueError;

/// The certificate in use. Connections made before a renewal keep theirs.
pub(super) struct OwnSvid(ArcSwap<Current>);

struct Current {
    key: Arc<CertifiedKey>,
    /// Since the epoch: half of the certificate's life.
    renew_at: Duration,
}

impl OwnSvid {
    pub(super) async fn certify(authority: &Authority) -> Result<Self, ServeError> {
        Ok(Self(ArcSwap::from_pointee(certify(authority).await?)))
    }

    /// Renews at half of the life: the other half is for trying again.
    pub(super) async fn renew_if_due(&self, authority: &Authority) -> Result<(), ServeError> {
        if authority.clock().now() >= self.0.load().renew_at {
            self.0.store(Arc::new(certify(authority).await?));
        }
        Ok(())
    }
}

async fn certify(authority: &Authority) -> Result<Current, ServeError> {
    let bad_key = |error: rcgen::Error| ServeError::OwnKey(error.to_string());
    let pair = KeyPair::generate().map_err(bad_key)?;
    let public = RequestedKey::from_public_key(&pair.subject_public_key_info()).map_err(IssueError::from)?;
    let issued = authority.issue_to(authority.own(), &public).await?;
    // The root goes along: a first contact knows only its hash.
    let chain = issued.chain.into_iter().chain([authority.root().clone()]).collect();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pair.serialize_der()));
    let now = authority.clock().now();
    let life = Duration::from_secs(issued.facts.not_after).saturating_sub(now);
    let key = Arc::new(CertifiedKey::new(chain, any_supported_type(&key)?));
    Ok(Current { key, renew_at: now + life / 2 })
}

impl ResolvesServerCert for OwnSvid {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.load().key))
    }
}

impl fmt::Debug for OwnSvid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnSvid")
    }
}
