//! An HTTP/1.1 server that does what a script says, and counts what it did. It runs on a thread of its own.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// What to do with a request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Act {
    /// Answer at once, with this status line and headers.
    Answer(&'static str),
    AnswerAfter(Duration),
    /// Close the connection after the answer, without a word.
    AnswerAndClose,
    /// A body of this many bytes.
    Body(usize),
    /// Nothing, until the client leaves.
    Hang,
    /// Close the connection, without an answer.
    Close(Duration),
    /// Send this, then close.
    Raw(&'static str),
}

/// A request, as the script sees it.
pub(super) struct Asked {
    /// Its number among all.
    pub(super) number: u64,
    /// Its number on its connection.
    pub(super) on_connection: u64,
    pub(super) head: String,
}

type Script = Arc<dyn Fn(&Asked) -> Act + Send + Sync>;

#[derive(Default)]
struct Seen {
    requests: u64,
    by_connection: BTreeMap<u64, u64>,
    done: BTreeMap<String, u64>,
    open: usize,
    most_open: usize,
}

pub(super) struct Scripted {
    pub(super) addr: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Scripted {
    pub(super) fn start(script: impl Fn(&Asked) -> Act + Send + Sync + 'static) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let seen = Arc::<Mutex<Seen>>::default();
        let accepting = accept(listener, Arc::new(script), seen.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = accepting => {}
                    _ = stopped => {}
                }
            });
        });
        Self { addr, seen, stop: Some(stop), thread: Some(thread) }
    }

    /// Requests that came.
    pub(super) fn seen(&self) -> u64 {
        self.seen.lock().unwrap().requests
    }

    /// How many of them were treated so.
    pub(super) fn done(&self, act: &str) -> u64 {
        self.seen.lock().unwrap().done.get(act).copied().unwrap_or(0)
    }

    pub(super) fn most_open(&self) -> usize {
        self.seen.lock().unwrap().most_open
    }

    pub(super) fn requests_by_connection(&self) -> Vec<u64> {
        self.seen.lock().unwrap().by_connection.values().copied().collect()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

async fn accept(listener: std::net::TcpListener, script: Script, seen: Arc<Mutex<Seen>>) {
    let listener = TcpListener::from_std(listener).unwrap();
    for connection in 0.. {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        {
            let mut seen = seen.lock().unwrap();
            seen.open += 1;
            seen.most_open = seen.most_open.max(seen.open);
        }
        let (script, seen) = (script.clone(), seen.clone());
        tokio::spawn(async move {
            // A client may leave whenever it likes.
            let _ = serve(stream, connection, &script, &seen).await;
            seen.lock().unwrap().open -= 1;
        });
    }
}

async fn serve(
    mut stream: TcpStream,
    connection: u64,
    script: &Script,
    seen: &Mutex<Seen>,
) -> io::Result<()> {
    for on_connection in 0.. {
        let head = read_head(&mut stream).await?;
        let act = {
            let mut seen = seen.lock().unwrap();
            let act = script(&Asked { number: seen.requests, on_connection, head });
            seen.requests += 1;
            *seen.by_connection.entry(connection).or_default() += 1;
            *seen.done.entry(name(act)).or_default() += 1;
            act
        };
        if !follow(&mut stream, act).await? {
            return Ok(());
        }
    }
    Ok(())
}

fn name(act: Act) -> String {
    match act {
        Act::Answer(status) => status,
        Act::AnswerAfter(_) | Act::AnswerAndClose | Act::Body(_) => "200 OK",
        Act::Hang => "hang",
        Act::Close(_) => "close",
        Act::Raw(_) => "raw",
    }
    .to_owned()
}

/// Whether the connection is kept.
async fn follow(stream: &mut TcpStream, act: Act) -> io::Result<bool> {
    match act {
        Act::Answer(status) => answer(stream, status, 0).await.map(|()| true),
        Act::AnswerAfter(time) => {
            tokio::time::sleep(time).await;
            answer(stream, "200 OK", 0).await.map(|()| true)
        }
        Act::AnswerAndClose => answer(stream, "200 OK", 0).await.map(|()| false),
        Act::Body(length) => answer(stream, "200 OK", length).await.map(|()| true),
        Act::Hang => stream.read_u8().await.map(|_| false),
        Act::Close(time) => {
            tokio::time::sleep(time).await;
            Ok(false)
        }
        Act::Raw(bytes) => stream.write_all(bytes.as_bytes()).await.map(|()| false),
    }
}

async fn answer(stream: &mut TcpStream, status: &str, length: usize) -> io::Result<()> {
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let piece = vec![b'x'; length.min(64 * 1024)];
    let mut left = length;
    while left > 0 {
        let now = left.min(piece.len());
        stream.write_all(&piece[..now]).await?;
        left -= now;
    }
    Ok(())
}

/// Reads up to and with the empty line. Nobody here sends ahead.
pub(super) async fn read_head(stream: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::with_capacity(512);
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(String::from_utf8(head).unwrap())
}
