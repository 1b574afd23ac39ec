//! The requests of one inbound connection: each permitted by itself, sent to the app as whoever the peer has proven to
//! be, and turned into a tunnel if app and caller agree on that.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, Version, header};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tokio::time::Instant;

use super::Session;
use super::app_body::AppBody;
use super::app_link::{AppLink, Lease};
use super::record::Record;
use super::standing::Standing;
use crate::access::{self, Ends};
use crate::authz::{Permit, RequestFacts};
use crate::protocol::body::{Filtered, RequestBody, StoppableBody};
use crate::protocol::grpc;
use crate::protocol::headers::{self, Connect};
use crate::protocol::tcp::Ended;
use crate::protocol::upgrade::{self, Upgrade};
use crate::refusal::Refusal;
use crate::route::{AppProtocol, HttpVersion};

/// What a caller gets: the app's answer, or why not.
pub(super) type Answer = Response<Either<Filtered<AppBody>, Full<Bytes>>>;

/// See the module.
pub(super) struct Requests {
    session: Arc<Session>,
    app: Arc<AppLink>,
    connect: Connect,
    /// What the app speaks; `None` to ask it.
    app_version: Option<HttpVersion>,
}

/// A request that is about to become a stream of bytes.
struct Tunnel {
    asked: Upgrade,
    client: OnUpgrade,
}

impl Requests {
    pub(super) fn new(
        session: &Arc<Session>,
        app: Arc<AppLink>,
        declared: AppProtocol,
        client: HttpVersion,
    ) -> Self {
        let connect = match declared {
            AppProtocol::HttpProxy => Connect::Declared,
            AppProtocol::Http | AppProtocol::Http2 | AppProtocol::Tcp | AppProtocol::Undeclared => {
                Connect::Refused
            }
        };
        let app_version = match (declared, client) {
            (AppProtocol::Http2, _) => Some(HttpVersion::Http2),
            (AppProtocol::Http | AppProtocol::HttpProxy, _) | (_, HttpVersion::Http1) => {
                Some(HttpVersion::Http1)
            }
            (AppProtocol::Tcp | AppProtocol::Undeclared, HttpVersion::Http2) => None,
        };
        Self { session: Arc::clone(session), app, connect, app_version }
    }

    pub(super) async fn answer(&self, request: Request<Incoming>) -> Answer {
        let (version, is_grpc) = (request.version(), grpc::is_grpc(request.headers()));
        let mut record = Record::new(&self.session, self.app.to_string(), &request);
        let response = match self.forward(request, &mut record).await {
            Ok(response) => response,
            Err(refusal) => {
                self.session.report(&refusal);
                record.refused(&refusal);
                let mut response = if is_grpc { refusal.grpc_response() } else { refusal.response() };
                if version == Version::HTTP_2 {
                    response.headers_mut().remove(header::CONNECTION);
                }
                response.map(Either::Right)
            }
        };
        record.answered(response.status());
        response
    }

    async fn forward(
        &self,
        mut request: Request<Incoming>,
        record: &mut Record<'_>,
    ) -> Result<Answer, Refusal> {
        let session = &self.session;
        let tunnel = headers::prepare_request(&mut request, self.connect)?
            .map(|asked| Tunnel { asked, client: hyper::upgrade::on(&mut request) });
        let (mut head, body) = request.into_parts();

        let facts = RequestFacts::of(&head, &session.inbound.policy.load());
        let (mut standing, stop) = session.under_way.enter(facts);
        let permit = session.admitted.request(&session.inbound.policy.load(), &head)?;
        record.audits = permit.audits().to_vec();

        if let Some(peer) = permit.peer() {
            headers::set_identity(&mut head.headers, &session.inbound.own, peer);
        }
        if let Some(Tunnel { asked, .. }) = &tunnel {
            asked.ask(&mut head.headers);
        }
        let body = match tunnel {
            Some(_) => RequestBody::Empty,
            None => RequestBody::Stoppable(StoppableBody::new(body, stop)),
        };
        let version = match (&tunnel, self.app_version) {
            // An upgrade is a thing of HTTP/1.1 alone (RFC 9113, 8.6).
            (Some(_), _) => HttpVersion::Http1,
            (None, Some(version)) => version,
            (None, None) => self.app.version(&permit).await?,
        };
        let (mut response, lease) = tokio::select! {
            biased;
            denial = standing.revoked() => return Err(Refusal::Revoked(denial)),
            sent = self.app.send(&permit, Request::from_parts(head, body), version) => sent?,
        };

        let asked = tunnel.as_ref().map(|tunnel| &tunnel.asked);
        let is_granted = Upgrade::is_granted(asked, &response)
            .map_err(|source| Refusal::BadUpgrade { destination: self.app.to_string(), source })?;
        headers::prepare_response(response.headers_mut());
        match tunnel {
            Some(tunnel) if is_granted => {
                tunnel.asked.grant(response.headers_mut());
                let app = hyper::upgrade::on(&mut response);
                self.splice(tunnel.client, app, lease, standing, permit);
                Ok(response.map(|_| Either::Right(Full::default())))
            }
            _ => Ok(response.map(|body| {
                let body = AppBody::new(body, lease, standing, Arc::clone(session));
                Either::Left(Filtered::new(body))
            })),
        }
    }

    /// Copies what follows the answer, in a task that the connection waits for.
    fn splice(
        &self,
        client: OnUpgrade,
        app: OnUpgrade,
        lease: Lease,
        mut standing: Standing,
        permit: Permit,
    ) {
        let session = Arc::clone(&self.session);
        let destination = self.app.to_string();
        let copying = async move {
            let started = Instant::now();
            let life = session.lifetime.child();
            let splicing = upgrade::splice(client, app, &life);
            tokio::pin!(splicing);
            let ended = tokio::select! {
                ended = &mut splicing => ended,
                denial = standing.revoked() => {
                    session.report(&Refusal::Revoked(denial));
                    life.cut();
                    splicing.await;
                    return;
                }
            };
            drop(lease);
            if matches!(ended, Ended::Expired) {
                session.count_expired();
            }
            // The request that became this has been logged with the AUDIT rules that it met.
            let ends = Ends { audits: &[], ..session.ends(&permit, &destination) };
            access::stream(ends, &ended, started);
        };
        self.session.inbound.drain.spawn(self.session.tunnels.track_future(copying));
    }
}
