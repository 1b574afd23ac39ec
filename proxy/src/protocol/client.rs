//! The client side of HTTP, in either version: a connection that knows what was sent.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::{self, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{Method, Request, Response, Version};
use hyper::body::{Body, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::watched::{Passed, Quiet, Watched};
use super::body::RequestBody;
use crate::route::{Http2Keepalive, HttpVersion};

mod watched;

/// Longest wait for a connection to be done with the exchange before.
const SETTLE: Duration = Duration::from_secs(1);
/// What a server may send of one response before it is read, and of all responses on one connection: enough for
/// 80 MB/s of each at 12 ms, and the most that a hostile server can make us hold.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// What may lie unsent of one request.
const SEND_BUFFER: usize = 256 * 1024;
/// Longest head of a response, in decoded bytes (RFC 9113, 6.5.2).
const LONGEST_HEAD: u32 = 64 * 1024;
/// Streams opened before the server has said how many it takes; no server should take fewer (RFC 9113, 6.5.2).
const FIRST_STREAMS: usize = 100;

/// A client connection. Over HTTP/1.1 it carries one request at a time; over HTTP/2 [`Connection::share`] makes as
/// many handles as there are requests.
pub struct Connection {
    sender: Sender,
}

enum Sender {
    Http1 {
        sender: http1::SendRequest<RequestBody>,
        /// Whether it has carried an exchange.
        used: bool,
        passed: Arc<Passed>,
    },
    Http2 {
        sender: http2::SendRequest<RequestBody>,
        /// Whether it has carried an exchange.
        used: Arc<AtomicBool>,
        /// How many streams the server takes.
        streams: Arc<AtomicUsize>,
    },
}

/// Why a request got no response.
#[derive(Debug)]
pub enum SendFailure {
    /// The server provably took nothing of it, so it may be sent again elsewhere (RFC 9113, 8.7), whatever its method:
    /// with the request itself if it is still whole.
    Unsent(Option<Box<Request<RequestBody>>>, hyper::Error),
    /// The connection had been used before, and ended before any byte of the answer: most likely the server had
    /// closed it meanwhile and saw nothing of the request, though nothing proves it. Whoever may send a request twice
    /// sends it again, once (RFC 9112, 9.3.1; RFC 9110, 9.2.2).
    Ended(hyper::Error),
    /// It may have been acted upon.
    Sent(hyper::Error),
}

impl Connection {
    /// Prepares a connected stream. The second value drives the connection: it must be run, ends when the
    /// connection is closed, and closes it when it is dropped.
    ///
    /// # Errors
    /// hyper's.
    pub async fn new<IO>(
        io: IO,
        version: HttpVersion,
    ) -> Result<(Self, impl Future<Output = Result<(), hyper::Error>> + Send), hyper::Error>
    where
        IO: AsyncRead + AsyncWrite + Quiet + Unpin + Send + 'static,
    {
        Self::open(io, version, None).await
    }

    /// As [`Connection::new`], and says when a silent HTTP/2 connection is probed with pings. gRPC servers take pings
    /// on a quiet stream for abuse (gRFC A8), so without a word of the policy only connections to other sidecars are;
    /// the others have TCP keepalive.
    ///
    /// # Errors
    /// hyper's.
    pub async fn open<IO>(
        io: IO,
        version: HttpVersion,
        pings: Option<Http2Keepalive>,
    ) -> Result<(Self, impl Future<Output = Result<(), hyper::Error>> + Send), hyper::Error>
    where
        IO: AsyncRead + AsyncWrite + Quiet + Unpin + Send + 'static,
    {
        match version {
            HttpVersion::Http1 => {
                let passed = Arc::<Passed>::default();
                let io = Watched::new(io, Arc::clone(&passed));
                let (sender, driver) = http1::Builder::new().handshake(TokioIo::new(io)).await?;
                let sender = Sender::Http1 { sender, used: false, passed };
                Ok((Self { sender }, Either::Left(driver.with_upgrades())))
            }
            HttpVersion::Http2 => {
                let (connection, driver) = open_http2(io, pings).await?;
                Ok((connection, Either::Right(driver)))
            }
        }
    }

    /// Another handle on the same connection, for another request; `None` over HTTP/1.1.
    #[must_use]
    pub fn share(&self) -> Option<Self> {
        match &self.sender {
            Sender::Http1 { .. } => None,
            Sender::Http2 { sender, used, streams } => {
                let (used, streams) = (Arc::clone(used), Arc::clone(streams));
                Some(Self { sender: Sender::Http2 { sender: sender.clone(), used, streams } })
            }
        }
    }

    /// How many requests the server takes at once, as far as it has said.
    #[must_use]
    pub fn max_streams(&self) -> usize {
        match &self.sender {
            Sender::Http1 { .. } => 1,
            Sender::Http2 { streams, .. } => streams.load(Ordering::Relaxed),
        }
    }

    /// Whether the connection has ended, or takes nothing new.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1 { sender, .. } => sender.is_closed(),
            Sender::Http2 { sender, .. } => sender.is_closed(),
        }
    }

    /// Whether the connection can take a request at once.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        match &self.sender {
            Sender::Http1 { sender, .. } => sender.is_ready(),
            Sender::Http2 { sender, .. } => sender.is_ready(),
        }
    }

    /// Whether the connection can take a request: not closed, and over HTTP/1.1 done with the one before.
    pub async fn is_usable(&mut self) -> bool {
        match &mut self.sender {
            Sender::Http1 { sender, .. } => {
                // Nearly always ready, and then no timer is needed.
                sender.is_ready() || matches!(tokio::time::timeout(SETTLE, sender.ready()).await, Ok(Ok(())))
            }
            Sender::Http2 { sender, .. } => !sender.is_closed(),
        }
    }

    /// Whether it has carried an exchange, so that it may turn out to have ended when it is used again.
    #[must_use]
    pub fn was_used(&self) -> bool {
        match &self.sender {
            Sender::Http1 { used, .. } => *used,
            Sender::Http2 { used, .. } => used.load(Ordering::Relaxed),
        }
    }

    /// Sends a request in the inner form (origin form and `Host`) and waits for the head of the response.
    ///
    /// # Errors
    /// [`SendFailure`] tells whether the request may be sent again; what comes back is in the inner form too.
    pub async fn send(
        &mut self,
        mut request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, SendFailure> {
        match &mut self.sender {
            Sender::Http1 { sender, used, passed } => {
                frame_for_http1(&mut request);
                let heard = passed.begin();
                let sent = sender.try_send_request(request).await;
                let response = sent.map_err(|mut failed| {
                    let whole = failed.take_message();
                    let (error, silent) = (failed.into_error(), passed.heard() == heard);
                    match whole {
                        Some(request) => SendFailure::Unsent(Some(Box::new(request)), error),
                        None if passed.is_unsent() && !error.is_user() => SendFailure::Unsent(None, error),
                        None if *used && silent && is_end(&error) => SendFailure::Ended(error),
                        None => SendFailure::Sent(error),
                    }
                })?;
                *used = true;
                Ok(response)
            }
            Sender::Http2 { sender, used, .. } => {
                let spare = spare(&request);
                to_http2(&mut request);
                let sent = sender.try_send_request(request).await;
                let response = sent.map_err(|mut failed| {
                    let whole = failed.take_message().map(from_http2);
                    let error = failed.into_error();
                    match whole {
                        Some(request) => SendFailure::Unsent(Some(Box::new(request)), error),
                        None if is_unprocessed(&error) => SendFailure::Unsent(spare.map(Box::new), error),
                        None if used.load(Ordering::Relaxed) && is_end(&error) => SendFailure::Ended(error),
                        None => SendFailure::Sent(error),
                    }
                })?;
                used.store(true, Ordering::Relaxed);
                Ok(response)
            }
        }
    }
}

