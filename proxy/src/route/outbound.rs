//! All destinations of one client workload, and the ways to find one.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use super::{
    Destination, DestinationId, EndpointAddr, HttpAction, HttpRoute, HttpRules, HttpTarget, NoRoute,
    TcpRoute, TcpRules,
};

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

/// What is done with one request.
#[derive(Debug, Clone)]
pub enum HttpDecision {
    /// No rule speaks of it: it is sent to the service asked for.
    Direct(Arc<Destination>),
    /// A rule sends it on.
    Forward {
        /// The rule; its action is [`HttpAction::Forward`].
        route: Arc<HttpRoute>,
        /// The target that the roll chose.
        target: HttpTarget,
        /// The target's destination.
        destination: Arc<Destination>,
    },
    /// A rule answers it: its action is a redirect or a direct response.
    Answer(Arc<HttpRoute>),
}

impl HttpDecision {
    /// Where the request is sent; `None` when a rule answers it.
    #[must_use]
    pub fn destination(&self) -> Option<&Arc<Destination>> {
        match self {
            Self::Direct(destination) | Self::Forward { destination, .. } => Some(destination),
            Self::Answer(_) => None,
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

    /// The DNS names that endpoints have, each with its port, each pair once.
    pub fn names(&self) -> impl Iterator<Item = (&Arc<str>, u16)> {
        let endpoints = self.all.iter().flat_map(|destination| &destination.endpoints);
        let mut seen = HashSet::new();
        endpoints
            .filter_map(|endpoint| match &endpoint.addr {
                EndpointAddr::Name(name, port) => Some((name, *port)),
                EndpointAddr::Socket(_) => None,
            })
            .filter(move |pair| seen.insert(*pair))
    }

    /// All destinations, subsets included.
    pub fn destinations(&self) -> impl Iterator<Item = &Arc<Destination>> {
        self.all.iter()
    }

    /// What is done with an HTTP request to `destination`. `head` is in the one form that requests have inside:
    /// origin form, one `Host`. `roll` picks a number below its argument, each as likely as the other.
    ///
    /// # Errors
    /// [`NoRoute`] when no rule is met: answer 404.
    pub fn route_http(
        &self,
        destination: &Arc<Destination>,
        head: &http::request::Parts,
        roll: impl FnOnce(u64) -> u64,
    ) -> Result<HttpDecision, NoRoute> {
        let HttpRules::Ordered { rule, routes } = &destination.routes else {
            return Ok(HttpDecision::Direct(Arc::clone(destination)));
        };
        let none = || NoRoute { to: destination.to_string(), rule: rule.clone() };
        let route = routes.iter().find(|route| route.is_met(head)).ok_or_else(none)?;
        let HttpAction::Forward(forward) = &route.action else {
            return Ok(HttpDecision::Answer(Arc::clone(route)));
        };
        let target = forward.targets.pick(roll(forward.targets.total())).ok_or_else(none)?;
        let destination = self.get(target.id).map(Arc::clone).ok_or_else(none)?;
        Ok(HttpDecision::Forward { route: Arc::clone(route), target: target.clone(), destination })
    }

    /// The destination that serves a TCP connection to `destination`, and the rule that says so, if one does.
    ///
    /// # Errors
    /// [`NoRoute`] when no rule is met: close the connection.
    pub fn route_tcp(
        &self,
        destination: &Arc<Destination>,
        original: Option<SocketAddr>,
        roll: impl FnOnce(u64) -> u64,
    ) -> Result<Arc<Destination>, NoRoute> {
        let TcpRules::Ordered { rule, routes } = &destination.tcp_routes else {
            return Ok(Arc::clone(destination));
        };
        let none = || NoRoute { to: destination.to_string(), rule: rule.clone() };
        let met = |route: &&TcpRoute| {
            route.matches.is_empty() || route.matches.iter().any(|condition| condition.is_met(original))
        };
        let route = routes.iter().find(met).ok_or_else(none)?;
        let id = route.targets.pick(roll(route.targets.total())).ok_or_else(none)?;
        self.get(*id).map(Arc::clone).ok_or_else(none)
    }

    /// The destination of a route's target or mirror.
    #[must_use]
    pub fn get(&self, id: DestinationId) -> Option<&Arc<Destination>> {
        self.all.get(id.0)
    }
}
