//! A service that keeps what it was asked, and answers as a test says.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};

/// One request, read to its end.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) method: Method,
    pub(super) target: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

pub(super) struct Server {
    pub(super) addr: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// What an HTTP/2 service says of a request that it does not answer.
#[derive(Debug, Clone, Copy)]
pub(super) enum Refuses {
    /// That it did nothing about it (RFC 9113, 8.7).
    Unprocessed,
    /// That it failed, at a point which nobody knows.
    HalfWay,
}

impl Server {
    /// Speaks HTTP/2, resets the first request, and answers the others with 200.
    pub(super) async fn refusing_first(how: Refuses) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let keeping = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let seen = Arc::clone(&keeping);
                let service = service_fn(move |request| {
                    let seen = Arc::clone(&seen);
                    async move {
                        match (keep(request, &seen).await, how) {
                            (1, Refuses::Unprocessed) => Err(h2::Error::from(h2::Reason::REFUSED_STREAM)),
                            (1, Refuses::HalfWay) => Err(h2::Error::from(h2::Reason::INTERNAL_ERROR)),
                            _ => Ok(answer(200)),
                        }
                    }
                });
                let builder = http2::Builder::new(TokioExecutor::new());
                tokio::spawn(builder.serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { addr, seen }
    }

    /// Answers request number n (from 1) with `answer(n)`.
    pub(super) async fn start<F>(answer: F) -> Self
    where
        F: Fn(usize) -> Response<Full<Bytes>> + Clone + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let keeping = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&keeping), answer.clone()));
            }
        });
        Self { addr, seen }
    }

    /// Answers everything with 200 and its own name.
    pub(super) async fn named(name: &'static str) -> Self {
        Self::start(move |_| Response::new(Full::from(name))).await
    }

    /// Answers everything with a status.
    pub(super) async fn with(status: u16) -> Self {
        Self::start(move |_| answer(status)).await
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

pub(super) fn answer(status: u16) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(status.to_string()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

async fn serve<F>(stream: TcpStream, seen: Arc<Mutex<Vec<Seen>>>, answer: F)
where
    F: Fn(usize) -> Response<Full<Bytes>> + Clone + Send + 'static,
{
    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let (seen, answer) = (Arc::clone(&seen), answer.clone());
        async move {
            let number = keep(request, &seen).await;
            Ok::<_, Infallible>(answer(number))
        }
    });
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// Reads a request to its end; its number.
async fn keep(request: http::Request<hyper::body::Incoming>, seen: &Mutex<Vec<Seen>>) -> usize {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let mut seen = seen.lock().unwrap();
    seen.push(Seen { method: head.method, target: head.uri.to_string(), headers: head.headers, body });
    seen.len()
}

/// Takes connections and what comes on them, and never says a word.
pub(super) async fn mute() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    addr
}

/// An address where nobody listens.
pub(super) async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}
