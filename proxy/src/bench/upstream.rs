//! A service whose latency and concurrency are known, and that counts what reaches it.
//!
//! It speaks HTTP/1.1 and HTTP/2 with prior knowledge, in plaintext, and answers every request alike: after a time drawn
//! from its [`LatencyModel`], once one of its slots is free. It must not know who measures it.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, oneshot};

use super::result;
use super::timer::{Alarm, Alarms};
use connections::Connections;
pub use latency::{LatencyModel, NoLatencyModel};
use requests::Requests;
use slots::Slots;

mod connections;
mod latency;
mod requests;
mod slots;
#[cfg(test)]
mod tests;

/// Connections held at a time; others wait in the kernel's backlog.
const MAX_CONNECTIONS: usize = 8192;
/// Longest body sent or read, in bytes.
const MAX_BODY: u32 = 16 * 1024 * 1024;
/// Longest head of a request, in bytes.
const MAX_HEAD: usize = 64 * 1024;
/// Streams of one HTTP/2 connection: far above what a sidecar asks for.
const MAX_STREAMS: u32 = 4096;
/// Connections that the kernel keeps ready to be accepted.
const BACKLOG: i32 = 4096;
/// Pause after a failed accept, which mostly means that there are no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
/// The same latencies in the same order each time.
const SEED: u64 = 0x706f_7274;

/// How the service behaves.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Time to answer a request, once it is worked on.
    pub latency: LatencyModel,
    /// Requests worked on at a time; the others wait, first in first out. `None`: all at once.
    pub concurrency: Option<u32>,
    /// Length of each answer's body, in bytes; at most 16 MiB.
    pub body: u32,
}

/// The service, on a thread of its own, until dropped.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub addr: SocketAddr,
    connections: Arc<Connections>,
    requests: Arc<Requests>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// Begins to listen and serve.
    ///
    /// # Errors
    ///
    /// The address cannot be listened on, the service is one without slots or with too long a body, or the system has no
    /// thread or descriptor left.
    pub fn start(service: &Service, listen: SocketAddr) -> io::Result<Self> {
        let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what);
        if service.body > MAX_BODY {
            return Err(wrong("the upstream's body is longer than 16 MiB: choose a shorter one"));
        }
        let slots = Slots::new(service.concurrency);
        let slots =
            slots.ok_or_else(|| wrong("an upstream with concurrency 0 never answers: choose 1 or more"))?;
        let worker = Arc::new(Worker {
            latency: service.latency.clone(),
            random: std::sync::Mutex::new(StdRng::seed_from_u64(SEED)),
            slots,
            alarms: Alarms::default(),
            body: Bytes::from(vec![b'x'; usize::try_from(service.body).unwrap_or(0)]),
            requests: Arc::default(),
        });
        let connections = Arc::<Connections>::default();
        let requests = worker.requests.clone();
        let (stop, stopped) = oneshot::channel();
        let seen = connections.clone();
        // The runtime is made, entered and dropped on its own thread: the caller may be inside another one.
        let (ready, started) = std::sync::mpsc::sync_channel(1);
        let serve = move || {
            let begun = begin(listen).map(|(runtime, listener, alarm, addr)| {
                // Whoever started it waits for this.
                let _ = ready.send(Ok(addr));
                runtime.block_on(async move {
                    tokio::select! {
                        _ = worker.alarms.run(alarm) => {}
                        () = accept(&listener, &worker, &seen) => {}
                        _ = stopped => {}
                    }
                });
            });
            let _ = begun.map_err(|error| ready.send(Err(error)));
        };
        let thread = std::thread::Builder::new().name("bench-upstream".into()).spawn(serve)?;
        let ended = || io::Error::other("the upstream's thread ended before it listened");
        let addr = started.recv().map_err(|_| ended())??;
        Ok(Self { addr, connections, requests, stop: Some(stop), thread: Some(thread) })
    }

    /// Forgets what was seen so far: a new measurement begins. Peaks begin at what is open and under way now.
    pub fn measure(&self) {
        self.requests.measure();
        self.connections.measure();
    }

    /// What was seen since [`Running::measure`].
    #[must_use]
    pub fn seen(&self) -> result::Upstream {
        self.requests.seen()
    }

    /// Mean number of requests under way since [`Running::measure`], each instant weighing the same: what Little's
    /// law says is arrival rate times mean time.
    #[must_use]
    pub fn mean_requests(&self) -> f64 {
        self.requests.mean_under_way()
    }

    /// Connections open now.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connections.open()
    }

    /// Most connections open at any instant since [`Running::measure`]. One that the other side has closed before a new
    /// one was accepted does not count beside that.
    #[must_use]
    pub fn peak_connections(&self) -> u64 {
        self.connections.peak()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        // A thread that panicked has said so already.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn begin(listen: SocketAddr) -> io::Result<(Runtime, TcpListener, Alarm, SocketAddr)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (listener, alarm) = runtime.block_on(async { io::Result::Ok((bind(listen)?, Alarm::new()?)) })?;
    let addr = listener.local_addr()?;
    Ok((runtime, listener, alarm, addr))
}

fn bind(listen: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(listen), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&listen.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

async fn accept(listener: &TcpListener, worker: &Arc<Worker>, connections: &Arc<Connections>) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Ok(permit) = permits.clone().acquire_owned().await {
        let accepted = match listener.accept().await {
            Ok((stream, _)) => stream.into_std(),
            Err(error) => Err(error),
        };
        let counted = accepted.and_then(|stream| {
            stream.set_nodelay(true)?;
            connections.count(stream)
        });
        let Ok((stream, open)) = counted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Ok(stream) = TcpStream::from_std(stream) else { continue };
        let worker = worker.clone();
        tokio::spawn(async move {
            serve(stream, worker).await;
            drop(open);
            drop(permit);
        });
    }
}

async fn serve(stream: TcpStream, worker: Arc<Worker>) {
    let service = service_fn(move |request| {
        let worker = worker.clone();
        async move { worker.answer(request).await }
    });
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(MAX_HEAD);
    server
        .http2()
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX));
    let connection = pin!(server.serve_connection(TokioIo::new(stream), service));
    // How a client leaves is its own affair; requests that it left behind are not counted as answered.
    let _ = connection.await;
}

/// The answer to a request that is not worked on.
fn turned_away(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

struct Worker {
    latency: LatencyModel,
    random: std::sync::Mutex<StdRng>,
    slots: Slots,
    alarms: Alarms,
    body: Bytes,
    requests: Arc<Requests>,
}

impl Worker {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let under_way = self.requests.begin();
        let limit = usize::try_from(MAX_BODY).unwrap_or(usize::MAX);
        let mut body = Limited::new(request.into_body(), limit);
        while let Some(frame) = body.frame().await {
            if let Err(error) = frame {
                let too_long = error.is::<LengthLimitError>();
                let status = if too_long { StatusCode::PAYLOAD_TOO_LARGE } else { StatusCode::BAD_REQUEST };
                return Ok(turned_away(status));
            }
        }
        let mut slot = self.slots.take().await;
        let time = {
            let mut random = self.random.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            self.latency.sample(&mut *random)
        };
        let done = slot.since() + time;
        self.alarms.until(done).await;
        slot.free_since(done);
        drop(slot);
        under_way.answered();
        Ok(Response::new(Full::new(self.body.clone())))
    }
}
