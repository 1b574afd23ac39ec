//! A tiny service to put behind a sidecar: it answers with what it saw of the request, the caller's identity
//! included, and echoes whatever is sent to it. It knows nothing of TLS, which is the point.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Parser;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::io::{AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Connections served at once, of all kinds together.
const MAX_CONNECTIONS: usize = 4096;
/// How long a client may take over the head of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest `/slow?ms=N`.
const MAX_DELAY_MS: u64 = 60_000;
/// Set by the sidecar; from anywhere else it says nothing.
const PEER_HEADER: &str = "x-forwarded-client-cert";

#[derive(Parser)]
#[command(about = "Answers HTTP/1.1 with what it saw; echoes POST bodies and raw TCP")]
struct Args {
    /// Where to serve HTTP/1.1
    #[arg(long)]
    listen: SocketAddr,
    /// The name in the answers
    #[arg(long, default_value = "hello-service")]
    name: String,
    /// Where to echo raw TCP
    #[arg(long, value_name = "ADDR")]
    tcp_echo: Option<SocketAddr>,
    /// Where to speak first, a banner line, and echo then
    #[arg(long, value_name = "ADDR")]
    tcp_greeting: Option<SocketAddr>,
}

struct Service {
    name: String,
    served: AtomicU64,
}

#[derive(Clone)]
enum Protocol {
    Http(Arc<Service>),
    Echo,
    Greeting(String),
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(never) => match never {},
        Err((address, error)) => {
            eprintln!("hello-service: cannot listen on {address}: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<Infallible, (SocketAddr, std::io::Error)> {
    let service = Arc::new(Service { name: args.name.clone(), served: AtomicU64::new(0) });
    let greeting = Protocol::Greeting(format!("220 {} speaks first\r\n", args.name));
    let wanted = [
        (Some(args.listen), "address", Protocol::Http(service)),
        (args.tcp_echo, "echo", Protocol::Echo),
        (args.tcp_greeting, "greeting", greeting),
    ];
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut ready = BTreeMap::from([("message", "ready".to_owned())]);
    for (address, field, protocol) in wanted {
        let Some(address) = address else { continue };
        let listener = TcpListener::bind(address).await.map_err(|error| (address, error))?;
        let bound = listener.local_addr().map_err(|error| (address, error))?;
        ready.insert(field, bound.to_string());
        tokio::spawn(accept(listener, protocol, permits.clone()));
    }
    eprintln!("{}", json!(ready));
    std::future::pending().await
}

async fn accept(listener: TcpListener, protocol: Protocol, permits: Arc<Semaphore>) {
    // The semaphore is never closed.
    while let Ok(permit) = permits.clone().acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, most likely: let some connections end.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let protocol = protocol.clone();
        tokio::spawn(async move {
            let _permit = permit;
            match protocol {
                Protocol::Http(service) => serve_http(stream, service).await,
                Protocol::Echo => echo(stream, "").await,
                Protocol::Greeting(banner) => echo(stream, &banner).await,
            }
        });
    }
}

async fn serve_http(stream: TcpStream, service: Arc<Service>) {
    let answer = service_fn(|request| {
        let service = service.clone();
        async move { Ok::<_, Infallible>(service.answer(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), answer);
    // The client going away in the middle is its own affair.
    let _ = connection.await;
}

/// Sends the banner, then everything back as it comes, and closes when the other side has.
async fn echo(mut stream: TcpStream, banner: &str) {
    if stream.write_all(banner.as_bytes()).await.is_err() {
        return;
    }
    let (mut reader, mut writer) = stream.split();
    if copy(&mut reader, &mut writer).await.is_ok() {
        let _ = writer.shutdown().await;
    }
}

type Body = BoxBody<Bytes, hyper::Error>;

impl Service {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        if request.uri().path() == "/count" {
            return text(StatusCode::OK, self.served.load(Ordering::SeqCst).to_string());
        }
        self.served.fetch_add(1, Ordering::SeqCst);
        if request.uri().path() == "/slow" {
            let Some(delay) = delay(request.uri().query()) else {
                return text(StatusCode::BAD_REQUEST, format!("wanted: /slow?ms=N, N up to {MAX_DELAY_MS}"));
            };
            tokio::time::sleep(delay).await;
        }
        if request.method() == Method::POST { echo_body(request) } else { self.describe(&request) }
    }

    fn describe(&self, request: &Request<Incoming>) -> Response<Body> {
        let header = |name: &str| request.headers().get(name).map(|v| String::from_utf8_lossy(v.as_bytes()));
        let mut headers = BTreeMap::<_, Vec<_>>::new();
        for (name, value) in request.headers() {
            headers.entry(name.as_str()).or_default().push(String::from_utf8_lossy(value.as_bytes()));
        }
        let headers: BTreeMap<_, _> = headers.into_iter().map(|(name, v)| (name, v.join(", "))).collect();
        let seen = json!({
            "service": self.name,
            "method": request.method().as_str(),
            "path": request.uri().path(),
            "peer": header(PEER_HEADER),
            "headers": headers,
        });
        let mut response = text(StatusCode::OK, format!("{seen}\n"));
        response
            .headers_mut()
            .insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
        response
    }
}

/// The body goes back as it arrives: a caller may read the beginning before it has sent the end.
fn echo_body(request: Request<Incoming>) -> Response<Body> {
    let content_type = request.headers().get(CONTENT_TYPE).cloned();
    let mut response = Response::new(request.into_body().boxed());
    if let Some(content_type) = content_type {
        response.headers_mut().insert(CONTENT_TYPE, content_type);
    }
    response
}

fn text(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Full::from(text).map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    response
}

fn delay(query: Option<&str>) -> Option<Duration> {
    let ms = query?.strip_prefix("ms=")?.parse().ok()?;
    (ms <= MAX_DELAY_MS).then(|| Duration::from_millis(ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_bounded() {
        assert_eq!(delay(Some("ms=250")), Some(Duration::from_millis(250)));
        assert_eq!(delay(Some("ms=60000")), Some(Duration::from_secs(60)));
        for bad in [None, Some(""), Some("ms="), Some("ms=60001"), Some("ms=-1"), Some("s=1")] {
            assert_eq!(delay(bad), None, "{bad:?}");
        }
    }
}
