//! The body of an app's answer: it gives its connection back when it has been read whole, and ends in an error when its
//! request is no longer permitted.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::Session;
use super::app_link::Lease;
use super::standing::Standing;
use crate::refusal::Refusal;

/// See the module.
pub(super) struct AppBody {
    body: Incoming,
    lease: Option<Lease>,
    standing: Standing,
    session: Arc<Session>,
}

/// Why an answer ends before its end. The caller's stream or connection is reset.
#[derive(Debug, thiserror::Error)]
pub(super) enum CutShort {
    /// The app's side broke.
    #[error("the app's answer broke: {0}")]
    Broken(#[source] hyper::Error),
    /// The policy has changed.
    #[error("no longer permitted")]
    Revoked,
}

impl AppBody {
    pub(super) fn new(body: Incoming, lease: Lease, standing: Standing, session: Arc<Session>) -> Self {
        let mut answer = Self { body, lease: Some(lease), standing, session };
        if answer.body.is_end_stream() {
            answer.release();
        }
        answer
    }

    fn release(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
    }
}

impl Body for AppBody {
    type Data = Bytes;
    type Error = CutShort;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutShort>>> {
        if let Poll::Ready(denial) = self.standing.poll_revoked(cx) {
            self.lease = None;
            self.session.report(&Refusal::Revoked(denial));
            return Poll::Ready(Some(Err(CutShort::Revoked)));
        }
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Err(_)) => self.lease = None,
            Some(Ok(_)) if !self.body.is_end_stream() => {}
            _ => self.release(),
        }
        Poll::Ready(frame.map(|frame| frame.map_err(CutShort::Broken)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
