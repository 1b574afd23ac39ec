use std::sync::Arc;
use std::time::Duration;

use super::servers::{LONG, World, destination, read, request, target};
use crate::pool::Stage;
use crate::pool::http1::Dial;
use crate::route::{HttpVersion::Http1, PoolLimits};
use crate::upstream::Target;

#[tokio::test]
async fn a_connection_is_used_again() {
    let world = World::new();
    let server = world.server().await;
    let api = Arc::new(destination(&[server.addr], PoolLimits::default()));
    for _ in 0..10 {
        assert_eq!(read(world.get(&api, "/", Http1).await.unwrap()).await.unwrap(), b"api:8443");
    }
    assert_eq!((server.seen.accepted(), server.seen.requests()), (1, 10));
}

#[tokio::test]
async fn a_connection_that_went_stale_is_not_seen_by_the_caller() {
    let world = World::new();
    let server = world.server().await;
    let api = Arc::new(destination(&[server.addr], PoolLimits::default()));
    for round in 1..=20 {
        read(world.get(&api, "/", Http1).await.unwrap()).await.unwrap();
        assert_eq!(server.seen.accepted(), round);
        server.cut.send_modify(|cuts| *cuts += 1);
        world.until(|| server.seen.open() == 0).await;
    }
}

#[tokio::test]
async fn a_connection_carries_no_more_requests_than_it_may() {
    let world = World::new();
    let server = world.server().await;
    let limits = PoolLimits { max_requests_per_connection: 3, ..PoolLimits::default() };
    let api = Arc::new(destination(&[server.addr], limits));
    for _ in 0..9 {
        read(world.get(&api, "/", Http1).await.unwrap()).await.unwrap();
    }
    assert_eq!(server.seen.accepted(), 3);
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_time() {
    let world = World::new();
    let server = world.server().await;
    let limits = PoolLimits { http_idle_timeout: Some(Duration::from_secs(5)), ..PoolLimits::default() };
    let api = Arc::new(destination(&[server.addr], limits));
    read(world.get(&api, "/", Http1).await.unwrap()).await.unwrap();
    world.pools.sweep(1);
    assert_eq!(world.pools.status()[0].connections, 1);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(6)).await;
    tokio::time::resume();
    world.pools.sweep(1);
    world.until(|| world.pools.status()[0].connections == 0).await;
}

#[tokio::test]
async fn the_age_of_a_connection_is_bounded() {
    let world = World::new();
    let server = world.server().await;
    let limits =
        PoolLimits { max_connection_duration: Some(Duration::from_secs(5)), ..PoolLimits::default() };
    let api = Arc::new(destination(&[server.addr], limits));
    read(world.get(&api, "/", Http1).await.unwrap()).await.unwrap();
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(6)).await;
    tokio::time::resume();
    read(world.get(&api, "/", Http1).await.unwrap()).await.unwrap();
    assert_eq!(server.seen.accepted(), 2);
}

#[tokio::test]
async fn another_server_is_tried_when_one_is_down_and_none_after_a_wrong_proof() {
    let world = World::new();
    let server = world.server().await;
    let down = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let api = Arc::new(destination(&[down, server.addr], PoolLimits::default()));
    for _ in 0..4 {
        read(world.get(&api, "/", Http1).await.unwrap()).await.unwrap();
    }
    let stranger = world.server_of("spiffe://cluster.local/ns/production/sa/stranger").await;
    let mut mixed = destination(&[stranger.addr, server.addr], PoolLimits::default());
    mixed.port = 1;
    let failed = world.get(&Arc::new(mixed), "/", Http1).await.err().unwrap();
    assert_eq!((failed.stage, failed.endpoint), (Stage::Refused, Some(stranger.addr)));
    let mut alone = destination(&[down], PoolLimits::default());
    alone.port = 2;
    let failed = world.get(&Arc::new(alone), "/", Http1).await.err().unwrap();
    assert_eq!((failed.stage, failed.refusal.label()), (Stage::Connecting, "upstream_unreachable"));
}

#[tokio::test]
async fn a_request_that_wants_a_fresh_connection_takes_no_idle_one_and_makes_room_at_the_limit() {
    let world = World::new();
    let server = world.server().await;
    let limits = PoolLimits { max_connections: 2, ..PoolLimits::default() };
    let api = Arc::new(destination(&[server.addr], limits));
    let both = (world.get(&api, "/", Http1).await.unwrap(), world.get(&api, "/", Http1).await.unwrap());
    read(both.0).await.unwrap();
    read(both.1).await.unwrap();
    assert_eq!((world.pools.status()[0].idle, server.seen.accepted()), (2, 2));
    for (fresh, accepted) in [(true, 3), (false, 3), (true, 4)] {
        let target = Target { fresh, ..target(&api) };
        let sent = world.pools.send(&target, &world.identity, request("/"), Http1);
        let answer = tokio::time::timeout(LONG, sent).await.unwrap().unwrap();
        read(answer).await.unwrap();
        assert_eq!(server.seen.accepted(), accepted, "{fresh}");
    }
    assert_eq!((world.most(), world.pools.status()[0].connections), (2, 2));
}

#[tokio::test]
async fn what_was_dialled_is_kept_though_nobody_waits_for_it_any_more() {
    for is_done in [false, true] {
        let world = World::new();
        let server = world.server().await;
        let api = Arc::new(destination(&[server.addr], PoolLimits::default()));
        let pool = world.pools.index.pool(&target(&api));
        pool.note(world.identity.generation());
        let socket = pool.limits.socket_at_once().unwrap();
        let dial = Dial::begin(&world.pools, &pool, server.addr, &world.identity, socket);
        if is_done {
            world.until(|| !dial.dialled.is_empty()).await;
        }
        dial.go_on(&pool);
        world.until(|| pool.status().idle == 1).await;
        read(world.get(&api, "/", Http1).await.unwrap()).await.unwrap();
        assert_eq!(server.seen.accepted(), 1, "{is_done}");
    }
}
