//! A TCP stream of the app, watched for silence (`idleTimeout`) and for its age (`maxConnectionDuration`).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use super::tunnel::bounded;
use crate::lifetime::Lifetime;
use crate::listen::OverTcp;
use crate::protocol::tcp;
use crate::route::PoolLimits;

/// Why a stream ended.
pub(super) enum End {
    /// By itself, or with the proof.
    Ended(tcp::Ended),
    /// By the bound of this name.
    Cut(&'static str),
}

/// Copies both ways within the destination's bounds.
pub(super) async fn carry<C, S>(client: C, server: &mut S, lifetime: &Lifetime, limits: &PoolLimits) -> End
where
    C: AsyncRead + AsyncWrite + OverTcp + Unpin,
    S: AsyncRead + AsyncWrite + OverTcp + Unpin,
{
    let (mut client, spoken) = Watched::new(client);
    let copying = bounded(limits.max_connection_duration, tcp::copy(&mut client, server, lifetime));
    tokio::select! {
        ended = copying => ended.map_or(End::Cut("maxConnectionDuration"), End::Ended),
        () = spoken.silence(limits.tcp_idle_timeout) => End::Cut("idleTimeout"),
    }
}

/// The app's end, through which every byte of both directions passes.
struct Watched<IO> {
    io: IO,
    spoken: Spoken,
}

/// When the last byte passed.
#[derive(Clone)]
struct Spoken {
    start: Instant,
    millis: Arc<AtomicU64>,
}

impl Spoken {
    fn now(&self) {
        let millis = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.millis.store(millis, Ordering::Relaxed);
    }

    /// Resolves when nothing has passed for `limit`; never without one.
    async fn silence(&self, limit: Option<Duration>) {
        let Some(limit) = limit else { return std::future::pending().await };
        loop {
            let last = self.start + Duration::from_millis(self.millis.load(Ordering::Relaxed));
            let Some(due) = last.checked_add(limit) else { return std::future::pending().await };
            if due <= Instant::now() {
                return;
            }
            sleep_until(due).await;
        }
    }
}

impl<IO> Watched<IO> {
    fn new(io: IO) -> (Self, Spoken) {
        let spoken = Spoken { start: Instant::now(), millis: Arc::default() };
        (Self { io, spoken: spoken.clone() }, spoken)
    }
}

impl<IO: OverTcp> OverTcp for Watched<IO> {
    fn tcp(&self) -> &TcpStream {
        self.io.tcp()
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Watched<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if read.is_ready() {
            self.spoken.now();
        }
        read
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Watched<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        if written.is_ready() {
            self.spoken.now();
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use portcullis_identity::ManualClock;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    async fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (near, listener.accept().await.unwrap().0)
    }

    async fn end(limits: PoolLimits, talk: bool) -> (String, Duration) {
        let (mut app, client) = connection().await;
        let (mut server, mut service) = connection().await;
        let unbounded = Lifetime::until(&ManualClock::at(LONG).clock(), []);
        let started = Instant::now();
        let talking = tokio::spawn(async move {
            let mut byte = [0];
            while talk && app.write_all(b"x").await.is_ok() && service.read_exact(&mut byte).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            std::future::pending::<()>().await;
        });
        let end = tokio::time::timeout(LONG, carry(client, &mut server, &unbounded, &limits)).await.unwrap();
        talking.abort();
        let how = match end {
            End::Cut(bound) => bound.to_owned(),
            End::Ended(ended) => format!("{ended:?}"),
        };
        (how, started.elapsed())
    }

    #[tokio::test]
    async fn a_silent_stream_is_cut_and_one_that_talks_is_not() {
        let limit = Duration::from_millis(300);
        let idle = PoolLimits { tcp_idle_timeout: Some(limit), ..PoolLimits::default() };
        let (how, after) = end(idle, false).await;
        assert_eq!(how, "idleTimeout");
        assert!(after >= limit, "{after:?}");

        let longest = Duration::from_millis(900);
        let both = PoolLimits { max_connection_duration: Some(longest), ..idle };
        let (how, after) = end(both, true).await;
        assert_eq!(how, "maxConnectionDuration", "control: talking kept it longer than the idle timeout");
        assert!(after >= longest, "{after:?}");
    }
}
