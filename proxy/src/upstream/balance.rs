//! Choosing one of the servers of a destination, by what each has to do and how it has done.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::Rng;
use tokio::time::Instant;

use super::outlier::{Outcome, Outliers};
use crate::route::{Balancer, OutlierDetection};

/// Servers remembered beyond those there are: more, and those that are no longer there are forgotten.
const REMEMBERED: usize = 64;

/// One server that may be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Where it is.
    pub addr: SocketAddr,
    /// How often it is chosen, in relation to the others.
    pub weight: u32,
}

/// What is asked of a choice.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The servers there are.
    pub among: &'a [Candidate],
    /// Those that failed this request already: not again.
    pub tried: &'a [SocketAddr],
    /// The one that failed the attempt before: only if there is no other.
    pub avoid: Option<SocketAddr>,
}

/// What is known of the servers of one destination.
pub struct Endpoints {
    balancer: Balancer,
    watches_outliers: bool,
    state: Mutex<State>,
}

struct State {
    servers: HashMap<SocketAddr, Server>,
    /// As of the last choice.
    present: Vec<SocketAddr>,
    outliers: Option<Outliers>,
}

#[derive(Debug, Default)]
struct Server {
    /// Requests and connections under way.
    active: u32,
    /// Credit of the smooth weighted round robin.
    credit: i64,
}

/// A chosen server; counts as one request under way for as long as it is held.
pub struct Picked {
    addr: SocketAddr,
    /// Where it counts; `None` where there was nothing to choose.
    endpoints: Option<Arc<Endpoints>>,
}

impl Endpoints {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(balancer: Balancer, outliers: Option<OutlierDetection>, now: Instant) -> Self {
        let outliers = outliers.map(|settings| Outliers::new(settings, now));
        let watches_outliers = outliers.is_some();
        Self {
            balancer,
            watches_outliers,
            state: Mutex::new(State { servers: HashMap::new(), present: Vec::new(), outliers }),
        }
    }

    /// Chooses a server; `None` when all have been tried.
    #[must_use]
    pub fn pick(self: &Arc<Self>, wanted: Wanted<'_>, now: Instant, rng: &mut impl Rng) -> Option<Picked> {
        if let Some(only) = self.only(wanted) {
            return Some(only);
        }
        let mut state = self.lock();
        state.note_present(wanted.among);
        let usable = state.usable(wanted, now);
        let addr = match (self.balancer, &*usable) {
            (_, []) => None,
            (_, [one]) => Some(one.addr),
            (Balancer::RoundRobin, many) => state.in_turn(many),
            (Balancer::LeastRequest, many) => state.less_busy_of_two(many, rng),
            (Balancer::Random, many) => weighted(many, None, rng),
        }?;
        state.servers.entry(addr).or_default().active += 1;
        Some(Picked { addr, endpoints: Some(Arc::clone(self)) })
    }

    /// The server, when there is nothing to choose: then nothing need be known of it.
    #[must_use]
    pub fn only(&self, wanted: Wanted<'_>) -> Option<Picked> {
        match (wanted.among, wanted.tried) {
            ([only], []) if !self.watches_outliers => Some(Picked { addr: only.addr, endpoints: None }),
            _ => None,
        }
    }

    /// Takes down how a server did.
    pub fn record(&self, addr: SocketAddr, outcome: Outcome, now: Instant) {
        if !self.watches_outliers {
            return;
        }
        let mut state = self.lock();
        let State { present, outliers, .. } = &mut *state;
        if let Some(outliers) = outliers {
            outliers.record(addr, outcome, present.iter().copied(), now);
        }
    }

