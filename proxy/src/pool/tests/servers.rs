//! Servers that count their connections, and the pools that are let loose on them.

use std::collections::HashSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::drain::Drain;
use crate::metrics::Metrics;
use crate::pool::{Answer, Failed, Pools};
use crate::protocol::body::RequestBody;
use crate::route::{Destination, EndpointAddr, HttpVersion, PoolLimits, TransportPlan, testing};
use crate::tls::testing::{Mesh, bundles, leaf_params};
use crate::tls::{self, Alpn, ExpectedPeer, Identity, MinVersion};
use crate::upstream::{Dialler, Names, Target};

const WEB: &str = "spiffe://cluster.local/ns/production/sa/web";
pub(super) const API: &str = "spiffe://cluster.local/ns/production/sa/api";
/// Nothing here takes as long.
pub(super) const LONG: Duration = Duration::from_secs(20);

/// What a server has seen.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) open: AtomicUsize,
    accepted: AtomicUsize,
    requests: AtomicUsize,
}

impl Seen {
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    pub(super) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    pub(super) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

/// The most connections that were open at one moment, at all servers together.
#[derive(Default)]
struct Most {
    accepted: Mutex<HashSet<(u16, u16)>>,
    most: AtomicUsize,
}

impl Most {
    /// Counts at the moment of an accept: whatever was accepted before and is established after it was open then.
    /// The kernel is asked, because a server's task may learn later of a close that came before; and asked again
    /// before a record is believed, because under load the end of a connection may be on its way inside the kernel.
    fn accepted(&self, server: SocketAddr, client: SocketAddr) {
        let mut accepted = self.accepted.lock().unwrap();
        accepted.insert((server.port(), client.port()));
        let most = self.most.load(Ordering::SeqCst);
        let looks = (0..30).map(|_| established(&accepted));
        let mut open = usize::MAX;
        for look in looks {
            open = open.min(look);
            if open <= most {
                return;
            }
        }
        self.most.fetch_max(open, Ordering::SeqCst);
    }
}

/// Those of `ports` (server, client) that are established, from the server's side.
fn established(ports: &HashSet<(u16, u16)>) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let port = |field: &str| u16::from_str_radix(field.rsplit(':').next().unwrap(), 16).unwrap();
    let rows = table.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
    let established = rows.filter(|row| row[3] == "01").map(|row| (port(row[1]), port(row[2])));
    established.filter(|found| ports.contains(found)).count()
}

/// A client, an authority, and servers.
pub(super) struct World {
    pub(super) mesh: Mesh,
    pub(super) identity: Identity,
    pub(super) pools: Pools,
    pub(super) drain: Drain,
    most: Arc<Most>,
}

/// One server.
pub(super) struct Server {
    pub(super) addr: SocketAddr,
    pub(super) seen: Arc<Seen>,
    /// `/hold` answers while it is true.
    pub(super) open: watch::Sender<bool>,
    /// Ends all its connections at once.
    pub(super) cut: watch::Sender<u64>,
    /// Ends all its connections in order: GOAWAY, or `Connection: close`.
    pub(super) leave: watch::Sender<u64>,
}

impl World {
    pub(super) fn new() -> Self {
        let mesh = Mesh::new();
        let identity = mesh.identity(WEB);
        let dialler = Dialler { policy_clock: mesh.clock.clock() };
        let names = Names::with_resolver(None);
        let drain = Drain::new();
        let pools = Pools::new(dialler, names, Arc::new(Metrics::new()), drain.clone());
        Self { mesh, identity, pools, drain, most: Arc::default() }
    }

    /// The most connections that were open at one moment.
    pub(super) fn most(&self) -> usize {
        self.most.most.load(Ordering::SeqCst)
    }

    /// The same client after a renewal.
    pub(super) fn renewed(&self, generation: u64) -> Identity {
        let svid = Arc::new(self.mesh.intermediate.leaf(&leaf_params(WEB)).svid(&self.mesh.clock));
        let bundles = bundles(vec![self.mesh.root.root_der()]);
        Identity::new(generation, svid, bundles, self.mesh.clock.clock(), MinVersion::Tls12).unwrap()
    }

    pub(super) async fn server(&self) -> Server {
        self.server_of(API).await
    }