/// Whether the connection ended, and not the request's own body or our interest in it.
fn is_end(error: &hyper::Error) -> bool {
    let mut causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    let by_system = causes.any(|cause| cause.is::<io::Error>());
    let is_io = by_system || h2_error(error).is_some_and(h2::Error::is_io);
    !error.is_user() && (error.is_incomplete_message() || is_io)
}

/// hyper sends no body of unknown length with these two methods unless told that there is one. `TE` belongs to the
/// connection (RFC 9110, 10.1.4), and asks for nothing that we pass on.
fn frame_for_http1(request: &mut Request<RequestBody>) {
    request.headers_mut().remove(header::TE);
    let rarely = matches!(*request.method(), Method::GET | Method::HEAD);
    let unknown = !request.body().is_end_stream() && request.body().size_hint().exact().is_none();
    if rarely && unknown && !request.headers().contains_key(header::CONTENT_LENGTH) {
        request.headers_mut().insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

async fn open_http2<IO>(
    io: IO,
    pings: Option<Http2Keepalive>,
) -> Result<(Connection, impl Future<Output = Result<(), hyper::Error>> + Send), hyper::Error>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let tasks = Tasks::default();
    let cut = tasks.end.clone().drop_guard();
    let mut builder = http2::Builder::new(tasks.clone());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_max_send_streams(FIRST_STREAMS)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(LONGEST_HEAD);
    if let Some(Http2Keepalive { interval, timeout }) = pings {
        builder.keep_alive_interval(interval).keep_alive_timeout(timeout).keep_alive_while_idle(true);
    }
    let (sender, mut connection) = builder.handshake(TokioIo::new(io)).await?;
    let streams = Arc::new(AtomicUsize::new(FIRST_STREAMS));
    let (said, turn) = (Arc::clone(&streams), Arc::clone(&tasks.turn));
    let driver = async move {
        let _cut = cut;
        let ended = poll_fn(|cx| {
            let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
            let polled = Pin::new(&mut connection).poll(cx);
            said.store(connection.current_max_send_streams(), Ordering::Relaxed);
            polled
        })
        .await;
        // After a GOAWAY nothing new is taken, while streams that are under way go on in tasks of their own.
        drop(connection);
        tasks.running.close();
        tasks.running.wait().await;
        ended
    };
    let used = Arc::new(AtomicBool::new(false));
    Ok((Connection { sender: Sender::Http2 { sender, used, streams } }, driver))
}

/// Runs what hyper spawns for one connection, so that all of it can be ended with the connection.
#[derive(Clone, Default)]
struct Tasks {
    end: CancellationToken,
    running: TaskTracker,
    /// Held by the task that sends requests, or the one that reads and writes frames, never both. Else a GOAWAY can
    /// be read while a request is on its way out, and hyper reports that request as one the GOAWAY is about,
    /// though its head is still written and the server acts on it.
    turn: Arc<Mutex<()>>,
    /// hyper spawns the task of the frames first.
    has_frames: Arc<AtomicBool>,
}

impl<F> Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        let end = self.end.clone();
        if self.has_frames.swap(true, Ordering::SeqCst) {
            self.running.spawn(async move { end.run_until_cancelled_owned(task).await });
            return;
        }
        let turn = Arc::clone(&self.turn);
        self.running.spawn(async move {
            let mut task = pin!(task);
            let in_turn = poll_fn(|cx| {
                let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
                task.as_mut().poll(cx)
            });
            end.run_until_cancelled_owned(in_turn).await
        });
    }
}

