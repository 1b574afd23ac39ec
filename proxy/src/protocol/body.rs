//! Bodies of messages on their way to another hop: streamed, never held whole, and nothing unsafe after them.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::headers::keep_safe;

mod filtered;
pub mod replay;
mod stoppable;
pub mod tee;

pub use filtered::Filtered;
pub use replay::ReplayBody;
pub use stoppable::StoppableBody;
pub use tee::{CopyBody, TeeBody};

/// A request's body: streamed, never held whole. Its trailers are filtered as those of [`Filtered`].
#[derive(Debug)]
pub enum RequestBody {
    /// None.
    Empty,
    /// As it comes from the client.
    Streamed(Incoming),
    /// The same, until it is told to stop.
    Stoppable(StoppableBody),
    /// Streamed, with its beginning kept for another attempt.
    Replayed(ReplayBody),
    /// Streamed, with copies that are made on the way.
    Teed(Box<TeeBody>),
    /// Such a copy.
    Copied(CopyBody),
}

/// Why a body ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Its sender broke it off.
    #[error(transparent)]
    Broken(#[from] hyper::Error),
    /// The request is sent again on another connection; this one must not look whole.
    #[error("the request is sent again on another connection")]
    Superseded,
    /// A copy whose original was given up, or that lagged behind it by more than 64 KiB.
    #[error("the copy lagged behind the request, or the request was given up")]
    Abandoned,
}

impl From<Incoming> for RequestBody {
    fn from(body: Incoming) -> Self {
        Self::Streamed(body)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Streamed(body) => Pin::new(body).poll_frame(cx).map_err(BodyError::from),
            Self::Stoppable(body) => Pin::new(body).poll_frame(cx).map_err(BodyError::from),
            Self::Replayed(body) => Pin::new(body).poll_frame(cx),
            Self::Teed(body) => Pin::new(&mut **body).poll_frame(cx),
            Self::Copied(body) => Pin::new(body).poll_frame(cx),
        };
        frame.map_ok(safe)
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Streamed(body) => body.is_end_stream(),
            Self::Stoppable(body) => body.is_end_stream(),
            Self::Replayed(body) => body.is_end_stream(),
            Self::Teed(body) => body.is_end_stream(),
            Self::Copied(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Streamed(body) => body.size_hint(),
            Self::Stoppable(body) => body.size_hint(),
            Self::Replayed(body) => body.size_hint(),
            Self::Teed(body) => body.size_hint(),
            Self::Copied(body) => body.size_hint(),
        }
    }
}

/// The frame without trailers that may not travel.
fn safe<D>(mut frame: Frame<D>) -> Frame<D> {
    if let Some(trailers) = frame.trailers_mut() {
        keep_safe(trailers);
    }
    frame
}
