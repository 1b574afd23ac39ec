//! A request's body that can be sent again while it is small: what has passed is kept up to a bound, and a later
//! attempt begins with it. Beyond the bound nothing is kept, and the request can be sent once only.
//!
//! The body is streamed all the same: the first attempt reads it as it comes, at the pace of the server.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::{BodyError, RequestBody};

/// Most bytes kept of one request.
pub const MOST_KEPT: usize = 64 * 1024;
/// What a piece counts at least, so that many small ones do not cost more than they count.
const PIECE: usize = 64;

/// A request's body, from which one attempt after the other takes its own.
#[derive(Debug)]
pub struct Replay<B = RequestBody>(Option<Arc<Shared<B>>>);

/// The body of one attempt. The next attempt ends it with an error.
#[derive(Debug)]
pub struct ReplayBody<B = RequestBody> {
    shared: Arc<Shared<B>>,
    attempt: u32,
    /// Pieces passed on.
    passed: usize,
}

/// Since when the server has had its turn: it is the clock that timeouts go by.
///
/// It stands still while the client is waited for, so that a slow upload or an open stream of messages is not held
/// against the server, as in Envoy, whose timer starts when the request has ended. Unlike Envoy's it also runs while
/// the server does not take what is there.
#[derive(Debug, Clone)]
pub struct Progress {
    start: Instant,
    /// Nanoseconds from `start` to the last bytes of the client; [`WAITING`] while it is waited for.
    since: Arc<AtomicU64>,
}

const WAITING: u64 = u64::MAX;

#[derive(Debug)]
struct Shared<B> {
    state: Mutex<State<B>>,
    progress: Progress,
}

#[derive(Debug)]
struct State<B> {
    source: B,
    /// All that has passed; `None` when that is not all any more.
    kept: Option<Vec<Piece>>,
    cost: usize,
    /// The attempt that reads it, counted from 1; 0 before the first.
    attempt: u32,
    reader: Option<Waker>,
    ended: bool,
}

#[derive(Debug, Clone)]
enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl<B> Replay<B>
where
    B: Body<Data = Bytes> + Unpin,
    BodyError: From<B::Error>,
{
    /// What passes is kept for another attempt.
    #[must_use]
    pub fn new(source: B) -> (Self, Progress) {
        let progress = Progress::new();
        if source.is_end_stream() {
            return (Self(None), progress);
        }
        let state = State { source, kept: Some(Vec::new()), cost: 0, attempt: 0, reader: None, ended: false };
        let shared = Shared { state: Mutex::new(state), progress: progress.clone() };
        (Self(Some(Arc::new(shared))), progress)
    }

    /// Whether another attempt would send the whole body.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.0.as_ref().is_none_or(|shared| {
            let state = shared.lock();
            state.attempt == 0 || state.kept.is_some()
        })
    }

    /// The body of the next attempt. `None` of the outer: what has passed is not whole any more. `None` of the
    /// inner: the request has no body.
    fn attempt(&self) -> Option<Option<ReplayBody<B>>> {
        let Some(shared) = &self.0 else { return Some(None) };
        let mut state = shared.lock();
        if state.attempt > 0 && state.kept.is_none() {
            return None;
        }
        state.attempt += 1;
        if let Some(before) = state.reader.take() {
            before.wake();
        }
        Some(Some(ReplayBody { shared: Arc::clone(shared), attempt: state.attempt, passed: 0 }))
    }
}

impl Replay {
    /// The body of the next attempt; that of the attempt before ends with an error. `None` when more has passed
    /// than was kept.
    #[must_use]
    pub fn next(&self) -> Option<RequestBody> {
        let attempt = self.attempt()?;
        Some(attempt.map_or(RequestBody::Empty, RequestBody::Replayed))
    }
}

impl Progress {
    fn new() -> Self {
        Self { start: Instant::now(), since: Arc::new(AtomicU64::new(0)) }
    }

    /// The moment of the client's last bytes; `None` while the client is waited for.
    #[must_use]
    pub fn since(&self) -> Option<Instant> {
        match self.since.load(Ordering::Relaxed) {
            WAITING => None,
            nanos => Some(self.start + Duration::from_nanos(nanos)),
        }
    }

    fn made(&self) {
        let nanos = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(WAITING - 1);
        self.since.store(nanos, Ordering::Relaxed);
    }

    fn waits(&self) {
        self.since.store(WAITING, Ordering::Relaxed);
    }
}

impl<B> Shared<B> {
    fn lock(&self) -> MutexGuard<'_, State<B>> {
        // A body that panicked while it was polled is not polled again: its connection has ended.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B> Drop for Shared<B> {
    fn drop(&mut self) {
        // Nobody reads the rest any more: from here on it is the server's turn.
        if self.progress.since().is_none() {
            self.progress.made();
        }
    }
}

impl<B> State<B> {
    fn keep(&mut self, frame: &Frame<Bytes>) {
        let Some(kept) = &mut self.kept else { return };
        let piece = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => Piece::Data(data.clone()),
            (None, Some(trailers)) => Piece::Trailers(trailers.clone()),
            (None, None) => return,
        };
        self.cost += piece.cost();
        if self.cost <= MOST_KEPT {
            kept.push(piece);
        } else {
            self.kept = None;
        }
    }
}

impl Piece {
    fn cost(&self) -> usize {
        match self {
            Self::Data(data) => data.len().max(PIECE),
            Self::Trailers(trailers) => {
                trailers.iter().map(|(name, value)| name.as_str().len() + value.len() + PIECE).sum()
            }
        }
    }

    fn len(&self) -> u64 {
        match self {
            Self::Data(data) => data.len() as u64,
            Self::Trailers(_) => 0,
        }
    }

    fn frame(&self) -> Frame<Bytes> {
        match self {
            Self::Data(data) => Frame::data(data.clone()),
            Self::Trailers(trailers) => Frame::trailers(trailers.clone()),
        }
    }
}

impl<B> Body for ReplayBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    BodyError: From<B::Error>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let mut state = this.shared.lock();
        if state.attempt != this.attempt {
            return Poll::Ready(Some(Err(BodyError::Superseded)));
        }
        if let Some(piece) = state.kept.as_ref().and_then(|kept| kept.get(this.passed)) {
            this.passed += 1;
            return Poll::Ready(Some(Ok(piece.frame())));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        state.reader = Some(cx.waker().clone());
        let Poll::Ready(frame) = Pin::new(&mut state.source).poll_frame(cx) else {
            this.shared.progress.waits();
            return Poll::Pending;
        };
        this.shared.progress.made();
        match frame {
            Some(Ok(frame)) => {
                state.keep(&frame);
                this.passed += 1;
                state.ended = state.source.is_end_stream();
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                // What the client broke off will never be whole.
                state.kept = None;
                Poll::Ready(Some(Err(error.into())))
            }
            None => {
                state.ended = true;
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let state = self.shared.lock();
        let passed = state.kept.as_ref().is_none_or(|kept| self.passed >= kept.len());
        state.attempt == self.attempt && state.ended && passed
    }

    fn size_hint(&self) -> SizeHint {
        let state = self.shared.lock();
        let left = state.kept.iter().flatten().skip(self.passed).map(Piece::len).sum::<u64>();
        let source = state.source.size_hint();
        let mut hint = SizeHint::new();
        if let Some(upper) = source.upper() {
            hint.set_upper(upper + left);
        }
        hint.set_lower(source.lower() + left);
        hint
    }
}

#[cfg(test)]
mod tests;
