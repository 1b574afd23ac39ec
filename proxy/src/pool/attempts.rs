//! The servers that one request or connection tries, one after the other.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::time::Instant;

use super::Pools;
use super::settings::Settings;
use crate::refusal::Refusal;
use crate::upstream::{Candidate, Picked, Target, Wanted};

/// Servers that one request or connection tries.
const SERVERS_TRIED: usize = 8;

/// See the module.
pub(super) struct Attempts<'a> {
    settings: &'a Settings,
    target: &'a Target,
    among: Arc<[Candidate]>,
    tried: Vec<SocketAddr>,
    last: Option<Refusal>,
}

impl<'a> Attempts<'a> {
    pub(super) fn new(pools: &Pools, settings: &'a Settings, target: &'a Target) -> Result<Self, Refusal> {
        let among = settings.candidates(target, &pools.names)?;
        Ok(Self { settings, target, among, tried: Vec::new(), last: None })
    }

    /// Whether a server is one of those to choose from.
    pub(super) fn may_use(&self, addr: SocketAddr) -> bool {
        self.among.iter().any(|candidate| candidate.addr == addr)
    }

    /// Whether an idle connection will not do: one has just failed.
    pub(super) fn needs_fresh(&self) -> bool {
        self.target.fresh
    }

    /// The next server; when there is none left, why the last one failed.
    pub(super) fn next(&mut self) -> Result<Picked, Refusal> {
        let wanted = Wanted { among: &self.among, tried: &self.tried, avoid: self.target.avoid };
        let endpoints = &self.settings.endpoints;
        let picked = match endpoints.only(wanted) {
            Some(only) => Some(only),
            None if self.tried.len() < SERVERS_TRIED => {
                endpoints.pick(wanted, Instant::now(), &mut rand::rng())
            }
            None => None,
        };
        let none = || Refusal::NoEndpoints { destination: self.target.to_string() };
        picked.ok_or_else(|| self.last.take().unwrap_or_else(none))
    }

    /// Goes on, if the failure was of this one server and there is another.
    pub(super) fn failed(&mut self, addr: SocketAddr, refusal: Refusal) -> Result<(), Refusal> {
        self.tried.push(addr);
        let other = self.among.iter().any(|candidate| !self.tried.contains(&candidate.addr));
        if !refusal.is_of_the_endpoint() || !other || self.tried.len() >= SERVERS_TRIED {
            return Err(refusal);
        }
        self.last = Some(refusal);
        Ok(())
    }
}
