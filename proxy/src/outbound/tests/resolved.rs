//! Requests to a service whose addresses a DNS server tells.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use http::StatusCode;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::outbound::testing::{Bed, destination, get, within};
use crate::route::testing::endpoint;
use crate::route::{Destination, EndpointAddr, OutboundPolicy, Resolution};
use crate::upstream::resolving;

const NAME: &str = "api.example.com";

fn by_name(port: u16) -> Destination {
    let mut api = destination("api", 80, &[]);
    api.endpoints.push(endpoint(EndpointAddr::Name(Arc::from(NAME), port)));
    api.resolution = Resolution::Dns;
    api
}

/// Answers with its own address.
async fn server(at: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind(at).await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(move |_| async move {
                Ok::<_, std::convert::Infallible>(http::Response::new(Full::<bytes::Bytes>::from(
                    addr.ip().to_string(),
                )))
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    addr
}

#[tokio::test]
async fn a_service_is_followed_to_the_addresses_that_its_name_has() {
    let first = server("127.0.0.1:0".parse().unwrap()).await;
    server(SocketAddr::new("127.0.0.2".parse().unwrap(), first.port())).await;
    let (names, zone) = resolving::names().await;
    let bed = Bed::with_names(OutboundPolicy::new(vec![by_name(first.port())], HashMap::new()), names);
    let response = bed.ask(get("/")).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE, "the name has no address yet");
    assert!(String::from_utf8_lossy(response.body()).contains(NAME), "{:?}", response.body());

    for address in ["127.0.0.1", "127.0.0.2"] {
        zone.set(NAME, &[address]);
        within(async { while bed.ask(get("/")).await.body() != address {} }).await;
    }
}
