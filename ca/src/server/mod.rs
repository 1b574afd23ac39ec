//! The authority on the network: gRPC over HTTP/2 over TLS, with a bound on everything a peer can make us hold.
//!
//! `connection` is a TLS connection and what it proves, `accept` makes them, `verify` checks client certificates,
//! `own` keeps the server's certificate fresh, `service` answers. Nothing here decides who gets what.

mod accept;
mod connection;
mod own;
mod service;
mod verify;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use portcullis_identity::SvidDefect;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::NoServerSessionStorage;
use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;
use tokio::net::TcpListener;
use tokio::time::{interval, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::authority::Authority;
use crate::issue::IssueError;
use own::OwnSvid;
use service::Service;
use verify::SvidVerifier;

/// Messages and services of `ca.proto`, as generated.
#[allow(
    missing_docs,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::too_many_lines,
    reason = "generated code"
)]
pub mod proto {
    tonic::include_proto!("portcullis.ca.v1");
}

/// Longest time from a request's arrival to the start of its answer.
const REQUEST: Duration = Duration::from_secs(10);
/// Longest wait for requests under way at shutdown.
const DRAIN: Duration = Duration::from_secs(10);
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// A sidecar needs two streams: one request and one watch.
const STREAMS: u32 = 16;
const HEADER_BYTES: u32 = 8 * 1024;
/// A request (16 KiB at most), a token (4 KiB at most) and their framing.
const MESSAGE_BYTES: usize = 24 * 1024;
/// Bounds of hyper for streams reset at once (CVE-2023-44487 and its like).
const PENDING_RESETS: usize = 16;
const MAINTAIN_EVERY: Duration = Duration::from_secs(1);
/// While maintenance fails it says so once in this time.
const MAINTAIN_RETRY: Duration = Duration::from_secs(10);

/// Why the authority cannot serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The listener is unusable.
    #[error("the listener has no address: {0}")]
    Listener(#[source] io::Error),
    /// Its own certificate.
    #[error("the authority cannot certify itself: {0}")]
    Own(#[from] IssueError),
    /// A key could not be made or read back.
    #[error("the authority's own key: {0}")]
    OwnKey(String),
    /// The TLS library refuses the configuration.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// An own leaf that breaks a rule.
    #[error("the authority's own certificate: {0}")]
    OwnLeaf(#[from] SvidDefect),
    /// The gRPC server ended.
    #[error("the server failed: {0}")]
    Server(#[from] tonic::transport::Error),
}

/// Serves until `shutdown`, then lets requests under way finish for up to 10 s.
///
/// # Errors
/// [`ServeError`].
pub async fn serve(
    listener: TcpListener,
    authority: Arc<Authority>,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let address = listener.local_addr().map_err(ServeError::Listener)?;
    let own = Arc::new(OwnSvid::certify(&authority).await?);
    let config = tls_config(&authority, Arc::clone(&own))?;
    // Both tasks end with this function, however it ends.
    let (incoming, _accepting) = accept::start(listener, config, Arc::clone(&authority), shutdown.clone());
    let _maintenance = AbortOnDropHandle::new(tokio::spawn(maintain(Arc::clone(&authority), own)));
    let service = Service::new(Arc::clone(&authority), shutdown.clone());
    let service = proto::certificate_authority_server::CertificateAuthorityServer::new(service)
        .max_decoding_message_size(MESSAGE_BYTES);
    let server = tonic::transport::Server::builder()
        .timeout(REQUEST)
        .concurrency_limit_per_connection(STREAMS as usize)
        .max_concurrent_streams(STREAMS)
        .http2_max_header_list_size(HEADER_BYTES)
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS))
        .http2_max_local_error_reset_streams(Some(PENDING_RESETS))
        .add_service(service)
        .serve_with_incoming_shutdown(ReceiverStream::new(incoming), shutdown.clone().cancelled_owned());
    tracing::info!(%address, trust_domain = %authority.bundle().trust_domain(), "ready");
    tokio::pin!(server);
    tokio::select! {
        ended = &mut server => return Ok(ended?),
        () = shutdown.cancelled() => tracing::info!("draining"),
    }
    match timeout(DRAIN, server).await {
        Ok(ended) => ended?,
        Err(_) => tracing::warn!(after_s = DRAIN.as_secs(), "connections still busy are cut off"),
    }
    Ok(())
}

async fn maintain(authority: Arc<Authority>, own: Arc<OwnSvid>) {
    let mut tick = interval(MAINTAIN_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if let Err(error) = authority.maintain().await {
            tracing::error!(%error, "maintenance failed; serving goes on");
            tick.reset_after(MAINTAIN_RETRY);
        }
        if let Err(error) = own.renew_if_due(&authority).await {
            tracing::error!(%error, "own certificate not renewed; serving goes on with the last one");
            tick.reset_after(MAINTAIN_RETRY);
        }
    }
}

/// No tickets, no stored sessions, no early data: a resumed session would skip the check of the SVID's dates.
fn tls_config(authority: &Arc<Authority>, own: Arc<OwnSvid>) -> Result<Arc<ServerConfig>, ServeError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Arc::new(SvidVerifier::new(authority, &provider));
    let time = Arc::new(AuthorityTime(Arc::clone(authority)));
    let builder = ServerConfig::builder_with_details(Arc::<CryptoProvider>::clone(&provider), time);
    let mut config = builder
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(own);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

struct AuthorityTime(Arc<Authority>);

impl std::fmt::Debug for AuthorityTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.clock().fmt(f)
    }
}

impl TimeProvider for AuthorityTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.0.clock().unix_time())
    }
}
