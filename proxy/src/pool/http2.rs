//! HTTP/2 connections, each shared by many requests.
//!
//! A request takes a free stream of a connection to its server. If there is none, but a dial is under way that will
//! bring one, it waits for that; so a cold burst opens as many connections as it needs and no more. Only when no
//! further connection may be opened it waits for any stream, and for a slot, whichever comes first.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::time::Instant;

use super::Pools;
use super::limit::Permit;
use super::link::{Link, Purpose, establish};
use super::state::Pool;
use crate::refusal::Refusal;
use crate::route::HttpVersion;
use crate::svid::Identity;
use crate::tls::Alpn;
use crate::upstream::LONGEST_HANDSHAKE;

mod links;

use links::{Means, Step, Ticket, Waiting};
pub(super) use links::{SharedLinks, Stream};

/// A stream to `addr`, or to any server when no connection may be opened.
pub(super) async fn stream(
    pools: &Pools,
    pool: &Arc<Pool>,
    addr: SocketAddr,
    identity: &Identity,
) -> Result<Stream, Refusal> {
    let longest = pool.queue_timeout() + pool.values().connect_timeout + LONGEST_HANDSHAKE;
    let deadline = Instant::now() + longest;
    loop {
        let Waiting { id, mut ticket, means } = match pool.http2.step(pool, addr)? {
            Step::Have(stream) => return Ok(stream),
            Step::Wait(waiting) => waiting,
        };
        let early = match means {
            Means::Dialled => None,
            Means::Dial(slot) => {
                begin_dial(pools, pool, addr, identity, slot);
                None
            }
            Means::Any(charge) => tokio::select! {
                biased;
                told = &mut ticket => Some(told),
                slot = tokio::time::timeout(pool.queue_timeout(), pool.limits.slot()) => {
                    let slot = slot.map_err(|_| pool.waited_too_long())?;
                    drop(charge);
                    if pool.http2.promote(id) {
                        begin_dial(pools, pool, addr, identity, slot);
                    }
                    None
                }
            },
        };
        let told = match early {
            Some(told) => told,
            None => tokio::time::timeout_at(deadline, ticket).await.map_err(|_| pool.waited_too_long())?,
        };
        match told {
            Ok(Ticket::Stream(stream)) => return Ok(stream),
            Ok(Ticket::Failed(refusal)) => return Err(Refusal::Shared(refusal)),
            Ok(Ticket::Again) | Err(_) => {}
        }
        if Instant::now() >= deadline {
            return Err(pool.waited_too_long());
        }
    }
}

/// Connects in a task of its own: many may wait for it, and it must not end with the one who began it.
fn begin_dial(pools: &Pools, pool: &Arc<Pool>, addr: SocketAddr, identity: &Identity, slot: Permit) {
    let dialling = Dialling { pool: Arc::clone(pool), addr, done: false };
    let (pools, identity) = (pools.clone(), identity.clone());
    let drain = pools.drain.clone();
    drain.spawn(async move {
        let dialled = dial(&pools, &dialling.pool, addr, &identity, slot).await;
        dialling.done(dialled);
    });
}

async fn dial(
    pools: &Pools,
    pool: &Arc<Pool>,
    addr: SocketAddr,
    identity: &Identity,
    slot: Permit,
) -> Result<Link, Refusal> {
    let socket = pool.socket().await?;
    let settings = pool.settings();
    let (destination, basis) = (&settings.destination, settings.basis(identity.generation()));
    let connected = pools.dialler.connect(destination, addr, identity, Some(Alpn::Http2)).await;
    let upstream = connected.inspect_err(|refusal| pool.record_failure(addr, refusal))?;
    let purpose = Purpose { destination, version: HttpVersion::Http2, basis };
    let weak = Arc::downgrade(pool);
    let closed = move || {
        if let Some(pool) = weak.upgrade() {
            pool.http2.sweep(&pool);
        }
    };
    let link = establish(upstream, (slot, socket), purpose, (&pools.drain, &pools.metrics), closed).await;
    link.inspect_err(|refusal| pool.record_failure(addr, refusal))
}

/// A dial under way; whoever waits for it is told even if its task is cut.
struct Dialling {
    pool: Arc<Pool>,
    addr: SocketAddr,
    done: bool,
}

impl Dialling {
    fn done(mut self, dialled: Result<Link, Refusal>) {
        self.done = true;
        self.pool.http2.dialled(&self.pool, self.addr, dialled);
    }
}

impl Drop for Dialling {
    fn drop(&mut self) {
        if !self.done {
            let cut = Refusal::Unreachable {
                destination: self.pool.name.to_string(),
                addr: self.addr,
                source: io::ErrorKind::Interrupted.into(),
            };
            self.pool.http2.dialled(&self.pool, self.addr, Err(cut));
        }
    }
}
