//! What may become of a request. Everything that is counted by name has a bounded set of names.

use std::time::Duration;

use http::{HeaderMap, StatusCode};

/// The limits that a sidecar names in `x-portcullis-overflow`.
const LIMITS: [&str; 7] = [
    "maxConnections",
    "http1MaxPendingRequests",
    "http2MaxRequests",
    "maxRetries",
    "maxConcurrentStreams",
    "maxRequestsPerConnection",
    "queueTimeout",
];

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// With a status below 400, so long after it was due.
    Succeeded(Duration),
    /// By a limit of this name.
    Refused(&'static str),
    /// Otherwise.
    Failed(Failure),
    /// There was no connection for it.
    Unsent,
}

/// Why a request got no good answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    #[error("timeout")]
    Timeout,
    #[error("connect")]
    Connect,
    #[error("closed")]
    Closed,
    #[error("protocol")]
    Protocol,
    #[error("body too long")]
    TooLong,
    #[error("status {0}")]
    Status(u16),
    #[error("abandoned")]
    Abandoned,
}

/// What an answer says, if it is none of success.
pub(super) fn judge(status: StatusCode, headers: &HeaderMap) -> Option<Outcome> {
    if status.as_u16() < 400 {
        return None;
    }
    let refused = (status == StatusCode::SERVICE_UNAVAILABLE).then(|| limit(headers)).flatten();
    Some(refused.map_or(Outcome::Failed(Failure::Status(status.as_u16())), Outcome::Refused))
}

/// The limit that refused; `unnamed` when a sidecar says only that there was one, as Envoy does.
fn limit(headers: &HeaderMap) -> Option<&'static str> {
    if let Some(named) = headers.get("x-portcullis-overflow") {
        return Some(LIMITS.into_iter().find(|limit| named == limit).unwrap_or("other"));
    }
    headers.get("x-envoy-overloaded").is_some_and(|value| value == "true").then_some("unnamed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_told_from_failures() {
        let judged = |status: u16, name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            judge(StatusCode::from_u16(status).unwrap(), &headers)
        };
        let (ours, envoys) = ("x-portcullis-overflow", "x-envoy-overloaded");
        for (status, header, value, expected) in [
            (200, ours, "maxConnections", None),
            (399, "a", "b", None),
            (503, ours, "maxConnections", Some(Outcome::Refused("maxConnections"))),
            (503, ours, "a peer's own words", Some(Outcome::Refused("other"))),
            (503, envoys, "true", Some(Outcome::Refused("unnamed"))),
            (503, envoys, "false", Some(Outcome::Failed(Failure::Status(503)))),
            (502, ours, "maxConnections", Some(Outcome::Failed(Failure::Status(502)))),
            (404, "a", "b", Some(Outcome::Failed(Failure::Status(404)))),
        ] {
            assert_eq!(judged(status, header, value), expected, "{status} {header}: {value}");
        }
    }

    #[test]
    fn our_header_wins_over_envoys() {
        let mut headers = HeaderMap::new();
        headers.insert("x-envoy-overloaded", "true".parse().unwrap());
        headers.insert("x-portcullis-overflow", "http2MaxRequests".parse().unwrap());
        let judged = judge(StatusCode::SERVICE_UNAVAILABLE, &headers);
        assert_eq!(judged, Some(Outcome::Refused("http2MaxRequests")));
    }
}
