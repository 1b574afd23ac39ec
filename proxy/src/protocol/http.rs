//! The server side of HTTP, in either version.
//!
//! What hyper's server side cannot do, and so no sidecar does: pass on 1xx answers other than 101. It writes the 100
//! that `Expect: 100-continue` (RFC 9110, 10.1.1) waits for as soon as the body is first asked for, which is when the
//! head has been sent on; a proxy may. A 103 ends at the sidecar.

use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::service::HttpService;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{http1, http2};
use crate::drain::Drain;
use crate::lifetime::Lifetime;
use crate::route::HttpVersion;

/// How long a draining connection still takes what was sent before the other side could know.
pub(super) const ON_ITS_WAY: Duration = Duration::from_millis(500);
/// Longest head of a request, in bytes; hyper answers 431 to one that is longer.
pub(super) const LONGEST_HEAD: usize = 64 * 1024;

/// How a served connection ended.
#[derive(Debug)]
pub enum Ended {
    /// By either side, in order.
    Closed,
    /// Unreadable, or broken underneath.
    Broken(hyper::Error),
    /// The proof behind the connection ended.
    Expired,
}

impl Ended {
    /// What hyper says of a connection that lived by `lifetime`.
    pub(super) fn of(ended: Result<(), hyper::Error>, lifetime: &Lifetime) -> Self {
        match ended {
            Ok(()) => Self::Closed,
            // The other side goes by the same proof, and may have cut first.
            Err(_) if lifetime.is_over() => Self::Expired,
            Err(error) => Self::Broken(error),
        }
    }
}

/// Serves requests until the client leaves, shutdown or the connection's life ends. `idle` bounds the wait for
/// the next request. Upgrades of HTTP/1.1 outlive the call: whoever serves keeps what they rest on.
pub async fn serve<IO, S, B>(
    io: IO,
    version: HttpVersion,
    service: S,
    idle: Duration,
    lifetime: &Lifetime,
    drain: &Drain,
) -> Ended
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: HttpService<Incoming, ResBody = B> + Send,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match version {
        HttpVersion::Http1 => http1::serve(io, service, idle, lifetime, drain).await,
        HttpVersion::Http2 => http2::serve(io, service, idle, lifetime, drain).await,
    }
}

/// Resolves when the connection should take nothing new: its proof is about to end, or the sidecar is.
pub(super) async fn leaving(lifetime: &Lifetime, drain: &Drain) {
    tokio::select! {
        () = lifetime.draining() => {}
        // Whoever has just connected has a request on its way, which a close at once would lose.
        () = async { drain.begun().await; tokio::time::sleep(ON_ITS_WAY).await } => {}
    }
}
