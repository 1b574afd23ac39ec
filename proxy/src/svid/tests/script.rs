//! An authority that answers by a script: well, unless told otherwise.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use portcullis_ca::proto::certificate_authority_server::{CertificateAuthority, CertificateAuthorityServer};
use portcullis_ca::proto::{Bundle, IssueRequest, IssueResponse, WatchBundleRequest};
use portcullis_identity::{Fingerprint, JoinToken, TrustBundle};
use rcgen::CertificateSigningRequestParams;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::{ReceiverStream, WatchStream};
use tokio_stream::{Stream, StreamExt};
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status};
use zeroize::Zeroizing;

use super::api;
use crate::tls::provider;
use crate::tls::testing::{Mesh, NOW, leaf_params, moment, trust_domain};

const AUTHORITY: &str = "spiffe://cluster.local/ns/portcullis-system/sa/portcullis-ca";

/// How one request is answered otherwise than well.
pub(super) enum Answer {
    Refuse(Status),
    Spoil(fn(&Mesh, &mut IssueResponse)),
}

/// What was asked: the token's text and the public key.
pub(super) struct Asked {
    pub(super) join_token: String,
    pub(super) public_key: Vec<u8>,
}

/// What the test and the service both see.
pub(super) struct Script {
    pub(super) mesh: Mesh,
    pub(super) answers: Mutex<VecDeque<Answer>>,
    pub(super) asked: Mutex<Vec<Asked>>,
    pub(super) acknowledged: Mutex<Vec<u64>>,
    pub(super) bundles: watch::Sender<Bundle>,
}

/// A bundle as the authority sends it.
pub(super) fn bundle(generation: u64, roots: &[&crate::tls::testing::Ca]) -> Bundle {
    let roots = roots.iter().map(|root| root.root_der()).collect();
    let jwks = TrustBundle::new(trust_domain(), generation, roots).unwrap().to_jwks();
    Bundle { generation, jwks, trust_domain: trust_domain().to_string() }
}

/// A script at work on an address; ends with the test.
pub(super) struct Served {
    pub(super) script: Arc<Script>,
    pub(super) address: String,
    tasks: [JoinHandle<()>; 2],
}

impl Served {
    pub(super) async fn start() -> Self {
        Self::start_as(AUTHORITY).await
    }

    /// The authority under another name.
    pub(super) async fn start_as(name: &str) -> Self {
        let mesh = Mesh::new();
        let first = bundle(1, &[&mesh.root]);
        let script = Arc::new(Script {
            answers: Mutex::default(),
            asked: Mutex::default(),
            acknowledged: Mutex::default(),
            bundles: watch::Sender::new(first),
            mesh,
        });
        let mut params = leaf_params(name);
        params.not_after = moment(NOW + std::time::Duration::from_secs(86_400));
        let leaf = script.mesh.intermediate.leaf(&params);
        let chain = [leaf.chain.clone(), vec![script.mesh.root.root_der()]].concat();
        let mut config = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, PrivatePkcs8KeyDer::from(leaf.key.serialize_der()).into())
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (sender, incoming) = tokio::sync::mpsc::channel(8);
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let accept = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                if let Ok(stream) = acceptor.accept(socket).await {
                    let _ = sender.send(Ok::<_, io::Error>(Connection(stream))).await;
                }
            }
        });
        let service = CertificateAuthorityServer::new(Service(Arc::clone(&script)));
        let serve = tokio::spawn(async move {
            let server = tonic::transport::Server::builder().add_service(service);
            server.serve_with_incoming(ReceiverStream::new(incoming)).await.unwrap();
        });
        Self { script, address, tasks: [accept, serve] }
    }

    pub(super) fn token(&self) -> String {
        self.token_for_root(&Fingerprint::of(&self.script.mesh.root.root_der()))
    }

    pub(super) fn token_for_root(&self, root: &Fingerprint) -> String {
        JoinToken::new(api(), *root, Zeroizing::new([7; 32])).to_text().to_string()
    }

    pub(super) fn answer(&self, answers: impl IntoIterator<Item = Answer>) {
        self.script.answers.lock().unwrap().extend(answers);
    }

    pub(super) fn asked(&self) -> usize {
        self.script.asked.lock().unwrap().len()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

struct Service(Arc<Script>);

#[tonic::async_trait]
impl CertificateAuthority for Service {
    async fn issue(&self, request: Request<IssueRequest>) -> Result<Response<IssueResponse>, Status> {
        let request = request.into_inner();
        let script = &self.0;
        let csr = CertificateSigningRequestParams::from_der(&request.csr_der.into()).unwrap();
        let leaf =
            leaf_params(api().id().as_str()).signed_by(&csr.public_key, &script.mesh.intermediate.issuer);
        let intermediate = CertificateDer::clone(&script.mesh.intermediate.chain[0]);
        let mut answer = IssueResponse {
            chain_der: vec![leaf.unwrap().der().to_vec(), intermediate.to_vec()],
            bundle: Some(script.bundles.borrow().clone()),
        };
        let public_key = rcgen::PublicKeyData::der_bytes(&csr.public_key).to_vec();
        script.asked.lock().unwrap().push(Asked { join_token: request.join_token, public_key });
        match script.answers.lock().unwrap().pop_front() {
            Some(Answer::Refuse(status)) => return Err(status),
            Some(Answer::Spoil(spoil)) => spoil(&script.mesh, &mut answer),
            None => {}
        }
        Ok(Response::new(answer))
    }

    type WatchBundleStream = Pin<Box<dyn Stream<Item = Result<Bundle, Status>> + Send>>;

    async fn watch_bundle(
        &self,
        request: Request<WatchBundleRequest>,
    ) -> Result<Response<Self::WatchBundleStream>, Status> {
        self.0.acknowledged.lock().unwrap().push(request.into_inner().acknowledged_generation);
        Ok(Response::new(Box::pin(WatchStream::new(self.0.bundles.subscribe()).map(Ok))))
    }
}

struct Connection(TlsStream<TcpStream>);

impl Connected for Connection {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
