use std::sync::Arc;
use std::time::Duration;

use super::servers::{World, destination, read, request, target};
use crate::pool::Stage;
use crate::refusal::Refusal;
use crate::route::HttpVersion::{Http1, Http2};
use crate::route::PoolLimits;
use crate::tls::Alpn;
use crate::tls::testing::NOW;
use crate::upstream::Dialler;

#[tokio::test]
async fn a_cold_burst_travels_over_one_connection() {
    let world = World::new();
    let server = world.server().await;
    let api = Arc::new(destination(&[server.addr], PoolLimits::default()));
    let burst = (0..50).map(|_| world.get(&api, "/hold", Http2));
    let (answers, ()) = tokio::join!(join_all(burst), async {
        world.until(|| server.seen.requests() == 50).await;
        assert_eq!(world.pools.status()[0].active, 50);
        assert_eq!((world.pools.status()[0].connections, world.pools.status()[0].idle), (1, 0));
        server.open.send_replace(true);
    });
    for answer in answers {
        assert_eq!(read(answer.unwrap()).await.unwrap(), b"api:8443");
    }
    assert_eq!(server.seen.accepted(), 1);
    let status = &world.pools.status()[0];
    assert_eq!((status.connections, status.idle, status.active, status.waiting), (1, 1, 0, 0));
}

#[tokio::test]
async fn a_connection_more_is_opened_when_the_streams_of_one_are_in_use() {
    let world = World::new();
    let server = world.server().await;
    let limits = PoolLimits { max_concurrent_streams: 4, ..PoolLimits::default() };
    let api = Arc::new(destination(&[server.addr], limits));
    let burst = (0..10).map(|_| world.get(&api, "/hold", Http2));
    let (answers, ()) = tokio::join!(join_all(burst), async {
        world.until(|| server.seen.requests() == 10).await;
        server.open.send_replace(true);
    });
    for answer in answers {
        read(answer.unwrap()).await.unwrap();
    }
    assert_eq!(server.seen.accepted(), 3);
}

#[tokio::test]
async fn a_refused_stream_comes_back_whole_and_the_connection_stays() {
    let world = World::new();
    let server = world.server().await;
    let api = Arc::new(destination(&[server.addr], PoolLimits::default()));
    let failed = world.get(&api, "/refuse", Http2).await.err().unwrap();
    assert_eq!((failed.stage, failed.endpoint), (Stage::Unsent, Some(server.addr)));
    let unsent = failed.unsent.expect("a request without a body is whole");
    assert_eq!((unsent.uri().path(), &unsent.headers()["host"]), ("/refuse", &"api:8443".parse().unwrap()));
    assert_eq!(server.seen.requests(), 1, "the pool does not send it again");
    read(world.get(&api, "/", Http2).await.unwrap()).await.unwrap();
    assert_eq!(server.seen.accepted(), 1);
}

#[tokio::test]
async fn a_request_after_the_end_of_the_connection_goes_over_a_new_one() {
    let world = World::new();
    let server = world.server().await;
    let api = Arc::new(destination(&[server.addr], PoolLimits::default()));
    for round in 1..=5 {
        read(world.get(&api, "/", Http2).await.unwrap()).await.unwrap();
        assert_eq!(server.seen.accepted(), round);
        server.cut.send_modify(|cuts| *cuts += 1);
        world.until(|| world.pools.status()[0].connections == 0).await;
    }
}

#[tokio::test]
async fn a_new_identity_gets_a_new_connection_and_requests_under_way_finish() {
    let world = World::new();
    let server = world.server().await;
    let api = Arc::new(destination(&[server.addr], PoolLimits::default()));
    let renewed = world.renewed(2);
    let (held, ()) = tokio::join!(world.get(&api, "/hold", Http2), async {
        world.until(|| server.seen.requests() == 1).await;
        read(world.get_as(&renewed, &api, "/", Http2).await.unwrap()).await.unwrap();
        assert_eq!(server.seen.accepted(), 2);
        server.open.send_replace(true);
    });
    read(held.unwrap()).await.unwrap();
    // The last request of the old connection ends it.
    world.until(|| world.pools.status()[0].connections == 1).await;
    read(world.get_as(&renewed, &api, "/", Http2).await.unwrap()).await.unwrap();
    assert_eq!(server.seen.accepted(), 2);
}

