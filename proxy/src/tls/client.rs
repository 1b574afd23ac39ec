//! The client's side of a handshake.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Alpn, EgressTls, ExpectedPeer, Identity, NoMutualTls, Role, VerifiedPeer};

/// A connection whose server has proven to be the expected one, and has asked who we are.
pub struct Originated<IO> {
    /// Plaintext side of the connection.
    pub stream: TlsStream<IO>,
    /// The server.
    pub peer: VerifiedPeer,
    /// What the server agreed to speak.
    pub alpn: Alpn,
}

/// Begins a handshake with the server that should be `expected`. `alpn` in order of preference; empty, or
/// [`Alpn::None`] alone, offers no protocol.
///
/// In TLS 1.3 the server judges our certificate after this has returned: its refusal is the first read's
/// error, which [`NoMutualTls::of_io`] explains.
///
/// # Errors
/// [`NoMutualTls`].
pub async fn originate<IO>(
    io: IO,
    identity: &Identity,
    sni: &ServerName<'static>,
    expected: &ExpectedPeer,
    alpn: &[Alpn],
    deadline: Duration,
) -> Result<Originated<IO>, NoMutualTls>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    identity.check_own_certificate()?;
    let mut config = identity.client_config(expected.clone());
    config.alpn_protocols = alpn.iter().filter_map(|protocol| protocol.wire()).collect();
    let resolver = Arc::new(Asked { own: config.client_auth_cert_resolver, asked: AtomicBool::new(false) });
    config.client_auth_cert_resolver = Arc::clone(&resolver) as Arc<dyn ResolvesClientCert>;
    let handshake = TlsConnector::from(Arc::new(config)).connect(sni.clone(), io);
    let stream = tokio::time::timeout(deadline, handshake)
        .await
        .map_err(|_| NoMutualTls::Timeout(deadline))?
        .map_err(NoMutualTls::of_io)?;
    if !resolver.asked.load(Ordering::SeqCst) {
        return Err(NoMutualTls::NotMutual);
    }
    let (_, connection) = stream.get_ref();
    let shown = connection.peer_certificates().and_then(<[_]>::split_first);
    let (leaf, others) = shown.ok_or(NoMutualTls::Protocol(rustls::Error::NoCertificatesPresented))?;
    let peer = identity.verifier().verify(leaf, others, Role::Server)?;
    let alpn = Alpn::settled(connection.alpn_protocol());
    Ok(Originated { stream, peer, alpn })
}

/// A connection to a server outside of the mesh, which has proven a DNS name.
pub struct EgressOriginated<IO> {
    /// Plaintext side of the connection.
    pub stream: TlsStream<IO>,
    /// What the server agreed to speak.
    pub alpn: Alpn,
    /// The end of the server's certificate, since the epoch.
    pub not_after: Duration,
}

/// Begins a handshake with a server outside of the mesh.
///
/// # Errors
/// [`NoMutualTls`].
pub async fn originate_egress<IO>(
    io: IO,
    egress: &EgressTls,
    alpn: &[Alpn],
    deadline: Duration,
) -> Result<EgressOriginated<IO>, NoMutualTls>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let handshake = TlsConnector::from(egress.config_for(alpn)).connect(egress.sni().clone(), io);
    let stream = tokio::time::timeout(deadline, handshake)
        .await
        .map_err(|_| NoMutualTls::Timeout(deadline))?
        .map_err(NoMutualTls::of_io)?;
    let (_, connection) = stream.get_ref();
    let none = || NoMutualTls::Protocol(rustls::Error::NoCertificatesPresented);
    let leaf = connection.peer_certificates().and_then(<[_]>::first).ok_or_else(none)?;
    let (_, parsed) = x509_parser::parse_x509_certificate(leaf).map_err(|_| none())?;
    let not_after = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
    let alpn = Alpn::settled(connection.alpn_protocol());
    Ok(EgressOriginated { stream, alpn, not_after: Duration::from_secs(not_after) })
}

/// Notes that the server asked for our certificate: TLS that proves one side only is not what was ordered.
#[derive(Debug)]
struct Asked {
    own: Arc<dyn ResolvesClientCert>,
    asked: AtomicBool,
}

impl ResolvesClientCert for Asked {
    fn resolve(&self, hints: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::SeqCst);
        self.own.resolve(hints, schemes)
    }

    fn has_certs(&self) -> bool {
        self.own.has_certs()
    }
}
