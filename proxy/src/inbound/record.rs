//! What is logged of one request, whatever becomes of it.

use http::{Method, Request, StatusCode};
use tokio::time::Instant;

use super::Session;
use crate::access::{self, Ends, Routed};
use crate::authz::RuleRef;
use crate::metrics::Direction;
use crate::refusal::Refusal;

/// What nginx says of a request whose client has left; HTTP has no status for it.
const CLIENT_LEFT: u16 = 499;

/// Filled in on the way, and logged when it is dropped: the app may have acted on a request whose caller did not stay
/// for the answer.
pub(super) struct Record<'a> {
    session: &'a Session,
    destination: String,
    method: Method,
    path: String,
    started: Instant,
    status: Option<StatusCode>,
    why: &'static str,
    /// The AUDIT rules that the request met.
    pub(super) audits: Vec<RuleRef>,
}

impl<'a> Record<'a> {
    pub(super) fn new<B>(session: &'a Session, destination: String, request: &Request<B>) -> Self {
        Self {
            session,
            destination,
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            started: Instant::now(),
            status: None,
            why: Routed::DIRECT.why,
            audits: Vec::new(),
        }
    }

    pub(super) fn answered(&mut self, status: StatusCode) {
        self.status = Some(status);
    }

    pub(super) fn refused(&mut self, refusal: &Refusal) {
        self.why = refusal.label();
    }
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        let ends = Ends {
            direction: Direction::inbound,
            client: self.session.admitted.facts().client,
            peer: self.session.admitted.peer(),
            destination: &self.destination,
            audits: &self.audits,
        };
        let (status, why) = match self.status {
            Some(status) => (status, self.why),
            None => (StatusCode::from_u16(CLIENT_LEFT).unwrap_or(StatusCode::BAD_REQUEST), "client_left"),
        };
        let routed = Routed { why, ..Routed::DIRECT };
        let metrics = &self.session.inbound.metrics;
        access::routed(metrics, ends, (&self.method, &self.path), (status, self.started), routed);
    }
}
