//! HTTP or not, from the first bytes of a client.
//!
//! The question matters for security: what passes as opaque bytes passes with whatever identity headers the
//! client wrote. So anything that an HTTP server might read as a request counts as HTTP: leading blanks, unknown
//! methods, odd spacing and a missing version included. Only a method that is no token (RFC 9110, 9.1) is not.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::listen::OverTcp;
use crate::route::HttpVersion;

/// Longest request line that is looked at; hyper's own limit on the head is larger and answers 431.
const LONGEST_LINE: usize = 8 * 1024;
/// How long a client that has begun a line may take to end it.
const LINE_DEADLINE: Duration = Duration::from_secs(10);

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP.
    Http(HttpVersion),
    /// Opaque bytes.
    Tcp,
}

/// What a client of HTTP/2 with prior knowledge says first (RFC 9113, 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Tells the protocol of the first bytes; `None` when it takes more of them. Only the whole preface is HTTP/2: what
/// departs from it is judged as a request line, and refused as one.
#[must_use]
pub fn judge(bytes: &[u8]) -> Option<Protocol> {
    match bytes.get(..PREFACE.len()) {
        Some(begin) if begin == PREFACE => Some(Protocol::Http(HttpVersion::Http2)),
        None if PREFACE.starts_with(bytes) => None,
        _ => judge_line(bytes),
    }
}

fn judge_line(bytes: &[u8]) -> Option<Protocol> {
    if bytes.len() >= LONGEST_LINE {
        return Some(Protocol::Http(HttpVersion::Http1));
    }
    let start = bytes.iter().position(|byte| !is_blank(*byte))?;
    let rest = bytes.get(start..)?;
    let (method, after) = rest.split_at(rest.iter().position(|byte| !is_token(*byte))?);
    if method.is_empty() || !after.first().is_some_and(|byte| is_blank(*byte)) {
        return Some(Protocol::Tcp);
    }
    let line = after.split(|byte| *byte == b'\n').next().unwrap_or_default();
    // A request line may end without version (HTTP/0.9), and some servers read header fields after it.
    if method == b"GET" || line.windows(5).any(|window| window.eq_ignore_ascii_case(b"HTTP/")) {
        return Some(Protocol::Http(HttpVersion::Http1));
    }
    (line.len() < after.len()).then_some(Protocol::Tcp)
}

/// RFC 9110, 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// What one server or another skips before, and splits at in, a request line: what Python's `str.split` does in
/// Latin-1 is the longest such list known.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b'\t'..=b'\r' | 0x1c..=b' ' | 0x85 | 0xa0)
}

/// Resolves when a server's first word is not HTTP's, or it has left. One of HTTP may speak first too: over HTTP/2 most
/// greet at once, and over HTTP/1.1 some say that they are tired of waiting. Then it never resolves, nor when the word
/// is too short to tell. What was said stays in the socket, and the socket readable.
///
/// # Errors
/// Those of the socket.
pub async fn is_no_http_server(server: &TcpStream) -> io::Result<()> {
    let mut word = [0; SETTINGS_HEAD.len()];
    let length = server.peek(&mut word).await?;
    if length > 0 && may_be_http(word.get(..length).unwrap_or_default()) {
        std::future::pending::<()>().await;
    }
    Ok(())
}

/// The head of a server's first frame (RFC 9113, 3.4 and 4.1): SETTINGS, on stream 0. The length is any of 16 bits.
const SETTINGS_HEAD: [Option<u8>; 9] =
    [Some(0), None, None, Some(4), Some(0), Some(0), Some(0), Some(0), Some(0)];

/// Whether a server of HTTP could begin so.
fn may_be_http(word: &[u8]) -> bool {
    let settings = word.iter().zip(SETTINGS_HEAD).all(|(byte, head)| head.is_none_or(|head| head == *byte));
    settings || word.iter().zip(b"HTTP/").all(|(byte, letter)| byte == letter)
}

/// A stream whose first bytes may be looked at before they are read.
#[derive(Debug)]
pub struct Prefixed<IO> {
    prefix: Vec<u8>,
    read: usize,
    io: IO,
}

impl<IO> Prefixed<IO> {
    /// Nothing looked at yet.
    pub fn new(io: IO) -> Self {
        Self { prefix: Vec::new(), read: 0, io }
    }

    /// Whether nothing was there to be looked at, or it has been read since.
    pub fn is_silent(&self) -> bool {
        self.prefix.is_empty()
    }
}

