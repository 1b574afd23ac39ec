use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use super::server::{Server, mute};
use crate::outbound::testing::{Bed, destination, forward, get, policy, post, route, within};
use crate::route::{DestinationId, HttpAction, Mirror, Share};

fn mirrored(api: std::net::SocketAddr, mirror: std::net::SocketAddr) -> Bed {
    let mut forward = forward(&[(0, 1)]);
    forward.mirrors = vec![Mirror { id: DestinationId(1), share: Share::ALL }];
    let others = vec![destination("mirror", 80, &[mirror])];
    Bed::new(policy(api, route(HttpAction::Forward(forward)), others))
}

#[tokio::test]
async fn a_mirror_gets_the_request_with_its_body_and_a_shadow_behind_the_host() {
    let (api, mirror) = (Server::named("api").await, Server::with(500).await);
    let bed = mirrored(api.addr, mirror.addr);
    let body = vec![7_u8; 50_000];
    let response = bed.ask(post(body.clone())).await;
    assert_eq!((response.status(), response.body().as_ref()), (StatusCode::OK, &b"api"[..]));
    bed.counted("portcullis_mirrors_total{outcome=\"answered\"} 1").await;
    let seen = mirror.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].header("host"), &seen[0].method), ("api-shadow", &http::Method::POST));
    assert!(seen[0].body == body && api.seen()[0].body == body);
    assert_eq!(api.seen()[0].header("host"), "api");
}

#[tokio::test]
async fn a_mirror_that_is_stuck_slows_nothing_and_is_given_up() {
    let api = Server::named("api").await;
    let bed = mirrored(api.addr, mute().await);
    let (body, started) = (vec![7_u8; 20_000_000], Instant::now());
    let response = bed.ask(post(body.clone())).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    assert!(api.seen()[0].body == body, "the request itself is whole");
    bed.counted("portcullis_mirrors_total{outcome=\"dropped\"} 1").await;
}

#[tokio::test]
async fn no_more_copies_than_the_bound_are_under_way() {
    let api = Server::named("api").await;
    let bed = mirrored(api.addr, mute().await);
    let over = 5;
    within(async {
        for _ in 0..super::super::mirror::MOST + over {
            assert_eq!(bed.ask(get("/")).await.status(), StatusCode::OK);
        }
    })
    .await;
    bed.counted(&format!("portcullis_mirrors_total{{outcome=\"dropped\"}} {over}")).await;
}
