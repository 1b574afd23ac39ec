//! What an app gets beyond a limit.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::time::Duration;

use http::{HeaderValue, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::server::mute;
use crate::outbound::testing::{Bed, destination, forward, get, mark, policy, post, route, within};
use crate::route::{AppProtocol, HttpAction, OutboundPolicy, PoolLimits};

/// `api:80` within limits, with a server that says nothing.
async fn bed(protocol: AppProtocol, limits: PoolLimits) -> Bed {
    let mut api = destination("api", 80, &[mute().await]);
    (api.protocol, api.limits) = (protocol, limits);
    Bed::new(OutboundPolicy::new(vec![api], HashMap::new()))
}

/// Sends a request and leaves it under way.
async fn hold(bed: &Bed) -> TcpStream {
    let mut held = TcpStream::connect(bed.addr).await.unwrap();
    held.write_all(b"GET / HTTP/1.1\r\nhost: api\r\n\r\n").await.unwrap();
    within(async {
        while bed.outbound.pools.status().first().is_none_or(|pool| pool.active == 0) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    held
}

#[tokio::test]
async fn a_request_beyond_a_limit_is_told_which_at_once_in_its_own_terms() {
    let limits = PoolLimits { http2_max_requests: 1, ..PoolLimits::default() };
    let bed = bed(AppProtocol::Http, limits).await;
    let _held = hold(&bed).await;
    let response = bed.ask(get("/")).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(mark(&response, "x-portcullis-overflow"), "http2MaxRequests");
    assert_eq!(mark(&response, "x-envoy-overloaded"), "true");
    let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
    assert_eq!(
        (&body["limit"], &body["value"], &body["destination"]),
        (&"http2MaxRequests".into(), &1.into(), &"api:80".into())
    );

    let mut call = post("");
    call.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    let response = bed.ask_http2(call).await;
    assert_eq!((response.status(), mark(&response, "grpc-status")), (StatusCode::OK, "14"));
    assert_eq!(mark(&response, "grpc-message"), "api:80 is at its limit http2MaxRequests: 1");
    assert_eq!(mark(&response, "x-portcullis-overflow"), "http2MaxRequests");
    assert_eq!(mark(&response, "x-envoy-overloaded"), "true");
    bed.counted("portcullis_overflows_total{limit=\"http2MaxRequests\",destination=\"api:80\"} 2").await;
}

#[tokio::test]
async fn a_tcp_connection_beyond_the_limit_is_reset_and_counted() {
    let limits = PoolLimits { max_connections: 1, ..PoolLimits::default() };
    let bed = bed(AppProtocol::Tcp, limits).await;
    let mut first = TcpStream::connect(bed.addr).await.unwrap();
    within(async {
        while bed.outbound.pools.status().first().is_none_or(|pool| pool.connections == 0) {
            tokio::task::yield_now().await;
        }
        let mut second = TcpStream::connect(bed.addr).await.unwrap();
        let reset = second.read_u8().await.unwrap_err();
        assert_eq!(reset.kind(), ErrorKind::ConnectionReset);
    })
    .await;
    bed.counted("portcullis_overflows_total{limit=\"maxConnections\",destination=\"api:80\"} 1").await;
    bed.counted("portcullis_refusals_total{direction=\"outbound\",reason=\"maxConnections\"} 1").await;
    // The positive control: the first one is open, and silent.
    let silent = tokio::time::timeout(Duration::from_millis(50), first.read_u8()).await;
    assert!(silent.is_err(), "{silent:?}");
}

#[tokio::test]
async fn the_route_s_timeout_ends_the_wait_for_a_connection() {
    let limit = Duration::from_millis(300);
    let mut forward = forward(&[(0, 1)]);
    forward.timeout = Some(limit);
    let api = mute().await;
    let routed = policy(api, route(HttpAction::Forward(forward)), Vec::new());
    let mut first = destination("api", 80, &[api]);
    first.limits = PoolLimits { max_connections: 1, ..PoolLimits::default() };
    first.routes = routed.destinations().next().unwrap().routes.clone();
    let bed = Bed::new(OutboundPolicy::new(vec![first], HashMap::new()));
    // Without a rule's timeout this one stays.
    let target = crate::upstream::Target {
        destination: bed.outbound.policy.load().destinations().next().unwrap().clone(),
        original: None,
        avoid: None,
        fresh: false,
    };
    let identity = bed.outbound.valid_identity().unwrap();
    let _held = within(bed.outbound.pools.connect(&target, &identity)).await.unwrap();
    let started = Instant::now();
    let response = bed.ask(get("/")).await;
    assert_eq!(mark(&response, "x-portcullis-refused"), "timeout");
    assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    assert!((limit..Duration::from_secs(10)).contains(&started.elapsed()), "{:?}", started.elapsed());
    assert_eq!(bed.outbound.pools.status()[0].waiting, 0, "its place in the queue is free");
}
