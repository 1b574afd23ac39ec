//! One established HTTP connection, and what it rests on.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::settings::Basis;
use crate::drain::Drain;
use crate::lifetime::Lifetime;
use crate::listen::OverTcp;
use crate::metrics::{Direction, Metrics};
use crate::protocol::client::Connection;
use crate::refusal::Refusal;
use crate::route::{Destination, Http2Keepalive, HttpVersion};
use crate::tls::VerifiedPeer;
use crate::upstream::Upstream;

/// How long an HTTP/2 connection that nobody uses any more may take to say goodbye (GOAWAY).
const GOODBYE: Duration = Duration::from_millis(200);

/// What is known of a connection, for as long as anybody uses it. When nobody does, it is closed.
pub(super) struct Facts {
    pub(super) addr: SocketAddr,
    pub(super) peer: Option<VerifiedPeer>,
    pub(super) lifetime: Lifetime,
    basis: Basis,
    /// `maxConnectionDuration`.
    retire_at: Option<Instant>,
    _held: DropGuard,
}

impl Facts {
    /// Whether it was made by what is in force.
    pub(super) fn rests_on(&self, basis: Basis) -> bool {
        self.basis == basis
    }

    /// Whether a new request may be sent on it: made by what is in force, its proof not about to end.
    pub(super) fn is_current(&self, basis: Basis) -> bool {
        self.rests_on(basis) && !self.lifetime.is_draining() && !self.is_retired()
    }

    /// Whether it has lived for `maxConnectionDuration`.
    pub(super) fn is_retired(&self) -> bool {
        self.retire_at.is_some_and(|at| Instant::now() >= at)
    }
}

/// A connection and how often it was used.
pub(super) struct Link {
    pub(super) connection: Connection,
    pub(super) facts: Arc<Facts>,
    pub(super) requests: u32,
}

impl Link {
    /// Whether `maxRequestsPerConnection` allows another.
    pub(super) fn may_carry_more(&self, limit: u32) -> bool {
        limit == 0 || self.requests < limit
    }
}

/// What a connection is made for.
pub(super) struct Purpose<'a> {
    pub(super) destination: &'a Destination,
    pub(super) version: HttpVersion,
    pub(super) basis: Basis,
}

/// Begins HTTP on a connected stream. `places` are given back when its socket is closed; `closed` is called then.
pub(super) async fn establish<P: Send + Unpin + 'static>(
    upstream: Upstream,
    places: P,
    purpose: Purpose<'_>,
    (drain, metrics): (&Drain, &Arc<Metrics>),
    closed: impl FnOnce() + Send + 'static,
) -> Result<Link, Refusal> {
    let Upstream { stream, peer, lifetime, addr } = upstream;
    let Purpose { destination, version, basis } = purpose;
    let pings =
        destination.limits.http2_keepalive.or_else(|| peer.as_ref().map(|_| Http2Keepalive::default()));
    let opened = Connection::open(Counted { stream, _places: places }, version, pings).await;
    let (connection, driver) = opened.map_err(|source| Refusal::Unreachable {
        destination: destination.to_string(),
        addr,
        source: io::Error::other(source),
    })?;
    let (end, metrics) = (lifetime.clone(), Arc::clone(metrics));
    let held = CancellationToken::new();
    let let_go = held.clone();
    drain.spawn(async move {
        {
            let mut driver = pin!(driver);
            tokio::select! {
                biased;
                // An error here is also the error of the request under way, which reports it.
                _ = &mut driver => {}
                () = end.over() => {}
                () = let_go.cancelled() => if version == HttpVersion::Http2 {
                    let _ = tokio::time::timeout(GOODBYE, &mut driver).await;
                }
            }
        }
        if end.is_over() {
            metrics.expired(Direction::outbound);
        }
        closed();
    });
    let retire_at = destination.limits.max_connection_duration.map(|longest| Instant::now() + longest);
    let facts = Facts { addr, peer, lifetime, basis, retire_at, _held: held.drop_guard() };
    Ok(Link { connection, facts: Arc::new(facts), requests: 0 })
}

/// A stream, and the places that it takes under the limits until it is closed.
struct Counted<S, P> {
    // Closed first.
    stream: S,
    _places: P,
}

impl<S: OverTcp, P> OverTcp for Counted<S, P> {
    fn tcp(&self) -> &TcpStream {
        self.stream.tcp()
    }
}

impl<S: AsyncRead + Unpin, P: Unpin> AsyncRead for Counted<S, P> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin, P: Unpin> AsyncWrite for Counted<S, P> {
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
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
