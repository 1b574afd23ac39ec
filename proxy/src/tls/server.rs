//! The server's side of a handshake.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{Alpn, Identity, NoMutualTls, Role, VerifiedPeer};

/// A connection whose client has proven who it is.
pub struct Terminated<IO> {
    /// Plaintext side of the connection.
    pub stream: TlsStream<IO>,
    /// The client.
    pub peer: VerifiedPeer,
    /// What the client wants to speak.
    pub alpn: Alpn,
    /// The name that the client asked for (SNI).
    pub sni: Option<String>,
}

/// Answers a client's handshake. Any workload with a trust bundle's word gets through; whether it may come in
/// is for the policy to say.
///
/// # Errors
/// [`NoMutualTls`]; the client has been sent the alert where TLS has one.
pub async fn terminate<IO>(
    io: IO,
    identity: &Identity,
    deadline: Duration,
) -> Result<Terminated<IO>, NoMutualTls>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    identity.check_own_certificate()?;
    let handshake = TlsAcceptor::from(identity.server_config()).accept(io);
    let stream = tokio::time::timeout(deadline, handshake)
        .await
        .map_err(|_| NoMutualTls::Timeout(deadline))?
        .map_err(NoMutualTls::of_io)?;
    let (_, connection) = stream.get_ref();
    // The second look finds the chain remembered: the verifier has just admitted it.
    let (leaf, others) = connection
        .peer_certificates()
        .and_then(<[_]>::split_first)
        .ok_or(NoMutualTls::NoClientCertificate)?;
    let peer = identity.verifier().verify(leaf, others, Role::Client)?;
    let alpn = Alpn::settled(connection.alpn_protocol());
    let sni = connection.server_name().map(str::to_owned);
    Ok(Terminated { stream, peer, alpn, sni })
}
