//! The numbers of one pool.

use std::net::SocketAddr;

/// One pool, for `portcullis status` and the metrics.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PoolStatus {
    /// The service.
    pub destination: String,
    /// Connections open.
    pub connections: usize,
    /// Of those, without a request.
    pub idle: usize,
    /// Requests under way.
    pub active: usize,
    /// Requests that wait for a connection.
    pub waiting: usize,
    /// `maxConnections`, if set.
    pub max_connections: Option<u32>,
    /// `http1MaxPendingRequests`, if set.
    pub max_pending: Option<u32>,
    /// `http2MaxRequests`, if set.
    pub max_requests: Option<u32>,
    /// Endpoints that outlier detection leaves out at the moment.
    pub ejected: Vec<SocketAddr>,
}
