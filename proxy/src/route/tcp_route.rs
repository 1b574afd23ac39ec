//! What a VirtualService says of TCP connections.

use std::net::SocketAddr;

use super::http_route::Targets;
use super::rules::DestinationId;
use crate::authz::RuleRef;

/// Conditions on a TCP connection that are not settled by the workload: where it was meant to go.
#[derive(Debug, Clone, Default)]
pub struct TcpMatch {
    /// Networks of which one must have the original destination; none: any.
    pub destination_subnets: Vec<ipnet::IpNet>,
}

/// The TCP rules for one destination.
#[derive(Debug, Clone)]
pub enum TcpRules {
    /// No VirtualService speaks of it: it serves itself.
    Direct,
    /// The first route whose conditions a connection meets serves it.
    Ordered {
        /// The resource that the routes come from.
        rule: RuleRef,
        /// The routes whose workload conditions are met, in order.
        routes: Vec<TcpRoute>,
    },
}

/// One TCP route.
#[derive(Debug, Clone)]
pub struct TcpRoute {
    /// The rule's name, with its position.
    pub rule: RuleRef,
    /// Alternatives of which one must be met; none: always.
    pub matches: Vec<TcpMatch>,
    /// By weight.
    pub targets: Targets<DestinationId>,
}

impl TcpMatch {
    /// Whether a connection that was meant for `original` meets it; without an original destination only a
    /// condition that asks for none is met.
    #[must_use]
    pub fn is_met(&self, original: Option<SocketAddr>) -> bool {
        self.destination_subnets.is_empty()
            || original.is_some_and(|addr| {
                self.destination_subnets.iter().any(|subnet| subnet.contains(&addr.ip().to_canonical()))
            })
    }
}
