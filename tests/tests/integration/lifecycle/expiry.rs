//! No connection outlives its proof.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use portcullis::demo::lab::Host;
use portcullis::tls::Alpn;
use portcullis_tests::mesh::{ECHO, HTTP, Pair};
use portcullis_tests::prober::{Probe, Prober};
use portcullis_tests::within;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::{PATIENCE, certificate_end, freshly_renewed, metric, now, poll};

const LIMIT: Duration = Duration::from_secs(60);
/// A line that no HTTP server takes for a request; what is shorter could be the beginning of one.
const PING: &[u8] = b"are you there?\n";
/// After the last second of a certificate a connection has this long to be gone.
const SLACK: Duration = Duration::from_secs(1);

/// A connection of the app of a host, with a timeout on all it does.
pub(super) fn connect(host: &Host, to: SocketAddr) -> TcpStream {
    let stream = host.in_namespace(|| TcpStream::connect_timeout(&to, PATIENCE)).unwrap().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Sends and gets back until that fails; the moment of the failure.
pub(super) fn echo_until_cut(mut stream: TcpStream) -> Duration {
    let mut echoes = 0;
    while stream.write_all(PING).is_ok() && stream.read_exact(&mut [0; PING.len()]).is_ok() {
        echoes += 1;
    }
    let cut = now();
    assert!(echoes > 0, "the connection never worked");
    cut
}

pub(super) fn assert_cut_at(end: Duration, cut: Duration, what: &str) {
    assert!(cut >= end, "{what} was cut {:?} too early", end - cut);
    assert!(cut <= end + SLACK, "{what} was cut {:?} too late", cut - end);
}

#[test]
fn expired_peer_is_cut_off_mid_connection() {
    within(LIMIT, || {
        let mut pair = Pair::start("5s");
        let hosts = [&pair.client.host, &pair.server.host];
        freshly_renewed(hosts, Duration::from_secs(3));
        pair.mesh.authority.kill();
        let ends = hosts.map(certificate_end);

        let stream = connect(&pair.client.host, pair.service(ECHO));
        let url = format!("http://{}/slow?ms=30000", pair.service(HTTP));
        let arguments = ["-sS", "--max-time", "15", "-w", "\n%{http_code}", &url];
        let request = pair.as_app("curl").args(arguments).spawn().unwrap();
        let (cut, (failed, answer)) = std::thread::scope(|scope| {
            let stream = scope.spawn(|| echo_until_cut(stream));
            let request = scope.spawn(|| {
                request.wait(PATIENCE).unwrap();
                (now(), request.output())
            });
            (stream.join().unwrap(), request.join().unwrap())
        });
        // Nobody renewed anything meanwhile, so these were the proofs: the client has both sides' end.
        assert_eq!(hosts.map(certificate_end), ends);
        let end = *ends.iter().min().unwrap();
        assert_cut_at(end, cut, "the stream");
        assert_cut_at(end, failed, "the request");
        assert!(answer.ends_with("502\n"), "{answer}");
        assert!(answer.contains("the certificate or exception behind it has ended"), "{answer}");
        let expired = |host: &Host, direction: &str| {
            metric(host, &format!(r#"portcullis_connections_expired_total{{direction="{direction}"}}"#))
        };
        assert_eq!(expired(hosts[0], "outbound"), 2.0, "{}", pair.client.log());
        let open = r#"portcullis_connections_open{direction="inbound"}"#;
        poll("the service's sidecar without connections", || (metric(hosts[1], open) == 0.0).then_some(()));
        if ends[0] <= ends[1] {
            assert_eq!(expired(hosts[1], "inbound"), 2.0, "the client's certificate ended first");
        }
    });
}

/// The peer here is nobody's sidecar and would go on for ever: only the service's sidecar can end it.
#[test]
fn a_peer_that_ignores_its_own_expiry_is_cut_off_by_the_service() {
    within(LIMIT, || {
        let mut pair = Pair::start("5s");
        let host = pair.mesh.host("prober");
        let prober = Prober::new(&pair.mesh, &host, "prober");
        let (echo, http) = (pair.service(ECHO), pair.service(HTTP));
        prober.run(async |identity| {
            let mut stream = Probe::connect(&identity, echo, Alpn::None).await.unwrap();
            let mut request = Probe::connect(&identity, http, Alpn::Http1).await.unwrap();
            let (stream_end, request_end) = (stream.own_end, request.own_end);
            let stream = async {
                let mut echoes = 0;
                loop {
                    let ping = async {
                        stream.stream.write_all(PING).await?;
                        stream.stream.read_exact(&mut [0; PING.len()]).await
                    };
                    if timeout(PATIENCE, ping).await.unwrap().is_err() {
                        break;
                    }
                    echoes += 1;
                }
                assert!(echoes > 0, "the stream never worked");
                now()
            };
            let request = async {
                let answer = request.get("/slow?ms=30000").await;
                assert!(answer.as_ref().map_or(true, String::is_empty), "{answer:?}");
                now()
            };
            let (cut, failed) = tokio::join!(stream, request);
            assert_cut_at(stream_end, cut, "the stream");
            assert_cut_at(request_end, failed, "the request");
        });
        let expired = r#"portcullis_connections_expired_total{direction="inbound"}"#;
        assert_eq!(metric(&pair.server.host, expired), 2.0);
    });
}
