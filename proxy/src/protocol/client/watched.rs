//! The stream of an HTTP/1.1 connection, which knows what passed of the request under way, and asks the kernel before
//! it begins another one on a connection that was used before.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::listen::OverTcp;

/// A stream that can tell whether there is something to read.
pub trait Quiet {
    /// Whether the kernel has nothing: no byte, no end and no error.
    fn is_quiet(&self) -> bool;
}

impl<IO: OverTcp> Quiet for IO {
    fn is_quiet(&self) -> bool {
        // tokio's sockets do not block.
        let peeked = SockRef::from(self.tcp()).peek(&mut [MaybeUninit::uninit()]);
        peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}

#[cfg(test)]
impl Quiet for tokio::io::DuplexStream {
    fn is_quiet(&self) -> bool {
        true
    }
}

/// What passed.
#[derive(Default)]
pub(super) struct Passed {
    /// Bytes that came, ever.
    heard: AtomicU64,
    /// Whether the request under way is still all ours: not a write of it was tried.
    unsent: AtomicBool,
}

impl Passed {
    /// A request begins; bytes heard until now.
    pub(super) fn begin(&self) -> u64 {
        self.unsent.store(true, Ordering::Relaxed);
        self.heard()
    }

    pub(super) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// Whether nothing can have left of the request that began last. A write that failed counts as one: over TLS, parts
    /// of it may be away.
    pub(super) fn is_unsent(&self) -> bool {
        self.unsent.load(Ordering::Relaxed)
    }
}

/// See the module.
pub(super) struct Watched<IO> {
    io: IO,
    passed: Arc<Passed>,
}

impl<IO: Quiet> Watched<IO> {
    pub(super) fn new(io: IO, passed: Arc<Passed>) -> Self {
        Self { io, passed }
    }

    /// Before a write. The first one of a request fails when the server has ended the connection, or has said
    /// something unasked, be it an answer before its end (408) or TLS's `close_notify`. tokio may know of that much
    /// later than the kernel, and from here to the write it is a microsecond. Not before the connection has carried an
    /// answer: until then a server may have TLS tickets on their way.
    ///
    /// Asked whenever a connection is used again, however short it was idle, since a server may leave at any moment: it
    /// costs one system call that finds nothing.
    fn begin(&self) -> io::Result<()> {
        if self.passed.is_unsent() {
            if self.passed.heard() > 0 && !self.io.is_quiet() {
                let why = "the server closed the connection while it was idle";
                return Err(io::Error::new(io::ErrorKind::ConnectionAborted, why));
            }
            self.passed.unsent.store(false, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Watched<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
        let came = buffer.filled().len().saturating_sub(before);
        self.passed.heard.fetch_add(u64::try_from(came).unwrap_or(u64::MAX), Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl<IO: Quiet + AsyncWrite + Unpin> AsyncWrite for Watched<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.begin()?;
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.begin()?;
        Pin::new(&mut self.io).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
