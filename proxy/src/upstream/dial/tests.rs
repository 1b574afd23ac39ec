//! TLS towards servers outside of the mesh, over loopback.

use std::path::Path;

use rcgen::SanType;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::route::{TransportPlan, testing};
use crate::tls::testing::{Ca, Leaf, Mesh, NOW, ca_params, leaf_params, moment, pem};

const HOST: &str = "api.example.com";
const LONG: Duration = Duration::from_secs(20);
/// These certificates are judged by the machine's clock.
const YEARS: Duration = Duration::from_secs(50 * 365 * 86_400);

/// An authority, and files with what it has issued.
struct Public {
    ca: Ca,
    dir: tempfile::TempDir,
}

impl Public {
    fn new() -> Self {
        let mut params = ca_params("a public authority");
        params.subject_alt_names.clear();
        params.not_after = moment(NOW + YEARS);
        let (ca, dir) = (Ca::root(params), tempfile::tempdir().unwrap());
        std::fs::write(dir.path().join("roots.pem"), pem(&[ca.root_der()])).unwrap();
        Self { ca, dir }
    }

    fn leaf(&self, host: &str) -> Leaf {
        let mut params = leaf_params("spiffe://unused/x");
        params.subject_alt_names = vec![SanType::DnsName(host.try_into().unwrap())];
        params.not_after = moment(NOW + YEARS);
        self.ca.leaf(&params)
    }

    fn egress(&self, client: Option<&Leaf>) -> EgressTls {
        let [roots, chain, key] =
            ["roots.pem", "client.pem", "client.key"].map(|file| self.dir.path().join(file));
        let files: Option<(&Path, &Path)> = client.map(|leaf| {
            std::fs::write(&chain, pem(&leaf.chain)).unwrap();
            std::fs::write(&key, leaf.key.serialize_pem()).unwrap();
            (chain.as_path(), key.as_path())
        });
        EgressTls::new(ServerName::try_from(HOST).unwrap(), vec![], Some(&roots), files).unwrap()
    }

    /// Asks for a client's certificate if `mutual`, and sends one byte of application data.
    async fn server(&self, leaf: &Leaf, protocols: &[&[u8]], mutual: bool) -> SocketAddr {
        let builder = ServerConfig::builder();
        let builder = if mutual {
            let mut roots = RootCertStore::empty();
            roots.add(self.ca.root_der()).unwrap();
            builder.with_client_cert_verifier(WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::try_from(leaf.key.serialize_der()).unwrap();
        let mut config = builder.with_single_cert(leaf.chain.clone(), key).unwrap();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let (acceptor, listener) =
            (TlsAcceptor::from(Arc::new(config)), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let name = stream.get_ref().1.server_name().map(str::to_owned);
                    let shown = u8::from(stream.get_ref().1.peer_certificates().is_some());
                    assert_eq!(name.as_deref(), Some(HOST));
                    let _ = stream.write_all(&[shown]).await;
                    let _ = stream.read_u8().await;
                }
            }
        });
        addr
    }
}

fn destination(addr: SocketAddr, egress: EgressTls) -> Destination {
    Destination {
        host: HOST.into(),
        port: 443,
        endpoints: vec![testing::endpoint(EndpointAddr::Socket(addr))],
        transport_plan: TransportPlan::Tls(Transport::Tls(Arc::new(egress))),
        ..testing::destination()
    }
}

/// Whether the server was shown a certificate; else why there is no connection.
async fn dial(addr: SocketAddr, egress: EgressTls, alpn: Option<Alpn>) -> Result<bool, String> {
    let mesh = Mesh::new();
    let dialler = Dialler { policy_clock: mesh.clock.clock() };
    let identity = mesh.identity("spiffe://cluster.local/ns/production/sa/web");
    let destination = destination(addr, egress);
    let dialled = tokio::time::timeout(LONG, dialler.connect(&destination, addr, &identity, alpn));
    let mut upstream = dialled.await.unwrap().map_err(|refusal| refusal.to_string())?;
    assert!(upstream.peer.is_none(), "a DNS name is no identity of the mesh");
    let shown = tokio::time::timeout(LONG, upstream.stream.read_u8()).await.unwrap();
    shown.map(|shown| shown == 1).map_err(|error| NoMutualTls::of_io(error).to_string())
}

