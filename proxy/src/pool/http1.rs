//! HTTP/1.1 connections, each lent to one request at a time.
//!
//! A request takes the idle connection that was used last. If there is none, one is dialled; should another become idle
//! before that is done, the request takes it, and what was dialled is idle for the next one.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Pools;
use super::attempts::Attempts;
use super::limit::Permit;
use super::link::{Link, Purpose, establish};
use super::state::Pool;
use crate::refusal::Refusal;
use crate::route::HttpVersion;
use crate::svid::Identity;
use crate::tls::Alpn;
use crate::upstream::{Picked, Target};

mod idle;

pub(super) use idle::{IdleLinks, Terms};

/// An idle connection to the only server there is, if it can be used without waiting for anything.
pub(super) fn at_once(pool: &Pool, target: &Target, identity: &Identity) -> Option<(Picked, Link)> {
    let settings = pool.look();
    let picked = settings.only().filter(|_| !target.fresh)?;
    let terms = Terms::new(&settings, identity.generation());
    let link = pool.http1.take_at_once(picked.addr(), &terms)?;
    Some((picked, link))
}

/// A connection to `addr`; at `maxConnections` an idle one to any server, because a dial would have to close it. When an
/// idle one has just failed, always a new one. The caller has a slot.
pub(super) async fn connection(
    pools: &Pools,
    pool: &Arc<Pool>,
    (addr, attempts): (SocketAddr, &Attempts<'_>),
    identity: &Identity,
) -> Result<Link, Refusal> {
    let terms = Terms::new(&pool.look(), identity.generation());
    if !attempts.needs_fresh()
        && let Some(link) = pool.http1.take(|to| to == addr, &terms).await
    {
        return Ok(link);
    }
    // Boxed, because most requests find a connection and should not carry the room for making one.
    Box::pin(next(pools, pool, (addr, attempts), (identity, &terms))).await
}

/// A connection dialled for the request, or one that becomes idle before.
async fn next(
    pools: &Pools,
    pool: &Arc<Pool>,
    (addr, attempts): (SocketAddr, &Attempts<'_>),
    (identity, terms): (&Identity, &Terms),
) -> Result<Link, Refusal> {
    let begin = |socket| Dial::begin(pools, pool, addr, identity, socket);
    let mut dial = pool.limits.socket_at_once().map(begin);
    let mut socket = pin!(pool.limits.socket());
    let mut is_first = true;
    let mut longest = pin!(tokio::time::sleep_until(Instant::now() + pool.queue_timeout()));
    let returns = pool.http1.returns();
    loop {
        let returned = returns.next();
        let is_dialling = dial.is_some();
        let wanted = |to| to == addr || !is_dialling && attempts.may_use(to);
        if !attempts.needs_fresh()
            && let Some(link) = pool.http1.take(wanted, terms).await
        {
            if let Some(dial) = dial {
                dial.go_on(pool);
            }
            return Ok(link);
        }
        if std::mem::take(&mut is_first) && !is_dialling {
            // One that will not do. Its end is a matter of one turn of its task.
            pool.http1.close_oldest();
        }
        tokio::select! {
            biased;
            dialled = Dial::done(&mut dial), if is_dialling => return dialled.unwrap_or_else(|| Err(cut(pool, addr))),
            socket = &mut socket, if !is_dialling => dial = Some(begin(socket)),
            () = returned => {}
            () = &mut longest, if !is_dialling => return Err(pool.waited_too_long()),
        }
    }
}

/// A connection being made, in a task of its own. Ends with the request that it is for, unless told to go on.
pub(super) struct Dial {
    pub(super) dialled: oneshot::Receiver<Result<Link, Refusal>>,
    wanted: DropGuard,
}

impl Dial {
    pub(super) fn begin(
        pools: &Pools,
        pool: &Arc<Pool>,
        addr: SocketAddr,
        identity: &Identity,
        socket: Permit,
    ) -> Self {
        let (sender, dialled) = oneshot::channel();
        let unwanted = CancellationToken::new();
        let wanted = unwanted.clone().drop_guard();
        let (pools, pool, identity) = (pools.clone(), Arc::clone(pool), identity.clone());
        let drain = pools.drain.clone();
        drain.spawn(async move {
            // Handshakes are large.
            let dial = Box::pin(dial(&pools, &pool, addr, &identity, socket));
            let Some(link) = unwanted.run_until_cancelled(dial).await else { return };
            // Whoever it was for has another one.
            if let Err(Ok(link)) = sender.send(link) {
                pool.keep(link);
            }
        });
        Self { dialled, wanted }
    }

    /// What came of it; `None` if its task was cut.
    async fn done(dial: &mut Option<Self>) -> Option<Result<Link, Refusal>> {
        match dial {
            Some(dial) => (&mut dial.dialled).await.ok(),
            None => std::future::pending().await,
        }
    }

    /// Nobody waits for it any more, and what it makes is kept.
    pub(super) fn go_on(self, pool: &Pool) {
        let Self { mut dialled, wanted } = self;
        wanted.disarm();
        // From here its task keeps the connection; one that it handed over before is ours to keep.
        dialled.close();
        if let Ok(Ok(link)) = dialled.try_recv() {
            pool.keep(link);
        }
    }
}

fn cut(pool: &Pool, addr: SocketAddr) -> Refusal {
    let source = io::ErrorKind::Interrupted.into();
    Refusal::Unreachable { destination: pool.name.to_string(), addr, source }
}

async fn dial(
    pools: &Pools,
    pool: &Pool,
    addr: SocketAddr,
    identity: &Identity,
    socket: Permit,
) -> Result<Link, Refusal> {
    let settings = pool.settings();
    let (destination, basis) = (&settings.destination, settings.basis(identity.generation()));
    let connected = pools.dialler.connect(destination, addr, identity, Some(Alpn::Http1)).await;
    let upstream = connected.inspect_err(|refusal| pool.record_failure(addr, refusal))?;
    let purpose = Purpose { destination, version: HttpVersion::Http1, basis };
    let link = establish(upstream, socket, purpose, (&pools.drain, &pools.metrics), || ()).await;
    link.inspect_err(|refusal| pool.record_failure(addr, refusal))
}
