//! The server side of HTTP/2 (RFC 9113): a connection that ends with its proof, within bounds that hold whatever a
//! peer sends.
//!
//! h2 itself answers floods of PING and SETTINGS one at a time and reads no further meanwhile, takes empty DATA frames
//! without keeping them, and ends a connection with too many CONTINUATION frames. The rest is set here.

use std::future::Future;
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::rt::Executor;
use hyper::server::conn::http2 as server;
use hyper::service::HttpService;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::http::{Ended, LONGEST_HEAD, leaving};
use crate::drain::Drain;
use crate::lifetime::Lifetime;

#[cfg(test)]
pub(in crate::protocol) mod frames;
#[cfg(test)]
mod tests;

/// Requests at once on one connection; RFC 9113, 6.5.2 advises no fewer than 100.
const STREAMS: u32 = 128;
/// What one stream may send unread.
const STREAM_WINDOW: u32 = 256 * 1024;
/// What one connection may send unread: the bound of what a peer can make the sidecar hold of its bodies.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// What one stream holds of an answer that its peer does not read.
const SEND_BUFFER: usize = 64 * 1024;
/// A TLS record's worth.
const FRAME: u32 = 16 * 1024;
/// Streams reset by the peer before the service saw them (rapid reset, CVE-2023-44487); more end in a GOAWAY.
const RESETS_BY_PEER: usize = 32;
/// Streams that the peer made this side reset by errors of its own (MadeYouReset, CVE-2025-8671), as above.
const RESETS_MADE: usize = 128;
/// A peer that vanished is noticed after the two together.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a peer without requests may take to leave after a GOAWAY.
const GOODBYE: Duration = Duration::from_secs(5);

/// Serves requests until the client leaves, shutdown or the connection's life ends. A connection without requests
/// for `idle` is closed in order.
pub(super) async fn serve<IO, S, B>(
    io: IO,
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
    let (streams, mut active) = Streams::new();
    // However this ends, cut from outside included, no stream goes on without its connection.
    let _cut = streams.cut.clone().drop_guard();
    let connection = builder(streams).serve_connection(TokioIo::new(io), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => Some(ended),
        () = leaving(lifetime, drain) => None,
        () = quiet(&mut active, idle) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            // Two GOAWAYs with a round trip between them: no request on its way is lost (RFC 9113, 6.8).
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection => ended,
                () = lifetime.over() => return Ended::Expired,
                () = quiet(&mut active, GOODBYE) => return Ended::Closed,
            }
        }
    };
    Ended::of(ended, lifetime)
}

fn builder(streams: Streams) -> server::Builder<Streams> {
    let mut builder = server::Builder::new(streams);
    builder
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(LONGEST_HEAD).unwrap_or(u32::MAX))
        .max_frame_size(FRAME)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(RESETS_BY_PEER)
        .max_local_error_reset_streams(RESETS_MADE)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

/// Resolves when no stream has been active for `span`.
async fn quiet(active: &mut watch::Receiver<usize>, span: Duration) {
    loop {
        if active.wait_for(|active| *active == 0).await.is_err() {
            // The connection is gone, and its own end is the news.
            return std::future::pending().await;
        }
        tokio::select! {
            _ = active.changed() => {}
            () = tokio::time::sleep(span) => return,
        }
    }
}

/// Runs the streams of one connection, each as a task that ends with the connection, and counts them.
#[derive(Clone)]
struct Streams {
    active: watch::Sender<usize>,
    cut: CancellationToken,
}

impl Streams {
    fn new() -> (Self, watch::Receiver<usize>) {
        let (active, receiver) = watch::channel(0);
        (Self { active, cut: CancellationToken::new() }, receiver)
    }
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let counted = Active::count(&self.active);
        let cut = self.cut.clone();
        // The drain waits for the connection, and the connection for its streams.
        tokio::spawn(async move {
            let _counted = counted;
            tokio::select! {
                biased;
                () = cut.cancelled() => {}
                () = stream => {}
            }
        });
    }
}

struct Active(watch::Sender<usize>);

impl Active {
    fn count(active: &watch::Sender<usize>) -> Self {
        active.send_modify(|active| *active += 1);
        Self(active.clone())
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.send_modify(|active| *active = active.saturating_sub(1));
    }
}
