//! What goes back to the app: an answer of the service, or one that the rules or a refusal give in its place.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{Response, Version};
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};

use super::budget::Active;
use super::timeout::{Deadline, Passing};
use crate::pool::LeasedBody;
use crate::protocol::body::Filtered;
use crate::protocol::headers;
use crate::route::{HeaderRules, HttpAction, HttpRoute};

type BoxError = Box<dyn Error + Send + Sync>;

/// The body of an answer.
pub(super) enum AnswerBody {
    /// Given here.
    Own(Full<Bytes>),
    /// Streamed from the service.
    Streamed(Box<Streamed>),
}

/// See [`AnswerBody::Streamed`].
pub(super) struct Streamed {
    body: Filtered<LeasedBody>,
    passing: Option<Passing>,
    _active: Active,
}

/// The route's `timeout` has passed in the middle of an answer.
#[derive(Debug, thiserror::Error)]
#[error("the route's timeout has passed before the end of the answer")]
struct CutShort;

impl AnswerBody {
    /// A body that is broken off when `deadline` passes before its end, so that it does not look whole.
    pub(super) fn streamed(body: LeasedBody, deadline: Deadline, active: Active) -> Self {
        Self::Streamed(Box::new(Streamed {
            body: Filtered::new(body),
            passing: deadline.passing(),
            _active: active,
        }))
    }
}

impl Streamed {
    fn has_passed(&mut self, cx: &mut Context<'_>) -> bool {
        let passed = self.passing.as_mut().is_some_and(|passing| passing.as_mut().poll(cx).is_ready());
        if passed {
            self.passing = None;
        }
        passed
    }
}

/// An answer of the service, fit to travel on, with the changes that the rules make: the route's, then the target's.
pub(super) fn shape<'a, B>(response: &mut Response<B>, rules: impl Iterator<Item = &'a HeaderRules>) {
    headers::prepare_response(response.headers_mut());
    *response.version_mut() = Version::HTTP_11;
    for rules in rules {
        rules.response.apply(response.headers_mut());
    }
}

/// The answer of a route that sends nothing on, and what it is called in the log; `None` for one that does.
pub(super) fn own(route: &HttpRoute, head: &Parts) -> Option<(Response<Full<Bytes>>, &'static str)> {
    let (mut response, name) = match &route.action {
        HttpAction::Forward(_) => return None,
        HttpAction::Redirect(redirect) => {
            let mut response = Response::new(Full::default());
            *response.status_mut() = redirect.status;
            // What the app asked for may hold what no header value can; then there is no place to send it to.
            if let Ok(location) = HeaderValue::try_from(redirect.location(head)) {
                response.headers_mut().insert(header::LOCATION, location);
            }
            (response, "redirect")
        }
        HttpAction::Respond(direct) => {
            let mut response = Response::new(Full::new(direct.body.clone()));
            *response.status_mut() = direct.status;
            if !direct.body.is_empty() {
                let plain = HeaderValue::from_static("text/plain");
                response.headers_mut().insert(header::CONTENT_TYPE, plain);
            }
            (response, "direct_response")
        }
    };
    route.headers.response.apply(response.headers_mut());
    Some((response, name))
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Own(body) => {
                Pin::new(body).poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(Into::into)))
            }
            Self::Streamed(streamed) => {
                let frame = Pin::new(&mut streamed.body).poll_frame(cx);
                // Also in the middle of a stream that never pauses; but what has ended in time is whole.
                if !matches!(frame, Poll::Ready(None)) && streamed.has_passed(cx) {
                    return Poll::Ready(Some(Err(CutShort.into())));
                }
                frame.map(|frame| frame.map(|frame| frame.map_err(Into::into)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(body) => body.is_end_stream(),
            Self::Streamed(streamed) => streamed.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(body) => body.size_hint(),
            Self::Streamed(streamed) => streamed.body.size_hint(),
        }
    }
}