/// Whether the server said that it did not act on the request: a refused stream, or one beyond the last that a
/// GOAWAY speaks of (RFC 9113, 8.7 and 6.8).
fn is_unprocessed(error: &hyper::Error) -> bool {
    is_refused(error) || h2_error(error).is_some_and(|error| error.is_remote() && error.is_go_away())
}

/// Whether the server refused this one stream, and may refuse the next one too.
#[must_use]
pub fn is_refused(error: &hyper::Error) -> bool {
    h2_error(error).is_some_and(|error| {
        error.is_remote() && error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM)
    })
}

fn h2_error(error: &hyper::Error) -> Option<&h2::Error> {
    let mut causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes.find_map(|cause| cause.downcast_ref())
}

/// A copy of a request without a body: hyper does not give back what it has begun to send.
fn spare(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    request.body().is_end_stream().then(|| {
        let mut spare = Request::new(RequestBody::Empty);
        *spare.method_mut() = request.method().clone();
        *spare.uri_mut() = request.uri().clone();
        *spare.version_mut() = request.version();
        *spare.headers_mut() = request.headers().clone();
        spare
    })
}

/// From the inner form to HTTP/2's: the host is part of the target (RFC 9113, 8.3.1), and `te` may be `trailers`
/// alone (8.2.2).
fn to_http2<B>(request: &mut Request<B>) {
    if request.headers().get(header::TE).is_some_and(|te| te != "trailers") {
        request.headers_mut().remove(header::TE);
    }
    let host = request.headers().get(header::HOST);
    let Some(authority) = host.and_then(|host| Authority::try_from(host.as_bytes()).ok()) else { return };
    let mut parts = http::uri::Parts::default();
    if request.method() != Method::CONNECT {
        let path = request.uri().path_and_query().cloned();
        parts.path_and_query = Some(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
        parts.scheme = Some(Scheme::HTTP);
    }
    parts.authority = Some(authority);
    let Ok(uri) = Uri::from_parts(parts) else { return };
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_2;
    request.headers_mut().remove(header::HOST);
}

/// And back.
fn from_http2<B>(mut request: Request<B>) -> Request<B> {
    let Some(authority) = request.uri().authority().cloned() else { return request };
    if let Ok(host) = HeaderValue::try_from(authority.as_str()) {
        request.headers_mut().insert(header::HOST, host);
    }
    *request.version_mut() = Version::HTTP_11;
    if request.method() != Method::CONNECT {
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = path.map(Uri::from).unwrap_or_default();
    }
    request
}

#[cfg(test)]
mod tests;
