//! The two calls of `ca.proto`, and the one place where an error becomes a gRPC status.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use portcullis_identity::TrustBundle;
use tokio::sync::Semaphore;
use tokio_stream::Stream;
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Request, Response, Status};

use super::connection::Peer;
use super::proto::certificate_authority_server::CertificateAuthority;
use super::proto::{Bundle, IssueRequest, IssueResponse, WatchBundleRequest};
use crate::authority::Authority;
use crate::issue::{Ask, IssueError, Refusal};

/// Requests in hand at once; each waits for its turn at the store. More are told to come again.
const ISSUING: usize = 1024;

pub(super) struct Service {
    authority: Arc<Authority>,
    issuing: Semaphore,
    shutdown: CancellationToken,
}

impl Service {
    pub(super) fn new(authority: Arc<Authority>, shutdown: CancellationToken) -> Self {
        Self { authority, issuing: Semaphore::new(ISSUING), shutdown }
    }
}

#[tonic::async_trait]
impl CertificateAuthority for Service {
    async fn issue(&self, request: Request<IssueRequest>) -> Result<Response<IssueResponse>, Status> {
        let peer = peer(&request)?;
        let Ok(_turn) = self.issuing.try_acquire() else {
            return Err(Status::resource_exhausted("too many requests at once: try again later"));
        };
        let request = request.into_inner();
        let address = peer.address.to_string();
        let ask = Ask {
            csr_der: &request.csr_der,
            join_token: &request.join_token,
            svid: peer.svid.as_deref(),
            peer: &address,
        };
        let issued = self.authority.issue(&ask).await.map_err(status)?;
        Ok(Response::new(IssueResponse {
            chain_der: issued.chain.iter().map(|certificate| certificate.to_vec()).collect(),
            bundle: Some(message(&issued.bundle)),
        }))
    }

    type WatchBundleStream = Bundles;

    async fn watch_bundle(
        &self,
        request: Request<WatchBundleRequest>,
    ) -> Result<Response<Self::WatchBundleStream>, Status> {
        let Some(svid) = peer(&request)?.svid else {
            return Err(status(Refusal::NoEvidence.into()));
        };
        let now = self.authority.clock().now().as_secs();
        if now > svid.not_after {
            return Err(status(Refusal::SvidExpired.into()));
        }
        // Nobody can have acknowledged what there is not yet.
        let current = self.authority.bundle().generation();
        let generation = request.into_inner().acknowledged_generation.min(current);
        let store = self.authority.store();
        store.acknowledge(svid.id.as_str(), generation, now).await.map_err(|error| status(error.into()))?;
        // The stream itself has no deadline: the connection ends with the SVID that it was opened with.
        Ok(Response::new(Bundles {
            generations: WatchStream::new(self.authority.watch_bundle()),
            shutdown: Box::pin(self.shutdown.clone().cancelled_owned()),
        }))
    }
}

/// The current bundle, then each new one; ends at shutdown, which would wait for it in vain.
pub(super) struct Bundles {
    generations: WatchStream<Arc<TrustBundle>>,
    shutdown: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Stream for Bundles {
    type Item = Result<Bundle, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.shutdown.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(Status::unavailable("the authority is going down: connect again"))));
        }
        let next = ready!(Pin::new(&mut self.generations).poll_next(cx));
        Poll::Ready(next.map(|bundle| Ok(message(&bundle))))
    }
}

fn message(bundle: &TrustBundle) -> Bundle {
    Bundle {
        generation: bundle.generation(),
        jwks: bundle.to_jwks(),
        trust_domain: bundle.trust_domain().to_string(),
    }
}

fn peer<T>(request: &Request<T>) -> Result<Peer, Status> {
    let peer = request.extensions().get::<Peer>().cloned();
    peer.ok_or_else(|| Status::internal("the connection did not say who its peer is"))
}

/// Callers are told what is wrong with what they sent; what is wrong with us goes to the log.
fn status(error: IssueError) -> Status {
    match error {
        IssueError::Refused(refusal @ (Refusal::OtherIdentity { .. } | Refusal::NotGivenOut(_))) => {
            Status::permission_denied(refusal.to_string())
        }
        IssueError::Refused(refusal) => Status::unauthenticated(refusal.to_string()),
        IssueError::Csr(defect) => Status::invalid_argument(defect.to_string()),
        IssueError::Authority(error) => {
            tracing::error!(%error, "cannot issue");
            Status::unavailable("the authority cannot issue now: try again later")
        }
    }
}
