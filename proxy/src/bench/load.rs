//! Requests at a constant rate, whatever becomes of them.
//!
//! The loop is open: request number `i` is due at `i / rate`, however the earlier ones fare, and its latency runs from
//! then. A generator that waits for answers before it goes on sends less while the service is slow, and so never sees
//! most of what its users would (coordinated omission).
//!
//! A pacer hands each request, when due, to the connection used last of those that are free, or opens one more. Each
//! connection is one task for as long as it lives; no task is made for a request.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use http::uri::Scheme;
use http::{HeaderValue, Uri};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::result::{Counts, Latency};
use super::timer::Alarm;
use connection::{Free, Target};
use tally::{Tally, Ticket};

mod connection;
mod exchange;
mod outcome;
mod schedule;
mod tally;
#[cfg(test)]
mod tests;

/// What to send, to whom.
#[derive(Debug, Clone)]
pub struct Load {
    /// `http://HOST:PORT/PATH`.
    pub url: Uri,
    /// The `Host` header, if other than the URL's host.
    pub host: Option<String>,
    /// Requests per second.
    pub rate: u32,
    /// Time at the start in which requests are sent but not counted.
    pub warm_up: Duration,
    /// Time in which the requests that are counted are due.
    pub seconds: Duration,
    /// An answer later than this after its request was due is a failure, `timeout`.
    pub give_up: Duration,
    /// Most connections at a time. A request for which there is none is not sent.
    pub connections: usize,
}

/// What became of it.
#[derive(Debug, Clone)]
pub struct Sent {
    /// Requests by outcome; each that was due is counted once.
    pub counts: Counts,
    /// Of the requests that succeeded, from when each was due.
    pub latency: Latency,
    /// Time in which the counted requests were due.
    pub seconds: f64,
    /// The same latencies, in microseconds.
    pub histogram: Histogram<u64>,
    /// How long after it was due each request was sent, in microseconds: the generator's own error.
    pub lateness: Histogram<u64>,
    /// Requests sent once more, because the other side closed their kept connection just as they set out on it. What
    /// became of them then is in `counts`.
    pub resent: u64,
}

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Not plain HTTP, or without a host.
    #[error("cannot send load to {0}: wanted http://HOST:PORT/PATH")]
    Url(Uri),
    /// A `Host` header that cannot be sent.
    #[error("no Host header: {0:?}")]
    Host(String),
    /// Nothing would be sent.
    #[error("nothing to send: rate, measured time, give-up time and connections must all be above zero")]
    Nothing,
    /// The URL's host has no address.
    #[error("no address for {host}: {source}")]
    Resolve {
        /// As the URL has it.
        host: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// Bounds that a histogram cannot have.
    #[error("cannot record latencies: {0}")]
    Histogram(#[from] hdrhistogram::CreationError),
    /// No timer, mostly for want of descriptors.
    #[error("cannot keep time: {0}")]
    Timer(#[source] io::Error),
}

/// Sends the load, and waits until the last request is answered or given up. Calls `begun` when the warm-up is over.
///
/// Give it a thread and a current-thread runtime of its own: what else runs there makes it late.
///
/// # Errors
///
/// The load makes no sense, its host has no address, or the system has no timer left. What goes wrong with requests is
/// counted, not an error.
pub async fn offer(load: &Load, begun: impl FnOnce()) -> Result<Sent, LoadError> {
    let target = Arc::new(target(load).await?);
    let alarm = Alarm::new().map_err(LoadError::Timer)?;
    let tally = Arc::new(Tally::new(load.give_up)?);
    let warm_up = schedule::requests(load.rate, load.warm_up);
    let measured = schedule::requests(load.rate, load.seconds);
    if measured == 0 || load.connections == 0 || load.give_up.is_zero() {
        return Err(LoadError::Nothing);
    }
    let mut pacer = Pacer { load, target, alarm, free: Arc::default(), connections: JoinSet::new() };
    let start = Instant::now();
    pacer.send(start, warm_up, None).await.map_err(LoadError::Timer)?;
    let start = start + schedule::due(load.rate, warm_up);
    pacer.alarm.until(start).await.map_err(LoadError::Timer)?;
    begun();
    pacer.send(start, measured, Some(&tally)).await.map_err(LoadError::Timer)?;
    pacer.finish().await;
    Ok(tally.sent(load.seconds.as_secs_f64()))
}

/// Hands out requests as they become due.
struct Pacer<'a> {
    load: &'a Load,
    target: Arc<Target>,
    alarm: Alarm,
    free: Arc<Free>,
    connections: JoinSet<()>,
}

impl Pacer<'_> {
    /// Sends as many requests, evenly from `start` on; without a tally, they are not counted.
    async fn send(&mut self, start: Instant, requests: u64, tally: Option<&Arc<Tally>>) -> io::Result<()> {
        for number in 0..requests {
            let due = start + schedule::due(self.load.rate, number);
            self.alarm.until(due).await?;
            self.hand_out(Ticket::new(due, due + self.load.give_up, tally.cloned()));
            // A pacer that is behind still lets the connections work.
            tokio::task::coop::consume_budget().await;
        }
        Ok(())
    }

    fn hand_out(&mut self, ticket: Ticket) {
        let Some(ticket) = self.free.hand_out(ticket) else { return };
        while self.connections.try_join_next().is_some() {}
        if self.connections.len() >= self.load.connections {
            ticket.unsent();
            return;
        }
        self.connections.spawn(connection::run(self.target.clone(), self.free.clone(), ticket));
    }

    /// Every request ends by its deadline, and with it its connection.
    async fn finish(mut self) {
        self.free.close();
        while self.connections.join_next().await.is_some() {}
    }
}

async fn target(load: &Load) -> Result<Target, LoadError> {
    let wrong = || LoadError::Url(load.url.clone());
    let authority =
        load.url.authority().filter(|_| load.url.scheme() == Some(&Scheme::HTTP)).ok_or_else(wrong)?;
    let host = load.host.as_deref().unwrap_or(authority.as_str());
    let header = HeaderValue::from_str(host).map_err(|_| LoadError::Host(host.to_owned()))?;
    let path = load.url.path_and_query().map_or("/", |path| path.as_str());
    let path = path.parse().map_err(|_| wrong())?;
    let named = authority.host();
    let address = (named.trim_start_matches('[').trim_end_matches(']'), authority.port_u16().unwrap_or(80));
    let failed = |source| LoadError::Resolve { host: named.to_owned(), source };
    let mut found = tokio::net::lookup_host(address).await.map_err(failed)?;
    let none = || failed(io::Error::new(io::ErrorKind::NotFound, "the name has none"));
    let address: SocketAddr = found.next().ok_or_else(none)?;
    Ok(Target { address, host: header, path })
}
