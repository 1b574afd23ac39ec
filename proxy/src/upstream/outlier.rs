//! Servers that fail are left out for a while (`outlierDetection`).
//!
//! Pure: knows addresses and outcomes, and takes the time as an argument. Ends of ejections are looked at once in
//! an `interval`, as in Envoy, so they are rounded up to the next look.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use crate::route::OutlierDetection;

/// Longest ejection, unless `baseEjectionTime` is longer (Envoy's `max_ejection_time`).
const LONGEST: Duration = Duration::from_secs(300);

/// How a server did with one request or connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It took a TCP connection.
    Connected,
    /// It answered a request.
    Answered(StatusCode),
    /// It could not be connected to, or the connection broke before the answer.
    NoAnswer,
}

/// The servers of one destination.
#[derive(Debug)]
pub(super) struct Outliers {
    settings: OutlierDetection,
    start: Instant,
    servers: HashMap<SocketAddr, Health>,
}

#[derive(Debug, Default)]
struct Health {
    errors: u32,
    gateway_errors: u32,
    /// Ejections so far; one is forgotten for each interval in use.
    times: u32,
    ejected_until: Option<Instant>,
}

impl Outliers {
    pub(super) fn new(settings: OutlierDetection, start: Instant) -> Self {
        Self { settings, start, servers: HashMap::new() }
    }

    /// Takes down what a server did, and leaves it out if that was one failure too many. `all` are the servers
    /// there are.
    pub(super) fn record(
        &mut self,
        addr: SocketAddr,
        outcome: Outcome,
        all: impl Iterator<Item = SocketAddr>,
        now: Instant,
    ) {
        let (error, gateway) = match outcome {
            Outcome::Connected => return,
            Outcome::Answered(status) => (status.is_server_error(), (502..=504).contains(&status.as_u16())),
            Outcome::NoAnswer => (true, true),
        };
        let settings = self.settings.clone();
        let health = self.servers.entry(addr).or_default();
        let count = |counter: u32, failed| if failed { counter.saturating_add(1) } else { 0 };
        health.errors = count(health.errors, error);
        health.gateway_errors = count(health.gateway_errors, gateway);
        let reached = |limit: Option<u32>, counter| limit.is_some_and(|limit| limit > 0 && counter >= limit);
        let failed = reached(settings.consecutive_5xx, health.errors)
            || reached(settings.consecutive_gateway, health.gateway_errors);
        if failed && !self.is_ejected(addr, now) && self.may_eject(all, now) {
            self.eject(addr, now);
        }
    }

    pub(super) fn is_ejected(&self, addr: SocketAddr, now: Instant) -> bool {
        self.servers.get(&addr).and_then(|health| health.ejected_until).is_some_and(|until| now < until)
    }

    /// Whether so few servers are left that all are used again (Envoy's panic threshold).
    pub(super) fn is_suspended(&self, all: impl Iterator<Item = SocketAddr>, now: Instant) -> bool {
        let (total, ejected) = self.count(all, now);
        ejected == total || (total - ejected) * 100 < total * usize::from(self.settings.min_health_percent)
    }

    /// Those left out.
    pub(super) fn ejected(&self, now: Instant) -> Vec<SocketAddr> {
        let mut ejected: Vec<_> =
            self.servers.keys().copied().filter(|addr| self.is_ejected(*addr, now)).collect();
        ejected.sort();
        ejected
    }

    /// Forgets servers that are no more.
    pub(super) fn retain(&mut self, keep: impl Fn(SocketAddr) -> bool) {
        self.servers.retain(|addr, _| keep(*addr));
    }

    fn count(&self, all: impl Iterator<Item = SocketAddr>, now: Instant) -> (usize, usize) {
        all.fold((0, 0), |(total, ejected), addr| {
            (total + 1, ejected + usize::from(self.is_ejected(addr, now)))
        })
    }

    /// At most `maxEjectionPercent`, but one always.
    fn may_eject(&self, all: impl Iterator<Item = SocketAddr>, now: Instant) -> bool {
        let (total, ejected) = self.count(all, now);
        ejected == 0 || (ejected + 1) * 100 <= total * usize::from(self.settings.max_ejection_percent)
    }

    fn eject(&mut self, addr: SocketAddr, now: Instant) {
        let (interval, base) =
            (self.settings.interval.max(Duration::from_millis(1)), self.settings.base_ejection);
        let start = self.start;
        let Some(health) = self.servers.get_mut(&addr) else { return };
        if let Some(back) = health.ejected_until {
            let behaved = now.saturating_duration_since(back).as_nanos() / interval.as_nanos();
            health.times = health.times.saturating_sub(u32::try_from(behaved).unwrap_or(u32::MAX));
        }
        health.times = health.times.saturating_add(1);
        (health.errors, health.gateway_errors) = (0, 0);
        let away = base.saturating_mul(health.times).min(LONGEST.max(base));
        let end = now.saturating_duration_since(start).saturating_add(away);
        let looks = u32::try_from(end.as_nanos().div_ceil(interval.as_nanos())).unwrap_or(u32::MAX);
        health.ejected_until = start.checked_add(interval.saturating_mul(looks)).or(Some(now + away));
        tracing::info!(server = %addr, times = health.times, "left out after failures in a row");
    }
}

#[cfg(test)]
mod tests;
