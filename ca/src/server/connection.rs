//! A TLS connection and what it proves about its peer. It ends when its proof does.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use portcullis_identity::{CertificateFacts, Clock, SvidDefect, check_leaf};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Sleep, sleep};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

/// A peer without a certificate is here to join: one request, and it is done.
const ANONYMOUS: Duration = Duration::from_secs(60);

/// Who is on a connection.
#[derive(Clone)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    /// From a client certificate that the handshake verified.
    pub(super) svid: Option<Arc<CertificateFacts>>,
}

/// A connection with its handshake done.
pub(super) struct Connection {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    end: Pin<Box<Sleep>>,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    /// Takes a connection whose client certificate, if any, the handshake has verified.
    pub(super) fn new(
        stream: TlsStream<TcpStream>,
        address: SocketAddr,
        clock: &Clock,
        permit: OwnedSemaphorePermit,
    ) -> Result<Self, SvidDefect> {
        let leaf = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let svid = leaf.map(|leaf| check_leaf(leaf, clock.unix_time()).map(Arc::new)).transpose()?;
        let life = svid.as_ref().map_or(ANONYMOUS, |svid| {
            // NotAfter is itself still valid.
            Duration::from_secs(svid.not_after.saturating_add(1)).saturating_sub(clock.now())
        });
        Ok(Self { stream, peer: Peer { address, svid }, end: Box::pin(sleep(life)), _permit: permit })
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(cx, buffer) {
            return Poll::Ready(read);
        }
        ready!(self.end.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "what the connection proved is over")))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
