//! Accept loops: a permit before each accept; when the system has no more descriptors, connections are shed.
//!
//! Knows nothing of TLS or policy; it hands on an [`Accepted`] and forgets it.

use std::fs::File;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use tokio_util::either::Either;

use crate::addr::ClientAddr;
use crate::drain::Drain;
use crate::throttle::Throttle;

const BACKLOG: i32 = 1024;
const SPARES: usize = 2;
const FIRST_BACKOFF: Duration = Duration::from_millis(5);
/// Service is back this soon after descriptors are.
const LONGEST_BACKOFF: Duration = Duration::from_millis(100);
/// A peer that vanished without a word is noticed after about two minutes.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);

/// One accepted connection. The permit goes back when it is dropped.
pub struct Accepted {
    /// The socket, with `TCP_NODELAY` and keepalive set.
    pub stream: TcpStream,
    /// Who connected.
    pub client: ClientAddr,
    permit: OwnedSemaphorePermit,
}

impl Accepted {
    /// The socket, and what must be kept for as long as the connection lives.
    pub fn into_parts(self) -> (TcpStream, ClientAddr, OwnedSemaphorePermit) {
        (self.stream, self.client, self.permit)
    }
}

/// Binds a listener with `SO_REUSEADDR`; an IPv6 one takes IPv6 alone.
///
/// # Errors
/// Those of the system; the caller names the address.
pub fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Sets what every TCP socket of the data path has: no Nagle delay, and keepalive.
pub fn tune(stream: &TcpStream) {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    // Both fail only on a socket that is already dead; the next read says so.
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

/// Makes the close that follows a reset (RST), so that the peer cannot take it for a normal end.
pub fn reset_on_close(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Takes [`reset_on_close`] back: the connection ends in order from here on.
pub fn close_in_order(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(None);
}

/// A stream of bytes that a TCP socket carries.
pub trait OverTcp {
    /// The socket underneath.
    fn tcp(&self) -> &TcpStream;
}

impl OverTcp for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl OverTcp for tokio_rustls::server::TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

impl OverTcp for tokio_rustls::client::TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

impl<L: OverTcp, R: OverTcp> OverTcp for Either<L, R> {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Left(stream) => stream.tcp(),
            Self::Right(stream) => stream.tcp(),
        }
    }
}

/// Accepts until the drain begins; each connection runs as a task of the drain.
pub async fn accept_loop<H, F>(listener: TcpListener, permits: Arc<Semaphore>, drain: Drain, handler: H)
where
    H: Fn(Accepted) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let log = Throttle::new(1);
    let mut backoff = FIRST_BACKOFF;
    let mut spares = Spares::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &permits) => accepted,
            () = drain.begun() => return,
        };
        match accepted {
            Ok(accepted) => {
                backoff = FIRST_BACKOFF;
                spares.fill();
                drain.spawn(handler(accepted));
            }
            Err(error) if is_the_clients(&error) => {}
            Err(error) => {
                if let Some(unsaid) = log.pass() {
                    tracing::warn!(%error, unsaid, "cannot accept connections: raise the limit on open files");
                }
                if spares.let_one_go() {
                    shed(&listener).await;
                }
                spares.fill();
                tokio::select! {
                    () = tokio::time::sleep(backoff) => {}
                    () = drain.begun() => return,
                }
                backoff = (backoff * 2).min(LONGEST_BACKOFF);
            }
        }
    }
}

/// Descriptors held back, so that there is one to shed connections with when the system has no more. Several, because
/// somebody else may be quicker to take the one that is let go.
struct Spares(Vec<File>);

impl Spares {
    fn new() -> Self {
        let mut spares = Self(Vec::new());
        spares.fill();
        spares
    }

    fn fill(&mut self) {
        while self.0.len() < SPARES {
            let Ok(spare) = File::open("/dev/null") else { return };
            self.0.push(spare);
        }
    }

    fn let_one_go(&mut self) -> bool {
        self.0.pop().is_some()
    }
}

/// Resets what waits to be accepted, instead of letting it hang until its own deadline.
async fn shed(listener: &TcpListener) {
    loop {
        tokio::select! {
            biased;
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => reset_on_close(&stream),
                Err(_) => return,
            },
            () = std::future::ready(()) => return,
        }
    }
}

async fn accept(listener: &TcpListener, permits: &Arc<Semaphore>) -> io::Result<Accepted> {
    let permit = Arc::clone(permits).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, client) = listener.accept().await?;
    tune(&stream);
    Ok(Accepted { stream, client: ClientAddr::new(client), permit })
}

/// Errors of one connection that died in the backlog, not of the listener (accept(2), "Error handling").
fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}
