//! The pool and the CPU of a pair, looked at while a point is measured.
//!
//! On a thread of its own, so that asking does not disturb the sending. Twenty times a second is the most: an answer
//! that takes longer than its turn skips the next.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use super::result::Occupancy;
use crate::status::PoolStatus;

/// Between two looks.
const EVERY: Duration = Duration::from_millis(50);
/// For an answer.
const ANSWER: Duration = Duration::from_secs(1);
/// Longest answer, in bytes.
const LONGEST: usize = 4 << 20;
/// Clock ticks in a second, as /proc counts CPU: the same on every Linux that this is built for.
const TICKS: f64 = 100.0;

/// Where one pool can be looked into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gauge {
    admin: SocketAddr,
    path: String,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// The pools of this destination on the status page.
    Portcullis { destination: String },
    /// The statistics of this cluster.
    Envoy { cluster: String },
}

/// The one part of the status page that is of interest.
#[derive(serde::Deserialize)]
struct Pools {
    pools: Vec<PoolStatus>,
}

/// What was seen of one point.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) occupancy: Vec<Occupancy>,
    pub(super) cpu: Option<f64>,
}

impl Gauge {
    /// A sidecar's admin address, and the destination as its status names it.
    pub(super) fn portcullis(admin: SocketAddr, destination: &str) -> Self {
        let kind = Kind::Portcullis { destination: destination.to_owned() };
        Self { admin, path: "/status".to_owned(), kind }
    }

    /// Envoy's admin address, and the name of a cluster: letters and digits.
    pub(super) fn envoy(admin: SocketAddr, cluster: &str) -> Self {
        let names = "upstream_cx_active|upstream_rq_active|upstream_rq_pending_active";
        let path = format!("/stats?filter=%5Ecluster%5C.{cluster}%5C.({})%24", names.replace('|', "%7C"));
        Self { admin, path, kind: Kind::Envoy { cluster: cluster.to_owned() } }
    }

    /// Where to look.
    pub(super) fn page(&self) -> Page {
        Page::new(self.admin, &self.path)
    }

    /// What a page shows.
    pub(super) fn read(&self, page: &[u8]) -> Option<Occupancy> {
        let mut seen = Occupancy { at: 0, connections: 0, idle: 0, active: 0, waiting: 0 };
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        match &self.kind {
            Kind::Portcullis { destination } => {
                let page: Pools = serde_json::from_slice(page).ok()?;
                for pool in page.pools.iter().filter(|pool| pool.destination == *destination) {
                    seen.connections += count(pool.connections);
                    seen.idle += count(pool.idle);
                    seen.active += count(pool.active);
                    seen.waiting += count(pool.waiting);
                }
            }
            Kind::Envoy { cluster } => {
                let page = std::str::from_utf8(page).ok()?;
                let value = |name: &str| {
                    let line = format!("cluster.{cluster}.{name}: ");
                    page.lines().find_map(|text| text.strip_prefix(&line)?.trim().parse::<u64>().ok())
                };
                seen.connections = value("upstream_cx_active")?;
                seen.active = value("upstream_rq_active")?;
                seen.waiting = value("upstream_rq_pending_active")?;
                seen.idle = seen.connections.saturating_sub(seen.active);
            }
        }
        Some(seen)
    }
}

/// A kept connection to an admin page.
pub(super) struct Page {
    admin: SocketAddr,
    path: String,
    connection: Option<SendRequest<Empty<Bytes>>>,
}

impl Page {
    pub(super) fn new(admin: SocketAddr, path: &str) -> Self {
        Self { admin, path: path.to_owned(), connection: None }
    }

    /// What it says now; `None` when there is no answer in time.
    pub(super) async fn read(&mut self) -> Option<Bytes> {
        let answer = timeout(ANSWER, self.ask()).await.ok().flatten();
        if answer.is_none() {
            self.connection = None;
        }
        answer
    }