#[tokio::test]
async fn a_request_that_comes_late_with_the_older_identity_is_served() {
    for version in [Http1, Http2] {
        let world = World::new();
        let server = world.server().await;
        let api = Arc::new(destination(&[server.addr], PoolLimits::default()));
        let renewed = world.renewed(2);
        for _ in 0..3 {
            read(world.get_as(&renewed, &api, "/", version).await.unwrap()).await.unwrap();
            read(world.get(&api, "/", version).await.unwrap()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_request_that_is_cut_with_its_proof_says_so() {
    for version in [Http1, Http2] {
        let world = World::new();
        let server = world.server().await;
        let api = Arc::new(destination(&[server.addr], PoolLimits::default()));
        let (held, ()) = tokio::join!(world.get(&api, "/hold", version), async {
            world.until(|| server.seen.requests() == 1).await;
            world.mesh.clock.set(NOW + Duration::from_secs(3601));
            // The wall clock is looked at every ten seconds.
            tokio::time::pause();
            tokio::time::advance(Duration::from_secs(11)).await;
            tokio::time::resume();
        });
        let failed = held.err().unwrap();
        assert_eq!((failed.stage, failed.refusal.label()), (Stage::Sent, "upstream_expired"), "{version:?}");
        world.until(|| world.pools.status()[0].connections == 0).await;
    }
}

#[tokio::test]
async fn a_connection_carries_no_more_requests_than_it_may() {
    let world = World::new();
    let server = world.server().await;
    let limits = PoolLimits { max_requests_per_connection: 2, ..PoolLimits::default() };
    let api = Arc::new(destination(&[server.addr], limits));
    for _ in 0..6 {
        read(world.get(&api, "/", Http2).await.unwrap()).await.unwrap();
    }
    assert_eq!(server.seen.accepted(), 3);
}

#[tokio::test]
async fn all_who_wait_for_a_dial_learn_why_it_failed() {
    let world = World::new();
    let stranger = world.server_of("spiffe://cluster.local/ns/production/sa/stranger").await;
    let api = Arc::new(destination(&[stranger.addr], PoolLimits::default()));
    let answers = join_all((0..10).map(|_| world.get(&api, "/", Http2))).await;
    for answer in answers {
        let failed = answer.err().unwrap();
        assert_eq!((failed.stage, failed.refusal.label()), (Stage::Refused, "unexpected_peer"));
        assert!(failed.unsent.is_some() && matches!(failed.refusal, Refusal::Shared(_)));
    }
    assert_eq!((stranger.seen.accepted(), stranger.seen.requests()), (1, 0));
}

#[tokio::test]
async fn a_server_that_does_not_confirm_the_version_gets_no_request() {
    let world = World::new();
    let server = world.server().await;
    let api = destination(&[server.addr], PoolLimits::default());
    let dialler = Dialler { policy_clock: world.mesh.clock.clock() };
    // The positive control: one that is offered what it speaks.
    assert!(dialler.connect(&api, server.addr, &world.identity, Some(Alpn::Http2)).await.is_ok());
    let refused = dialler.connect(&api, server.addr, &world.identity, Some(Alpn::None)).await;
    assert!(refused.is_ok(), "nothing asked, nothing confirmed");
    let silent = silent_server(&world).await;
    for alpn in [Alpn::Http1, Alpn::Http2] {
        let refused = dialler.connect(&api, silent, &world.identity, Some(alpn)).await;
        assert_eq!(refused.err().unwrap().label(), "no_common_alpn");
    }
}

/// A server that does not know ALPN.
async fn silent_server(world: &World) -> std::net::SocketAddr {
    let identity = world.mesh.identity("spiffe://cluster.local/ns/production/sa/api");
    let mut config = rustls::ServerConfig::clone(&identity.server_config());
    config.alpn_protocols.clear();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let accept = acceptor.accept(stream);
            tokio::spawn(async move {
                if let Ok(stream) = accept.await {
                    std::future::pending::<()>().await;
                    drop(stream);
                }
            });
        }
    });
    addr
}

pub(super) async fn join_all<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut pending: Vec<_> = futures.map(|future| Some(Box::pin(future))).collect();
    let mut done: Vec<Option<T>> = pending.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        for (future, done) in pending.iter_mut().zip(&mut done) {
            if let Some(running) = future
                && let std::task::Poll::Ready(value) = running.as_mut().poll(cx)
            {
                *done = Some(value);
                *future = None;
            }
        }
        if pending.iter().all(Option::is_none) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    done.into_iter().flatten().collect()
}

#[tokio::test]
async fn a_cancelled_request_leaves_the_connection_to_the_others() {
    let world = World::new();
    let server = world.server().await;
    let limits = PoolLimits { max_connections: 1, max_concurrent_streams: 1, ..PoolLimits::default() };
    let api = Arc::new(destination(&[server.addr], limits));
    for _ in 0..20 {
        let seen = server.seen.requests();
        let (target, request) = (target(&api), request("/hold"));
        let mut held = Box::pin(world.pools.send(&target, &world.identity, request, Http2));
        tokio::select! {
            _ = &mut held => panic!("nothing answers yet"),
            () = world.until(|| server.seen.requests() > seen) => {}
        }
        drop(held);
        read(world.get(&api, "/", Http2).await.unwrap()).await.unwrap();
    }
    assert_eq!(server.seen.accepted(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_leaves_in_order_fails_no_request() {
    let world = Arc::new(World::new());
    let server = world.server().await;
    let limits = PoolLimits { max_concurrent_streams: 5, ..PoolLimits::default() };
    let api = Arc::new(destination(&[server.addr], limits));
    let tasks: Vec<_> = (0..10)
        .map(|_| {
            let (world, api) = (Arc::clone(&world), Arc::clone(&api));
            tokio::spawn(async move {
                for _ in 0..100 {
                    read(world.get(&api, "/", Http2).await.unwrap()).await.unwrap();
                }
            })
        })
        .collect();
    for round in 1..=20 {
        world.until(|| server.seen.requests() >= 45 * round).await;
        server.leave.send_modify(|left| *left += 1);
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(server.seen.requests(), 1_000);
    assert!(server.seen.accepted() >= 20, "it did leave: {} connections", server.seen.accepted());
}
