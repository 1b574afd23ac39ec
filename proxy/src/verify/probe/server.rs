//! What the attacked server shows of itself: its certificate, and in which versions it asks for one.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use portcullis_identity::{ChainVerifier, Clock, SpiffeId, TrustBundle, TrustBundles, TrustDomain};
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::extensions::GeneralName;

use super::tls::{self, BOTH, Shown};
use super::{CannotProbe, Probe};
use crate::tls::Role;

/// Longest file of roots, in bytes.
const MAX_FILE: u64 = 256 * 1024;

/// Root certificates that a server should chain to.
#[derive(Debug, Clone)]
pub struct Roots(Vec<CertificateDer<'static>>);

/// Why a file holds no roots.
#[derive(Debug, thiserror::Error)]
pub enum BadBundle {
    /// It cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// Neither PEM nor a SPIFFE bundle.
    #[error("{}: holds no certificate: write PEM, or a SPIFFE bundle (JWKS)", .0.display())]
    NoCertificate(PathBuf),
}

impl Roots {
    /// Reads PEM, or a SPIFFE bundle.
    ///
    /// # Errors
    /// [`BadBundle`].
    pub fn read(path: &Path) -> Result<Self, BadBundle> {
        let mut bytes = Vec::new();
        let read = File::open(path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes));
        read.map_err(|source| BadBundle::Read { path: path.to_owned(), source })?;
        let of_jwks = || {
            let text = std::str::from_utf8(&bytes).ok()?;
            let bundle = TrustBundle::from_jwks(TrustDomain::parse("any").ok()?, text).ok()?;
            Some(bundle.roots().to_vec())
        };
        let of_pem = || CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>().ok();
        let roots = of_jwks().or_else(of_pem).filter(|roots| !roots.is_empty());
        roots.map(Self).ok_or_else(|| BadBundle::NoCertificate(path.to_owned()))
    }

    /// The first of them.
    pub(super) fn first(&self) -> Option<&CertificateDer<'static>> {
        self.0.first()
    }
}

/// A version of TLS on the attacked port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// Whether the server speaks it.
    pub spoken: bool,
    /// Whether it asks for a client certificate then.
    pub asks: bool,
}

/// What a server shows to everybody.
#[derive(Debug, Clone, Default)]
pub struct Server {
    /// Its certificates, the leaf first; empty when it speaks no TLS.
    pub chain: Vec<CertificateDer<'static>>,
    /// The SPIFFE ID in its leaf. Nobody has vouched for it unless `trusted` says so.
    pub id: Option<SpiffeId>,
    /// Whether it chains to the given roots, or why not; `None` when none are given.
    pub trusted: Option<Result<(), String>>,
    /// TLS 1.3.
    pub tls13: Option<Version>,
    /// TLS 1.2.
    pub tls12: Option<Version>,
}

impl Server {
    /// One handshake without a certificate, for what the server shows in it.
    pub(super) async fn look(probe: &Probe<'_>, clock: &Clock) -> Result<Self, CannotProbe> {
        let (_, Shown { chain, .. }) = tls::attempt(probe, &BOTH, None).await?;
        let id = chain.first().and_then(spiffe_id);
        let roots = probe.target.roots.as_ref();
        let trusted =
            roots.filter(|_| !chain.is_empty()).map(|roots| judge(&chain, id.as_ref(), roots, clock));
        Ok(Self { chain, id, trusted, tls13: None, tls12: None })
    }
}

impl Version {
    pub(super) fn of(shown: &Shown) -> Self {
        Self { spoken: !shown.chain.is_empty(), asks: shown.asked }
    }
}

/// The first URI of the leaf that is a SPIFFE ID, whatever else is wrong with it: it is only a name to claim.
fn spiffe_id(leaf: &CertificateDer<'static>) -> Option<SpiffeId> {
    let (_, leaf) = x509_parser::parse_x509_certificate(leaf).ok()?;
    let names = leaf.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| {
        let GeneralName::URI(uri) = name else { return None };
        SpiffeId::parse(uri).ok()
    })
}

/// By the rules that a sidecar has for the servers it calls.
fn judge(
    chain: &[CertificateDer<'static>],
    id: Option<&SpiffeId>,
    roots: &Roots,
    clock: &Clock,
) -> Result<(), String> {
    let id = id.ok_or("its certificate names no SPIFFE ID")?;
    let (leaf, others) = chain.split_first().ok_or("it shows no certificate")?;
    let mut bundles = TrustBundles::default();
    let bundle = TrustBundle::new(id.trust_domain().clone(), 1, roots.0.clone());
    bundles.insert(bundle.map_err(|error| error.to_string())?);
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms.all;
    let verifier = ChainVerifier::new(bundles, algorithms).map_err(|error| error.to_string())?;
    let verified = verifier.verify(leaf, others, Role::Server, clock.unix_time());
    verified.map(drop).map_err(|defect| defect.to_string())
}