    /// Servers that are left out now.
    #[must_use]
    pub fn ejected(&self, now: Instant) -> Vec<SocketAddr> {
        self.lock().outliers.as_ref().map(|outliers| outliers.ejected(now)).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while holding it, and counters have no half-done state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn note_present(&mut self, among: &[Candidate]) {
        if self.present.iter().eq(among.iter().map(|candidate| &candidate.addr)) {
            return;
        }
        self.present = among.iter().map(|candidate| candidate.addr).collect();
        if self.servers.len() > self.present.len() + REMEMBERED {
            let present = &self.present;
            self.servers.retain(|addr, server| server.active > 0 || present.contains(addr));
        }
        let present = &self.present;
        if let Some(outliers) = &mut self.outliers {
            outliers.retain(|addr| present.contains(&addr));
        }
    }

    /// Those not tried and not left out; the one to avoid only if it is alone.
    fn usable<'a>(&self, wanted: Wanted<'a>, now: Instant) -> Cow<'a, [Candidate]> {
        if self.outliers.is_none() && wanted.tried.is_empty() && wanted.avoid.is_none() {
            return Cow::Borrowed(wanted.among);
        }
        let untried = wanted.among.iter().filter(|candidate| !wanted.tried.contains(&candidate.addr));
        let untried: Vec<Candidate> = untried.copied().collect();
        let heeded = self
            .outliers
            .as_ref()
            .filter(|outliers| !outliers.is_suspended(self.present.iter().copied(), now));
        let in_use =
            |candidate: &&Candidate| heeded.is_none_or(|outliers| !outliers.is_ejected(candidate.addr, now));
        let preferred = |candidate: &&Candidate| Some(candidate.addr) != wanted.avoid;
        let healthy: Vec<Candidate> = untried.iter().filter(in_use).copied().collect();
        let best: Vec<Candidate> = healthy.iter().filter(preferred).copied().collect();
        [best, healthy].into_iter().find(|some| !some.is_empty()).unwrap_or(untried).into()
    }

    /// Smooth weighted round robin, as nginx has it: all gain their weight, the richest is chosen and pays for all.
    fn in_turn(&mut self, many: &[Candidate]) -> Option<SocketAddr> {
        let mut total = 0;
        for candidate in many {
            let weight = i64::from(candidate.weight);
            self.servers.entry(candidate.addr).or_default().credit += weight;
            total += weight;
        }
        let credit = |addr: &SocketAddr| self.servers.get(addr).map_or(0, |server| server.credit);
        // Of several equally rich ones the first.
        let richest = many.iter().rev().map(|candidate| candidate.addr).max_by_key(credit)?;
        self.servers.entry(richest).or_default().credit -= total;
        Some(richest)
    }

    /// Power of two choices: nearly as even as looking at all, and without all callers running to the same one.
    fn less_busy_of_two(&self, many: &[Candidate], rng: &mut impl Rng) -> Option<SocketAddr> {
        let one = weighted(many, None, rng)?;
        let Some(other) = weighted(many, Some(one), rng) else { return Some(one) };
        let active = |addr| self.servers.get(&addr).map_or(0, |server| server.active);
        Some(if active(other) < active(one) { other } else { one })
    }
}

/// One at random, in proportion to the weights; never `except`.
fn weighted(many: &[Candidate], except: Option<SocketAddr>, rng: &mut impl Rng) -> Option<SocketAddr> {
    let eligible = || many.iter().filter(|candidate| Some(candidate.addr) != except);
    let total: u64 = eligible().map(|candidate| u64::from(candidate.weight)).sum();
    if total == 0 {
        return None;
    }
    let mut left = rng.random_range(0..total);
    for candidate in eligible() {
        match left.checked_sub(u64::from(candidate.weight)) {
            Some(rest) => left = rest,
            None => return Some(candidate.addr),
        }
    }
    None
}

impl Picked {
    /// The server.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Counts for another server from now on, which serves in its place.
    pub fn move_to(&mut self, addr: SocketAddr) {
        if let Some(endpoints) = self.endpoints.as_ref().filter(|_| addr != self.addr) {
            let mut state = endpoints.lock();
            if let Some(server) = state.servers.get_mut(&self.addr) {
                server.active = server.active.saturating_sub(1);
            }
            state.servers.entry(addr).or_default().active += 1;
        }
        self.addr = addr;
    }

    /// Takes down how it did.
    pub fn record(&self, outcome: Outcome, now: Instant) {
        if let Some(endpoints) = &self.endpoints {
            endpoints.record(self.addr, outcome, now);
        }
    }
}

impl Drop for Picked {
    fn drop(&mut self) {
        let Some(endpoints) = &self.endpoints else { return };
        if let Some(server) = endpoints.lock().servers.get_mut(&self.addr) {
            server.active = server.active.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests;
