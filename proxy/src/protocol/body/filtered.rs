//! A body whose trailers say only what trailers may: no framing, no routing, no identity (RFC 9110, 6.5.1).

use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Frame, SizeHint};

use super::safe;

/// See the module.
#[derive(Debug)]
pub struct Filtered<B>(B);

impl<B> Filtered<B> {
    /// Filters what comes after `body`.
    pub fn new(body: B) -> Self {
        Self(body)
    }
}

impl<B: Body + Unpin> Body for Filtered<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.get_mut().0).poll_frame(cx).map_ok(safe)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}
