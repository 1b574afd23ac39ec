//! Copies of requests for another service, whose answers are thrown away. Nothing about a copy ever holds up or fails
//! the request: there are at most so many at a time, one that lags is given up, and each ends by a deadline.
//!
//! A copy is made of the request as it is sent: rewritten, with the rules' header fields. As under Envoy `-shadow` is
//! put behind its host, before the port. It is sent once, never again.

use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Body;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Outbound, roll};
use crate::metrics::Metrics;
use crate::protocol::body::RequestBody;
use crate::protocol::body::tee::{Lag, tee};
use crate::route::{HttpVersion, Mirror, OutboundPolicy};
use crate::upstream::Target;

/// Copies under way at a time, of all requests.
pub(super) const MOST: usize = 64;
/// Longest life of a copy, with its answer.
const LONGEST: Duration = Duration::from_secs(30);
const SHARES: u64 = 1_000_000;

/// One copy, before it has a body.
struct Copy {
    target: Target,
    permit: OwnedSemaphorePermit,
}

/// Sends the copies that the rolls choose. Returns the body that the request goes on with.
pub(super) fn send(
    outbound: &Arc<Outbound>,
    (policy, mirrors): (&OutboundPolicy, &[Mirror]),
    (head, body): (&Parts, RequestBody),
    spoken: HttpVersion,
) -> RequestBody {
    let chosen = mirrors.iter().filter(|mirror| mirror.share.has(roll(SHARES)));
    let copies: Vec<Copy> = chosen
        .filter_map(|mirror| copy(mirror, policy, &outbound.bounds.mirrors, &outbound.metrics))
        .collect();
    if copies.is_empty() {
        return body;
    }
    let (body, bodies) = tee(body, copies.len());
    for (copy, (body, lag)) in copies.into_iter().zip(bodies) {
        let mut head = head.clone();
        shadow(&mut head.headers);
        let (request, outbound) = (Request::from_parts(head, body), Arc::clone(outbound));
        let drain = outbound.drain.clone();
        drain.spawn(async move { carry(&outbound, copy, request, &lag, spoken).await });
    }
    body
}

fn copy(
    mirror: &Mirror,
    policy: &OutboundPolicy,
    places: &Arc<Semaphore>,
    metrics: &Metrics,
) -> Option<Copy> {
    let destination = Arc::clone(policy.get(mirror.id)?);
    let Ok(permit) = Arc::clone(places).try_acquire_owned() else {
        Metrics::outcome(&metrics.mirrors, "dropped");
        return None;
    };
    // Where the app meant to go says nothing of where the copy goes.
    Some(Copy { target: Target { destination, original: None, avoid: None, fresh: false }, permit })
}

async fn carry(
    outbound: &Outbound,
    copy: Copy,
    request: Request<RequestBody>,
    lag: &Lag,
    spoken: HttpVersion,
) {
    let Copy { target, permit } = copy;
    let version = target.destination.wire_version(spoken);
    let exchange = async {
        let identity = outbound.valid_identity().ok()?;
        let answer = outbound.pools.send(&target, &identity, request, version).await.ok()?;
        read_away(answer.response).await
    };
    let answered = tokio::select! {
        biased;
        () = lag.known() => None,
        answered = tokio::time::timeout(LONGEST, exchange) => answered.ok().flatten(),
    };
    let outcome = match answered {
        Some(()) => "answered",
        None if lag.is_known() => "dropped",
        None => "failed",
    };
    Metrics::outcome(&outbound.metrics.mirrors, outcome);
    drop(permit);
}

/// Reads an answer to its end, so that its connection can be used again.
pub(super) async fn read_away<B: Body + Unpin>(response: Response<B>) -> Option<()> {
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        frame.ok()?;
    }
    Some(())
}

/// `api:8080` becomes `api-shadow:8080`.
fn shadow(headers: &mut HeaderMap) {
    let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else { return };
    let port = host.rfind(':').filter(|colon| {
        host.get(colon + 1..).is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
    });
    let (name, port) = host.split_at(port.unwrap_or(host.len()));
    if let Ok(shadowed) = HeaderValue::try_from(format!("{name}-shadow{port}")) {
        headers.insert(header::HOST, shadowed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shadow_is_put_behind_the_host_and_before_the_port() {
        for (host, shadowed) in [
            ("api", "api-shadow"),
            ("api:8080", "api-shadow:8080"),
            ("api.production.svc.cluster.local", "api.production.svc.cluster.local-shadow"),
            ("[::1]:80", "[::1]-shadow:80"),
            ("[fd00::a]", "[fd00::a]-shadow"),
        ] {
            let mut headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static(host))]);
            shadow(&mut headers);
            assert_eq!(headers[header::HOST], shadowed);
        }
    }
}