    async fn ask(&mut self) -> Option<Bytes> {
        let connection = match self.connection.as_mut() {
            Some(connection) if !connection.is_closed() => connection,
            Some(_) | None => {
                let stream = TcpStream::connect(self.admin).await.ok()?;
                let (sender, driver) = http1::handshake(TokioIo::new(stream)).await.ok()?;
                // Ends with the runtime, or when the page closes it.
                tokio::spawn(driver);
                self.connection.insert(sender)
            }
        };
        connection.ready().await.ok()?;
        let request = Request::get(&self.path).header(http::header::HOST, "admin").body(Empty::new());
        let answer = connection.send_request(request.ok()?).await.ok()?;
        let body = Limited::new(answer.into_body(), LONGEST).collect().await.ok()?;
        Some(body.to_bytes())
    }
}

/// Looks on from when `begun` comes, for `seconds`; not at all if it never does.
pub(super) async fn watch(
    gauge: Option<&Gauge>,
    processes: &[i32],
    begun: oneshot::Receiver<Instant>,
    seconds: Duration,
) -> Seen {
    let Ok(start) = begun.await else { return Seen::default() };
    let before = cpu(processes);
    let end = start + seconds;
    let mut occupancy = Vec::new();
    if let Some(gauge) = gauge {
        let mut page = gauge.page();
        let mut turns = interval(EVERY);
        turns.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while turns.tick().await < end {
            let at = start.elapsed();
            let looked = page.read().await.and_then(|page| gauge.read(&page));
            let at = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
            occupancy.extend(looked.map(|seen| Occupancy { at, ..seen }));
        }
    }
    sleep_until(end).await;
    let cpu = before.zip(cpu(processes)).map(|(before, after)| after - before);
    Seen { occupancy, cpu }
}

/// CPU seconds that processes have taken so far, together; `None` without processes, or when one is gone.
fn cpu(processes: &[i32]) -> Option<f64> {
    let ticks: Option<u64> = processes.iter().map(|process| ticks(*process)).sum();
    #[allow(clippy::cast_precision_loss, reason = "fewer than 2^52 ticks")]
    let seconds = ticks? as f64 / TICKS;
    (!processes.is_empty()).then_some(seconds)
}

fn ticks(process: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // proc(5): utime and stime are fields 14 and 15; the name, field 2, may hold anything but is the last in brackets.
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADMIN: ([u8; 4], u16) = ([127, 0, 0, 1], 15000);

    #[test]
    fn only_the_pools_of_the_destination_count() {
        let pool = |destination: &str, connections| {
            serde_json::json!({"destination": destination, "connections": connections, "idle": 1, "active": 2,
                "waiting": 3, "max_connections": 4, "max_pending": null, "max_requests": null, "ejected": []})
        };
        let page =
            serde_json::json!({"version": "1", "pools": [pool("a:1", 3), pool("b:1", 5), pool("a:1", 4)]});
        let gauge = Gauge::portcullis(ADMIN.into(), "a:1");
        let seen = gauge.read(page.to_string().as_bytes()).unwrap();
        assert_eq!(seen, Occupancy { at: 0, connections: 7, idle: 2, active: 4, waiting: 6 });
        assert_eq!(gauge.read(b"{}"), None);
    }

    #[test]
    fn statistics_of_envoy_are_read_by_name() {
        let page = "cluster.s1.upstream_cx_active: 9\ncluster.s1.upstream_rq_active: 7\n\
                    cluster.s1.upstream_rq_pending_active: 2\ncluster.s11.upstream_cx_active: 1\n";
        let gauge = Gauge::envoy(ADMIN.into(), "s1");
        let seen = gauge.read(page.as_bytes()).unwrap();
        assert_eq!(seen, Occupancy { at: 0, connections: 9, idle: 2, active: 7, waiting: 2 });
        assert_eq!(Gauge::envoy(ADMIN.into(), "s2").read(page.as_bytes()), None);
    }

    #[test]
    fn this_process_has_taken_cpu_and_one_that_is_not_there_has_not() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(cpu(&[own]).is_some_and(|seconds| seconds >= 0.0));
        assert_eq!(cpu(&[]), None);
        assert_eq!(cpu(&[i32::MAX]), None);
    }
}
