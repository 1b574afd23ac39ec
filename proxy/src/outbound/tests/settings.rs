//! Fields of `connectionPool`, by what the server sees of them.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::outbound::testing::{Bed, destination, get, within};
use crate::route::{AppProtocol, Destination, H2Upgrade, OutboundPolicy, PoolLimits};

/// One connection, as the server has it.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    version: Option<Version>,
    requests: usize,
    at_once: usize,
    most_at_once: usize,
    ended: bool,
}

/// Speaks both versions; `/hold` is answered once `open`.
struct Server {
    addr: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    open: watch::Sender<bool>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (open, opened) = watch::channel(false);
        let keeping = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                keeping.lock().unwrap().push(Seen::default());
                let number = keeping.lock().unwrap().len() - 1;
                tokio::spawn(serve(stream, (Arc::clone(&keeping), number), opened.clone()));
            }
        });
        Self { addr, seen, open }
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    fn open_connections(&self) -> usize {
        self.seen().iter().filter(|seen| !seen.ended).count()
    }

    fn bed(&self, change: impl FnOnce(&mut Destination)) -> Bed {
        let mut api = destination("api", 80, &[self.addr]);
        change(&mut api);
        Bed::new(OutboundPolicy::new(vec![api], HashMap::new()))
    }

    fn limited(&self, protocol: AppProtocol, limits: PoolLimits) -> Bed {
        self.bed(|api| (api.protocol, api.limits) = (protocol, limits))
    }
}

async fn serve(
    stream: TcpStream,
    (all, number): (Arc<Mutex<Vec<Seen>>>, usize),
    opened: watch::Receiver<bool>,
) {
    let counting = Arc::clone(&all);
    let service = service_fn(move |request: Request<Incoming>| {
        let (all, mut opened) = (Arc::clone(&counting), opened.clone());
        async move {
            let change = |change: &dyn Fn(&mut Seen)| change(&mut all.lock().unwrap()[number]);
            change(&|seen| {
                seen.version = Some(request.version());
                seen.requests += 1;
                seen.at_once += 1;
                seen.most_at_once = seen.most_at_once.max(seen.at_once);
            });
            if request.uri().path() == "/hold" {
                let _ = opened.wait_for(|open| *open).await;
            }
            change(&|seen| seen.at_once -= 1);
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"ok"))))
        }
    });
    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
    all.lock().unwrap()[number].ended = true;
}

