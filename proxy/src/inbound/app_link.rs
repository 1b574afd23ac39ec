//! The app's end of one inbound HTTP connection. Its connections to the app serve one peer's connection alone: as many of
//! HTTP/1.1 as that has requests at once, or one of HTTP/2 for all of them.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex as SyncMutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::request::Parts;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, OnceCell};

use crate::authz::Permit;
use crate::drain::Drain;
use crate::protocol::body::RequestBody;
use crate::protocol::body::replay::Replay;
use crate::protocol::client::{Connection, SendFailure};
use crate::protocol::detect::PREFACE;
use crate::refusal::Refusal;
use crate::route::HttpVersion;
use crate::upstream::{self, AppAddr};

/// How long an app may take to show that it speaks HTTP/2.
const ANSWER: Duration = Duration::from_secs(2);

/// See the module.
pub(super) struct AppLink {
    addr: AppAddr,
    drain: Drain,
    dialled: SyncMutex<Option<TcpStream>>,
    idle: SyncMutex<Vec<Connection>>,
    /// Held while it is dialled, so that there is one.
    multiplexed: Mutex<Option<Connection>>,
    speaks_http2: OnceCell<bool>,
}

/// A connection for as long as one exchange uses it. Dropped, an HTTP/1.1 connection is closed: something was left
/// unread on it.
pub(super) struct Lease {
    link: Arc<AppLink>,
    connection: Connection,
}

impl Lease {
    /// The exchange is over, and the connection good for another.
    pub(super) fn give_back(self) {
        let Self { link, connection } = self;
        if connection.share().is_none() {
            lock(&link.idle).push(connection);
        }
    }
}

impl AppLink {
    /// A link that uses `dialled` first, and dials when it has none or the app closed it.
    pub(super) fn new(addr: AppAddr, dialled: Option<TcpStream>, drain: Drain) -> Arc<Self> {
        Arc::new(Self {
            addr,
            drain,
            dialled: SyncMutex::new(dialled),
            idle: SyncMutex::default(),
            multiplexed: Mutex::default(),
            speaks_http2: OnceCell::new(),
        })
    }

    /// What an app speaks that nobody declared, to a peer that speaks HTTP/2: the peer may do so because ALPN let it,
    /// and not because the app can. Asked once, on a connection of its own.
    pub(super) async fn version(&self, permit: &Permit) -> Result<HttpVersion, Refusal> {
        let asked = self.speaks_http2.get_or_try_init(|| async {
            let mut stream = upstream::connect_app(permit, self.addr).await?;
            let answer = tokio::time::timeout(ANSWER, speaks_http2(&mut stream)).await;
            Ok::<_, Refusal>(matches!(answer, Ok(Ok(true))))
        });
        Ok(if *asked.await? { HttpVersion::Http2 } else { HttpVersion::Http1 })
    }

    /// Sends one request, and once more, over a connection made for it, if the app had closed the one that it went to:
    /// it was not sent, or it may be sent twice and its connection ended without a byte of the answer.
    pub(super) async fn send(
        self: &Arc<Self>,
        permit: &Permit,
        request: Request<RequestBody>,
        version: HttpVersion,
    ) -> Result<(Response<Incoming>, Lease), Refusal> {
        let mut connection = match version {
            HttpVersion::Http1 => self.idle_or_new(permit).await?,
            HttpVersion::Http2 => self.shared(permit).await?,
        };
        let (request, kept) = if connection.was_used() { keep(request, version) } else { (request, None) };
        let failure = match connection.send(request).await {
            Ok(response) => return Ok((response, Lease { link: Arc::clone(self), connection })),
            Err(failure) => failure,
        };
        let (again, source) = match failure {
            SendFailure::Unsent(Some(whole), source) => (Some(*whole), source),
            SendFailure::Unsent(None, source) => (kept.and_then(Kept::again), source),
            SendFailure::Ended(source) => {
                (kept.filter(|kept| kept.head.method.is_idempotent()).and_then(Kept::again), source)
            }
            SendFailure::Sent(source) => (None, source),
        };
        let request = again.ok_or_else(|| self.broken(source))?;
        let mut connection = match version {
            HttpVersion::Http1 => self.dial(permit, version).await?,
            HttpVersion::Http2 => self.shared(permit).await?,
        };
        match connection.send(request).await {
            Ok(response) => Ok((response, Lease { link: Arc::clone(self), connection })),
            Err(SendFailure::Unsent(_, source) | SendFailure::Ended(source) | SendFailure::Sent(source)) => {
                Err(self.broken(source))
            }
        }
    }

    async fn idle_or_new(&self, permit: &Permit) -> Result<Connection, Refusal> {
        loop {
            let Some(mut connection) = lock(&self.idle).pop() else { break };
            if connection.is_usable().await {
                return Ok(connection);
            }
        }
        self.dial(permit, HttpVersion::Http1).await
    }

    async fn shared(&self, permit: &Permit) -> Result<Connection, Refusal> {
        let mut multiplexed = self.multiplexed.lock().await;
        if let Some(connection) = &mut *multiplexed
            && connection.is_usable().await
            && let Some(share) = connection.share()
        {
            return Ok(share);
        }
        let connection = self.dial(permit, HttpVersion::Http2).await?;
        *multiplexed = connection.share();
        Ok(connection)
    }

    async fn dial(&self, permit: &Permit, version: HttpVersion) -> Result<Connection, Refusal> {
        let dialled = lock(&self.dialled).take();
        let stream = match dialled {
            Some(stream) => stream,
            None => upstream::connect_app(permit, self.addr).await?,
        };
        let (connection, driver) =
            Connection::new(stream, version).await.map_err(|source| self.broken(source))?;
        // An error here is also the error of the request under way, which reports it.
        self.drain.spawn(async move {
            let _ = driver.await;
        });
        Ok(connection)
    }

    fn broken(&self, source: hyper::Error) -> Refusal {
        Refusal::Broken { destination: self.to_string(), source }
    }
}

/// What makes a request anew.
struct Kept {
    head: Parts,
    replay: Replay,
}

impl Kept {
    fn again(self) -> Option<Request<RequestBody>> {
        let body = self.replay.next()?;
        Some(Request::from_parts(self.head, body))
    }
}

/// A request that goes to a connection that may have ended, and itself again as far as its body can be kept. Over
/// HTTP/2, where the end of a connection is heard of at once, only one without a body.
fn keep(request: Request<RequestBody>, version: HttpVersion) -> (Request<RequestBody>, Option<Kept>) {
    if version == HttpVersion::Http2 && !request.body().is_end_stream() {
        return (request, None);
    }
    let (head, body) = request.into_parts();
    let (replay, _) = Replay::new(body);
    let body = replay.next().unwrap_or(RequestBody::Empty);
    (Request::from_parts(head.clone(), body), Some(Kept { head, replay }))
}

/// Greets as a client of HTTP/2. A server's first frame is its SETTINGS (RFC 9113, 3.4); any other answer is none.
async fn speaks_http2(stream: &mut TcpStream) -> io::Result<bool> {
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    stream.write_all(&[PREFACE, &SETTINGS].concat()).await?;
    let mut head = [0; 9];
    stream.read_exact(&mut head).await?;
    let [_, _, _, kind, _, stream @ ..] = head;
    Ok(kind == 4 && stream == [0; 4])
}

impl fmt::Display for AppLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the app at {}", self.addr.get())
    }
}

fn lock<T>(mutex: &SyncMutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while holding it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
