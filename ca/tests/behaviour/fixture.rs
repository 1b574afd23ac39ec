//! A real authority with a clock that stands, and a small client that trusts it by the hash of its root.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use portcullis_ca::proto::certificate_authority_client::CertificateAuthorityClient;
use portcullis_ca::proto::{Bundle, IssueRequest, WatchBundleRequest};
use portcullis_ca::{Authority, Lives, SealingKey, Settings, StoreError, StoreLock, serve};
use portcullis_identity::{
    CertificateFacts, Clock, Fingerprint, JoinToken, ManualClock, SpiffeId, TrustDomain, Workload, check_leaf,
};
use rcgen::{CertificateParams, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs::default_provider};
use rustls::{
    ALL_VERSIONS, ClientConfig, DigitallySignedStruct, Error, SignatureScheme, SupportedProtocolVersion,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection, SqliteConnection};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

/// Nothing in these tests takes near this long.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
pub(crate) const START: Duration = Duration::from_secs(1_800_000_000);
pub(crate) const DAY: Duration = Duration::from_secs(86_400);
pub(crate) const TTL: Duration = Duration::from_secs(600);
const SEALING_KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const OWN: &str = "spiffe://cluster.local/ns/portcullis-system/sa/portcullis-ca";

pub(crate) fn sealing_key() -> SealingKey {
    SealingKey::from_base64(SEALING_KEY, "test").unwrap()
}

pub(crate) fn workload(name: &str) -> Workload {
    Workload::new(&TrustDomain::parse("cluster.local").unwrap(), "test", name).unwrap()
}

pub(crate) fn settings(lives: Lives) -> Settings {
    Settings { trust_domain: TrustDomain::parse("cluster.local").unwrap(), lives, given_root: None }
}

/// The authority, serving on loopback.
pub(crate) struct Fixture {
    pub(crate) clock: ManualClock,
    pub(crate) authority: Arc<Authority>,
    pub(crate) store: PathBuf,
    address: String,
    lives: Lives,
    shutdown: CancellationToken,
    served: JoinHandle<()>,
    directory: TempDir,
}

impl Fixture {
    pub(crate) async fn start() -> Self {
        Self::start_with(Lives::default()).await
    }

    pub(crate) async fn start_with(lives: Lives) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), ManualClock::at(START), lives).await
    }

    async fn start_in(directory: TempDir, clock: ManualClock, lives: Lives) -> Self {
        let store = directory.path().join("ca.db");
        let started = Instant::now();
        let lock = loop {
            match StoreLock::acquire(&store) {
                // Connections of the authority before us may still be closing.
                Err(StoreError::Locked(_)) if started.elapsed() < DEADLINE => tokio::task::yield_now().await,
                lock => break lock.unwrap(),
            }
        };
        let opened = Authority::open(&store, lock, sealing_key(), settings(lives), clock.clock());
        let authority = Arc::new(opened.await.unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shutdown = CancellationToken::new();
        let serving = serve(listener, Arc::clone(&authority), shutdown.clone());
        let served = tokio::spawn(async { serving.await.unwrap() });
        Self { clock, authority, store, address, lives, shutdown, served, directory }
    }

    /// Stops serving, closes the store and starts again on it.
    pub(crate) async fn restart(self) -> Self {
        self.shutdown.cancel();
        timeout(DEADLINE, self.served).await.unwrap().unwrap();
        self.authority.store().close().await;
        drop(self.authority);
        Self::start_in(self.directory, self.clock, self.lives).await
    }

    pub(crate) fn client(&self) -> Client {
        Client {
            address: self.address.clone(),
            root: Fingerprint::of(self.authority.root()),
            clock: self.clock.clock(),
        }
    }

    pub(crate) async fn token(&self, name: &str) -> JoinToken {
        self.authority.create_token(&workload(name), TTL).await.unwrap()
    }

    /// A workload that has joined.
    pub(crate) async fn join(&self, name: &str) -> Held {
        let token = self.token(name).await;
        self.client().join(&token).await.unwrap()
    }

    /// Moves the clock and waits until the server, whose timer is real, has a certificate for that time.
    pub(crate) async fn advance(&self, by: Duration) {
        self.clock.advance(by);
        let client = self.client();
        eventually("a current server certificate", async || client.connect(None).await.is_ok()).await;
    }

    /// Rows of a query with one text column, straight from the file.
    pub(crate) async fn rows(&self, query: &'static str) -> Vec<String> {
        rows(&self.store, query).await
    }
}

