//! One point: load, and what is seen of it meanwhile.

use std::io;
use std::thread;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, timeout};

use super::carrier::{Carrier, Way};
use super::error::BenchError;
use super::grid::{Limits, Point};
use super::load::{self, Load, Sent};
use super::result::Measured;
use super::upstream::Running;
use super::watch::{Seen, watch};

/// An answer later than this after its request was due is a failure.
pub const GIVE_UP: Duration = Duration::from_secs(2);
/// Beyond what it should take, before a load is given up as stuck.
const STUCK: Duration = Duration::from_secs(30);
/// Requests that the load has given up may still wait in a pool for as long as its queue lets them, 15 s.
const SETTLED: Duration = Duration::from_secs(20);
/// Between two looks at a pool that settles, and before the next point where there is nothing to look at.
const PAUSE: Duration = Duration::from_millis(50);
/// Connections of the load generator: at least, and at most.
const CONNECTIONS: (u32, u32) = (256, 8192);

/// What all points have in common.
pub struct Bench {
    /// Ours, unless somebody's URL is measured.
    pub upstream: Option<Running>,
    /// Becomes true when everything is to end.
    pub stop: watch::Receiver<bool>,
}

/// Sent before a measurement begins: connections are opened, pools filled.
#[must_use]
pub fn warm_up(seconds: Duration) -> Duration {
    (seconds / 4).clamp(Duration::from_millis(200), Duration::from_secs(1))
}

impl Bench {
    /// Measures one point, and waits until nothing of it is under way any more.
    ///
    /// # Errors
    /// [`BenchError`]; nothing of the point is worth keeping then.
    pub fn measure(
        &self,
        carrier: &dyn Carrier,
        point: Point,
        seconds: Duration,
    ) -> Result<Measured, BenchError> {
        let Way { url, host } = carrier.way(&point.limits)?;
        let (least, most) = CONNECTIONS;
        let connections = point.rate.saturating_mul(2).clamp(least, most);
        let load = Load {
            url,
            host,
            rate: point.rate,
            warm_up: warm_up(seconds),
            seconds,
            give_up: GIVE_UP,
            connections: usize::try_from(connections).unwrap_or(usize::MAX),
        };
        let outcome = self.offer(&load, carrier, &point.limits);
        // A process that has died is the better explanation of whatever went wrong.
        carrier.alive()?;
        let (sent, seen) = outcome?;
        let upstream = self.upstream.as_ref().map(Running::seen);
        self.settle(carrier, &point.limits)?;
        Ok(Measured {
            point,
            seconds: sent.seconds,
            counts: sent.counts,
            latency: sent.latency,
            upstream,
            occupancy: seen.occupancy,
            cpu: seen.cpu,
        })
    }

    /// Sends on one thread, and looks on from another.
    fn offer(&self, load: &Load, carrier: &dyn Carrier, limits: &Limits) -> Result<(Sent, Seen), BenchError> {
        let (gauge, processes) = (carrier.gauge(limits), carrier.processes());
        let (begin, begun) = oneshot::channel();
        let upstream = self.upstream.as_ref();
        let start = move || {
            if let Some(upstream) = upstream {
                upstream.measure();
            }
            // Nobody listens any more once the bench is stopped.
            let _ = begin.send(Instant::now());
        };
        let send = || {
            let runtime = runtime()?;
            let within = load.warm_up + load.seconds + load.give_up + STUCK;
            runtime.block_on(async {
                tokio::select! {
                    sent = timeout(within, load::offer(load, start)) => match sent {
                        Ok(sent) => Ok(sent?),
                        Err(_) => Err(BenchError::Stuck { rate: load.rate, within: STUCK.as_secs() }),
                    },
                    () = stopped(self.stop.clone()) => Err(BenchError::Interrupted),
                }
            })
        };
        let look = || {
            let runtime = runtime()?;
            runtime.block_on(async {
                tokio::select! {
                    seen = watch(gauge.as_ref(), &processes, begun, load.seconds) => Ok(seen),
                    () = stopped(self.stop.clone()) => Err(BenchError::Interrupted),
                }
            })
        };
        thread::scope(|scope| {
            let thread = |name: &str| thread::Builder::new().name(name.to_owned());
            let sender = thread("load").spawn_scoped(scope, send);
            let sender = sender.map_err(BenchError::io("a thread for the load"))?;
            let watcher = thread("watch").spawn_scoped(scope, look);
            let watcher = watcher.map_err(BenchError::io("a thread to watch"))?;
            let sent = sender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let seen = watcher.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            Ok((sent?, seen?))
        })
    }

    /// Waits until the pool is empty of requests.
    fn settle(&self, carrier: &dyn Carrier, limits: &Limits) -> Result<(), BenchError> {
        let runtime = runtime()?;
        runtime.block_on(async {
            let Some(gauge) = carrier.gauge(limits) else {
                sleep(PAUSE).await;
                return Ok(());
            };
            let mut page = gauge.page();
            let deadline = Instant::now() + SETTLED;
            let (mut active, mut waiting) = (0, 0);
            loop {
                if *self.stop.borrow() {
                    return Err(BenchError::Interrupted);
                }
                if let Some(seen) = page.read().await.and_then(|page| gauge.read(&page)) {
                    if seen.active == 0 && seen.waiting == 0 {
                        return Ok(());
                    }
                    (active, waiting) = (seen.active, seen.waiting);
                }
                carrier.alive()?;
                if Instant::now() > deadline {
                    return Err(BenchError::Busy { active, waiting, within: SETTLED.as_secs() });
                }
                sleep(PAUSE).await;
            }
        })
    }
}

/// Resolves once everything is to end; never if nobody can say so any more.
async fn stopped(mut stop: watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending().await
    }
}

pub(super) fn runtime() -> Result<Runtime, BenchError> {
    let built: io::Result<Runtime> = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(BenchError::io("a runtime"))
}