    pub(super) async fn server_of(&self, id: &str) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let identity = Arc::new(self.mesh.identity(id));
        let seen = Arc::new(Seen::default());
        let (open, opened) = watch::channel(false);
        let ((cut, cuts), (leave, leaves)) = (watch::channel(0), watch::channel(0));
        let (counting, most) = (Arc::clone(&seen), Arc::clone(&self.most));
        tokio::spawn(async move {
            loop {
                let (stream, client) = listener.accept().await.unwrap();
                most.accepted(addr, client);
                let (identity, seen) = (Arc::clone(&identity), Arc::clone(&counting));
                let (opened, mut cuts, mut leaves) = (opened.clone(), cuts.clone(), leaves.clone());
                cuts.mark_unchanged();
                leaves.mark_unchanged();
                seen.accepted.fetch_add(1, Ordering::SeqCst);
                seen.open.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    tokio::select! {
                        () = serve(stream, &identity, (&seen, opened), leaves) => {}
                        _ = cuts.changed() => {}
                    }
                    seen.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Server { addr, seen, open, cut, leave }
    }

    pub(super) async fn get(
        &self,
        destination: &Arc<Destination>,
        path: &str,
        version: HttpVersion,
    ) -> Result<Answer, Failed> {
        self.get_as(&self.identity, destination, path, version).await
    }

    pub(super) async fn get_as(
        &self,
        identity: &Identity,
        destination: &Arc<Destination>,
        path: &str,
        version: HttpVersion,
    ) -> Result<Answer, Failed> {
        let target = target(destination);
        let sent = self.pools.send(&target, identity, request(path), version);
        tokio::time::timeout(LONG, sent).await.expect("an answer in time")
    }

    /// Waits until `done`, looking whenever something may have happened.
    pub(super) async fn until(&self, mut done: impl FnMut() -> bool) {
        let waiting = async {
            while !done() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LONG, waiting).await.expect("it came about in time");
    }
}

async fn serve(
    stream: TcpStream,
    identity: &Identity,
    (seen, opened): (&Arc<Seen>, watch::Receiver<bool>),
    mut leaves: watch::Receiver<u64>,
) {
    let Ok(done) = tls::terminate(stream, identity, LONG).await else { return };
    let service = service_fn(|request: Request<Incoming>| {
        let (seen, opened) = (Arc::clone(seen), opened.clone());
        answer(request, seen, opened)
    });
    let io = TokioIo::new(done.stream);
    // However a connection ends is the test's affair.
    macro_rules! run {
        ($connection:expr) => {{
            let mut connection = std::pin::pin!($connection);
            tokio::select! {
                _ = connection.as_mut() => return,
                _ = leaves.changed() => connection.as_mut().graceful_shutdown(),
            }
            let _ = connection.await;
        }};
    }
    match done.alpn {
        Alpn::Http2 => {
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            run!(builder.serve_connection(io, service))
        }
        Alpn::Http1 => run!(hyper::server::conn::http1::Builder::new().serve_connection(io, service)),
        Alpn::None => {}
    }
}

async fn answer(
    request: Request<Incoming>,
    seen: Arc<Seen>,
    mut opened: watch::Receiver<bool>,
) -> Result<Response<Full<Bytes>>, h2::Error> {
    seen.requests.fetch_add(1, Ordering::SeqCst);
    let status = match request.uri().path() {
        "/refuse" => return Err(h2::Reason::REFUSED_STREAM.into()),
        "/hold" => {
            let _ = opened.wait_for(|open| *open).await;
            200
        }
        path => path.strip_prefix("/status/").map_or(200, |status| status.parse().unwrap()),
    };
    let host = request.headers().get("host").map(|host| host.as_bytes().to_vec());
    let host = host.or(request.uri().authority().map(|authority| authority.as_str().into()));
    Ok(Response::builder().status(status).body(Full::from(host.unwrap_or_default())).unwrap())
}

pub(super) fn request(path: &str) -> Request<RequestBody> {
    Request::builder().uri(path).header("host", "api:8443").body(RequestBody::Empty).unwrap()
}

pub(super) fn target(destination: &Arc<Destination>) -> Target {
    Target { destination: Arc::clone(destination), original: None, avoid: None, fresh: false }
}

pub(super) fn destination(addrs: &[SocketAddr], limits: PoolLimits) -> Destination {
    let expected = ExpectedPeer::OneOf(vec![API.parse().unwrap()]);
    Destination {
        port: 8443,
        endpoints: addrs.iter().map(|addr| testing::endpoint(EndpointAddr::Socket(*addr))).collect(),
        limits,
        transport_plan: TransportPlan::mutual_tls(ServerName::try_from("api").unwrap(), expected),
        ..testing::destination()
    }
}

/// Reads an answer to its end, so that its connection is given back.
pub(super) async fn read(answer: Answer) -> Result<Vec<u8>, Infallible> {
    let body = answer.response.into_body().collect();
    let read = tokio::time::timeout(LONG, body).await.expect("a body in time");
    Ok(read.expect("a whole body").to_bytes().to_vec())
}
