//! A request's body of which no more is passed on once its sender is no longer permitted.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::oneshot;

/// See the module.
#[derive(Debug)]
pub struct StoppableBody {
    body: Incoming,
    stop: Option<oneshot::Receiver<()>>,
    stopped: bool,
}

impl StoppableBody {
    /// Passes on `body` until `stop` is sent. A sender that is dropped stops nothing.
    #[must_use]
    pub fn new(body: Incoming, stop: oneshot::Receiver<()>) -> Self {
        Self { body, stop: Some(stop), stopped: false }
    }
}

impl Body for StoppableBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(stop) = &mut self.stop
            && let Poll::Ready(word) = Pin::new(stop).poll(cx)
        {
            self.stop = None;
            self.stopped = word.is_ok();
        }
        if self.stopped {
            // An end would make what came look whole. Its connection or stream is about to be cut.
            return Poll::Pending;
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
