//! Servers that count what reaches them, exactly: how many connections are open at an instant is for them to say,
//! not for the proxy. Each runs in the network of its host, on a thread of its own.
#![allow(clippy::expect_used, reason = "a test that cannot be set up has failed, and says at what")]

use std::collections::HashSet;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use portcullis::demo::lab::Host;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::message::Message;

/// For the rest of a request whose beginning has come.
const PATIENCE: Duration = Duration::from_secs(30);
/// What the kernel calls a connection that neither side has closed (`TCP_ESTABLISHED`).
const ESTABLISHED: &str = "01";

/// What a server has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Connections from accept to close.
    pub open: u64,
    /// Most of them at an instant. One that its client has closed is none, though the server may not have heard of
    /// it yet: the kernel is asked at each new height.
    pub peak: u64,
    /// Connections there ever were.
    pub accepted: u64,
    /// Requests that are not answered yet.
    pub under_way: u64,
    /// Most of them at an instant.
    pub most_under_way: u64,
    /// Answers written.
    pub answered: u64,
    /// From the last byte of a request to the last of its answer, of all together.
    pub service: Duration,
}

/// What a server does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Work {
    /// Answers HTTP/1.1 requests: `?ms=N` after so long, `?hold` when the gate is open. A target under `/n/` is
    /// remembered.
    #[default]
    Http,
    /// The same, and a connection that is silent for so long is closed.
    HttpClosing(Duration),
    /// Sends back what it gets.
    Echo,
    /// Passes connections on to another server, once the gate is open.
    Relay(SocketAddr),
}

/// See the module. It serves until it is dropped, which cuts off all connections.
pub struct CountingServer {
    /// Where it listens.
    pub addr: SocketAddr,
    shared: Arc<Shared>,
    gate: watch::Sender<bool>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    numbers: Mutex<Numbers>,
    remembered: Mutex<Vec<String>>,
}

impl CountingServer {
    /// Listens on a host, with an open gate.
    ///
    /// # Panics
    /// When the port is taken.
    #[must_use]
    pub fn start(host: &Host, port: u16, work: Work) -> Self {
        let addr = SocketAddr::from((IpAddr::from(host.ipv4()), port));
        let shared = Arc::<Shared>::default();
        let (gate, gate_seen) = watch::channel(true);
        let (stop, mut stopped) = watch::channel(false);
        let (ready, listening) = std::sync::mpsc::channel();
        let (host, counting) = (host.clone(), Arc::clone(&shared));
        let thread = std::thread::spawn(move || {
            let serve = || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.expect("a runtime").block_on(async {
                    let listener = TcpListener::bind(addr).await.expect("a port");
                    ready.send(()).expect("somebody who waits");
                    tokio::select! {
                        () = accept(listener, &counting, work, &gate_seen) => {}
                        _ = stopped.wait_for(|stop| *stop) => {}
                    }
                });
            };
            host.in_namespace(serve).expect("the network of a host");
        });
        listening.recv().expect("a server that listens");
        Self { addr, shared, gate, stop, thread: Some(thread) }
    }

    /// What it has seen until now.
    #[must_use]
    pub fn numbers(&self) -> Numbers {
        *self.shared.numbers()
    }

    /// What it has seen until now; it begins new peaks, at what there is at the moment.
    pub fn begin_peaks(&self) -> Numbers {
        let mut numbers = self.shared.numbers();
        let before = *numbers;
        numbers.peak = numbers.open;
        numbers.most_under_way = numbers.under_way;
        before
    }

    /// Targets under `/n/` of which at least the head was read, in this order.
    #[must_use]
    pub fn remembered(&self) -> Vec<String> {
        self.shared.remembered.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Cuts off all connections; the port is free afterwards.
    pub fn stop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // Its panic has been printed, and the test has other ways to fail.
            let _panicked = thread.join();
        }
    }

    /// Opens the gate for what waits there and comes later, or closes it for what comes.
    pub fn set_gate(&self, open: bool) {
        self.gate.send_replace(open);
    }
}

impl Drop for CountingServer {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        // Every change is one of plain numbers.
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, line: &str) {
        if let Some(target) = line.split(' ').nth(1).filter(|target| target.starts_with("/n/")) {
            self.remembered.lock().unwrap_or_else(PoisonError::into_inner).push(target.to_owned());
        }
    }
}

