//! One request, sent as often as the rules and its own nature allow, until there is an answer to hand on.
//!
//! Nothing here knows how a request is sent ([`Wire`]): what counts is only how it ended.

use std::net::SocketAddr;
use std::time::Duration;

use http::Request;
use http::request::Parts;
use tokio::time::Instant;

use super::budget::{Active, Retrying};
use super::record::{NotRetried, Record};
use super::retry::{Outcome, backoff, is_lost, is_retriable};
use super::timeout::Deadline;
use crate::authz::RuleRef;
use crate::metrics::Metrics;
use crate::pool::Failed;
use crate::protocol::body::RequestBody;
use crate::protocol::body::replay::Replay;
use crate::refusal::Refusal;
use crate::route::RetryPolicy;
use crate::upstream::Target;

/// What sends a request once.
pub(super) trait Wire: Sync {
    /// An answer whose head has come.
    type Answer: Send;

    /// Sends it, and waits for the head of the answer.
    fn send(
        &self,
        target: &Target,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Result<Self::Answer, Failed>> + Send;

    /// How the head looks, and who sent it.
    fn look(&self, answer: &Self::Answer) -> (Outcome, Option<SocketAddr>);

    /// Throws an answer away.
    fn discard(&self, answer: Self::Answer);
}

/// How often and for how long.
pub(super) struct Bounds<'a> {
    /// The route that says so.
    pub(super) rule: &'a RuleRef,
    /// Of the whole exchange.
    pub(super) timeout: Option<Duration>,
    /// When it is sent again.
    pub(super) retries: &'a RetryPolicy,
    /// `maxRetries` of the destination; `u32::MAX`: not set.
    pub(super) max_retries: u32,
}

/// How one attempt ended.
enum Tried<A> {
    Answered(A),
    Failed(Failed),
    TooSlow(Duration),
}

/// A request that is being sent.
struct Sending<'a, W> {
    wire: &'a W,
    bounds: &'a Bounds<'a>,
    active: &'a Active,
    metrics: &'a Metrics,
    target: Target,
    replay: Replay,
    per_try: Deadline,
}

/// Sends a request to `target` within `bounds`. With the answer comes the deadline that its body has.
///
/// # Errors
/// [`Refusal::TimedOut`], or what the last attempt failed with.
pub(super) async fn send<W: Wire>(
    wire: &W,
    target: Target,
    (head, body): (Parts, RequestBody),
    bounds: &Bounds<'_>,
    (active, metrics): (&Active, &Metrics),
    record: &mut Record,
) -> Result<(W::Answer, Deadline), Refusal> {
    let (replay, progress) = Replay::new(body);
    let deadline = Deadline::new(bounds.timeout, progress.clone());
    let per_try = Deadline::new(bounds.retries.per_try_timeout, progress);
    let destination = target.to_string();
    let sending = Sending { wire, bounds, active, metrics, target, replay, per_try };
    tokio::select! {
        biased;
        answer = sending.until_answered(head, record) => answer.map(|answer| (answer, deadline.clone())),
        () = deadline.passed() => {
            Err(timed_out(destination, "timeout", bounds.timeout.unwrap_or_default(), bounds.rule))
        }
    }
}

fn timed_out(destination: String, field: &'static str, limit: Duration, rule: &RuleRef) -> Refusal {
    Refusal::TimedOut { destination, field, limit, rule: rule.clone() }
}

impl<W: Wire> Sending<'_, W> {
    async fn until_answered(mut self, head: Parts, record: &mut Record) -> Result<W::Answer, Refusal> {
        let mut body = self.replay.next().unwrap_or(RequestBody::Empty);
        let mut retrying = None;
        let mut lost = 0;
        loop {
            record.attempts += 1;
            let tried = self.attempt(Request::from_parts(head.clone(), body)).await;
            drop(retrying.take());
            let (outcome, endpoint) = self.look(&tried);
            if lost == 0
                && is_lost(&head.method, outcome)
                && let Some(whole) = self.replay.next()
            {
                // The server is not at fault: no retry of the rules is used up, and it may be asked again.
                // An idle connection may be as dead as the one before, and this is the only time that it is free.
                (lost, body) = (1, whole);
                self.target.fresh = true;
                Metrics::outcome(&self.metrics.retries, "stale");
                continue;
            }
            if !is_retriable(&head.method, outcome, &self.bounds.retries.on) {
                return self.result(tried);
            }
            let attempts = record.attempts.saturating_sub(lost);
            match self.again(attempts) {
                Ok((permit, next)) => (retrying, body) = (Some(permit), next),
                Err(why) => {
                    self.not_again(why, record);
                    return self.result(tried);
                }
            }
            Metrics::outcome(&self.metrics.retries, "retried");
            self.target.avoid = endpoint.or(self.target.avoid);
            if let Tried::Answered(answer) = tried {
                self.wire.discard(answer);
            }
            tokio::time::sleep(backoff(attempts, super::roll)).await;
        }
    }

    async fn attempt(&self, request: Request<RequestBody>) -> Tried<W::Answer> {
        let started = Instant::now();
        tokio::select! {
            biased;
            sent = self.wire.send(&self.target, request) => match sent {
                Ok(answer) => Tried::Answered(answer),
                Err(failed) => Tried::Failed(failed),
            },
            () = self.per_try.passed_since(Some(started)) => {
                Tried::TooSlow(self.bounds.retries.per_try_timeout.unwrap_or_default())
            }
        }
    }

    fn look(&self, tried: &Tried<W::Answer>) -> (Outcome, Option<SocketAddr>) {
        match tried {
            Tried::Answered(answer) => self.wire.look(answer),
            Tried::Failed(failed) => (Outcome::Failed(failed.stage), failed.endpoint),
            Tried::TooSlow(_) => (Outcome::TooSlow, None),
        }
    }

    /// The right to send it again, and the body to send.
    fn again(&self, attempts: u32) -> Result<(Retrying, RequestBody), NotRetried> {
        if attempts > self.bounds.retries.attempts {
            return Err(NotRetried::Exhausted);
        }
        let permit = self.active.retry(self.bounds.max_retries).ok_or(NotRetried::Budget)?;
        // The attempt before ends here: what is left of the body is the next one's.
        let body = self.replay.next().ok_or(NotRetried::Body)?;
        Ok((permit, body))
    }

    fn not_again(&self, why: NotRetried, record: &mut Record) {
        if why == NotRetried::Budget {
            self.metrics.overflow("maxRetries", &self.target.to_string());
        }
        // A route that wants no retries says nothing about them.
        if self.bounds.retries.attempts > 0 {
            Metrics::outcome(&self.metrics.retries, why.as_str());
            record.not_retried = Some(why);
        }
    }

    fn result(&self, tried: Tried<W::Answer>) -> Result<W::Answer, Refusal> {
        match tried {
            Tried::Answered(answer) => Ok(answer),
            Tried::Failed(failed) => Err(failed.refusal),
            Tried::TooSlow(limit) => {
                let destination = self.target.to_string();
                Err(timed_out(destination, "retries.perTryTimeout", limit, self.bounds.rule))
            }
        }
    }
}

#[cfg(test)]
mod tests;
