//! Where a connection or request goes: from an address or a host to a [`Destination`], and through the route
//! rules to the one that serves it. Pure lookups in what a policy was resolved to.
//!
//! Must not know how policies are written, or how a destination is dialled.

mod balance;
mod destination;
mod http_route;
mod outbound;
mod retry;
mod rules;
mod tcp_route;
#[cfg(test)]
pub(crate) mod testing;

pub use balance::{Balancer, OutlierDetection};
pub use destination::{
    AppProtocol, Destination, Edition, Endpoint, EndpointAddr, H2Upgrade, Http2Keepalive, HttpVersion,
    NoTransport, PoolLimits, Resolution, TcpKeepalive, Transport, TransportPlan,
};
pub use http_route::{
    BadExpression, BadRewrite, DirectResponse, Fault, FaultStatus, Forward, HeaderChanges, HeaderRules,
    HttpAction, HttpMatch, HttpRoute, HttpRules, HttpTarget, Mirror, NotRewritable, Redirect, RedirectPort,
    Replacement, Reserved, Rewrite, Share, Targets, TextMatch, UriMatch, UriRewrite, ValueMatch,
};
pub(crate) use http_route::{SCHEME, is_path};
pub use outbound::{HttpDecision, OutboundPolicy, UnknownDestination};
pub use retry::{RetryOn, RetryPolicy};
pub use rules::{DestinationId, NoRoute};
pub use tcp_route::{TcpMatch, TcpRoute, TcpRules};
