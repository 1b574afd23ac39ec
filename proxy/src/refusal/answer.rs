//! What a refused caller gets: the status and the reason, in the form that it speaks.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;

use super::{Bound, Overflow, Refusal};
use crate::protocol::grpc;

impl Refusal {
    /// What an HTTP caller gets.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) | Self::Unreadable(_) => StatusCode::BAD_REQUEST,
            Self::Denied(denial) if denial.is_bad_request() => StatusCode::BAD_REQUEST,
            Self::Denied(_) | Self::Plaintext { .. } | Self::NoMutualTls { .. } | Self::NoTransport(_) => {
                StatusCode::FORBIDDEN
            }
            Self::NoRoute(_) => StatusCode::NOT_FOUND,
            Self::UnknownDestination(_)
            | Self::Broken { .. }
            | Self::Expired { .. }
            | Self::UpstreamIdentity { .. } => StatusCode::BAD_GATEWAY,
            Self::NoOriginalDst(_)
            | Self::Uncertified(_)
            | Self::Undetected
            | Self::NoApp { .. }
            | Self::Overflow { .. }
            | Self::QueueTimeout { .. }
            | Self::NoEndpoints { .. }
            | Self::Unreachable { .. }
            | Self::NotResolved { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::WrongProtocol { .. } | Self::Revoked(_) => StatusCode::FORBIDDEN,
            Self::BadUpgrade { .. } => StatusCode::BAD_GATEWAY,
            Self::Shared(refusal) => refusal.status(),
            Self::TimedOut { .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::NoUpgrade { .. } => StatusCode::BAD_GATEWAY,
            Self::NotRewritable { .. } => StatusCode::BAD_REQUEST,
        }
    }

    /// The answer to an HTTP caller: the status, and the reason as JSON.
    #[must_use]
    pub fn response(&self) -> Response<Full<Bytes>> {
        let (refused, reason) = (self.label(), self.to_string());
        let body = match self.overflow() {
            None => serde_json::json!({ "refused": refused, "reason": reason }),
            Some(Overflow { limit, value, destination }) => {
                let value = match value {
                    Bound::Number(number) => number.into(),
                    Bound::Time(_) => serde_json::Value::from(value.to_string()),
                };
                serde_json::json!({
                    "refused": refused, "reason": reason, "limit": limit, "value": value, "destination": destination
                })
            }
        };
        let mut response = Response::new(Full::from(format!("{body}\n")));
        *response.status_mut() = self.status();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.mark(response)
    }

    /// The answer to a gRPC caller, which reads its own status and not that of HTTP.
    #[must_use]
    pub fn grpc_response(&self) -> Response<Full<Bytes>> {
        self.mark(grpc::trailers_only(grpc::status_for(self.status()), &self.to_string()))
    }

    /// The answer in the form that the caller speaks, which its request's header fields tell.
    #[must_use]
    pub fn response_to(&self, request: &HeaderMap) -> Response<Full<Bytes>> {
        if grpc::is_grpc(request) { self.grpc_response() } else { self.response() }
    }