#[tokio::test]
async fn a_server_outside_of_the_mesh_proves_its_name_and_no_other() {
    let public = Public::new();
    let good = public.server(&public.leaf(HOST), &[b"h2", b"http/1.1"], false).await;
    for alpn in [None, Some(Alpn::Http1), Some(Alpn::Http2)] {
        assert_eq!(dial(good, public.egress(None), alpn).await, Ok(false), "{alpn:?}");
    }
    let other = public.server(&public.leaf("other.example.com"), &[b"h2"], false).await;
    let refused = dial(other, public.egress(None), Some(Alpn::Http2)).await.unwrap_err();
    assert!(refused.contains("not valid for name"), "{refused}");
    let unknown = dial(good, Public::new().egress(None), None).await.unwrap_err();
    assert!(unknown.contains("UnknownIssuer"), "{unknown}");
}

#[tokio::test]
async fn an_own_certificate_is_shown_where_one_is_written() {
    let public = Public::new();
    let mutual = public.server(&public.leaf(HOST), &[], true).await;
    let client = public.leaf("client.example.com");
    assert_eq!(dial(mutual, public.egress(Some(&client)), None).await, Ok(true));
    let refused = dial(mutual, public.egress(None), None).await.unwrap_err();
    assert!(refused.contains("CertificateRequired"), "{refused}");
}

#[tokio::test]
async fn only_http1_goes_to_a_server_that_names_no_protocol() {
    let public = Public::new();
    let silent = public.server(&public.leaf(HOST), &[], false).await;
    assert_eq!(dial(silent, public.egress(None), Some(Alpn::Http1)).await, Ok(false));
    let refused = dial(silent, public.egress(None), Some(Alpn::Http2)).await.unwrap_err();
    assert!(refused.contains("ALPN") || refused.contains("protocol"), "{refused}");
    let only_http1 = public.server(&public.leaf(HOST), &[b"http/1.1"], false).await;
    assert!(dial(only_http1, public.egress(None), Some(Alpn::Http2)).await.is_err());
}

/// Keepalive as the system has it: on, and probes, time and interval in seconds.
fn keepalive_of(stream: &TcpStream) -> (bool, u32, u64, u64) {
    let socket = SockRef::from(stream);
    let (time, interval) = (socket.tcp_keepalive_time().unwrap(), socket.tcp_keepalive_interval().unwrap());
    let probes = socket.tcp_keepalive_retries().unwrap();
    (socket.keepalive().unwrap(), probes, time.as_secs(), interval.as_secs())
}

#[tokio::test]
async fn the_socket_has_the_keepalive_that_is_written_and_the_system_s_where_it_is_not() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (system_probes, system_time, system_interval) = {
        let plain = TcpStream::connect(addr).await.unwrap();
        let (on, probes, time, interval) = keepalive_of(&plain);
        assert!(!on, "control: the system asks for none");
        (probes, time, interval)
    };
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    let none = TcpKeepalive::default();
    for (written, expected) in [
        (None, (system_probes, 60, 20)),
        (Some(none), (system_probes, system_time, system_interval)),
        (Some(TcpKeepalive { probes: Some(3), time: seconds(7), interval: seconds(2) }), (3, 7, 2)),
        (Some(TcpKeepalive { time: seconds(7), ..none }), (system_probes, 7, system_interval)),
    ] {
        let limits = PoolLimits { tcp_keepalive: written, ..PoolLimits::default() };
        let stream = connect_tcp(addr, &limits).await.unwrap();
        let (on, probes, time, interval) = keepalive_of(&stream);
        assert_eq!((on, (probes, time, interval)), (true, expected), "{written:?}");
        assert!(stream.nodelay().unwrap());
    }
}

#[tokio::test]
async fn a_server_that_does_not_take_the_connection_is_given_up_after_the_connect_timeout() {
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let addr = listener.local_addr().unwrap().as_socket().unwrap();
    let limit = Duration::from_millis(200);
    let limits = PoolLimits { connect_timeout: limit, ..PoolLimits::default() };
    // The positive control: there is room for one, and the kernel takes it. With the queue full it drops what comes.
    let mut held = vec![connect_tcp(addr, &limits).await.expect("room for one")];
    let (error, waited) = loop {
        let started = tokio::time::Instant::now();
        match connect_tcp(addr, &limits).await {
            Ok(stream) => held.push(stream),
            Err(error) => break (error, started.elapsed()),
        }
        assert!(held.len() < 10, "the queue has an end");
    };
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!((limit..limit * 10).contains(&waited), "{waited:?}");
}