impl<IO: AsyncRead + Unpin> Prefixed<IO> {
    /// Waits for the client's first bytes and tells its protocol. Nothing is lost when dropped half-way.
    ///
    /// # Errors
    /// `UnexpectedEof` when the client left without a byte, `TimedOut` when it began a line and did not end it.
    pub async fn detect(&mut self) -> io::Result<Protocol> {
        if self.prefix.is_empty() && self.io.read_buf(&mut self.prefix).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = async {
            loop {
                if let Some(protocol) = judge(&self.prefix) {
                    return Ok(protocol);
                }
                if self.io.read_buf(&mut self.prefix).await? == 0 {
                    // The client has said all it will say. Half a preface may still be a request line.
                    return Ok(judge_line(&self.prefix).unwrap_or(Protocol::Tcp));
                }
            }
        };
        tokio::time::timeout(LINE_DEADLINE, line)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<IO: OverTcp> OverTcp for Prefixed<IO> {
    fn tcp(&self) -> &TcpStream {
        self.io.tcp()
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Prefixed<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        match this.prefix.get(this.read..) {
            Some(left) if !left.is_empty() => {
                let (now, _) = left.split_at(left.len().min(buf.remaining()));
                buf.put_slice(now);
                this.read += now.len();
                if this.read == this.prefix.len() {
                    this.prefix = Vec::new();
                    this.read = 0;
                }
                Poll::Ready(Ok(()))
            }
            _ => Pin::new(&mut this.io).poll_read(cx, buf),
        }
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Prefixed<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
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
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[test]
    fn whatever_a_server_might_read_as_a_request_is_http() {
        for (bytes, told) in [
            (&b""[..], None),
            (b"G", None),
            (b"GET", None),
            (b"POST / ", None),
            (b"GET / HTTP/1.1\r\n", Some(Protocol::Http(HttpVersion::Http1))),
            (b"GET / HTTP/", Some(Protocol::Http(HttpVersion::Http1))),
            (b"\r\n\r\n", None),
            (b"\r\nGET / HTTP/1.1", Some(Protocol::Http(HttpVersion::Http1))),
            (b"\nget /\thttp/1.0\n", Some(Protocol::Http(HttpVersion::Http1))),
            (b"MADEUP * HTTP/1.1\n", Some(Protocol::Http(HttpVersion::Http1))),
            (b"PRI * HTTP/2.0\r\n", None),
            (&PREFACE[..PREFACE.len() - 1], None),
            (PREFACE, Some(Protocol::Http(HttpVersion::Http2))),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04", Some(Protocol::Http(HttpVersion::Http2))),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r", Some(Protocol::Http(HttpVersion::Http1))),
            (b"PRI * HTTP/2.0\n\n", Some(Protocol::Http(HttpVersion::Http1))),
            (b"\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Some(Protocol::Http(HttpVersion::Http1))),
            (b"PRINT it\r\n", Some(Protocol::Tcp)),
            (b"\x16\x03\x01", Some(Protocol::Tcp)),
            (b"\x00\x00\x00\x08\x04\xd2\x16\x2f", Some(Protocol::Tcp)),
            (b"*1\r\n$4\r\nPING\r\n", Some(Protocol::Tcp)),
            (b"get key\r\n", Some(Protocol::Tcp)),
            (b"PING\r\n", Some(Protocol::Tcp)),
            (b" GET / HTTP/1.1\r\n", Some(Protocol::Http(HttpVersion::Http1))),
            (b"\x0b\xa0POST\x1c/\x85HTTP/1.1\r\n", Some(Protocol::Http(HttpVersion::Http1))),
            (b"GET /\r\n", Some(Protocol::Http(HttpVersion::Http1))),
            (b"AMQP\x00\x00\x09\x01", Some(Protocol::Tcp)),
            (b"A\x00\x00\x00", Some(Protocol::Tcp)),
        ] {
            assert_eq!(judge(bytes), told, "{:?}", String::from_utf8_lossy(bytes));
        }
        assert_eq!(
            judge(&vec![b'a'; LONGEST_LINE]),
            Some(Protocol::Http(HttpVersion::Http1)),
            "never waits for ever"
        );
        assert_eq!(judge(&vec![b'\n'; LONGEST_LINE]), Some(Protocol::Http(HttpVersion::Http1)));
    }

    #[test]
    fn a_server_that_greets_in_http_is_told_from_all_others() {
        for (word, http) in [
            (&b"\0"[..], true),
            (b"\0\0\x12\x04\0\0\0\0\0", true),
            (b"\0\x40\0\x04\0\0\0\0\0", true),
            (b"HTTP/", true),
            (b"HT", true),
            (b"\0\0\x12\x06\0\0\0\0\0", false),
            (b"\0\0\x12\x04\0\0\0\0\x01", false),
            (b"\x4a\0\0\0\x0a", false),
            (b"HELO", false),
            (b"220 mail", false),
            (b"SSH-2.0-", false),
        ] {
            assert_eq!(may_be_http(word), http, "{:?}", String::from_utf8_lossy(word));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_read_is_read_again_byte_by_byte_or_not() {
        let (mut client, server) = tokio::io::duplex(64);
        for byte in b"GET / HTTP/1.1\r\n" {
            client.write_all(&[*byte]).await.unwrap();
        }
        drop(client);
        let mut stream = Prefixed::new(server);
        assert_eq!(stream.detect().await.unwrap(), Protocol::Http(HttpVersion::Http1));
        let mut all = String::new();
        stream.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "GET / HTTP/1.1\r\n");
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_that_never_ends_is_given_up() {
        for begun in [&b"POST "[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r"] {
            let (mut client, server) = tokio::io::duplex(64);
            client.write_all(begun).await.unwrap();
            assert_eq!(Prefixed::new(server).detect().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_preface_and_the_end_is_no_way_round_the_http_rules() {
        for (said, told) in
            [(&b"PRI * HTTP/2.0\r\n\r\n"[..], Protocol::Http(HttpVersion::Http1)), (b"PR", Protocol::Tcp)]
        {
            let (mut client, server) = tokio::io::duplex(64);
            client.write_all(said).await.unwrap();
            drop(client);
            assert_eq!(Prefixed::new(server).detect().await.unwrap(), told);
        }
    }
}
