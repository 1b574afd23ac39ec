//! When a request is sent again, as pure functions.
//!
//! What the rules name is necessary and not enough. A request is sent again only if it provably was not acted upon,
//! or if acting upon it twice does no harm: its method is idempotent (RFC 9110, 9.2.2). Istio and Envoy leave that
//! to whoever writes the rules.

use std::time::Duration;

use http::{Method, StatusCode};

use crate::pool::Stage;
use crate::route::RetryOn;

/// Envoy's first interval; each is twice the one before, up to ten times the first.
const BASE: Duration = Duration::from_millis(25);
const LONGEST: Duration = Duration::from_millis(250);

/// How one attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Without an answer.
    Failed(Stage),
    /// Without an answer within `perTryTimeout`; what the server made of it is not known.
    TooSlow,
    /// With an answer, of which only the head has come.
    Answered {
        /// Its status.
        status: StatusCode,
        /// That of gRPC, if the head is the whole answer.
        grpc: Option<u8>,
    },
}

/// Whether to send a request again that ended like this.
pub(super) fn is_retriable(method: &Method, outcome: Outcome, on: &RetryOn) -> bool {
    match outcome {
        Outcome::Failed(Stage::Refused) => false,
        Outcome::Failed(Stage::Connecting) => on.connect_failure || on.reset || on.reset_before_request,
        Outcome::Failed(Stage::Unsent | Stage::Stale) => {
            on.refused_stream || on.connect_failure || on.reset || on.reset_before_request
        }
        Outcome::Failed(Stage::Ended | Stage::Sent) => method.is_idempotent() && on.reset,
        Outcome::TooSlow => method.is_idempotent() && (on.reset || on.wants_status(504)),
        Outcome::Answered { status, grpc } => {
            let named = on.wants_status(status.as_u16()) || grpc.is_some_and(|status| on.wants_grpc(status));
            method.is_idempotent() && named
        }
    }
}

/// Whether to send a request again without being asked to, once: the connection that it was to go out on had ended
/// before it, as happens when the server closes an idle connection at the moment that a request is sent (RFC 9112,
/// 9.3.1). Where nothing proves that the server did not see it, only if seeing it twice does no harm.
pub(super) fn is_lost(method: &Method, outcome: Outcome) -> bool {
    match outcome {
        Outcome::Failed(Stage::Stale) => true,
        Outcome::Failed(Stage::Ended) => method.is_idempotent(),
        Outcome::Failed(Stage::Refused | Stage::Connecting | Stage::Unsent | Stage::Sent)
        | Outcome::TooSlow
        | Outcome::Answered { .. } => false,
    }
}

/// How long to wait before the retry number `retry`, counted from 1: a random part of its interval, so that many
/// callers do not come back at once.
pub(super) fn backoff(retry: u32, roll: impl FnOnce(u64) -> u64) -> Duration {
    let doubled = 2_u32.saturating_pow(retry.saturating_sub(1));
    let interval = BASE.saturating_mul(doubled).min(LONGEST);
    Duration::from_micros(roll(u64::try_from(interval.as_micros()).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests;
