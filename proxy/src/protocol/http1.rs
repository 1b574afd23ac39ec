//! The server side of HTTP/1.1: a connection that ends with its proof.

use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::server::conn::http1 as server;
use hyper::service::HttpService;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::http::{Ended, LONGEST_HEAD, leaving};
use crate::drain::Drain;
use crate::lifetime::Lifetime;

/// Serves requests until the client leaves, shutdown or the connection's life ends. `idle` bounds the wait for
/// the head of the next request.
pub async fn serve<IO, S, B>(io: IO, service: S, idle: Duration, lifetime: &Lifetime, drain: &Drain) -> Ended
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: HttpService<Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut builder = server::Builder::new();
    // A client that closes its side has left: what waits for the answer is given up, and its connection freed.
    builder.timer(TokioTimer::new()).header_read_timeout(idle).half_close(false).auto_date_header(false);
    builder.max_buf_size(LONGEST_HEAD);
    let connection = builder.serve_connection(TokioIo::new(io), service).with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => Some(ended),
        () = leaving(lifetime, drain) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection => ended,
                () = lifetime.over() => return Ended::Expired,
            }
        }
    };
    Ended::of(ended, lifetime)
}
