use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

use super::http2::join_all;
use super::servers::{LONG, World, destination, read, request, target};
use crate::pool::state::QUEUE;
use crate::pool::{Failed, Stage};
use crate::route::{HttpVersion, PoolLimits};

async fn burst(version: HttpVersion, limits: PoolLimits, callers: usize) {
    let world = Arc::new(World::new());
    let servers = [world.server().await, world.server().await];
    let addrs: Vec<_> = servers.iter().map(|server| server.addr).collect();
    let api = Arc::new(destination(&addrs, limits));
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let (world, api) = (Arc::clone(&world), Arc::clone(&api));
            tokio::spawn(async move {
                for _ in 0..10 {
                    read(world.get(&api, "/hold", version).await.expect("it waits its turn")).await.unwrap();
                }
            })
        })
        .collect();
    // Nobody is answered before the limit is reached: that it can be is the control.
    let limit = limits.max_connections as usize;
    world.until(|| world.most() >= limit).await;
    for server in &servers {
        server.open.send_replace(true);
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(world.most(), limit, "the limit is never exceeded");
    let requests: usize = servers.iter().map(|server| server.seen.requests()).sum();
    assert_eq!(requests, callers * 10);
    let status = &world.pools.status()[0];
    assert_eq!((status.active, status.waiting), (0, 0));
    assert!(status.connections <= limit);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_never_opens_more_connections_than_the_limit() {
    for max_connections in [1, 5] {
        let limits = PoolLimits { max_connections, ..PoolLimits::default() };
        burst(HttpVersion::Http1, limits, 40).await;
        let limits = PoolLimits { max_concurrent_streams: 3, ..limits };
        burst(HttpVersion::Http2, limits, 40).await;
    }
}

#[tokio::test]
async fn what_is_beyond_the_limits_is_refused_at_once_and_says_which() {
    for version in [HttpVersion::Http1, HttpVersion::Http2] {
        let world = World::new();
        let server = world.server().await;
        let limits = PoolLimits {
            max_connections: 2,
            max_concurrent_streams: 1,
            http1_max_pending_requests: 3,
            ..PoolLimits::default()
        };
        let api = Arc::new(destination(&[server.addr], limits));
        let callers = (0..10).map(async |_| {
            read(world.get(&api, "/hold", version).await?).await.unwrap();
            Ok::<_, Failed>(())
        });
        let (answers, ()) = tokio::join!(join_all(callers), async {
            world.until(|| server.seen.requests() == 2).await;
            let status = &world.pools.status()[0];
            assert_eq!((status.connections, status.waiting), (2, 3), "{version:?}");
            server.open.send_replace(true);
        });
        let (served, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
        assert_eq!((served.len(), refused.len()), (5, 5), "{version:?}");
        for refused in refused {
            let failed = refused.err().unwrap();
            assert_eq!((failed.stage, failed.refusal.label()), (Stage::Refused, "http1MaxPendingRequests"));
            assert!(failed.unsent.is_some());
        }
    }
}

#[tokio::test]
async fn who_waits_longer_than_the_queue_timeout_is_told_so() {
    for version in [HttpVersion::Http1, HttpVersion::Http2] {
        let world = World::new();
        let server = world.server().await;
        let limits = PoolLimits {
            max_connections: 1,
            max_concurrent_streams: 1,
            queue_timeout: Some(Duration::from_millis(50)),
            ..PoolLimits::default()
        };
        let api = Arc::new(destination(&[server.addr], limits));
        let held = async { read(world.get(&api, "/hold", version).await.unwrap()).await.unwrap() };
        let waiting = async {
            world.until(|| server.seen.requests() == 1).await;
            let begun = Instant::now();
            let failed = world.get(&api, "/", version).await.err().unwrap();
            assert_eq!((failed.stage, failed.refusal.label()), (Stage::Refused, "queueTimeout"));
            assert!(failed.unsent.is_some() && begun.elapsed() < QUEUE / 3, "{version:?}");
            server.open.send_replace(true);
        };
        tokio::join!(held, waiting);
        // The place in the queue is free again, and so is the one beyond it.
        read(world.get(&api, "/", version).await.unwrap()).await.unwrap();
        assert_eq!((world.pools.status()[0].waiting, world.pools.status()[0].active), (0, 0));
    }
}

#[tokio::test]
async fn requests_at_once_are_bounded_in_both_versions() {
    for version in [HttpVersion::Http1, HttpVersion::Http2] {
        let world = World::new();
        let server = world.server().await;
        let limits = PoolLimits { http2_max_requests: 4, ..PoolLimits::default() };
        let api = Arc::new(destination(&[server.addr], limits));
        let callers = (0..6).map(|_| world.get(&api, "/hold", version));
        let (answers, ()) = tokio::join!(join_all(callers), async {
            world.until(|| server.seen.requests() == 4).await;
            server.open.send_replace(true);
        });
        let labels: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
        assert_eq!(labels.len(), 2);
        assert!(labels.iter().all(|failed| failed.refusal.label() == "http2MaxRequests"));
    }
}

/// Requests that are given up at any moment: while they wait, dial, send, and read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_requests_lose_no_permit() {
    let world = Arc::new(World::new());
    let server = world.server().await;
    server.open.send_replace(true);
    let limits = PoolLimits {
        max_connections: 3,
        max_concurrent_streams: 2,
        http1_max_pending_requests: 20,
        http2_max_requests: 30,
        max_requests_per_connection: 7,
        ..PoolLimits::default()
    };
    let api = Arc::new(destination(&[server.addr], limits));
    let tasks: Vec<_> = (0..24)
        .map(|seed| {
            let (world, api) = (Arc::clone(&world), Arc::clone(&api));
            tokio::spawn(async move {
                let mut rng = StdRng::seed_from_u64(seed);
                for _ in 0..60 {
                    let version = if rng.random_bool(0.5) { HttpVersion::Http1 } else { HttpVersion::Http2 };
                    // Some are seen to their end, however busy the machine is: the control.
                    let patient = version == HttpVersion::Http2 && rng.random_bool(0.25);
                    let turns = if patient { usize::MAX } else { rng.random_range(0..400) };
                    give_up_after(turns, async {
                        let (target, request) = (target(&api), request("/hold"));
                        if let Ok(answer) = world.pools.send(&target, &world.identity, request, version).await
                        {
                            read(answer).await.unwrap();
                        }
                    })
                    .await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert!(server.seen.requests() > 50, "only {} requests came through", server.seen.requests());
    assert!(world.most() <= 3, "{} connections open", world.most());
    world
        .until(|| {
            let status = &world.pools.status()[0];
            (status.active, status.waiting) == (0, 0) && status.connections == status.idle
        })
        .await;
    // All places can be taken again, in either version.
    for version in [HttpVersion::Http1, HttpVersion::Http2] {
        server.open.send_replace(false);
        let before = server.seen.requests();
        let at_once = if version == HttpVersion::Http1 { 3 } else { 6 };
        let callers = (0..at_once).map(|_| world.get(&api, "/hold", version));
        let (answers, ()) = tokio::join!(join_all(callers), async {
            world.until(|| server.seen.requests() == before + at_once).await;
            server.open.send_replace(true);
        });
        for answer in answers {
            read(answer.unwrap()).await.unwrap();
        }
    }
    assert_eq!(world.most(), 3);
}

#[tokio::test]
async fn an_http2_connection_that_becomes_idle_makes_way_for_who_waits_with_http1() {
    let world = World::new();
    let server = world.server().await;
    let limits = PoolLimits { max_connections: 1, ..PoolLimits::default() };
    let api = Arc::new(destination(&[server.addr], limits));
    let first = world.get(&api, "/hold", HttpVersion::Http2);
    let second = async {
        world.until(|| server.seen.requests() == 1).await;
        let waiting = world.get(&api, "/hold", HttpVersion::Http1);
        let opening = async {
            world.until(|| world.pools.status()[0].waiting == 1).await;
            server.open.send_replace(true);
        };
        tokio::join!(waiting, opening).0
    };
    let first = async { read(first.await.expect("a free place")).await.unwrap() };
    let (_, second) = tokio::join!(first, second);
    read(second.expect("the place of the other")).await.unwrap();
    assert_eq!(world.most(), 1);
}

/// Runs a future for so many turns of the scheduler, then drops it.
async fn give_up_after(turns: usize, future: impl Future<Output = ()>) {
    let end = async {
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        () = future => {}
        () = end => {}
    }
}

#[tokio::test]
async fn tcp_connections_count_and_the_next_is_refused_at_once() {
    let world = World::new();
    let server = world.server().await;
    let limits = PoolLimits { max_connections: 2, ..PoolLimits::default() };
    let target = target(&Arc::new(destination(&[server.addr], limits)));
    let connect =
        || async { tokio::time::timeout(LONG, world.pools.connect(&target, &world.identity)).await.unwrap() };
    let (one, _other) = (connect().await.unwrap(), connect().await.unwrap());
    assert_eq!(connect().await.err().unwrap().label(), "maxConnections");
    drop(one);
    connect().await.unwrap();
    assert_eq!(server.seen.accepted(), 3);
}

#[tokio::test]
async fn a_request_waits_in_little_memory() {
    let world = World::new();
    let target = target(&Arc::new(destination(&[], PoolLimits::default())));
    let sending = world.pools.send(&target, &world.identity, request("/"), HttpVersion::Http1);
    let size = std::mem::size_of_val(&sending);
    assert!(size < 6 * 1024, "{size} bytes");
}