async fn accept(listener: TcpListener, shared: &Arc<Shared>, work: Work, gate: &watch::Receiver<bool>) {
    let port = listener.local_addr().map_or(0, |addr| addr.port());
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // A client that is gone before it was accepted.
                let Ok((stream, _)) = accepted else { continue };
                let open = Open::count(shared, port);
                connections.spawn(serve(stream, open, work, gate.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// A connection, counted from its making to its end.
struct Open(Arc<Shared>);

impl Open {
    fn count(shared: &Arc<Shared>, port: u16) -> Self {
        let mut numbers = shared.numbers();
        numbers.accepted += 1;
        numbers.open += 1;
        if numbers.open > numbers.peak {
            let own = format!(":{port:04X}");
            let established = established(|end, _| end.ends_with(&own)).expect("the kernel's connections");
            numbers.peak = numbers.peak.max(established as u64);
        }
        drop(numbers);
        Self(Arc::clone(shared))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.numbers().open -= 1;
    }
}

/// A request that is not answered, counted.
struct UnderWay(Arc<Shared>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.numbers().under_way -= 1;
    }
}

/// How many connections of this thread's network neither side has closed, all at the same instant, of those whose
/// two ends, own and other, are `wanted`. The kernel writes an end as `ADDRESS:PORT` in hexadecimal.
///
/// # Errors
/// When the kernel's table cannot be read.
pub fn established(wanted: impl Fn(&str, &str) -> bool) -> io::Result<usize> {
    let look = || {
        let table = fs::read_to_string("/proc/thread-self/net/tcp")?;
        let ends = |line: &str| {
            let mut words = line.split_whitespace().skip(1);
            let (own, other, state) = (words.next()?, words.next()?, words.next()?);
            (state == ESTABLISHED && wanted(own, other)).then(|| format!("{own} {other}"))
        };
        Ok::<HashSet<String>, io::Error>(table.lines().filter_map(ends).collect())
    };
    // The table is no snapshot, and may show a connection twice. Who is in it at two looks was there between them.
    let before = look()?;
    Ok(look()?.intersection(&before).count())
}

async fn serve(mut stream: TcpStream, open: Open, work: Work, mut gate: watch::Receiver<bool>) {
    // However it ends: the client may be gone at any moment.
    let _end = match work {
        Work::Http => http(&mut stream, &open.0, PATIENCE * 10, &mut gate).await,
        Work::HttpClosing(silence) => http(&mut stream, &open.0, silence, &mut gate).await,
        Work::Echo => {
            let (mut from, mut to) = stream.split();
            tokio::io::copy(&mut from, &mut to).await.map(drop)
        }
        Work::Relay(to) => relay(&mut stream, to, &mut gate).await,
    };
    // Closed, then counted as closed: a client that has seen the end may have the next one open already.
    drop(open);
    drop(stream);
}

async fn relay(stream: &mut TcpStream, to: SocketAddr, gate: &mut watch::Receiver<bool>) -> io::Result<()> {
    pass(gate).await;
    let mut server = TcpStream::connect(to).await?;
    for end in [&*stream, &server] {
        end.set_nodelay(true)?;
    }
    copy_bidirectional(stream, &mut server).await.map(drop)
}

async fn http(
    stream: &mut TcpStream,
    shared: &Arc<Shared>,
    silence: Duration,
    gate: &mut watch::Receiver<bool>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    // As servers have it, a connection without an exchange yet may take its time.
    let mut patience = PATIENCE * 10;
    loop {
        if buffer.is_empty() {
            match timeout(patience, stream.read_buf(&mut buffer)).await {
                Ok(Ok(1..)) => {}
                Ok(Ok(0)) | Err(_) => return Ok(()),
                Ok(Err(error)) => return Err(error),
            }
        }
        let read = timeout(PATIENCE, Message::read(stream, &mut buffer)).await?;
        let request = read.inspect_err(|_| shared.remember(&String::from_utf8_lossy(&buffer)))?;
        shared.remember(&request.start);
        let begun = Instant::now();
        let under_way = UnderWay::begin(shared);
        let (path, query) = request.word().split_once('?').unwrap_or((request.word(), ""));
        tokio::select! {
            () = work(query, gate) => {}
            () = gone(stream) => return Ok(()),
        }
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{path}", path.len());
        // Before the bytes are away: whoever has the answer finds it counted.
        drop(under_way);
        {
            let mut numbers = shared.numbers();
            numbers.answered += 1;
            numbers.service += begun.elapsed();
        }
        stream.write_all(answer.as_bytes()).await?;
        patience = silence;
    }
}

impl UnderWay {
    fn begin(shared: &Arc<Shared>) -> Self {
        let mut numbers = shared.numbers();
        numbers.under_way += 1;
        numbers.most_under_way = numbers.most_under_way.max(numbers.under_way);
        drop(numbers);
        Self(Arc::clone(shared))
    }
}

/// What a query asks for.
async fn work(query: &str, gate: &mut watch::Receiver<bool>) {
    if query == "hold" {
        pass(gate).await;
    }
    if let Some(ms) = query.strip_prefix("ms=").and_then(|ms| ms.parse().ok()) {
        sleep(Duration::from_millis(ms)).await;
    }
}

/// Until the client has closed its side, which no client of these tests does that still wants an answer.
async fn gone(stream: &TcpStream) {
    if let Ok(1..) = stream.peek(&mut [0]).await {
        std::future::pending::<()>().await;
    }
}

async fn pass(gate: &mut watch::Receiver<bool>) {
    // An error means that the server is being stopped.
    let _stopped = gate.wait_for(|open| *open).await;
}