    fn mark(&self, mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
        if let Self::Shared(refusal) = self {
            return refusal.mark(response);
        }
        let headers = response.headers_mut();
        headers.insert("x-portcullis-refused", HeaderValue::from_static(self.label()));
        if let Self::BadRequest(_) = self {
            // What follows on the connection may be part of what could not be told apart (RFC 9112, 6.3).
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(overflow) = self.overflow() {
            headers.insert("x-portcullis-overflow", HeaderValue::from_static(overflow.limit));
            headers.insert("x-envoy-overloaded", HeaderValue::from_static("true"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::BodyExt;

    use super::*;
    use crate::authz::{AmbiguousPath, Denial, RuleRef};
    use crate::route::{NoRoute, NoTransport};

    #[test]
    fn a_grpc_caller_is_answered_in_its_own_terms() {
        let rule = RuleRef::resource("VirtualService", "production", "api");
        let slow = Refusal::TimedOut {
            destination: "api:8443".into(),
            field: "timeout",
            limit: Duration::from_millis(1500),
            rule,
        };
        let response = slow.grpc_response();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["grpc-status"], "4");
        let message = "no answer from api:8443 within 1500 ms (timeout); VirtualService production/api";
        assert_eq!(response.headers()["grpc-message"], message);
        assert_eq!(response.headers()["x-portcullis-refused"], "timeout");
        assert_eq!(slow.response().status(), StatusCode::GATEWAY_TIMEOUT);
        for (refusal, status) in [
            (Refusal::NoEndpoints { destination: "api".into() }, "14"),
            (Refusal::BadRequest("no Host"), "13"),
            (NoRoute { to: "api".into(), rule: RuleRef::built_in() }.into(), "12"),
            (NoTransport::ExceptionOver { to: "api".into(), rule: RuleRef::built_in() }.into(), "7"),
        ] {
            assert_eq!(refusal.grpc_response().headers()["grpc-status"], status, "{refusal}");
        }
    }

    #[test]
    fn a_denial_is_forbidden_but_for_a_request_at_fault() {
        let rule = RuleRef::built_in;
        let ambiguous = Denial::AmbiguousPath { defect: AmbiguousPath::EncodedSlash, rule: rule() };
        assert_eq!(Refusal::from(ambiguous).status(), StatusCode::BAD_REQUEST);
        for denial in [
            Denial::Plaintext { rule: rule() },
            Denial::ByPolicy { peer: None, port: 80, rule: rule() },
            Denial::NotAllowed { peer: None, port: 80, rule: rule() },
            Denial::NeedsHttp { peer: None, port: 80, rule: rule() },
        ] {
            assert_eq!(Refusal::from(denial).status(), StatusCode::FORBIDDEN);
        }
    }

    #[test]
    fn a_wait_that_took_too_long_is_told_apart_from_a_full_queue() {
        let waited = Duration::from_millis(250);
        let slow = Refusal::QueueTimeout { destination: "api:8443".into(), waited };
        let full =
            Refusal::Overflow { limit: "http1MaxPendingRequests", value: 50, destination: "api:8443".into() };
        for (refusal, name) in [(slow, "queueTimeout"), (full, "http1MaxPendingRequests")] {
            for response in [refusal.response(), refusal.grpc_response()] {
                assert_eq!(response.headers()["x-portcullis-overflow"], name);
                assert_eq!(response.headers()["x-envoy-overloaded"], "true");
            }
            assert_eq!(refusal.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(refusal.port(), Some(8443));
        }
    }

    #[tokio::test]
    async fn the_body_of_an_overflow_names_limit_value_and_destination_whatever_the_name_holds() {
        let odd = "a\"b\\c{}\u{1}\u{e9}:80 subset v1\n";
        let full = Refusal::Overflow { limit: "maxConnections", value: 7, destination: odd.into() };
        let slow = Refusal::QueueTimeout { destination: odd.into(), waited: Duration::from_millis(1500) };
        for (refusal, limit, value) in [
            (full, "maxConnections", serde_json::json!(7)),
            (slow, "queueTimeout", serde_json::json!("1500ms")),
        ] {
            let reason = refusal.to_string();
            let response = Refusal::Shared(refusal.into()).response();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            let expected = serde_json::json!({
                "refused": limit, "reason": reason, "limit": limit, "value": value, "destination": odd
            });
            assert_eq!(body, expected);
        }
    }

    #[test]
    fn what_is_shared_is_answered_as_if_it_were_one_s_own_in_either_form() {
        let overflow =
            Refusal::Overflow { limit: "maxConnections", value: 1, destination: "api:8443".into() };
        let shared = Refusal::Shared(overflow.into());
        for response in [shared.response(), shared.grpc_response()] {
            assert_eq!(response.headers()["x-portcullis-overflow"], "maxConnections");
        }
        assert_eq!(shared.response().status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}
