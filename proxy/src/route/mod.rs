//! Where a connection or request goes: from an address or a host to a [`Destination`], and through the route
//! rules to the one that serves it. Pure lookups in what a policy was resolved to.
//!
//! Must not know how policies are written, or how a destination is dialled.

mod destination;
mod outbound;
mod rules;

pub use destination::{
    AppProtocol, Destination, Endpoint, NoTransport, PoolLimits, Resolution, Transport, TransportPlan,
};
pub use outbound::{OutboundPolicy, UnknownDestination};
pub use rules::{DestinationId, NoRoute, Route, RouteRules};
