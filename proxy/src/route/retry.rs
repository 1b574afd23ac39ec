//! When a request may be sent again. What the rules list is necessary and not enough: a request is sent again only
//! if it provably was not acted upon, or if acting upon it twice does no harm (RFC 9110, 9.2.2).

use std::collections::BTreeSet;
use std::time::Duration;

/// `retries` of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How often at most, the first time not counted.
    pub attempts: u32,
    /// Longest time of one attempt.
    pub per_try_timeout: Option<Duration>,
    /// After what.
    pub on: RetryOn,
}

/// Conditions of Istio's and Envoy's `retryOn`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a condition of its own, by its name")]
pub struct RetryOn {
    /// `connect-failure`.
    pub connect_failure: bool,
    /// `refused-stream`: the server says that it did not act on it (RFC 9113, 8.7).
    pub refused_stream: bool,
    /// `reset`: no answer, the connection broke.
    pub reset: bool,
    /// `reset-before-request`: the connection broke before the request was sent.
    pub reset_before_request: bool,
    /// Status codes: `5xx` is 500 to 599, `gateway-error` 502 to 504, `retriable-4xx` 409; or by number.
    pub statuses: BTreeSet<u16>,
    /// gRPC status codes by number: `cancelled` 1, `deadline-exceeded` 4, `resource-exhausted` 8, `internal` 13,
    /// `unavailable` 14.
    pub grpc: BTreeSet<u8>,
}

impl RetryOn {
    /// Whether an answer with this HTTP status is one to ask again after.
    #[must_use]
    pub fn wants_status(&self, status: u16) -> bool {
        self.statuses.contains(&status)
    }

    /// Whether an answer with this gRPC status is one to ask again after.
    #[must_use]
    pub fn wants_grpc(&self, status: u8) -> bool {
        self.grpc.contains(&status)
    }
}

impl Default for RetryPolicy {
    /// Twice, after what Istio's default names: `connect-failure,refused-stream,unavailable,cancelled,503`.
    fn default() -> Self {
        let on = RetryOn {
            connect_failure: true,
            refused_stream: true,
            reset_before_request: true,
            statuses: BTreeSet::from([503]),
            grpc: BTreeSet::from([1, 14]),
            ..RetryOn::default()
        };
        Self { attempts: 2, per_try_timeout: None, on }
    }
}
