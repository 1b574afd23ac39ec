//! All destinations of one client workload, and the ways to find one.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use rand::Rng;

use super::{Destination, DestinationId, NoRoute, RouteRules};

/// ServiceEntries, DestinationRules and VirtualServices resolved for one client workload.
#[derive(Debug, Default)]
pub struct OutboundPolicy {
    all: Vec<Arc<Destination>>,
    by_address: HashMap<SocketAddr, DestinationId>,
    by_host: HashMap<String, HashMap<u16, DestinationId>>,
}

/// A destination that no policy declares: refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnknownDestination {
    /// An address without a service.
    #[error("{0}: no ServiceEntry declares it")]
    Address(SocketAddr),
    /// A host without a service, or without that port.
    #[error("{host}:{port}: no ServiceEntry declares it")]
    Host {
        /// The host asked for.
        host: String,
        /// The port asked for.
        port: u16,
    },
}

impl UnknownDestination {
    /// The metric label.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Address(_) => "unknown_address",
            Self::Host { .. } => "unknown_host",
        }
    }
}

impl OutboundPolicy {
    /// Indexes `all`, whose positions are what every [`DestinationId`] inside refers to. Addresses are
    /// canonical (never IPv4-mapped).
    #[must_use]
    pub fn new(all: Vec<Destination>, by_address: HashMap<SocketAddr, DestinationId>) -> Self {
        let mut by_host: HashMap<String, HashMap<u16, DestinationId>> = HashMap::new();
        for (index, destination) in
            all.iter().enumerate().filter(|(_, destination)| destination.subset.is_none())
        {
            by_host
                .entry(destination.host.clone())
                .or_default()
                .insert(destination.port, DestinationId(index));
        }
        Self { all: all.into_iter().map(Arc::new).collect(), by_address, by_host }
    }

    /// The service that a connection's original destination means.
    ///
    /// # Errors
    /// [`UnknownDestination`], whose text is the reason.
    pub fn destination(&self, addr: SocketAddr) -> Result<&Arc<Destination>, UnknownDestination> {
        let canonical = SocketAddr::new(addr.ip().to_canonical(), addr.port());
        let id = self.by_address.get(&canonical);
        id.and_then(|id| self.get(*id)).ok_or(UnknownDestination::Address(canonical))
    }

    /// The service of a host and port, as explicit listeners name it.
    ///
    /// # Errors
    /// [`UnknownDestination`], whose text is the reason.
    pub fn destination_by_host(
        &self,
        host: &str,
        port: u16,
    ) -> Result<&Arc<Destination>, UnknownDestination> {
        let id = self.by_host.get(host).and_then(|ports| ports.get(&port));
        let unknown = || UnknownDestination::Host { host: host.to_owned(), port };
        id.and_then(|id| self.get(*id)).ok_or_else(unknown)
    }

    /// All destinations, subsets included.
    pub fn destinations(&self) -> impl Iterator<Item = &Arc<Destination>> {
        self.all.iter()
    }

    /// The destination that serves an HTTP request to `destination`. What the rules match on today (labels,
    /// namespace, port) was settled when the policy was resolved; of the request nothing is read yet.
    ///
    /// # Errors
    /// [`NoRoute`] when every rule was filtered out: answer 404.
    pub fn route_http(
        &self,
        destination: &Arc<Destination>,
        _request: &http::request::Parts,
    ) -> Result<Arc<Destination>, NoRoute> {
        self.follow(destination, &destination.routes, |total| rand::rng().random_range(0..total))
    }

    /// The destination that serves a TCP connection to `destination`.
    ///
    /// # Errors
    /// [`NoRoute`] when every rule was filtered out: close the connection.
    pub fn route_tcp(&self, destination: &Arc<Destination>) -> Result<Arc<Destination>, NoRoute> {
        self.follow(destination, &destination.tcp_routes, |total| rand::rng().random_range(0..total))
    }

    /// `roll` picks a number below its argument.
    fn follow(
        &self,
        destination: &Arc<Destination>,
        rules: &RouteRules,
        roll: impl FnOnce(u64) -> u64,
    ) -> Result<Arc<Destination>, NoRoute> {
        let RouteRules::Ordered { rule, routes } = rules else { return Ok(Arc::clone(destination)) };
        let target = routes.first().and_then(|route| route.target(roll(route.total())));
        let found = target.and_then(|id| self.get(id)).map(Arc::clone);
        found.ok_or_else(|| NoRoute { to: destination.to_string(), rule: rule.clone() })
    }

    fn get(&self, id: DestinationId) -> Option<&Arc<Destination>> {
        self.all.get(id.0)
    }
}
