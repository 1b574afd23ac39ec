use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls_pki_types::ServerName;

use super::http2::join_all;
use super::servers::{API, LONG, Server, World, destination, read};
use crate::drain::Drained;
use crate::route::{Destination, HttpVersion, PoolLimits, TransportPlan};
use crate::tls::ExpectedPeer;

/// So many connections, each with one request at a time over HTTP/2 too.
fn limited(server: &Server, max_connections: u32) -> Arc<Destination> {
    let limits = PoolLimits { max_connections, max_concurrent_streams: 1, ..PoolLimits::default() };
    Arc::new(destination(&[server.addr], limits))
}

#[tokio::test]
async fn a_change_of_what_connections_rest_on_replaces_them_and_requests_under_way_finish() {
    for version in [HttpVersion::Http1, HttpVersion::Http2] {
        let world = World::new();
        let server = world.server().await;
        let before = Arc::new(destination(&[server.addr], PoolLimits::default()));
        let limits = PoolLimits { max_connections: 9, ..PoolLimits::default() };
        let mut after = destination(&[server.addr], limits);
        let (sni, expected) = (ServerName::try_from("other").unwrap(), vec![API.parse().unwrap()]);
        after.transport_plan = TransportPlan::mutual_tls(sni, ExpectedPeer::OneOf(expected));
        let after = Arc::new(after);
        let (held, ()) = tokio::join!(world.get(&before, "/hold", version), async {
            world.until(|| server.seen.requests() == 1).await;
            read(world.get(&after, "/", version).await.unwrap()).await.unwrap();
            assert_eq!(world.pools.status()[0].max_connections, Some(9));
            // One that comes late with the older version does not bring the older pool back.
            read(world.get(&before, "/", version).await.unwrap()).await.unwrap();
            assert_eq!(world.pools.status()[0].max_connections, Some(9));
            assert_eq!(server.seen.accepted(), 2);
            server.open.send_replace(true);
        });
        read(held.unwrap()).await.unwrap();
        // The connection of the older pool goes with its last request.
        world.until(|| server.seen.open() == 1).await;
    }
}

#[tokio::test]
async fn who_waits_for_a_place_gets_one_when_the_limit_is_raised() {
    for version in [HttpVersion::Http1, HttpVersion::Http2] {
        let world = World::new();
        let server = world.server().await;
        let (before, after) = (limited(&server, 1), limited(&server, 3));
        let held = async { read(world.get(&before, "/hold", version).await.unwrap()).await.unwrap() };
        let waiting = async {
            world.until(|| server.seen.requests() == 1).await;
            read(world.get(&before, "/", version).await.expect("a place in the next pool")).await.unwrap();
            // The one before it is still under way.
            server.open.send_replace(true);
        };
        let change = async {
            world.until(|| server.seen.requests() == 1).await;
            world.until(|| world.pools.status().first().is_some_and(|status| status.waiting == 1)).await;
            read(world.get(&after, "/", version).await.unwrap()).await.unwrap();
        };
        tokio::join!(held, waiting, change);
    }
}

#[tokio::test]
async fn limits_change_in_place_and_what_is_open_counts_on() {
    for version in [HttpVersion::Http1, HttpVersion::Http2] {
        let world = World::new();
        let server = world.server().await;
        let (wide, tight) = (limited(&server, 6), limited(&server, 2));
        let held = join_all((0..6).map(|_| async {
            read(world.get(&wide, "/hold", version).await.unwrap()).await.unwrap();
        }));
        let late = async {
            world.until(|| server.seen.requests() == 6).await;
            let waiting = join_all((0..4).map(|_| async {
                read(world.get(&tight, "/hold", version).await.unwrap()).await.unwrap();
            }));
            let opening = async {
                world.until(|| world.pools.status()[0].waiting == 4).await;
                // Six are open, two are allowed: nothing is opened, and nobody is let in.
                assert_eq!((server.seen.accepted(), server.seen.requests()), (6, 6), "{version:?}");
                server.open.send_replace(true);
            };
            tokio::join!(waiting, opening);
        };
        tokio::join!(held, late);
        world.until(|| server.seen.open() <= 2).await;
        assert_eq!(server.seen.requests(), 10);
        assert_eq!(world.most(), 6, "{version:?}: the older limit was never exceeded either");
        world.until(|| world.pools.status()[0].connections <= 2).await;
    }
}

#[tokio::test]
async fn older_editions_of_a_destination_are_forgotten() {
    let world = World::new();
    let server = world.server().await;
    for round in 0..50 {
        let limits = PoolLimits { max_connections: 1 + round % 2, ..PoolLimits::default() };
        let api = Arc::new(destination(&[server.addr], limits));
        read(world.get(&api, "/", HttpVersion::Http1).await.unwrap()).await.unwrap();
    }
    world.pools.sweep(1);
    assert_eq!(world.pools.index.editions(), 1, "the latest, and none that nobody has any more");
}

#[tokio::test]
async fn a_reload_without_a_change_keeps_the_connections() {
    let world = World::new();
    let server = world.server().await;
    for _ in 0..20 {
        let api = Arc::new(destination(&[server.addr], PoolLimits::default()));
        read(world.get(&api, "/", HttpVersion::Http1).await.unwrap()).await.unwrap();
    }
    assert_eq!(server.seen.accepted(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_changes_under_load_fail_no_request() {
    let world = Arc::new(World::new());
    let server = world.server().await;
    let change = |round: u32| {
        let limits = PoolLimits { max_connections: 100 + round % 3, ..PoolLimits::default() };
        Arc::new(destination(&[server.addr], limits))
    };
    let policy = Arc::new(ArcSwap::new(change(0)));
    let tasks: Vec<_> = (0..6)
        .map(|task| {
            let (world, policy) = (Arc::clone(&world), Arc::clone(&policy));
            let version = if task % 2 == 0 { HttpVersion::Http1 } else { HttpVersion::Http2 };
            tokio::spawn(async move {
                for _ in 0..100 {
                    read(world.get(&policy.load_full(), "/", version).await.unwrap()).await.unwrap();
                }
            })
        })
        .collect();
    for round in 1..=100 {
        world.until(|| server.seen.requests() >= 5 * round as usize).await;
        policy.store(change(round));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(server.seen.requests(), 600);
}

#[tokio::test]
async fn a_drain_is_clean_when_nothing_is_under_way() {
    let world = World::new();
    let server = world.server().await;
    let api = Arc::new(destination(&[server.addr], PoolLimits::default()));
    for version in [HttpVersion::Http1, HttpVersion::Http2] {
        read(world.get(&api, "/", version).await.unwrap()).await.unwrap();
    }
    assert_eq!(world.pools.status()[0].idle, 2);
    let World { pools, drain, .. } = world;
    drop(pools);
    assert_eq!(drain.finish(LONG).await, Drained::Clean);
}