/// Rows of a query with one text column.
pub(crate) async fn rows(store: &Path, query: &'static str) -> Vec<String> {
    let mut connection = database(store).await;
    let rows = sqlx::query_scalar(query).fetch_all(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    rows
}

/// Changes the file behind the authority's back.
pub(crate) async fn execute(store: &Path, statement: &str) {
    let mut connection = database(store).await;
    sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// Keeps everybody else from writing until the connection is closed.
pub(crate) async fn hold_write_lock(store: &Path) -> SqliteConnection {
    let mut connection = database(store).await;
    sqlx::query("BEGIN IMMEDIATE").execute(&mut connection).await.unwrap();
    connection
}

async fn database(store: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(store).busy_timeout(DEADLINE);
    SqliteConnection::connect_with(&options).await.unwrap()
}

/// A certificate in the hands of a workload.
pub(crate) struct Held {
    pub(crate) key: KeyPair,
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) facts: CertificateFacts,
    pub(crate) bundle: Bundle,
}

pub(crate) fn csr(key: &KeyPair) -> Vec<u8> {
    CertificateParams::default().serialize_request(key).unwrap().der().to_vec()
}

/// Where the authority is, and the hash of its root.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) address: String,
    pub(crate) root: Fingerprint,
    pub(crate) clock: Clock,
}

impl Client {
    /// One connection, with a client certificate or without.
    pub(crate) async fn connect(&self, svid: Option<&Held>) -> Result<Connected, Status> {
        let config = Arc::new(self.tls(svid, ALL_VERSIONS));
        let address = self.address.clone();
        let connector = tower::service_fn(move |_| {
            let (config, address) = (Arc::clone(&config), address.clone());
            async move {
                let stream = TcpStream::connect(address).await?;
                let name = ServerName::try_from("portcullis-ca").map_err(std::io::Error::other)?;
                let stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await?;
                Ok::<_, std::io::Error>(TokioIo::new(stream))
            }
        });
        let endpoint = Endpoint::from_static("http://portcullis-ca").timeout(DEADLINE);
        let channel = endpoint.connect_with_connector(connector).await;
        let channel = channel.map_err(|error| Status::unavailable(format!("{error:?}")))?;
        let calls = CertificateAuthorityClient::new(channel);
        Ok(Connected { calls, clock: self.clock.clone() })
    }

    pub(crate) fn tls(
        &self,
        svid: Option<&Held>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> ClientConfig {
        let provider = Arc::new(default_provider());
        let verifier = Pinned { root: self.root, clock: self.clock.clone(), provider: Arc::clone(&provider) };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match svid {
            None => builder.with_no_client_auth(),
            Some(held) => {
                let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(held.key.serialize_der()));
                builder.with_client_auth_cert(held.chain.clone(), key).unwrap()
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }

    /// First contact: a fresh key and a token.
    pub(crate) async fn join(&self, token: &JoinToken) -> Result<Held, Status> {
        let key = KeyPair::generate().unwrap();
        self.connect(None).await?.issue(key, &token.to_text()).await
    }

    /// Renewal: a fresh key over a connection with the current SVID.
    pub(crate) async fn renew(&self, held: &Held) -> Result<Held, Status> {
        let key = KeyPair::generate().unwrap();
        self.connect(Some(held)).await?.issue(key, "").await
    }
}

/// An open connection.
pub(crate) struct Connected {
    calls: CertificateAuthorityClient<Channel>,
    clock: Clock,
}

impl Connected {
    pub(crate) async fn issue(&mut self, key: KeyPair, token: &str) -> Result<Held, Status> {
        let (chain, bundle) = self.issue_csr(csr(&key), token).await?;
        let facts = check_leaf(&chain[0], self.clock.unix_time()).unwrap();
        Ok(Held { key, chain, facts, bundle })
    }

    pub(crate) async fn issue_csr(
        &mut self,
        csr_der: Vec<u8>,
        token: &str,
    ) -> Result<(Vec<CertificateDer<'static>>, Bundle), Status> {
        let request = IssueRequest { csr_der, join_token: token.to_owned() };
        let response = self.calls.issue(request).await?.into_inner();
        let chain = response.chain_der.into_iter().map(CertificateDer::from).collect();
        Ok((chain, response.bundle.unwrap()))
    }

    pub(crate) async fn watch(&mut self, acknowledged_generation: u64) -> Result<Streaming<Bundle>, Status> {
        let request = WatchBundleRequest { acknowledged_generation };
        Ok(self.calls.watch_bundle(request).await?.into_inner())
    }
}

/// Trusts the root with one hash, if it is in the chain presented, and only the authority's own name.
#[derive(Debug)]
struct Pinned {
    root: Fingerprint,
    clock: Clock,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let general = |what: &dyn std::fmt::Display| Error::General(what.to_string());
        let now = self.clock.unix_time();
        let facts = check_leaf(leaf, now).map_err(|defect| general(&defect))?;
        if facts.id != SpiffeId::parse(OWN).unwrap() {
            return Err(general(&facts.id));
        }
        let root = others.iter().find(|other| Fingerprint::of(other) == self.root);
        let root = root.ok_or_else(|| general(&"the pinned root was not presented"))?;
        let anchor = webpki::anchor_from_trusted_cert(root).unwrap();
        let algorithms = self.provider.signature_verification_algorithms.all;
        let usage = webpki::KeyUsage::server_auth();
        let leaf = webpki::EndEntityCert::try_from(leaf).unwrap();
        leaf.verify_for_usage(algorithms, &[anchor], others, now, usage, None, None)
            .map_err(|error| general(&error))?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Waits until `done` says so, looking again every few milliseconds.
pub(crate) async fn eventually(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !done().await {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}
