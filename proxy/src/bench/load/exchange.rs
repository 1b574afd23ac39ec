//! A request and its answer over HTTP/1.1.

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::HOST;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::connection::Target;
use super::outcome::{Failure, Outcome, judge};

/// Longest body read, in bytes.
const MAX_BODY: usize = 64 * 1024 * 1024;
/// Longest head read, in bytes.
const MAX_HEAD: usize = 64 * 1024;

type Driver = Pin<Box<Connection<TokioIo<TcpStream>, Empty<Bytes>>>>;

/// An open connection, and who moves its bytes: the same task that waits for the answer.
pub(super) struct Open {
    sender: SendRequest<Empty<Bytes>>,
    /// `None` once it has ended.
    driver: Option<Driver>,
}

/// A request without a whole answer.
pub(super) struct Broken {
    /// What to count it as.
    pub(super) failure: Failure,
    /// Not a byte of an answer came before the connection ended.
    pub(super) unanswered: bool,
}

impl Open {
    pub(super) async fn connect(address: SocketAddr) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address).await.map_err(|_| Failure::Connect)?;
        stream.set_nodelay(true).map_err(|_| Failure::Connect)?;
        let mut client = http1::Builder::new();
        client.max_buf_size(MAX_HEAD);
        let (sender, driver) = client.handshake(TokioIo::new(stream)).await.map_err(|_| Failure::Connect)?;
        Ok(Self { sender, driver: Some(Box::pin(driver)) })
    }

    /// Returns when the other side has closed it.
    pub(super) async fn closed(&mut self) {
        if let Some(driver) = &mut self.driver {
            // Whatever ended it, it cannot be used again.
            let _ = driver.await;
            self.driver = None;
        }
    }

    /// What the answer says, if it is no success, and the connection, if it can be used again.
    pub(super) async fn exchange(
        mut self,
        target: &Target,
    ) -> Result<(Option<Outcome>, Option<Self>), Broken> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = Uri::from(target.path.clone());
        request.headers_mut().insert(HOST, target.host.clone());
        let Self { sender, driver } = &mut self;
        let answer = async {
            let response = sender.send_request(request).await.map_err(|error| Broken::before(&error))?;
            let judged = judge(response.status(), response.headers());
            read(response).await?;
            // Until it is, the connection does not know whether it may be used again.
            Ok((judged, sender.ready().await.is_ok()))
        };
        let (judged, kept) = driven(driver, answer).await?;
        Ok((judged, kept.then_some(self)))
    }
}

impl Broken {
    fn before(error: &hyper::Error) -> Self {
        // An answer that cannot be read is one all the same.
        let unreadable = error.is_parse();
        let failure = if unreadable { Failure::Protocol } else { Failure::Closed };
        Self { failure, unanswered: !unreadable }
    }

    fn within(failure: Failure) -> Self {
        Self { failure, unanswered: false }
    }
}

async fn read(response: Response<Incoming>) -> Result<(), Broken> {
    let mut body = response.into_body();
    let mut length: usize = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Broken::within(Failure::Closed))?;
        length = length.saturating_add(frame.data_ref().map_or(0, Bytes::len));
        if length > MAX_BODY {
            return Err(Broken::within(Failure::TooLong));
        }
    }
    Ok(())
}

/// Waits for the answer, and moves the connection's bytes meanwhile.
async fn driven<T>(driver: &mut Option<Driver>, answer: impl Future<Output = T>) -> T {
    let mut answer = pin!(answer);
    let turn = |context: &mut Context<'_>| {
        // First the answer, which may have to send; then the bytes; then what they brought.
        if let Poll::Ready(answer) = answer.as_mut().poll(context) {
            return Poll::Ready(answer);
        }
        if let Some(moving) = driver
            && moving.as_mut().poll(context).is_ready()
        {
            *driver = None;
        }
        answer.as_mut().poll(context)
    };
    std::future::poll_fn(turn).await
}
