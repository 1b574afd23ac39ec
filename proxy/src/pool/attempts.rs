//! The servers that one request or connection tries, one after the other.

use std::net::SocketAddr;

use tokio::time::Instant;

use super::Pools;
use super::state::Pool;
use crate::refusal::Refusal;
use crate::upstream::{Candidate, Picked, Target, Wanted};

/// Servers that one request or connection tries.
const SERVERS_TRIED: usize = 8;

/// See the module.
pub(super) struct Attempts<'a> {
    pool: &'a Pool,
    target: &'a Target,
    pub(super) among: Vec<Candidate>,
    tried: Vec<SocketAddr>,
    last: Option<Refusal>,
}

impl<'a> Attempts<'a> {
    pub(super) fn new(pools: &Pools, pool: &'a Pool, target: &'a Target) -> Result<Self, Refusal> {
        let among = target.candidates(&pools.names)?;
        Ok(Self { pool, target, among, tried: Vec::new(), last: None })
    }

    /// The next server; when there is none left, why the last one failed.
    pub(super) fn next(&mut self) -> Result<Picked, Refusal> {
        let wanted = Wanted { among: &self.among, tried: &self.tried, avoid: self.target.avoid };
        let left = self.tried.len() < SERVERS_TRIED;
        let picked =
            left.then(|| self.pool.endpoints.pick(wanted, Instant::now(), &mut rand::rng())).flatten();
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
