//! One connection to the authority: TLS by our own configurations, gRPC over it.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

use proto::certificate_authority_client::CertificateAuthorityClient;
pub(super) use proto::{Bundle, IssueRequest, IssueResponse, WatchBundleRequest};

use crate::tls::NoMutualTls;

mod proto {
    #![allow(
        missing_docs,
        unreachable_pub,
        clippy::allow_attributes_without_reason,
        reason = "generated from identity/proto/ca.proto"
    )]
    tonic::include_proto!("portcullis.ca.v1");
}

/// Largest message taken from the authority, in bytes: a chain and a bundle of 32 roots are a tenth of it.
const MAX_MESSAGE: usize = 1 << 20;
/// A dead connection of the bundle stream is noticed after these two.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const KEEP_ALIVE_ANSWER: Duration = Duration::from_secs(10);
/// Longest error text kept, in bytes: it goes to the log and to the status.
const MAX_ERROR: usize = 400;

/// Why the authority did not give what was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum CaError {
    #[error("no connection to the authority at {address}: {source}")]
    Connect { address: String, source: io::Error },
    #[error("no TLS with the authority at {address}: {}", explain(.source))]
    Tls { address: String, source: NoMutualTls },
    #[error("the TLS configuration is refused: {0}")]
    Config(#[source] rustls::Error),
    #[error("the authority at {0} does not speak HTTP/2")]
    NotHttp2(String),
    #[error("the connection to the authority failed: {}", explain(.0))]
    Transport(#[source] tonic::transport::Error),
    #[error("the authority answers {:?}: {}", .0.code(), explain(.0.as_ref()))]
    Status(#[source] Box<tonic::Status>),
    #[error("the authority ended the stream")]
    StreamEnded,
    #[error("the authority did not answer within {0:?}")]
    Timeout(Duration),
}

impl CaError {
    /// What the authority says of the evidence, when it is that which it refuses: asking again will not help.
    pub(super) fn evidence_refused(&self) -> Option<String> {
        let Self::Status(status) = self else { return None };
        let refused = matches!(status.code(), tonic::Code::Unauthenticated | tonic::Code::PermissionDenied);
        refused.then(|| explain(status.as_ref()))
    }
}

impl From<tonic::Status> for CaError {
    fn from(status: tonic::Status) -> Self {
        Self::Status(Box::new(status))
    }
}

/// tonic keeps the cause (a TLS alert, a reset) below several layers of "transport error".
fn explain(error: &(dyn StdError + 'static)) -> String {
    let mut text = match error.downcast_ref::<tonic::Status>() {
        Some(status) => status.message().to_owned(),
        None => error.to_string(),
    };
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    let end = (0..=MAX_ERROR.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or_default());
    text.replace(char::is_control, " ")
}

/// A connection to the authority. It is not made anew when it breaks: a new one would need the identity of
/// that moment.
pub(super) struct CaClient(CertificateAuthorityClient<Channel>);

impl CaClient {
    /// Connects; `config` decides which server is the authority. `deadline` is for all of it.
    pub(super) async fn connect(
        address: &str,
        config: ClientConfig,
        deadline: Duration,
    ) -> Result<Self, CaError> {
        timeout(deadline, Self::dial(address, config)).await.map_err(|_| CaError::Timeout(deadline))?
    }

    async fn dial(address: &str, mut config: ClientConfig) -> Result<Self, CaError> {
        let no_connection = |source| CaError::Connect { address: address.to_owned(), source };
        let no_tls = |source| CaError::Tls { address: address.to_owned(), source };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let socket = TcpStream::connect(address).await.map_err(no_connection)?;
        socket.set_nodelay(true).map_err(no_connection)?;
        let tls = TlsConnector::from(Arc::new(config));
        let stream =
            tls.connect(server_name(address), socket).await.map_err(NoMutualTls::of_io).map_err(no_tls)?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(CaError::NotHttp2(address.to_owned()));
        }
        // The scheme is http because the stream below already is TLS.
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(CaError::Transport)?
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE_ANSWER)
            .keep_alive_while_idle(true);
        let mut stream = Some(TokioIo::new(stream));
        let once = tower::service_fn(move |_: Uri| {
            let stream = stream.take().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected));
            std::future::ready(stream)
        });
        let channel = endpoint.connect_with_connector(once).await.map_err(CaError::Transport)?;
        Ok(Self(CertificateAuthorityClient::new(channel).max_decoding_message_size(MAX_MESSAGE)))
    }

    pub(super) async fn issue(
        &mut self,
        request: IssueRequest,
        deadline: Duration,
    ) -> Result<IssueResponse, CaError> {
        let answer = timeout(deadline, self.0.issue(request)).await;
        Ok(answer.map_err(|_| CaError::Timeout(deadline))??.into_inner())
    }

    /// The stream and its first bundle, which the authority sends at once; `None` if it ends before.
    pub(super) async fn watch_bundle(
        &mut self,
        acknowledged_generation: u64,
        deadline: Duration,
    ) -> Result<(Option<Bundle>, tonic::Streaming<Bundle>), CaError> {
        let first = async {
            let request = WatchBundleRequest { acknowledged_generation };
            let mut stream = self.0.watch_bundle(request).await?.into_inner();
            Ok((stream.message().await?, stream))
        };
        timeout(deadline, first).await.map_err(|_| CaError::Timeout(deadline))?
    }
}

/// The host of `address` for the ClientHello; who the server is, its SPIFFE ID says.
fn server_name(address: &str) -> ServerName<'static> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    ServerName::try_from(host).unwrap_or(ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_gives_the_server_name() {
        for (address, name) in
            [("ca.example:8443", "ca.example"), ("10.0.0.1:8443", "10.0.0.1"), ("[::1]:8443", "::1")]
        {
            assert_eq!(server_name(address).to_str(), name);
        }
    }

    #[tokio::test]
    async fn an_authority_that_accepts_and_says_nothing_is_given_up() {
        let mesh = crate::tls::testing::Mesh::new();
        let identity = mesh.identity("spiffe://cluster.local/ns/production/sa/api");
        let config = identity.client_config(crate::tls::ExpectedPeer::OneOf(vec![]));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let deadline = Duration::from_millis(50);
        let silent = CaClient::connect(&address, config, deadline).await.err();
        assert!(matches!(silent, Some(CaError::Timeout(after)) if after == deadline), "{silent:?}");
    }

    #[test]
    fn an_error_text_is_bounded_and_one_line() {
        let status = tonic::Status::internal(format!("{}\n{}", "ä".repeat(300), "end"));
        let text = explain(&status);
        assert!(text.len() <= MAX_ERROR && !text.contains('\n'), "{text}");
        assert_eq!(explain(&tonic::Status::internal("short\nlines")), "short lines");
    }
}
