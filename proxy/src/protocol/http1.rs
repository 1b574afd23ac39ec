//! HTTP/1.1 both ways: a server side that ends with its proof, and a client connection that knows what was sent.

use std::future::Future;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{self as client, SendRequest};
use hyper::server::conn::http1 as server;
use hyper::service::HttpService;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::drain::Drain;
use crate::lifetime::Lifetime;

/// Longest wait for a connection to be done with the exchange before.
const SETTLE: Duration = Duration::from_secs(1);
/// How long a draining connection still takes what was sent before the other side could know.
const ON_ITS_WAY: Duration = Duration::from_millis(500);
/// Longest head of a request, in bytes; hyper answers 431 to one that is longer by more than its last read.
const LONGEST_HEAD: usize = 64 * 1024;

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

/// Serves requests until the client leaves, shutdown or the connection's life ends. `idle` bounds the wait for
/// the head of the next request.
pub async fn serve<IO, S, B>(io: IO, service: S, idle: Duration, lifetime: &Lifetime, drain: &Drain) -> Ended
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
    S: HttpService<Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut builder = server::Builder::new();
    // A client that closes its side has left: what waits for the answer is given up, and its connection freed.
    builder.timer(TokioTimer::new()).header_read_timeout(idle).half_close(false).auto_date_header(false);
    builder.max_buf_size(LONGEST_HEAD);
    let connection = builder.serve_connection(TokioIo::new(io), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => Some(ended),
        () = lifetime.draining() => None,
        // Whoever has just connected has a request on its way, which a close at once would lose.
        () = async { drain.begun().await; tokio::time::sleep(ON_ITS_WAY).await } => None,
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
    match ended {
        Ok(()) => Ended::Closed,
        // The other side goes by the same proof, and may have cut first.
        Err(_) if lifetime.is_over() => Ended::Expired,
        Err(error) => Ended::Broken(error),
    }
}

/// A client connection. Carries one request at a time.
pub struct Connection {
    sender: SendRequest<Incoming>,
}

/// Why a request got no response.
#[derive(Debug)]
pub enum SendFailure {
    /// Not one byte was sent: it may be sent again elsewhere.
    Unsent(Box<Request<Incoming>>, hyper::Error),
    /// It may have been acted upon.
    Sent(hyper::Error),
}

impl Connection {
    /// Prepares a connected stream. The second value drives the connection; it must be run, and ends with it.
    ///
    /// # Errors
    /// hyper's.
    pub async fn new<IO>(
        io: IO,
    ) -> Result<(Self, impl Future<Output = Result<(), hyper::Error>>), hyper::Error>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, driver) = client::Builder::new().handshake(TokioIo::new(io)).await?;
        Ok((Self { sender }, driver))
    }

    /// Whether the connection can take a request: not closed, and done with the one before.
    pub async fn is_usable(&mut self) -> bool {
        matches!(tokio::time::timeout(SETTLE, self.sender.ready()).await, Ok(Ok(())))
    }

    /// Sends a request and waits for the head of the response.
    ///
    /// # Errors
    /// [`SendFailure`] tells whether the request may be sent again.
    pub async fn send(&mut self, request: Request<Incoming>) -> Result<Response<Incoming>, SendFailure> {
        self.sender.try_send_request(request).await.map_err(|mut failed| match failed.take_message() {
            Some(request) => SendFailure::Unsent(Box::new(request), failed.into_error()),
            None => SendFailure::Sent(failed.into_error()),
        })
    }
}