async fn until(done: impl Fn() -> bool) {
    within(async {
        while !done() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn max_requests_per_connection_counts_at_the_server() {
    for protocol in [AppProtocol::Http, AppProtocol::Http2] {
        let server = Server::start().await;
        let limits = PoolLimits { max_requests_per_connection: 3, ..PoolLimits::default() };
        let bed = server.limited(protocol, limits);
        for _ in 0..7 {
            assert_eq!(bed.ask(get("/")).await.status(), 200);
        }
        let carried: Vec<_> = server.seen().iter().map(|seen| seen.requests).collect();
        assert_eq!(carried, [3, 3, 1], "{protocol:?}");
        until(|| server.open_connections() == 1).await;
    }
}

#[tokio::test]
async fn max_concurrent_streams_bounds_each_connection_at_the_server() {
    for (most, connections) in [(4, 3), (u32::MAX, 1)] {
        let server = Server::start().await;
        let limits = PoolLimits { max_concurrent_streams: most, ..PoolLimits::default() };
        let bed = Arc::new(server.limited(AppProtocol::Http2, limits));
        let asking: Vec<_> = (0..10)
            .map(|_| {
                let bed = Arc::clone(&bed);
                tokio::spawn(async move { bed.ask(get("/hold")).await.status() })
            })
            .collect();
        until(|| server.seen().iter().map(|seen| seen.at_once).sum::<usize>() == 10).await;
        server.open.send_replace(true);
        for asked in asking {
            assert_eq!(asked.await.unwrap(), 200);
        }
        let seen = server.seen();
        assert_eq!(seen.len(), connections, "{seen:?}");
        assert!(seen.iter().all(|seen| seen.most_at_once <= most.try_into().unwrap()), "{seen:?}");
    }
}

#[tokio::test]
async fn the_version_that_the_server_sees_is_the_one_that_the_rule_wants() {
    use AppProtocol::{Http, Http2, HttpProxy, Undeclared};
    use H2Upgrade::{No, Yes};
    let (one, two) = (Version::HTTP_11, Version::HTTP_2);
    for (protocol, upgrade, use_client_protocol, asked_with_1, asked_with_2) in [
        (Http, No, false, one, one),
        (Http, Yes, false, two, two),
        (Http, Yes, true, one, two),
        (Http, No, true, one, two),
        (Http2, No, false, two, two),
        (Http2, No, true, one, two),
        (Undeclared, No, false, one, two),
        (Undeclared, Yes, false, two, two),
        (HttpProxy, Yes, false, one, one),
    ] {
        let server = Server::start().await;
        let bed = server.bed(|api| {
            (api.protocol, api.h2_upgrade, api.use_client_protocol) =
                (protocol, upgrade, use_client_protocol);
        });
        let seen = || server.seen().last().unwrap().version;
        let case = format!("{protocol:?} {upgrade:?} {use_client_protocol}");
        assert_eq!(bed.ask(get("/")).await.status(), 200);
        assert_eq!(seen(), Some(asked_with_1), "{case}");
        let before = server.seen().len();
        assert_eq!(bed.ask_http2(get("/")).await.status(), 200);
        let version = if server.seen().len() == before { server.seen()[0].version } else { seen() };
        assert_eq!(version, Some(asked_with_2), "{case}");
    }
}

#[tokio::test]
async fn the_server_sees_an_idle_connection_end_in_time_and_one_in_use_stay() {
    for protocol in [AppProtocol::Http, AppProtocol::Http2] {
        let server = Server::start().await;
        let limit = Duration::from_millis(200);
        let limits = PoolLimits { http_idle_timeout: Some(limit), ..PoolLimits::default() };
        let bed = Arc::new(server.limited(protocol, limits));
        let asking = Arc::clone(&bed);
        let held = tokio::spawn(async move { asking.ask(get("/hold")).await });
        until(|| server.open_connections() == 1).await;
        tokio::time::sleep(limit * 2).await;
        bed.outbound.pools.sweep(1);
        assert_eq!(server.open_connections(), 1, "control: a request is under way");
        server.open.send_replace(true);
        held.await.unwrap();
        bed.outbound.pools.sweep(1);
        assert_eq!(bed.outbound.pools.status()[0].connections, 1, "control: not idle for long enough");
        until(|| {
            bed.outbound.pools.sweep(1);
            server.open_connections() == 0
        })
        .await;
    }
}

#[tokio::test]
async fn the_server_sees_an_old_connection_end_and_the_request_on_it_answered() {
    for protocol in [AppProtocol::Http, AppProtocol::Http2] {
        let server = Server::start().await;
        let limit = Duration::from_millis(200);
        let limits = PoolLimits { max_connection_duration: Some(limit), ..PoolLimits::default() };
        let bed = Arc::new(server.limited(protocol, limits));
        let asking = Arc::clone(&bed);
        let held = tokio::spawn(async move { asking.ask(get("/hold")).await.status() });
        until(|| server.seen().iter().any(|seen| seen.at_once == 1)).await;
        tokio::time::sleep(limit * 2).await;
        assert_eq!(bed.ask(get("/")).await.status(), 200);
        assert_eq!((server.seen().len(), server.open_connections()), (2, 2), "{protocol:?}");
        server.open.send_replace(true);
        assert_eq!(held.await.unwrap(), 200, "what is under way is finished");
        until(|| server.seen()[0].ended).await;
    }
}
