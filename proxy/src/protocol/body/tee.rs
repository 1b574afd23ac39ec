//! Copies of a request's body, made as it passes. A copy never slows the request: what it has not taken yet waits
//! up to a bound, and a copy that lags further is given up.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio_util::sync::CancellationToken;

use super::{BodyError, RequestBody};

/// Most bytes that wait for one copy.
pub const MOST_WAITING: usize = 64 * 1024;
/// What a frame counts at least, so that many small ones do not cost more than they count.
const FRAME: usize = 64;

/// The original: passes everything on, and puts a copy of it into each queue.
#[derive(Debug)]
pub struct TeeBody<B = RequestBody> {
    source: B,
    copies: Vec<Arc<Queue>>,
}

/// A copy.
#[derive(Debug)]
pub struct CopyBody {
    queue: Arc<Queue>,
    /// Of the whole body, if its length is known.
    length: Option<u64>,
}

/// Tells whether a copy was given up because it lagged.
#[derive(Debug, Clone)]
pub struct Lag(Option<CancellationToken>);

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    /// Cancelled when the copy is given up for its lag: a server that does not read leaves it without a reader.
    lagged: CancellationToken,
}

#[derive(Debug, Default)]
struct Waiting {
    frames: VecDeque<Frame<Bytes>>,
    cost: usize,
    end: End,
    reader: Option<Waker>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum End {
    /// There is more to come.
    #[default]
    Open,
    /// The original has ended; what waits is the rest.
    Whole,
    /// The original was given up, or the copy was.
    Cut,
}

/// Makes `copies` of a body, each with a look at whether it lagged.
#[must_use]
pub fn tee(source: RequestBody, copies: usize) -> (RequestBody, Vec<(RequestBody, Lag)>) {
    if source.is_end_stream() {
        let empty = || (RequestBody::Empty, Lag(None));
        return (source, std::iter::repeat_with(empty).take(copies).collect());
    }
    let (tee, copies) = split(source, copies);
    let copies = copies.into_iter().map(|copy| {
        let lag = Lag(Some(copy.queue.lagged.clone()));
        (RequestBody::Copied(copy), lag)
    });
    (RequestBody::Teed(Box::new(tee)), copies.collect())
}

fn split<B: Body>(source: B, copies: usize) -> (TeeBody<B>, Vec<CopyBody>) {
    let length = source.size_hint().exact();
    let queues: Vec<Arc<Queue>> = std::iter::repeat_with(Arc::default).take(copies).collect();
    let copies = queues.iter().map(|queue| CopyBody { queue: Arc::clone(queue), length }).collect();
    (TeeBody { source, copies: queues }, copies)
}

impl Lag {
    /// Whether it was.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.0.as_ref().is_some_and(CancellationToken::is_cancelled)
    }

    /// Resolves when it is.
    pub async fn known(&self) {
        match &self.0 {
            Some(lagged) => lagged.cancelled().await,
            None => std::future::pending().await,
        }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics while holding it.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, frame: &Frame<Bytes>) {
        let copy = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => Frame::data(data.clone()),
            (None, Some(trailers)) => Frame::trailers(trailers.clone()),
            (None, None) => return,
        };
        let mut waiting = self.lock();
        if waiting.end != End::Open {
            return;
        }
        // One frame larger than the bound may wait alone: a server that keeps up takes it whole.
        let cost = cost(&copy);
        if waiting.cost > 0 && waiting.cost + cost > MOST_WAITING {
            waiting.finish(End::Cut);
            self.lagged.cancel();
            return;
        }
        waiting.cost += cost;
        waiting.frames.push_back(copy);
        waiting.wake();
    }

    fn finish(&self, end: End) {
        let mut waiting = self.lock();
        if waiting.end == End::Open {
            waiting.finish(end);
        }
    }
}

impl Waiting {
    fn finish(&mut self, end: End) {
        self.end = end;
        if end != End::Whole {
            self.frames.clear();
        }
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

fn cost(frame: &Frame<Bytes>) -> usize {
    let trailers = frame.trailers_ref().into_iter().flatten();
    let trailers: usize = trailers.map(|(name, value)| name.as_str().len() + value.len() + FRAME).sum();
    frame.data_ref().map_or(trailers, Bytes::len).max(FRAME)
}

impl<B> Body for TeeBody<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.source).poll_frame(cx));
        for copy in &this.copies {
            match &frame {
                Some(Ok(frame)) => copy.push(frame),
                Some(Err(_)) => copy.finish(End::Cut),
                None => copy.finish(End::Whole),
            }
        }
        // Whoever knows the length does not ask for an end after the last byte.
        if this.source.is_end_stream() {
            this.copies.iter().for_each(|copy| copy.finish(End::Whole));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.source.size_hint()
    }
}

impl<B> Drop for TeeBody<B> {
    fn drop(&mut self) {
        self.copies.iter().for_each(|copy| copy.finish(End::Cut));
    }
}

impl Body for CopyBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut waiting = self.queue.lock();
        if let Some(frame) = waiting.frames.pop_front() {
            waiting.cost -= cost(&frame);
            return Poll::Ready(Some(Ok(frame)));
        }
        match waiting.end {
            End::Open => {
                waiting.reader = Some(cx.waker().clone());
                Poll::Pending
            }
            End::Whole => Poll::Ready(None),
            End::Cut => Poll::Ready(Some(Err(BodyError::Abandoned))),
        }
    }

    fn is_end_stream(&self) -> bool {
        let waiting = self.queue.lock();
        waiting.end == End::Whole && waiting.frames.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for CopyBody {
    fn drop(&mut self) {
        self.queue.finish(End::Cut);
    }
}

#[cfg(test)]
mod tests;
