//! Apps of a host that call through its sidecar: many at once, each with a connection of its own that it can drop at
//! any moment, and what the sidecar says of its pools meanwhile.
#![allow(clippy::expect_used, reason = "a test that cannot be set up has failed, and says at what")]

use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::sockopt::ReceiveTimestampns;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt};
use nix::sys::time::TimeSpec;
use portcullis::demo::lab::Host;
use portcullis::demo::programs::APP_USER;
use portcullis::status::{PoolStatus, Status};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::as_user;
use crate::message::Message;

/// For any one answer, and for any condition to come true.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at a condition: enough for others to work.
const LOOK: Duration = Duration::from_millis(2);
const ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 15000);

/// An HTTP/1.1 client that keeps its connection, and makes a new one when that has ended.
pub struct Caller {
    to: SocketAddr,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

/// Runs `job` in the network of a host as its app, on one thread.
///
/// # Panics
/// As `job` does.
pub fn as_app<T: Send>(host: &Host, job: impl AsyncFnOnce() -> T + Send) -> T {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("the limit of descriptors");
    setrlimit(Resource::RLIMIT_NOFILE, most, most).expect("enough descriptors");
    let run = || {
        as_user(APP_USER, || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async { job().await })
        })
    };
    host.in_namespace(run).expect("the network of a host")
}

impl Caller {
    /// Nothing is connected yet.
    #[must_use]
    pub fn new(to: SocketAddr) -> Self {
        Self { to, stream: None, buffer: Vec::new() }
    }

    /// Connects, unless it is.
    ///
    /// # Errors
    /// Why it cannot.
    pub async fn connect(&mut self) -> io::Result<&mut TcpStream> {
        let stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                self.buffer.clear();
                let stream = timeout(PATIENCE, TcpStream::connect(self.to)).await??;
                stream.set_nodelay(true)?;
                setsockopt(&stream, ReceiveTimestampns, &true)?;
                stream
            }
        };
        Ok(self.stream.insert(stream))
    }

    /// Sends a request. With a body it is a POST.
    ///
    /// # Errors
    /// Why it cannot.
    pub async fn send(&mut self, target: &str, body: &str) -> io::Result<()> {
        let (to, length) = (self.to, body.len());
        let stream = self.connect().await?;
        let head = match body {
            "" => format!("GET {target} HTTP/1.1\r\nhost: {to}\r\n\r\n"),
            _ => format!("POST {target} HTTP/1.1\r\nhost: {to}\r\ncontent-length: {length}\r\n\r\n{body}"),
        };
        stream.write_all(head.as_bytes()).await
    }

    /// The answer to the request that was sent.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn answer(&mut self) -> io::Result<Message> {
        let mut stream = self.stream.take().ok_or(io::ErrorKind::NotConnected)?;
        let answer = timeout(PATIENCE, Message::read(&mut stream, &mut self.buffer)).await??;
        if answer.field("connection") != Some("close") {
            self.stream = Some(stream);
        }
        Ok(answer)
    }

    /// Waits until the answer begins to arrive, and says when its first bytes came to this host, on the machine's clock:
    /// as the kernel saw it, whatever the caller was doing meanwhile.
    ///
    /// # Errors
    /// Why nothing arrives.
    pub async fn arrival(&self) -> io::Result<Duration> {
        let stream = self.stream.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        timeout(PATIENCE, stream.async_io(Interest::READABLE, || stamp(stream))).await?
    }

    /// A request that must succeed.
    ///
    /// # Errors
    /// Why it did not, for people: the other answer's body, or what became of the connection.
    pub async fn succeed(&mut self, target: &str, body: &str) -> Result<(), String> {
        self.send(target, body).await.map_err(|error| format!("sending: {error}"))?;
        match self.answer().await {
            Ok(answer) if answer.word() == "200" => Ok(()),
            Ok(answer) => Err(format!("{}: {}", answer.start, answer.text())),
            Err(error) => Err(format!("no answer: {error}")),
        }
    }

    /// A request and its answer.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn get(&mut self, target: &str) -> io::Result<Message> {
        self.send(target, "").await?;
        self.answer().await
    }
}

/// When the first byte that waits to be read arrived (SO_TIMESTAMPNS, socket(7)); it goes on waiting.
fn stamp(stream: &TcpStream) -> io::Result<Duration> {
    let (mut byte, mut control) = ([0], nix::cmsg_space!(TimeSpec));
    let mut parts = [IoSliceMut::new(&mut byte)];
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_PEEK)?;
    let stamp = message.cmsgs()?.find_map(|control| {
        let ControlMessageOwned::ScmTimestampns(at) = control else { return None };
        Some(Duration::from(at))
    });
    stamp.ok_or_else(|| io::Error::other("the kernel says not when it arrived"))
}

/// The pool of a destination, of the sidecar in whose network this runs; one that was never used is empty.
///
/// # Panics
/// When the sidecar does not say.
pub async fn pool(destination: &str) -> PoolStatus {
    let answer = Caller::new(ADMIN).get("/status").await.expect("the sidecar's status");
    let status: Status = serde_json::from_slice(&answer.body).expect("a status");
    let pool = status.pools.into_iter().find(|pool| pool.destination == destination);
    pool.unwrap_or_else(|| PoolStatus {
        destination: destination.to_owned(),
        connections: 0,
        idle: 0,
        active: 0,
        waiting: 0,
        max_connections: None,
        max_pending: None,
        max_requests: None,
        ejected: Vec::new(),
    })
}

/// Asks again until there is an answer.
///
/// # Panics
/// When there is none within [`PATIENCE`].
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let give_up = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < give_up, "{what}: not within {PATIENCE:?}");
        sleep(LOOK).await;
    }
}
