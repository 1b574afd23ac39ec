//! A peer that is no sidecar: it holds an identity of its own, makes handshakes, and keeps no rule but those of TLS.
#![allow(clippy::expect_used, reason = "a test that cannot be set up has failed, and says at what")]

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use portcullis::demo::lab::Host;
use portcullis::svid::{self, AgentConfig, IdentityWatch, TokenSource};
use portcullis::tls::{self, Alpn, ExpectedPeer, MinVersion};
use portcullis_identity::{TrustDomain, Workload};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use crate::mesh::Mesh;

/// For a certificate, a handshake or an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What it needs to become somebody.
pub struct Prober {
    config: AgentConfig,
    host: Host,
}

/// A connection, and what the server showed.
pub struct Probe {
    /// The bytes.
    pub stream: TlsStream<TcpStream>,
    /// Serial number of the server's leaf, read from the certificate on the wire.
    pub serial: String,
    /// Last second of the own certificate at the handshake, since the epoch.
    pub own_end: Duration,
}

impl Prober {
    /// A service account of the namespace `production`, on a host without sidecar.
    ///
    /// # Panics
    /// When there is no token to be had.
    #[must_use]
    pub fn new(mesh: &Mesh, host: &Host, name: &str) -> Self {
        let trust_domain: TrustDomain = "cluster.local".parse().expect("a trust domain");
        let workload = Workload::new(&trust_domain, "production", name).expect("a workload");
        let token = mesh.authority.token(workload.id().as_str()).expect("a join token");
        let config = AgentConfig {
            ca_address: mesh.authority.address(),
            trust_domain,
            workload,
            join_token: Some(TokenSource::Text(token.into())),
            state_dir: None,
            min_version: MinVersion::Tls12,
        };
        Self { config, host: host.clone() }
    }

    /// Gets its certificate and keeps it current while `job` runs in the network of its host.
    ///
    /// # Panics
    /// When it gets none within 10 s, and as `job` does.
    pub fn run<T: Send>(self, job: impl AsyncFnOnce(IdentityWatch) -> T + Send) -> T {
        let Self { config, host } = self;
        let runtime = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async move {
                let clock = portcullis_identity::Clock::system();
                let (mut watch, agent) = svid::start(config, clock).expect("an agent");
                let agent = tokio::spawn(agent);
                timeout(PATIENCE, watch.changed()).await.expect("a certificate");
                let done = job(watch).await;
                agent.abort();
                done
            })
        };
        host.in_namespace(runtime).expect("the network of a host")
    }
}

impl Probe {
    /// One full handshake with whoever of the namespace `production` is there.
    ///
    /// # Errors
    /// Why there is no connection.
    ///
    /// # Panics
    /// When the server shows something that is no certificate.
    pub async fn connect(identity: &IdentityWatch, server: SocketAddr, alpn: Alpn) -> io::Result<Self> {
        let identity = identity.valid().map_err(|status| io::Error::other(status.to_string()))?;
        let own_end = Duration::from_secs(identity.svid().facts().not_after);
        let expected = ExpectedPeer::AnyIn {
            trust_domain: "cluster.local".parse().expect("a trust domain"),
            namespace: "production".into(),
        };
        let tcp = timeout(PATIENCE, TcpStream::connect(server)).await??;
        let name = ServerName::IpAddress(server.ip().into());
        let originated = tls::originate(tcp, &identity, &name, &expected, &[alpn], PATIENCE).await;
        let stream = originated.map_err(io::Error::other)?.stream;
        let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).expect("a certificate");
        let (_, leaf) = x509_parser::parse_x509_certificate(leaf).expect("X.509");
        let serial = leaf.raw_serial_as_string();
        Ok(Self { stream, serial, own_end })
    }

    /// One request on this connection, to its end; the answer, head and all.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn get(&mut self, path: &str) -> io::Result<String> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: probe\r\nconnection: close\r\n\r\n");
        self.stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        timeout(PATIENCE, self.stream.read_to_string(&mut answer)).await??;
        Ok(answer)
    }
}
